"""The reader's benchmark: what it compares, what it tells, what it leaves behind. No time is asserted."""

import json
import os
import re
import shutil
from collections import namedtuple

import pytest
import torch

from ggkm_plugin import benchmarks
from ggkm_plugin.benchmarks import measuring, reader
from ggkm_plugin.cli.main import main
from ggkm_plugin.utils.errors import DataError, OptionError

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


def test_readers_are_what_is_compared(readers):
    assert [each.name for each in readers] == NAMES
    assert [each.is_basicsr for each in readers] == [True, True, False, False, False]


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
    stored = sum(path.stat().st_size for path in measuring.files_below(readers[0].folder))
    assert 0.4 < stored / (8 * 6 * SIZE[0] * SIZE[1]) < 0.9


def _numbers(row):
    return [
        row.samples_per_second,
        row.ratio,
        row.peak_bytes,
        row.peak_ratio,
        row.idle_bytes,
        row.samples,
        row.seconds,
    ]


def _some(readers):
    return [*readers[:2], readers[-1]]


@pytest.mark.slow
def test_the_command(tmp_path, capfd, monkeypatch):
    """On tiny photographs: every row has its numbers, and nothing is left but what was asked for."""
    work, out = tmp_path / 'work', tmp_path / 'bench.json'
    work.mkdir()
    make_all = reader.make_readers
    monkeypatch.setattr(reader, 'make_readers', lambda *arguments: _some(make_all(*arguments)))
    monkeypatch.setattr(reader, 'WORKERS', (2,))
    arguments = ['--pairs', '4', '--size', '256x288', '--seconds', '0.05', '--work', str(work), '--json', str(out)]
    assert main(['bench', 'reader', *arguments]) == 0
    printed = capfd.readouterr().out
    record = json.loads(out.read_text())
    rows = [reader.ReaderRow(**row) for row in record['reader']['rows']]
    assert [(row.reader, row.workers) for row in rows] == [(name, 2) for name in _some(NAMES)]
    for row in rows:
        assert row.failed is None
        assert all(0 < number < float('inf') for number in _numbers(row))
        assert row.cold_samples_per_second is None or row.cold_samples_per_second > 0
        assert re.search(rf'^{row.reader} +{row.workers} ', printed, re.MULTILINE)
    assert rows[0].ratio == rows[0].peak_ratio == 1
    assert set(record['reader']['stored_bytes']) == {row.reader for row in rows}
    assert {'processor', 'cores', 'torch', 'opencv', 'lmdb', 'load_average'} <= set(record['machine'])
    assert record['machine']['processor'] in printed
    assert not list(work.iterdir())


def test_ratios_are_to_the_host_s_folders_with_as_many_workers(readers, monkeypatch):
    """And the table has a line for each reader with each number of workers."""
    rates = iter([10, 5, 10, 20, 700, 20, 5, 20, 40, 800])
    monkeypatch.setattr(
        reader,
        '_measured',
        lambda each, workers, _: reader.ReaderRow(each.name, workers, next(rates), peak_bytes=2**20),
    )
    rows = reader._rows(readers, reader.ReaderSettings(), progress=False)
    assert [(row.workers, row.reader, row.ratio) for row in rows] == [
        (workers, name, ratio)
        for workers, ratios in ((0, [1, 0.5, 1, 2, 70]), (2, [1, 0.25, 1, 2, 40]))
        for name, ratio in zip(NAMES, ratios, strict=True)
    ]
    lines = reader.table(reader.ReaderReport(reader.ReaderSettings(), {}, rows)).splitlines()
    assert [re.split('  +', line)[:2] for line in lines[2:12]] == [[row.reader, str(row.workers)] for row in rows]


def test_a_reader_of_the_host_that_fails_says_so_in_its_row(readers, monkeypatch):
    def fails(*_):
        raise measuring.Failed('ValueError: already open in this process')

    monkeypatch.setattr(reader, 'observed', fails)
    row = reader._measured(readers[1], 2, reader.ReaderSettings())
    assert row == reader.ReaderRow(NAMES[1], 2, failed='ValueError: already open in this process')
    text = reader.table(reader.ReaderReport(reader.ReaderSettings(), {}, [reader._with_ratios(row, row)]))
    assert re.search(r'^BasicSR, its own LMDB +2( +-){6}$', text, re.MULTILINE)
    assert 'already open in this process' in text
    with pytest.raises(DataError, match='ggkm_plugin, LMDB raw, 0 workers: ValueError'):
        reader._measured(readers[-1], 0, reader.ReaderSettings())


def test_too_little_room(tmp_path, monkeypatch):
    usage = namedtuple('usage', 'free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage(10**6))
    with pytest.raises(DataError, match=r'needs 1\.5 GB, but 1\.0 MB are free.*--work.*--pairs.*--size'):
        reader.run(reader.ReaderSettings(work=str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_files_are_removed_when_it_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, 'write_lmdb', lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        reader.run(reader.ReaderSettings(4, SIZE, work=str(tmp_path)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['wrtier'], ['wrtier', *benchmarks.NAMES]),
        (['--size', '1120'], ['--size 1120', '720x1280']),
        (['--size', '100x1000'], ['--size 100x1000', '256x256']),
        (['--pairs', '3'], ['--pairs 3', '4']),
        (['--seconds', '0'], ['--seconds 0']),
        (['--seconds', 'nan'], ['--seconds nan']),
        (['--work', 'nowhere'], ['--work nowhere', 'no such folder']),
        (['--json', 'nowhere/bench.json'], ['--json nowhere/bench.json', 'cannot be written']),
        (['--json', '.'], ['--json .', 'cannot be written']),
    ],
)
def test_mistakes(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(['bench', *arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith('basicsr bench: ')
    assert all(word in message for word in words), message


# --- measuring --------------------------------------------------------------------------------------------------------


# Code for `exec`: a spawned process cannot import the functions of a test.
HOLD = 'import time; held = bytes([1]) * ({} << 20); time.sleep(0.3)'
HOLD_IN_A_CHILD = f'import os\nchild = os.fork()\nif child: os.waitpid(child, 0)\nelse: {HOLD}; os._exit(0)'


def test_memory_is_that_of_the_process_alone():
    mine = bytes([1]) * (200 << 20)
    small, large = (measuring.observed(exec, HOLD.format(size)) for size in (1, 100))
    assert 90 << 20 < large.peak - small.peak < 110 << 20
    assert small.peak < len(mine)


def test_memory_of_children_counts():
    assert measuring.observed(exec, HOLD_IN_A_CHILD.format(100)).peak > 100 << 20


def test_the_result_comes_back():
    assert measuring.observed(divmod, 7, 2).result == (3, 1)


def test_growth_is_between_peaks():
    memory = [measuring.Anonymous(second, size) for second, size in enumerate([9, 1, 5, 2, 5, 2, 5, 2, 5, 3, 7, 9])]
    assert measuring.Observed(None, memory).growth(1, 10) == 2


@pytest.mark.parametrize(
    ('function', 'argument', 'words'),
    [(exec, "raise KeyError('gone')", "KeyError: 'gone'"), (os._exit, 3, 'exit code 3')],
)
def test_what_fails_in_the_process_is_told(function, argument, words):
    with pytest.raises(measuring.Failed, match=words):
        measuring.observed(function, argument)


def test_without_proc(monkeypatch):
    monkeypatch.setattr(measuring.Path, 'exists', lambda _: False)
    with pytest.raises(OptionError, match='Linux'):
        measuring.check_proc()
