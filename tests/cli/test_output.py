"""Output never ends the work: encodings that lack characters, closed pipes, full disks."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml

# A photograph's name in Cyrillic, and one that is not UTF-8.
NAMES = ('фото1.png', os.fsdecode(b'caf\xe9.png'))


@pytest.fixture
def photographs(tmp_path):
    (tmp_path / 'photos').mkdir()
    content = cv2.imencode('.png', np.full((24, 32, 3), 90, np.uint8))[1].tobytes()
    for name in NAMES:
        (tmp_path / 'photos' / name).write_bytes(content)
    return tmp_path


def run(place, *words, shell='', **environment):
    """The command in a process of its own; `shell` follows it on the command line."""
    command = f'exec {sys.executable} -m ggkm_plugin.cli {" ".join(words)} {shell}'
    return subprocess.run(
        ['bash', '-c', command],
        cwd=place,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )


def deblurred(place):
    return len(os.listdir(place / 'out'))


DEBLUR = ('deblur', 'photos', '-o', 'out', '--weights', 'GGKMNet_light', '--jobs', '1')


@pytest.mark.parametrize('encoding', ['ascii', 'cp1252'])
def test_names_that_an_encoding_lacks(photographs, encoding):
    done = run(photographs, *DEBLUR, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert deblurred(photographs) == 2
    assert len(done.stdout.decode(encoding).splitlines()) == 2


@pytest.mark.parametrize('shell', ['>&-', '2>&-', '> >(exit) 2>&1'])
def test_a_closed_stream_does_not_end_the_work(photographs, shell):
    done = run(photographs, *DEBLUR, shell=shell)
    assert done.returncode == 0, done.stderr
    assert deblurred(photographs) == 2


def test_the_reader_of_a_list_may_stop(tmp_path):
    done = run(tmp_path, 'list', shell='| head -n 1; exit ${PIPESTATUS[0]}')
    assert done.returncode == 0
    assert done.stderr == b''
    assert done.stdout == b'archs\n'


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no /dev/full')
def test_results_lost_on_a_full_disk_are_a_failure(photographs):
    done = run(photographs, *DEBLUR, shell='> /dev/full')
    assert done.returncode == 1
    assert deblurred(photographs) == 2
    assert b'standard output' in done.stderr


@pytest.mark.parametrize('words', [('list',), ('train', '-opt', 'фото.yml')])
def test_every_message_is_shown(tmp_path, words):
    done = run(tmp_path, *words, PYTHONIOENCODING='ascii')
    assert done.returncode == (0 if words == ('list',) else 2)
    assert b'Error' not in done.stderr
    assert done.stdout or done.stderr


@pytest.mark.slow
def test_a_training_takes_any_file_name_in_an_ascii_locale(workplace, tiny):
    """Names on sheets, in TensorBoard and in the scores; an option file that the locale's encoding cannot read."""
    for folder in ('input', 'ground_truth'):
        for name, source in zip(NAMES, ('00', '01'), strict=True):
            (workplace / 'pairs' / folder / f'{source}.png').rename(workplace / 'pairs' / folder / name)
    tiny['logger']['use_tb_logger'] = True
    (workplace / 'tiny.yml').write_text(f'# обучение\n{yaml.safe_dump(tiny)}', encoding='utf-8')
    done = run(workplace, 'train', '-opt', 'tiny.yml', LC_ALL='C', PYTHONUTF8='0', PYTHONCOERCECLOCALE='0')
    assert done.returncode == 0, done.stderr
    assert (workplace / 'experiments/tiny/comparison_val.png').is_file()
    assert 'обучение' in (workplace / 'experiments/tiny/tiny.yml').read_text(encoding='utf-8')


@pytest.mark.slow
def test_inspect_takes_any_file_name(photographs):
    (photographs / 'photos' / NAMES[0]).rename(photographs / r'photos/$\x$.png')  # invalid as a formula
    done = run(photographs, 'inspect', 'photos/*.png', '-o', 'out')
    assert done.returncode == 0, done.stderr
    assert deblurred(photographs) == 6


@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_lines_are_written_at_once(unbuffered):
    load = 'import os, sys; from ggkm_plugin.cli import output; output.protect_streams()'
    code = f'{load}; print("x", file=sys.stderr); os._exit(0)'
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONUNBUFFERED': unbuffered},
        capture_output=True,
        check=True,
    )
    assert done.stderr.split() == [b'x']
