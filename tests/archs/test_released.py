"""Strict loading of state dicts as authors release them; an error leaves the network unchanged."""

import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping

import pytest
import torch

from ggkm_plugin.archs.gkmnet_arch import GKMNet
from ggkm_plugin.archs.nrknet_arch import NRKNet
from ggkm_plugin.utils.checkpoint import load_weights, read_checkpoint, weights_of
from ggkm_plugin.utils.errors import CheckpointError

FORMATS = {
    'bare': lambda state: state,
    'module': lambda state: OrderedDict((f'module.{key}', value) for key, value in state.items()),
    'params': lambda state: {'params': state},
    'model': lambda state: {'model': state, 'epoch': 12},
    'state_dict': lambda state: {'state_dict': {f'module.{key}': value for key, value in state.items()}},
    'twice': lambda state: {'model': {'params': state}},
    'prefixed twice': lambda state: {f'module.module.{key}': value for key, value in state.items()},
}


def released_state(arch, seed=1):
    """Build a checkpoint of random numbers, with statistics."""
    torch.manual_seed(seed)
    return {
        key: torch.randn(value.shape) if value.is_floating_point() else torch.tensor(7)
        for key, value in arch().state_dict().items()
    }


@pytest.fixture
def state():
    return released_state(NRKNet)


def load(net, source):
    """Load a state dict, or a file with one, strictly."""
    content = source if isinstance(source, Mapping) else read_checkpoint(source)
    load_weights(net, weights_of(content, 'released'), 'released')


def snapshot(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize('wrapped', FORMATS.values(), ids=FORMATS)
def test_every_format_loads(state, wrapped, tmp_path):
    content = wrapped(state)
    torch.save(content, tmp_path / 'released.pth')
    for source in (content, tmp_path / 'released.pth', str(tmp_path / 'released.pth')):
        net = NRKNet()
        load(net, source)
        assert same(net.state_dict(), state)


def test_the_callers_dict_and_tensors_are_unchanged(state):
    wrapped = FORMATS['module'](state)
    before, net = dict(wrapped), NRKNet()
    load(net, wrapped)
    assert list(wrapped) == list(before)
    with torch.no_grad():
        next(net.parameters()).add_(1)
    assert not same(net.state_dict(), state)
    assert all(wrapped[key] is before[key] for key in before)


def test_the_network_keeps_its_dtype(state):
    net = NRKNet().double()
    load(net, state)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float64}
    assert same(net.float().state_dict(), state)


def without(state, *keys):
    return {key: value for key, value in state.items() if key not in keys}


FIRST = next(iter(NRKNet().state_dict()))
LAST = list(NRKNet().state_dict())[-1]
# (a change of the state dict, a key that the error names)
WRONG = {
    'empty': (lambda state: {}, FIRST),
    'empty params': (lambda state: {'params': {}}, FIRST),
    'first missing': (lambda state: without(state, FIRST), FIRST),
    'last missing': (lambda state: without(state, LAST), LAST),
    'one too many': (lambda state: {**state, 'extra.weight': torch.zeros(1)}, 'extra.weight'),
    'a key that is a number': (lambda state: {**state, 3: torch.zeros(1)}, '3'),
    'a wrong shape': (lambda state: {**state, LAST: torch.zeros(2, 5)}, LAST),
    'a list': (lambda state: {**state, FIRST: [1.0, 2.0]}, FIRST),
    'integers': (lambda state: {**state, FIRST: state[FIRST].long()}, FIRST),
    'no data': (lambda state: {**state, LAST: state[LAST].to('meta')}, LAST),
    'sparse': (lambda state: {**state, LAST: state[LAST].to_sparse()}, LAST),
    'half prefixed': (
        lambda state: {(f'module.{key}' if i % 2 else key): value for i, (key, value) in enumerate(state.items())},
        'module.',
    ),
    'of another network': (lambda state: released_state(GKMNet), 'APU.conv_atten.conv.weight'),
}


@pytest.mark.parametrize(('damaged', 'named'), WRONG.values(), ids=WRONG)
def test_a_wrong_checkpoint_is_refused_and_changes_nothing(state, damaged, named):
    net = NRKNet()
    before = snapshot(net)
    with pytest.raises(CheckpointError, match=f'(?s)NRKNet.*{re.escape(named)}'):
        load(net, damaged(state))
    assert same(net.state_dict(), before)


def test_a_released_checkpoint_lacks_the_self_reconstruction():
    net, state = GKMNet(self_reconstruction=True), released_state(GKMNet)
    load(net, state)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in state.items())


class Hostile:
    def __reduce__(self):
        return os.mkdir, ('owned',)


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, net = tmp_path / 'hostile.pth', GKMNet()
    before = snapshot(net)
    torch.save({'params': released_state(GKMNet), 'note': Hostile()}, path)
    with pytest.raises(CheckpointError, match=r'hostile\.pth'):
        load(net, path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError, match=r'hostile\.pth'):
        load(net, path)
    assert not (tmp_path / 'owned').exists()
    assert same(net.state_dict(), before)
