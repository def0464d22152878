"""The file of a run's validations."""

import errno
import math

import pytest

from ggkm_plugin.models.history import ValidationHistory
from ggkm_plugin.utils.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'validations.json'


def filled(path):
    history = ValidationHistory(path)
    for iteration in (2, 4, 6):
        for dataset in ('a', 'b'):
            history.add(iteration, dataset, {'psnr': iteration / 10}, {'psnr': 0.1})
    return history


def loaded(path, last=100):
    history = ValidationHistory(path)
    history.load(last)
    return history


def test_what_is_saved_is_loaded(path):
    history = filled(path)
    history.add(7, 'a', {'psnr': math.inf, 'lpips': -math.inf, 'odd': math.nan, 'fine': 0.1 + 0.2}, {})
    history.save()
    entries = loaded(path).entries
    assert entries[:-1] == history.entries[:-1]
    metrics = entries[-1]['metrics']
    assert (metrics['psnr'], metrics['lpips'], metrics['fine']) == (math.inf, -math.inf, 0.1 + 0.2)
    assert math.isnan(metrics['odd'])
    assert [file.name for file in path.parent.iterdir()] == ['validations.json']


def test_what_came_later_is_forgotten(path):
    filled(path).save()
    history = loaded(path, last=4)
    assert [(entry['iter'], entry['dataset']) for entry in history.entries] == [(2, 'a'), (2, 'b'), (4, 'a'), (4, 'b')]
    assert history.has(4, 'b')
    assert not history.has(6, 'b')
    assert not history.has(4, 'c')


def test_a_validation_made_again_takes_the_place_of_the_first(path):
    history = filled(path)
    history.add(4, 'a', {'psnr': 0.9}, {})
    assert len(history.entries) == 6
    assert [entry['metrics'] for entry in history.entries if (entry['iter'], entry['dataset']) == (4, 'a')] == [
        {'psnr': 0.9}
    ]
    assert history.has(4, 'b')


def test_no_file_is_no_history(path):
    assert loaded(path).entries == []


@pytest.mark.parametrize('content', [b'', b'[{"iter": 2, ', b'{}', b'3', b'[3]', b'[{"metrics": {}}]', b'\xff\xfe'])
def test_a_damaged_file(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r'validations\.json: .*remove it'):
        loaded(path)


def test_a_full_disk(path, monkeypatch):
    """The old file stays whole, nothing is left beside it."""
    history = filled(path)
    history.save()
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    history.add(8, 'a', {}, {})
    with pytest.raises(CheckpointError, match=r'validations\.json: cannot be written.*No space left.*--auto_resume'):
        history.save()
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ['validations.json']
