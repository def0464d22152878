"""Folders of whole runs, programs started in them, and what they have made compared bit by bit."""

import os
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from conftest import write_pairs


def new_place(folder: Path, opt: dict, pairs: int = 4, **modules: str) -> Path:
    """Make a folder with pairs of images, options in run.yml, and modules."""
    folder.mkdir()
    write_pairs(folder / 'pairs', pairs)
    (folder / 'run.yml').write_text(yaml.safe_dump(opt))
    for name, text in modules.items():
        (folder / f'{name}.py').write_text(text)
    return folder


def start(place: Path, *words: str, module: str = 'ggkm_plugin.cli.main', **environment: str) -> subprocess.Popen:
    """Start a module in a process group of its own, as a shell or a cluster does."""
    return start_program(place, sys.executable, '-m', module, *words, **environment)


def start_program(place: Path, *words: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        words,
        cwd=place,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen, text: str) -> None:
    """Read what it prints up to a line with this text."""
    seen = ''
    for line in process.stdout:
        seen += line
        if text in line:
            return
    raise AssertionError(f'{text!r} was not printed:\n{seen[-3000:]}')


def same(one: object, other: object) -> bool:
    """Whether nested values with tensors are equal, bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
