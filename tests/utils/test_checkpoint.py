"""Checkpoints that describe themselves: rebuilt from the file alone, refused when damaged or hostile."""

import errno
import io
import os
import pickle
from pathlib import Path

import pytest
import torch

from ggkm_plugin.utils import checkpoint
from ggkm_plugin.utils.errors import CheckpointError


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / 'x.pth'
    checkpoint.save_atomically({'params': torch.ones(2)}, str(path))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r'x\.pth'):
        checkpoint.save_atomically(lambda: None, str(path))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ['x.pth']


def test_the_description_rebuilds_the_network(tiny, tmp_path):
    description = checkpoint.describe(tiny)
    path = str(tmp_path / 'x.pth')
    checkpoint.save_atomically({'params': {}, 'description': description}, path)
    assert checkpoint.network_options(path) == tiny['network_g']
    assert description['versions']['basicsr'] == '1.4.2'


def test_equal_trainings_have_equal_digests(tiny):
    def digest(**changes):
        return checkpoint.describe({**tiny, **changes})['option_digest']

    moved = {**tiny['datasets'], 'train': {**tiny['datasets']['train'], 'dataroot_lq': '/elsewhere'}}
    assert digest() == digest(datasets=moved, num_gpu=4, path={}, name='other')
    assert digest() != digest(manual_seed=4)
    assert digest() != digest(train={**tiny['train'], 'total_iter': 5})


def test_files_that_are_no_checkpoints(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'harmed'),)

    path = tmp_path / 'x.pth'
    torch.save({'params': Hostile()}, path)
    with pytest.raises(CheckpointError, match=r'x\.pth'):
        checkpoint.read_checkpoint(str(path))
    assert not (tmp_path / 'harmed').exists()
    torch.save({'params': torch.ones(100)}, path)
    for content in (b'', b'text', path.read_bytes()[:-50]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match='truncated, or not'):
            checkpoint.read_checkpoint(str(path))
    torch.save([1], path)
    with pytest.raises(CheckpointError, match='list'):
        checkpoint.read_checkpoint(str(path))
    with pytest.raises(CheckpointError, match='no such'):
        checkpoint.read_checkpoint(str(tmp_path / 'gone.pth'))


class Broken(io.FileIO):
    """A file that fails in the middle."""

    error: BaseException
    writes = 0

    def write(self, content):
        self.writes += 1
        if self.writes == 2:
            raise self.error
        return super().write(content)


@pytest.mark.parametrize(
    ('met', 'raised', 'words'),
    [
        (
            OSError(errno.ENOSPC, 'No space left on device'),
            CheckpointError,
            r'written \(No space left on device\); make room',
        ),
        (KeyboardInterrupt(), KeyboardInterrupt, '^$'),
    ],
)
def test_what_comes_in_the_middle_of_saving(tmp_path, monkeypatch, met, raised, words):
    """torch says "unexpected pos" to either; what is there stays, and no part of the new file."""
    path = tmp_path / 'x.pth'
    path.write_bytes(b'old')
    monkeypatch.setattr(Broken, 'error', met, raising=False)
    with monkeypatch.context() as patch:
        patch.setattr('builtins.open', lambda name, mode: Broken(name, mode[0]))
        with pytest.raises(raised, match=words):
            checkpoint.save_atomically({'params': torch.ones(100000)}, str(path), 'make room')
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['x.pth']


def test_where_the_weights_are():
    average, last = {'a': 1}, {'a': 2}
    whole = {'params': last, 'params_ema': average}
    assert checkpoint.weights_of(whole, 'x') is average
    assert checkpoint.weights_of(whole, 'x', ['params']) is last
    assert checkpoint.weights_of({'params': last}, 'x') is last
    assert checkpoint.weights_of(last, 'x') is last
    with pytest.raises(CheckpointError, match='x: holds no state dict under params but list'):
        checkpoint.weights_of({'params': [1]}, 'x')


def test_a_checkpoint_without_a_description(tmp_path):
    torch.save({'params': {}}, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='set network_g'):
        checkpoint.network_options(str(tmp_path / 'x.pth'))


@pytest.mark.parametrize('description', [{'arch': 'GGKMNet', 'options': [1]}, {'arch': 3, 'options': {}}, {}])
def test_a_damaged_description(tmp_path, description):
    torch.save({'params': {}, 'description': description}, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError, match='damaged'):
        checkpoint.network_options(str(tmp_path / 'x.pth'))


def test_options_cannot_name_another_arch(tmp_path):
    description = {'arch': 'GGKMNet', 'options': {'type': 'Other', 'width': 4}}
    torch.save({'description': description}, tmp_path / 'x.pth')
    assert checkpoint.network_options(str(tmp_path / 'x.pth')) == {'type': 'GGKMNet', 'width': 4}


@pytest.mark.filterwarnings('error')
def test_no_advice_to_run_what_is_in_a_file(tmp_path):
    path = str(tmp_path / 'foreign.pth')
    torch.save({'params': {}, 'where': Path('x')}, path)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read_checkpoint(path)
    assert 'pathlib' in str(caught.value)
    Path(path).write_bytes(pickle.dumps({'params': Path('x')}, protocol=4))
    with pytest.raises(CheckpointError) as other:
        checkpoint.read_checkpoint(path)
    for error in (caught, other):
        assert 'not a checkpoint of tensors alone' in str(error.value)
        assert 'weights_only' not in str(error.value)
        assert 'safe_globals' not in str(error.value)
