"""Weights as authors release them: strict loading; an error leaves the network unchanged.

The containers of state dicts are in utils/test_checkpoint.py.
"""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ggkm_plugin.archs.dpdnets_arch import DPDNetS
from ggkm_plugin.archs.gkmnet_arch import GKMNet
from ggkm_plugin.archs.ifan_arch import IFAN
from ggkm_plugin.archs.kpac_arch import KPAC
from ggkm_plugin.archs.mdp_arch import MDP
from ggkm_plugin.archs.nrknet_arch import NRKNet
from ggkm_plugin.archs.released import load_ifan, load_keras, load_kpac
from ggkm_plugin.utils.checkpoint import load_weights, network_options, read_checkpoint, weights_of
from ggkm_plugin.utils.errors import CheckpointError

from basicsr.archs import build_network  # isort: skip


def random_state(net):
    """Build a state dict of random numbers, with statistics."""
    return {
        key: torch.randn(value.shape) if value.is_floating_point() else torch.tensor(7)
        for key, value in net.state_dict().items()
    }


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def refused(loading, net, named):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=named):
        loading()
    assert same(net.state_dict(), before)


# State dicts


@pytest.fixture(scope='module')
def state():
    return random_state(NRKNet())


def test_a_state_dict_loads_in_the_networks_dtype(state):
    """The caller's dict and tensors are unchanged."""
    given, net = dict(state), NRKNet().double()
    load_weights(net, given, 'released')
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float64}
    assert same(net.float().state_dict(), state)
    with torch.no_grad():
        next(net.parameters()).add_(1)
    assert all(given[key] is state[key] for key in state)
    assert not same(net.state_dict(), state)


FIRST = 'feat_extract.0.main.0.weight'
LAST = 'SummationLayer.conv.bias'
# (a change of the state dict, a key that the error names)
WRONG = {
    'empty': (lambda state: {}, FIRST),
    'one missing': (lambda state: {key: state[key] for key in state if key != LAST}, LAST),
    'one too many': (lambda state: {**state, 'extra.weight': torch.zeros(1)}, 'extra.weight'),
    'a key that is a number': (lambda state: {**state, 3: torch.zeros(1)}, '3'),
    'a wrong shape': (lambda state: {**state, LAST: torch.zeros(2, 5)}, LAST),
    'a list': (lambda state: {**state, FIRST: [1.0, 2.0]}, FIRST),
    'integers': (lambda state: {**state, FIRST: state[FIRST].long()}, FIRST),
    'no data': (lambda state: {**state, LAST: state[LAST].to('meta')}, LAST),
    'sparse': (lambda state: {**state, LAST: state[LAST].to_sparse()}, LAST),
    'of another network': (lambda state: random_state(GKMNet()), 'APU.conv_atten.conv.weight'),
}


@pytest.mark.parametrize(('damaged', 'named'), WRONG.values(), ids=WRONG)
def test_a_wrong_state_dict_is_refused_and_changes_nothing(state, damaged, named):
    net = NRKNet()
    content = weights_of(damaged(state), 'released')
    refused(lambda: load_weights(net, content, 'released'), net, f'(?s)NRKNet.*{re.escape(named)}')


# IFAN


def small_ifan(**options):
    return IFAN(num_filters=2, width=2, **options)


def ifan_state(inside=False):
    """Build a state dict as the trainer saves it with several GPUs."""
    return {
        f'module.{"" if key.startswith("reblurNet.") and not inside else "Network."}{key}': value
        for key, value in random_state(small_ifan(reblur=True)).items()
    }


def load_ifan_state(net, state):
    torch.save(state, 'ifan.pth')
    load_ifan(net, 'ifan.pth')


@pytest.mark.parametrize(('reblur', 'inside'), [(True, False), (False, True)])
def test_ifan_loads_as_its_trainer_saved_it(workplace, reblur, inside):
    """With K1, with which the released weights were trained; test_ifan.py tests its effect."""
    net, state = small_ifan(reblur=reblur), ifan_state(inside)
    assert net.second_pass == 'K2'
    load_ifan_state(net, {'state_dict': state})
    want = {re.sub(r'^module\.(Network\.)?', '', key): value for key, value in state.items()}
    assert same(net.state_dict(), {key: want[key] for key in net.state_dict()})
    assert ('reblurNet.3.bias' in net.state_dict()) is reblur
    assert net.second_pass == 'K1'


@pytest.mark.parametrize(
    ('damaged', 'named'),
    [
        (lambda state: {key.replace('Network.', ''): value for key, value in state.items()}, r'Network\.'),
        (lambda state: {**state, 'module.optimizer': torch.zeros(1)}, 'optimizer'),
        (lambda state: {k: v for k, v in state.items() if not k.endswith('DME.3.bias')}, r'DME\.3\.bias'),
        (lambda state: {k: v for k, v in state.items() if not k.endswith('reblurNet.3.bias')}, 'reblurNet'),
        (lambda state: {**state, 'module.Network.F.3.bias': torch.zeros(3)}, r'F\.3\.bias'),
    ],
)
def test_other_checkpoints_of_ifan_are_refused(workplace, damaged, named):
    net = small_ifan(reblur=True)
    refused(lambda: load_ifan_state(net, damaged(ifan_state())), net, named)
    assert net.second_pass == 'K2'


