"""Fixtures: small option files, pairs of images, the command in a process of its own, the real data where it is."""

import copy
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

import ggkm_plugin
from ggkm_plugin.cli.main import main

# One thread per process: pytest-xdist runs one process on each core.
os.environ.setdefault('OMP_NUM_THREADS', '1')
torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))

ggkm_plugin.register()

ROOT = Path(__file__).parents[1]

TINY = {
    'name': 'tiny',
    'model_type': 'DefocusModel',
    'scale': 1,
    'num_gpu': 0,
    'manual_seed': 3,
    'datasets': {
        'train': {
            'name': 'train',
            'type': 'PairedDefocusDataset',
            'dataroot_lq': 'pairs/input',
            'dataroot_gt': 'pairs/ground_truth',
            'gt_size': 32,
            'use_hflip': True,
            'use_vflip': True,
            'batch_size_per_gpu': 2,
            'num_worker_per_gpu': 0,
            'dataset_enlarge_ratio': 2,
        },
        'val': {
            'name': 'val',
            'type': 'PairedDefocusDataset',
            'dataroot_lq': 'pairs/input',
            'dataroot_gt': 'pairs/ground_truth',
        },
    },
    'network_g': {'type': 'GGKMNet', 'width': 4, 'num_groups': 2, 'kernels_per_group': 2, 'num_scales': 2},
    'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
    'train': {
        'optim_g': {'type': 'Adam', 'lr': 0.001},
        'scheduler': {'type': 'MultiStepLR', 'milestones': [3], 'gamma': 0.5},
        'total_iter': 4,
        'pixel_opt': {'type': 'GGKMLoss'},
    },
    'val': {'val_freq': 4, 'save_img': False, 'suffix': None, 'metrics': {'psnr': {'type': 'defocus_psnr'}}},
    'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
}


@pytest.fixture(autouse=True)
def seeded():
    """A test that passes passes again."""
    torch.manual_seed(0)


@pytest.fixture
def tiny():
    """Options of a run of four iterations on `pairs/`, which takes about a second."""
    return copy.deepcopy(TINY)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty current folder with four pairs of 48x64 images in pairs/."""
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / 'pairs', 4)
    return tmp_path


def write_pairs(folder: Path, count: int, size: tuple[int, int] = (48, 64)) -> None:
    rng = np.random.default_rng(0)
    for name in ('input', 'ground_truth'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        sharp = cv2.resize(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / 'ground_truth' / f'{i:02d}.png'), sharp)
        cv2.imwrite(str(folder / 'input' / f'{i:02d}.png'), cv2.GaussianBlur(sharp, (0, 0), 1.5))


@pytest.fixture
def write_options(workplace):
    """Writes options to a file in the workplace and returns its path."""

    def write(opt: dict, name: str = 'tiny.yml') -> str:
        path = workplace / name
        path.write_text(yaml.safe_dump(opt))
        return str(path)

    return write


def run_command(*arguments: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess:
    """The command in a process of its own, always on one thread, since sums depend on the number of threads."""
    return subprocess.run(
        [sys.executable, '-m', 'ggkm_plugin.cli.main', *arguments],
        cwd=cwd,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def basicsr(workplace):
    """`run_command` in the workplace."""
    return partial(run_command, cwd=workplace)


@pytest.fixture
def command(workplace, capsys):
    """Runs the command in this process; returns exit code, stdout, stderr. Never a traceback."""

    def run(*arguments):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert 'Traceback' not in err
        return code, out, err

    return run


@pytest.fixture(scope='session')
def server():
    """A warm process that runs the command in forks."""
    from forking import Server

    server = Server()
    yield server
    server.close()


@pytest.fixture(scope='session')
def shared_data():
    """The folder of real photographs beside the project; tests that need it are skipped without it."""
    folder = ROOT.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip(f'no real photographs at {folder}')
    return folder


def run_python(code: str, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess:
    """A script in a fresh interpreter, for what must be true before anything is imported."""
    script = cwd / 'script.py'
    script.write_text(code)
    return subprocess.run(
        [sys.executable, str(script)], cwd=cwd, timeout=timeout, capture_output=True, text=True, check=False
    )


@pytest.fixture
def python(tmp_path):
    return lambda code: run_python(code, tmp_path)


def chromium():
    """The browser to test in: GGKM_CHROMIUM, or one on the path."""
    names = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome')
    return os.environ.get('GGKM_CHROMIUM') or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope='module')
def browser():
    playwright = pytest.importorskip(
        'playwright.sync_api', reason='playwright is not installed: pip install playwright'
    )
    path = chromium()
    if not path:
        pytest.skip('no Chromium on the path (or in GGKM_CHROMIUM): apt-get install chromium')
    with playwright.sync_playwright() as session:
        found = session.chromium.launch(executable_path=path, args=['--no-sandbox'] if os.geteuid() == 0 else [])
        yield found
        found.close()


def until(page, condition):
    """Wait for a JavaScript expression; wait_for_function would evaluate it in the page, whose policy forbids that."""
    end = time.monotonic() + 30
    while not page.evaluate(condition):
        assert time.monotonic() < end, f'not within 30 seconds: {condition}'
        page.wait_for_timeout(30)
