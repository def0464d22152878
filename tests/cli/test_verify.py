"""`basicsr verify`: what it prints, exit codes, and the report as a file."""

import json

import cv2
import numpy as np
import pytest

from ggkm_plugin.cli import main as cli
from ggkm_plugin.data.verification import MAX_SHIFT
from ggkm_plugin.utils.image_decoding import write_image


def main(words):
    return cli.main(['verify', *words])


@pytest.fixture
def realdof(tmp_path):
    """Three pairs as RealDOF has them."""
    for i in range(1, 4):
        image = cv2.resize(np.random.default_rng(i).integers(0, 256, (6, 8, 3), np.uint8), (32, 24))
        write_image(str(tmp_path / 'set' / 'target' / f'0{i}.png'), image)
        write_image(str(tmp_path / 'set' / 'source' / f'0{i}.png'), cv2.GaussianBlur(image, (0, 0), 1.5))
    return tmp_path / 'set'


def run(capsys, *arguments):
    """Exit code, and the lines of stdout and of stderr."""
    code = main([str(argument) for argument in ('--workers', 0, *arguments)])
    errors = capsys.readouterr()
    assert 'Traceback' not in errors.err
    return code, errors.out.splitlines(), errors.err.splitlines()


def test_a_sound_set(realdof, capsys):
    code, lines, progress = run(capsys, realdof)
    assert code == 0
    assert lines[0] == f'RealDOF in {realdof}'
    assert lines[1] == f'test: 3 images of 50 published, 3 sharp ones, in {realdof}/source'
    assert lines[2] == '  size: 32x24; bits: 8'
    assert lines[3].startswith('  Input, all: ')
    assert lines[3].endswith(' (restormer, 3 pairs); published: 22.333 dB / 0.633')
    assert lines[4:] == ['1 warning:', '  test: 3 images; published with 50', 'no fault']
    assert '3/3' in progress[-1]


def test_every_fault_is_listed_and_the_exit_code_is_1(realdof, capsys):
    (realdof / 'source/01.png').write_bytes(b'')
    (realdof / 'source/03.png').write_bytes(b'text')
    write_image(str(realdof / 'target/02.png'), np.zeros((24, 40, 3), np.uint8))
    code, lines, _ = run(capsys, realdof)
    assert code == 1
    faults = lines[lines.index('3 faults:') + 1 :]
    assert [f'0{i}.png' in fault for i, fault in zip((1, 2, 3), faults, strict=True)] == [True] * 3
    assert '  size: 32x24 (3), 40x24 (1); bits: 8' in lines
    assert not any('Input' in line for line in lines)


def test_the_whole_report_as_a_file(realdof, tmp_path, capsys):
    (realdof / 'source/01.png').write_bytes(b'')
    file = tmp_path / 'report.json'
    assert run(capsys, realdof, '--json', file, '--protocol', 'ifan')[0] == 1
    report = json.loads(file.read_text())
    assert (report['layout'], report['protocol']) == ('RealDOF', 'ifan')
    assert report['faults'] == [f'{realdof}/source/01.png: the file is empty']
    split = report['splits'][0]
    assert split['rows']['all']['pairs'] == 2
    assert split['published_rows'] == [[22.333, 0.633]]
    assert [pair['lq'] and pair['lq']['name'] for pair in split['pairs']] == [
        None,
        f'{realdof}/source/02.png',
        f'{realdof}/source/03.png',
    ]
    assert np.mean([pair['psnr'] for pair in split['pairs'][1:]]) == pytest.approx(split['rows']['all']['psnr'])


def test_options_reach_the_check(realdof, capsys):
    assert run(capsys, realdof, '--no-scores', '--set', 'RealDOF', '--split', 'test')[1][3] == '1 warning:'
    assert '(nrknet, 3 pairs)' in run(capsys, realdof, '--protocol', 'nrknet')[1][3]
    code, lines, errors = run(capsys, realdof, '--set', 'DPDD')
    assert (code, lines) == (1, [])
    assert 'DPDD' in errors[-1]


def test_the_largest_shift_is_printed_and_may_be_set(tmp_path, capsys):
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (70, 75, 3), np.uint8), (300, 280))
    write_image(str(tmp_path / 'target/1.png'), image)
    write_image(str(tmp_path / 'source/1.png'), cv2.GaussianBlur(np.roll(image, 2, 0), (0, 0), 2))
    code, lines, _ = run(capsys, tmp_path)
    assert code == 1
    assert '  largest shift of a pair: 2.0' in lines[3][:-3] + lines[3][-3:]
    assert any('--max-shift' in line for line in lines)
    assert run(capsys, tmp_path, '--max-shift', '2.5')[0] == 0


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        (['--workers', '-1'], '--workers'),
        (['--max-shift', 'nan'], '--max-shift'),
        (['--split', 'dev'], 'dev'),
        (['--set', 'DPD'], '--set'),
        (['--protocol', 'best'], '--protocol'),
        (['--json', 'nowhere/report.json'], '--json nowhere/report.json'),
        (['--json', '/'], '--json /:'),
    ],
)
def test_wrong_usage_is_reported_in_one_line(realdof, capsys, arguments, named):
    code, lines, errors = run(capsys, realdof, *arguments)
    assert (code, lines) == (2, [])
    assert len(errors) == 1
    assert named in errors[0]


def test_the_default_shift_is_that_of_the_library():
    assert cli.build_parser().parse_args(['verify', 'x']).max_shift == MAX_SHIFT