# Keras


def keras_layers(net, first):
    """Build (name, kernel HWIO, bias) with random values for a network's convolutions, in order of creation."""
    convs = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    rng = np.random.default_rng(0)
    layers = []
    for i, conv in enumerate(convs, start=first):
        out_ch, in_ch, height, width = conv.weight.shape
        kernel, bias = rng.standard_normal((height, width, in_ch, out_ch)), rng.standard_normal(out_ch)
        name = f'conv2d_{i}' if i else 'conv2d'
        layers.append((name, kernel.astype(np.float32), bias.astype(np.float32)))
    return layers


def write_keras(path, layers, root='model_weights'):
    """Write a file as Keras does: one group per layer, not in order of creation, some without weights."""
    h5py = pytest.importorskip('h5py')
    with h5py.File(path, 'w') as file:
        weights = file.require_group(root) if root else file
        for name, kernel, bias in sorted(layers, key=lambda layer: layer[0][::-1]):
            group = weights.require_group(f'{name}/{name}')
            group['kernel:0'], group['bias:0'] = kernel, bias
        weights.require_group('max_pooling2d')
        if root:
            file.require_group('optimizer_weights/Adam')['iterations:0'] = 7


@pytest.mark.parametrize(
    ('build', 'first', 'root'),
    [
        (lambda: DPDNetS(width=2), 1, 'model_weights'),
        (lambda: DPDNetS(width=2), 25, None),
        (lambda: MDP(width=2), 0, 'model_weights'),
    ],
)
def test_keras_layers_go_by_their_number(tmp_path, build, first, root):
    net = build()
    layers = keras_layers(net, first)
    write_keras(tmp_path / 'model.hdf5', layers, root)
    load_keras(net, tmp_path / 'model.hdf5')
    convs = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    for conv, (_, kernel, bias) in zip(convs, layers, strict=True):
        out_ch, in_ch, height, width = conv.weight.shape
        for o, i, y, x in ((0, 0, 0, 0), (out_ch - 1, in_ch - 1, height - 1, width - 1), (out_ch - 1, 0, 0, width - 1)):
            assert conv.weight[o, i, y, x].item() == kernel[y, x, i, o]
        assert np.array_equal(conv.bias.detach().numpy(), bias)


def test_mdps_branches_are_sorted_by_number(tmp_path):
    """Encoder 0-6, early branches 7-13, 14-20, 21-27, late ones 28-34, 35-41, 42-48: left, right, sharp."""
    net = MDP(width=2)
    write_keras(tmp_path / 'mdp.h5', [(n, k * 0 + i, b * 0 + i) for i, (n, k, b) in enumerate(keras_layers(net, 0))])
    load_keras(net, tmp_path / 'mdp.h5')
    numbers = {}
    for key, value in net.state_dict().items():
        assert len(value.unique()) == 1
        numbers.setdefault(key.split('.')[0], set()).add(int(value.view(-1)[0]))
    parts = ['encoder', 'early_left', 'early_right', 'early_sharp', 'late_left', 'late_right', 'late_sharp']
    assert numbers == {part: set(range(7 * i, 7 * i + 7)) for i, part in enumerate(parts)}
    assert net.encoder[3][0][0].bias[0] == 6
    assert net.early_left.up8.conv[0].bias[0] == 13
    assert net.late_sharp.output.image.bias[0] == 48


def test_other_keras_files_are_refused(tmp_path):
    h5py = pytest.importorskip('h5py')
    net, path = DPDNetS(width=2), tmp_path / 'model.h5'
    layers = keras_layers(net, 1)
    short = [*layers[:-1], ('conv2d_24', layers[-1][1][..., :2], layers[-1][2])]
    for content, named in (
        (layers[:-1], 'DPDNetS'),
        ([*layers[:-1], ('dense', *layers[-1][1:])], 'dense'),
        (short, r'output\.image\.weight'),
    ):
        write_keras(path, content)
        refused(lambda: load_keras(net, path), net, f'(?s)model.h5: .*{named}')
    write_keras(path, layers)
    with h5py.File(path, 'a') as file:  # half of a layer is missing
        del file['model_weights/conv2d_3/conv2d_3/bias:0']
        file['model_weights/conv2d_3/conv2d_3/bias:0'] = h5py.ExternalLink('other.h5', '/bias')
    refused(lambda: load_keras(net, path), net, 'conv2d_3')
    path.write_bytes(b'no HDF5')
    refused(lambda: load_keras(net, path), net, 'model.h5: ')


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'h5py', None)
    with pytest.raises(CheckpointError, match=r'ggkm_plugin\[keras\]'):
        load_keras(DPDNetS(width=2), tmp_path / 'model.h5')


# KPAC


