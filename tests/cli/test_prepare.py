"""`basicsr prepare`: exit codes, messages, and what it writes."""

import os
import zipfile

import numpy as np
import pytest

from ggkm_plugin.cli import main as cli
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.utils.image_decoding import write_image


def main(words):
    return cli.main(['prepare', *words])


@pytest.fixture
def source(tmp_path):
    """A zip archive of three pairs in RTF's layout."""
    path = tmp_path / 'down.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        for k in (1, 2, 3):
            for name in (f'image/0/image_{k:02d}.png', f'GT/sharp_{k:02d}.png'):
                image = np.random.default_rng(k).integers(0, 256, (20, 24, 3), np.uint8)
                write_image(str(tmp_path / 'RTFDataset' / name), image)
                archive.write(tmp_path / 'RTFDataset' / name, f'RTFDataset/{name}')
    return path


def refused(capsys, *arguments):
    """Exit code and message: one line on stderr, no traceback."""
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert 'Traceback' not in printed.err
    lines = [line for line in printed.err.splitlines() if line.startswith('basicsr prepare: ')]
    assert len(lines) == 1
    return code, lines[0]


@pytest.mark.parametrize('format_', ['folder', 'png', 'raw'])
def test_what_it_makes_is_read_by_the_paired_data_set(tmp_path, source, capsys, format_):
    out = tmp_path / 'new' / 'RTF'
    assert main([str(source), '-o', str(out), '--format', format_]) == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in ('RTF', str(out), '  test: 3 pairs', 'test 3 of 22'))
    dataset = PairedDefocusDataset({'phase': 'val', 'dataroot': str(out), 'layout': 'RTF', 'split': 'test'})
    sample = dataset[1]
    np.testing.assert_array_equal(
        (sample['lq'] * 255).round().byte().permute(1, 2, 0),
        np.random.default_rng(2).integers(0, 256, (20, 24, 3), np.uint8),
    )


def test_a_dry_run_says_what_would_be_done(tmp_path, source, capsys):
    before = sorted(tmp_path.rglob('*'))
    assert main([str(source), '-o', str(tmp_path / 'out'), '--dry-run', '--format', 'raw']) == 0
    printed = capsys.readouterr().out
    assert all(part in printed for part in (f'RTF in {source}: ', 'raw', str(tmp_path / 'out'), '  test: 3 pairs'))
    assert sorted(tmp_path.rglob('*')) == before


def test_a_dry_run_fails_as_the_run_would_after_the_plan(tmp_path, source, capsys):
    (tmp_path / 'RTFDataset' / 'GT' / 'sharp_02.png').unlink()
    arguments = [str(tmp_path / 'RTFDataset'), '-o', str(tmp_path / 'out'), '--dry-run']
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert '  test: 2 pairs' in printed.out
    assert 'image/0/image_02.png' in printed.err
    assert main([*arguments, '--skip-bad']) == 0
    assert 'image/0/image_02.png' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('more', 'code', 'named'),
    [
        (['--set', 'DPDD'], 1, 'DPDD'),
        (['--workers', '0'], 2, 'workers'),
        (['nowhere.zip'], 1, 'nowhere.zip'),
    ],
)
def test_faults_are_reported_in_one_line(tmp_path, source, capsys, more, code, named):
    got, printed = refused(capsys, source, *more, '-o', tmp_path / 'out')
    assert got == code
    assert named in printed
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('format_', ['folder', 'raw'])
def test_an_interruption_is_reported_in_a_line_and_leaves_nothing(tmp_path, source, capsys, monkeypatch, format_):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = sorted(os.listdir(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr('ggkm_plugin.data.preparation.decode_image', interrupt)
        code, printed = refused(capsys, source, '-o', tmp_path / 'my out', '--format', format_)
    assert code == 1
    assert 'interrupted' in printed
    assert sorted(os.listdir(tmp_path)) == before
    assert main([str(source), '-o', str(tmp_path / 'my out')]) == 0


def test_a_file_name_of_unknown_encoding_is_printed(tmp_path, source, capsys):
    (tmp_path / 'RTFDataset' / os.fsdecode(b'caf\xe9.txt')).write_text('Latin-1')
    assert main([str(tmp_path / 'RTFDataset'), '-o', str(tmp_path / 'out')]) == 0
    assert 'caf\\udce9.txt' in capsys.readouterr().out
