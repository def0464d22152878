"""Checkpoints that describe themselves: rebuilt from the file alone, refused when damaged or hostile."""

import errno
import io
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ggkm_plugin.utils import checkpoint
from ggkm_plugin.utils.errors import CheckpointError, OptionError
from ggkm_plugin.utils.files import stored_path


def test_the_description_rebuilds_the_network(tiny, tmp_path):
    description = checkpoint.describe({**tiny, 'network_g': {**tiny['network_g'], 'blur_form': 'separable'}})
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
    path = tmp_path / 'x.pth'
    torch.save({'params': torch.ones(100)}, path)
    for content in (b'', b'text', path.read_bytes()[:-50], path.read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r'x\.pth'):
            checkpoint.read_checkpoint(str(path))
    torch.save([1], path)
    with pytest.raises(CheckpointError, match=r'x\.pth'):
        checkpoint.read_checkpoint(str(path))
    for missing in (tmp_path / 'gone.pth', tmp_path):
        with pytest.raises(CheckpointError, match=str(missing)):
            checkpoint.read_checkpoint(missing)


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
            r'x\.pth.*No space left on device',
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


A, B = torch.ones(1), torch.zeros(1)


@pytest.mark.parametrize(
    ('content', 'key'),
    [
        ({'params': {'x': B}, 'params_ema': {'x': A}, 'description': {}}, 'params_ema'),
        ({'state_dict': {'x': B}, 'params': {'x': A}}, 'params'),
        ({'model': {'x': B}, 'state_dict': {'x': A}, 'epoch': 3}, 'state_dict'),
        ({'model': {'params': {'x': A}}}, 'model'),
        ({'params_ema': None, 'params': {'x': A}}, 'params'),
        ({'x': A}, None),
        ({'state_dict': {'module._orig_mod.x': A, 'module._orig_mod.y.z': B}}, 'state_dict'),
        ({'params': {'x': A, 'y._orig_mod.z': B}}, 'params'),
        ({'n_averaged': torch.tensor(3), 'module.x': A}, None),
    ],
)
def test_which_weights_are_taken(content, key):
    assert checkpoint.weights_key(content, 'x.pth') == key
    state = checkpoint.weights_of(content, 'x.pth')
    assert state['x'] is A
    assert state.keys() <= {'x', 'y.z'}


def test_an_explicit_key_overrides_and_must_be_there():
    content = {'params': {'x': B}, 'params_ema': {'x': A}}
    assert checkpoint.weights_of(content, 'x.pth', 'params')['x'] is B
    with pytest.raises(CheckpointError, match=r'x\.pth.*teacher.*params'):
        checkpoint.weights_of(content, 'x.pth', 'teacher')


@pytest.mark.parametrize(
    'content',
    [
        {'net': {'x': A}, 'epoch': 3},
        {'params': [1]},
        {'iter': 4, 'optimizers': [], 'epoch': 0},
        {'x': A, '_orig_mod.x': A},
    ],
)
def test_what_holds_no_weights_is_refused(content):
    with pytest.raises(CheckpointError, match=r'x\.pth'):
        checkpoint.weights_of(content, 'x.pth')


class Net(nn.Module):
    training_only = ('srm',)

    def __init__(self, srm=True):
        super().__init__()
        self.main = nn.Linear(2, 2)
        self.srm = nn.Linear(2, 2) if srm else None
        self.register_buffer('mask', torch.tensor([0, -torch.inf]))


def test_parts_that_only_training_uses_may_be_absent():
    with_srm, without = Net().state_dict(), Net(srm=False).state_dict()
    net = Net()
    assert len(checkpoint.load_weights(net, without, 'x.pth')) == 1
    assert torch.equal(net.main.weight, without['main.weight'])
    assert checkpoint.load_weights(Net(srm=False), with_srm, 'x.pth') == []
    assert checkpoint.load_weights(net, with_srm, 'x.pth') == []
    with pytest.raises(CheckpointError, match=r'srm\.bias'):
        checkpoint.load_weights(net, {key: value for key, value in with_srm.items() if key != 'srm.bias'}, 'x.pth')


@pytest.mark.parametrize('finite', [True, False])
def test_weights_that_are_not_finite(finite):
    net, state = Net(), Net().state_dict()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state['main.bias'] = torch.tensor([0, torch.nan])
    if finite:
        with pytest.raises(CheckpointError, match=r'main\.bias'):
            checkpoint.load_weights(net, state, 'x.pth')
        assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    else:
        checkpoint.load_weights(net, state, 'x.pth', finite=False)
        assert net.main.bias.isnan().any()


