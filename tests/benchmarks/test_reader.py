"""The reader's benchmark: what it compares, what it tells, what it leaves behind. No time is asserted."""

import json

import pytest
import torch

from ggkm_plugin.benchmarks import processes, reader
from ggkm_plugin.cli.main import main
from ggkm_plugin.utils.errors import DataError

NAMES = [
    'BasicSR, PNG folders',
    'BasicSR, its own LMDB',
    'ggkm_plugin, PNG folders',
    'ggkm_plugin, LMDB png',
    'ggkm_plugin, LMDB raw',
]
SIZE = (256, 288)


@pytest.fixture(scope='module')
def readers(tmp_path_factory):
    return reader.make_readers(tmp_path_factory.mktemp('bench'), reader.ReaderSettings(pairs=4, size=SIZE))


@pytest.mark.parametrize('name', NAMES)
def test_every_reader_gives_training_batches(readers, name):
    """BasicSR's have 8 bits, those of this package 16; the blurred image is in `lq`."""
    of_name = next(each for each in readers if each.name == name)
    batches = list(reader._loader(of_name, 0, 2))
    assert len(batches) == 2
    steps = 255 if of_name.is_basicsr else 65535
    for batch in batches:
        lq, gt = batch['lq'], batch['gt']
        assert lq.shape == gt.shape == (reader.BATCH, 3, reader.CROP, reader.CROP)
        assert lq.diff().abs().mean() < gt.diff().abs().mean()
        torch.testing.assert_close(gt * steps, (gt * steps).round(), rtol=0, atol=0.01)
        assert ((gt * 255 - (gt * 255).round()).abs().max() > 0.1) != of_name.is_basicsr


def test_photographs_compress_like_photographs(readers):
    """A real one of 16 bits has noise in its lowest bits, which no PNG can pack."""
    assert 0.4 < readers[0].bytes_stored / (8 * 6 * SIZE[0] * SIZE[1]) < 0.9


@pytest.mark.slow
def test_the_command(tmp_path, capfd, monkeypatch):
    """On tiny photographs: every row has its numbers, and nothing is left but what was asked for."""
    work, out = tmp_path / 'work', tmp_path / 'bench.json'
    work.mkdir()
    make_all = reader.make_readers
    monkeypatch.setattr(reader, 'make_readers', lambda *arguments: make_all(*arguments)[::2])
    monkeypatch.setattr(reader, 'WORKERS', (2,))
    arguments = ['--pairs', '4', '--size', '256x288', '--seconds', '0.05', '--work', str(work), '--json', str(out)]
    assert main(['bench', 'reader', *arguments]) == 0
    printed = capfd.readouterr().out
    record = json.loads(out.read_text())
    rows = [reader.ReaderRow(**row) for row in record['reader']['rows']]
    assert [(row.reader, row.workers) for row in rows] == [(name, 2) for name in NAMES[::2]]
    for row in rows:
        assert row.failed is None
        assert min(row.samples_per_second, row.cpu_per_sample) > 0
        assert row.reader in printed
    assert set(record['reader']['stored']) == {row.reader for row in rows}
    assert record['machine']['processor'] in printed
    assert not list(work.iterdir())


def test_ratios_are_to_basicsr_s_folders_with_as_many_workers(readers, monkeypatch):
    rates = iter([10, 5, 10, 20, 700, 20, 5, 20, 40, 800])
    monkeypatch.setattr(reader, 'in_new_process', lambda *_: (rate := next(rates), 1 / rate))
    rows = reader._rows(readers, reader.ReaderSettings(), progress=False)
    lines = reader.table(reader.ReaderReport(reader.ReaderSettings(), {}, rows)).splitlines()
    for workers, ratios in (
        (0, ['1.00', '0.50', '1.00', '2.00', '70.00']),
        (2, ['1.00', '0.25', '1.00', '2.00', '40.00']),
    ):
        found = [line.split()[-4:] for line in lines if f' {workers} ' in line]
        assert [numbers[1] for numbers in found] == ratios
        assert [numbers[3] for numbers in found] == ratios


def test_a_reader_of_basicsr_that_fails_says_so_in_its_row(readers, monkeypatch):
    def fails(*_):
        raise processes.Failed('ValueError: already open in this process')

    monkeypatch.setattr(reader, 'in_new_process', fails)
    row = reader._measured(readers[1], 2, reader.ReaderSettings())
    assert row == reader.ReaderRow(NAMES[1], 2, failed='ValueError: already open in this process')
    assert 'already open' in reader.table(reader.ReaderReport(reader.ReaderSettings(), {}, [row]))
    with pytest.raises(DataError, match='ggkm_plugin, LMDB raw'):
        reader._measured(readers[-1], 0, reader.ReaderSettings())


@pytest.mark.parametrize(
    'arguments',
    [
        ['wrtier'],
        ['--size', '100x1000'],
        ['--pairs', '3'],
        ['--seconds', 'nan'],
        ['--work', 'nowhere'],
        ['--json', 'nowhere/bench.json'],
    ],
)
def test_mistakes_name_the_argument(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(['bench', *arguments]) == 2
    assert arguments[0] in capsys.readouterr().err