def kpac_layers(levels):
    """List the layers in the order of the graph."""
    names = ('shared', 'sca_dc1', 'sca_dc2', 'sca_dc3', 'sca_dc4', 'sca_c2', 'sha_c1', 'sha_c2', 'cf')
    blocks = [f'blocks.{b}.{name}' for b in (0, 1) for name in names]
    deep = levels == 3
    return [
        'c0', 'c0_2', 'c2', 'c2_2', 'c3', 'c3_2', *(['c4', 'c4_2'] if deep else []), *blocks,
        'cm_1', 'cm_2', *(['d0', 'd0_2'] if deep else []), 'd1', 'd1_2', 'd2', 'd2_2',
    ]  # fmt: skip


def kpac_arrays(levels):
    """Build random arrays in TensorFlow's layout, and the equal state dict."""
    state = random_state(KPAC(levels, width=4))
    arrays = []
    for name in kpac_layers(levels):
        arrays.append(state[f'{name}.weight'].numpy().transpose(2, 3, 1, 0))
        if not name.endswith('shared'):
            arrays.append(state[f'{name}.bias'].numpy())
    return arrays, state


def write_npz(path, arrays, name='params'):
    boxed = np.empty(len(arrays), dtype=object)
    boxed[:] = arrays
    np.savez(path, **{name: boxed})


class Hostile:
    def __reduce__(self):
        return os.mkdir, ('owned',)


@pytest.mark.parametrize('levels', [3, 2])
def test_kpac_loads_in_graph_order_where_the_pickle_is_allowed(workplace, levels):
    net, (arrays, state) = KPAC(levels, width=4), kpac_arrays(levels)
    write_npz('kpac.npz', [*arrays[:-1], Hostile()])
    refused(lambda: load_kpac(net, 'kpac.npz'), net, 'kpac.npz.*--allow-pickle')
    assert not Path('owned').exists()
    write_npz('kpac.npz', arrays)
    load_kpac(net, 'kpac.npz', allow_pickle=True)
    assert same(net.state_dict(), state)


def test_other_npz_files_are_refused(tmp_path):
    net, (arrays, _) = KPAC(width=4), kpac_arrays(3)
    path = tmp_path / 'kpac.npz'
    for content, named in (
        (kpac_arrays(2)[0], 'KPAC'),
        ([*arrays[:-1], 'text'], 'params'),
        ([arrays[1], arrays[0], *arrays[2:]], r'c0\.weight .*c0\.bias '),
    ):
        write_npz(path, content)
        refused(lambda: load_kpac(net, path, allow_pickle=True), net, f'(?s)kpac.npz: .*{named}')
    write_npz(path, arrays, name='weights')
    refused(lambda: load_kpac(net, path, allow_pickle=True), net, 'kpac.npz')
    path.write_bytes(pickle.dumps([1]))
    refused(lambda: load_kpac(net, path), net, '^(?!.*allow).*kpac.npz')  # without advice to allow the pickle


# The command


def test_a_converted_checkpoint_describes_itself(workplace, command):
    arrays, state = kpac_arrays(2)
    write_npz('kpac.npz', arrays)
    torch.save(ifan_state(), 'ifan.pth')
    words = ('--arch', 'KPAC', '--options', 'levels=2', 'width=4', '-o', 'converted.pth')
    code, _, err = command('convert', 'kpac.npz', *words)
    assert code == 1
    assert '--allow-pickle' in err
    assert not (workplace / 'converted.pth').exists()
    code, out, _ = command('convert', 'kpac.npz', *words, '--allow-pickle')
    assert (code, out) == (0, 'converted.pth: network_g {type: KPAC, levels: 2, width: 4}\n')
    net = build_network(network_options('converted.pth'))
    net.load_state_dict(read_checkpoint('converted.pth')['params'])
    assert same(net.state_dict(), state)
    code, out, _ = command(
        'convert', 'ifan.pth', '--arch', 'IFAN', '--options', 'num_filters=2', 'width=2', '-o', 'i.pth'
    )
    assert code == 0
    assert build_network(network_options('i.pth')).second_pass == 'K1'


def test_mistakes_of_the_command_are_named(workplace, command):
    torch.save({}, 'empty.pth')
    torch.save(ifan_state(), 'whole.pth')
    small = ('--arch', 'IFAN', '--options', 'num_filters=2', 'width=2')
    for words, code, named in (
        (('absent.pth', '--arch', 'IFAN'), 1, 'absent.pth'),
        (('empty.pth', '--arch', 'IFAM'), 2, 'IFAN'),
        (('empty.pth', '--arch', 'IFAN', '--options', 'widht=4'), 2, 'width'),
        (('empty.pth', '--arch', 'IFAN', '--options', 'width'), 2, '--options width'),
        (('empty.pth', '--arch', 'IFAN'), 1, 'empty.pth'),
        (('whole.pth', *small, 'second_pass=K2'), 2, 'second_pass=K2'),
        (('whole.pth', *small, '-o', 'nowhere/out.pth'), 1, 'nowhere/out.pth'),
    ):
        found, _, err = command('convert', *(words if '-o' in words else (*words, '-o', 'out.pth')))
        assert (found, named in err) == (code, True), err
        assert not Path('out.pth').exists()