def test_a_loose_load_takes_what_fits():
    net, state = Net(), Net().state_dict()
    state['main.bias'], state['more'] = torch.zeros(5), A
    (line,) = checkpoint.load_weights(net, state, 'x.pth', strict=False)
    assert 'main.bias' in line
    assert 'more' in line
    assert torch.equal(net.main.weight, state['main.weight'])


def test_safetensors_hold_weights_and_description(tmp_path):
    path = tmp_path / 'x.safetensors'
    state = {'a': torch.rand(2, 3).half(), 'b': torch.rand(2, 8, 3, 3).to(memory_format=torch.channels_last), 'n': A}
    description = {'arch': 'GGKMNet', 'options': {'width': 4, 'enc_blocks': [1, 1, 1]}}
    checkpoint.save_checkpoint({**state, 'again': state['a']}, description, path)
    content = checkpoint.read_checkpoint(path)
    assert content['description'] == description
    assert all(torch.equal(content['params'][key], value) for key, value in state.items())
    assert load_file(path).keys() == {'a', 'b', 'n', 'again'}
    save_file({'a': A}, path)  # by another program
    assert checkpoint.read_checkpoint(path) == {'params': {'a': A}}


def test_the_content_of_a_file_tells_its_format(tmp_path):
    for written, read in (('a.pth', 'b.safetensors'), ('c.safetensors', 'd.pth')):
        checkpoint.save_checkpoint({'a': A}, {}, tmp_path / written)
        (tmp_path / written).rename(tmp_path / read)
        assert checkpoint.read_checkpoint(tmp_path / read)['params'] == {'a': A}


def test_safetensors_that_are_damaged(tmp_path):
    path = tmp_path / 'x.safetensors'
    checkpoint.save_checkpoint({'a': torch.rand(100)}, {}, path)
    whole = path.read_bytes()
    for content in (b'', b'text', whole[:-50]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r'x\.safetensors'):
            checkpoint.read_checkpoint(path)


def test_the_suffix_chooses_the_format(tmp_path):
    with pytest.raises(OptionError, match=r'x\.onnx'):
        checkpoint.save_checkpoint({'a': A}, {}, tmp_path / 'x.onnx')
    with pytest.raises(CheckpointError, match='none'):
        checkpoint.save_checkpoint({'a': A}, {}, tmp_path / 'none/x.safetensors')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('content', [{}, {'description': {'arch': 'GGKMNet', 'options': [1]}}, {'description': {}}])
def test_a_missing_or_damaged_description(content):
    with pytest.raises(CheckpointError, match=r'x\.pth'):
        checkpoint.described_network(content, 'x.pth')


@pytest.mark.filterwarnings('error')
def test_code_in_a_file_is_neither_run_nor_advised_to_be(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'harmed'),)

    path = tmp_path / 'x.pth'
    for write in (
        lambda: torch.save({'params': Hostile()}, path),
        lambda: path.write_bytes(pickle.dumps(Path('x'), 4)),
    ):
        write()
        with pytest.raises(CheckpointError, match='not a checkpoint of tensors alone') as caught:
            checkpoint.read_checkpoint(path)
        assert 'weights_only' not in str(caught.value)
        assert 'safe_globals' not in str(caught.value)
    assert not (tmp_path / 'harmed').exists()


def test_graphs_are_named_as_such(tmp_path):
    for name in ('m.onnx', 'm.pt2'):
        (tmp_path / name).write_bytes(b'graph')
        with pytest.raises(CheckpointError, match=f'{name}.*--backend onnx'):
            checkpoint.read_checkpoint(tmp_path / name)


def test_two_kinds_of_weights_in_safetensors(tmp_path):
    content = {'params': {'a': torch.ones(2)}, 'params_ema': {'a': torch.zeros(2)}, 'description': {'arch': 'x'}}
    checkpoint.save_content(content, tmp_path / 'm.safetensors')
    read = checkpoint.read_checkpoint(tmp_path / 'm.safetensors')
    assert read.keys() == content.keys()
    assert all(torch.equal(read[key]['a'], content[key]['a']) for key in ('params', 'params_ema'))
    assert stored_path(tmp_path / 'm.pth') == str(tmp_path / 'm.safetensors')
    assert stored_path(tmp_path / 'n.pth') == str(tmp_path / 'n.pth')
