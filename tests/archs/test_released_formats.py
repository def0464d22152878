"""Formats of IFAN, DRBNet, Keras and KPAC: strict loading; an error leaves the network unchanged."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ggkm_plugin.archs.dpdnets_arch import DPDNetS
from ggkm_plugin.archs.ifan_arch import IFAN
from ggkm_plugin.archs.kpac_arch import KPAC
from ggkm_plugin.archs.mdp_arch import MDP
from ggkm_plugin.archs.released import load_ifan, load_keras, load_kpac
from ggkm_plugin.utils.checkpoint import network_options, read_checkpoint
from ggkm_plugin.utils.errors import CheckpointError

from basicsr.archs import build_network  # isort: skip


def snapshot(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def refused(loading, net, named):
    before = snapshot(net)
    with pytest.raises(CheckpointError, match=named):
        loading()
    assert same(net.state_dict(), before)


# IFAN and DRBNet


def small_ifan(**options):
    return IFAN(num_filters=2, width=2, **options)


def ifan_state(reblur=True, inside=False):
    """Build a state dict as the trainer saves it with several GPUs."""
    state = {}
    for key, value in small_ifan(reblur=reblur).state_dict().items():
        prefix = '' if key.startswith('reblurNet.') and not inside else 'Network.'
        state[f'module.{prefix}{key}'] = torch.randn(value.shape)
    return state


@pytest.mark.parametrize('inside', [True, False])
@pytest.mark.parametrize('reblur', [True, False])
def test_ifan_loads_without_its_trainer_s_prefix_and_reblurring(reblur, inside):
    net, state = small_ifan(reblur=reblur), ifan_state(inside=inside)
    load_ifan(net, {'state_dict': state})
    prefixes = re.compile(r'^module\.(Network\.)?')
    want = {prefixes.sub('', key): value for key, value in state.items()}
    assert same(net.state_dict(), {key: want[key] for key in net.state_dict()})
    assert ('reblurNet.3.bias' in net.state_dict()) is reblur


def test_ifan_filters_as_the_released_weights_were_trained_to():
    """test_ifan.py tests the effect of `second_pass`."""
    net = small_ifan()
    assert net.second_pass == 'K2'
    load_ifan(net, ifan_state())
    assert net.second_pass == 'K1'


@pytest.mark.parametrize(
    ('damaged', 'named'),
    [
        (
            lambda state: {key.replace('Network.', ''): value for key, value in state.items()},
            r'Network\.',
        ),
        (lambda state: {**state, 'module.optimizer': torch.zeros(1)}, 'optimizer'),
        (lambda state: {**state, 'module.Network.more': torch.zeros(1)}, 'more'),
        (lambda state: {k: v for k, v in state.items() if not k.endswith('DME.3.bias')}, r'DME\.3\.bias'),
        (lambda state: {**state, 'module.Network.reblurNet.3.bias': torch.zeros(1)}, r'Network\.'),
        (lambda state: {**state, 'module.Network.F.3.bias': torch.zeros(3)}, r'F\.3\.bias'),
        (lambda state: {}, 'conv1_1'),
    ],
)
def test_other_checkpoints_of_ifan_are_refused(damaged, named):
    net = small_ifan()
    refused(lambda: load_ifan(net, damaged(ifan_state())), net, named)
    assert net.second_pass == 'K2'


def test_a_checkpoint_of_ifan_may_lack_its_reblurring_but_not_a_part_of_it():
    net, state = small_ifan(reblur=True), ifan_state(reblur=True)
    refused(lambda: load_ifan(net, {key: state[key] for key in list(state)[:-1]}), net, 'reblurNet')
    load_ifan(net, ifan_state(reblur=False))


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


KERAS = [(lambda: DPDNetS(width=2), 1), (lambda: DPDNetS(width=2), 25), (lambda: MDP(width=2), 0)]


@pytest.mark.parametrize(('build', 'first'), KERAS)
@pytest.mark.parametrize('root', ['model_weights', None])
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
        ([*layers, ('conv2d_25', *layers[0][1:])], 'DPDNetS'),
        ([*layers[:-1], ('dense', *layers[-1][1:])], 'dense'),
        (short, r'output\.image\.weight'),
        (
            [*layers[:-1], ('conv2d_24', *(a.astype(np.int32) for a in layers[-1][1:]))],
            'conv2d_24/',
        ),
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


def block_names(b):
    names = ('shared', 'sca_dc1', 'sca_dc2', 'sca_dc3', 'sca_dc4', 'sca_c2', 'sha_c1', 'sha_c2', 'cf')
    return [f'blocks.{b}.{name}' for name in names]


def kpac_layers(levels):
    """List the layers in the order of the graph."""
    deep = levels == 3
    return [
        'c0', 'c0_2', 'c2', 'c2_2', 'c3', 'c3_2', *(['c4', 'c4_2'] if deep else []), *block_names(0), *block_names(1),
        'cm_1', 'cm_2', *(['d0', 'd0_2'] if deep else []), 'd1', 'd1_2', 'd2', 'd2_2',
    ]  # fmt: skip


def kpac_arrays(levels):
    """Build random arrays in TensorFlow's layout, and the equal state dict."""
    state = {key: torch.randn(value.shape) for key, value in KPAC(levels, width=4).state_dict().items()}
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


@pytest.mark.parametrize('levels', [3, 2])
def test_kpac_loads_in_graph_order_where_the_pickle_is_allowed(tmp_path, levels):
    net, (arrays, state) = KPAC(levels, width=4), kpac_arrays(levels)
    write_npz(tmp_path / 'kpac.npz', arrays)
    refused(lambda: load_kpac(net, tmp_path / 'kpac.npz'), net, 'kpac.npz.*--allow-pickle')
    load_kpac(net, tmp_path / 'kpac.npz', allow_pickle=True)
    assert same(net.state_dict(), state)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ('owned',)


def test_a_hostile_npz_is_not_run_unless_it_is_allowed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_npz('kpac.npz', [*kpac_arrays(3)[0][:-1], Hostile()])
    with pytest.raises(CheckpointError, match='allow'):
        load_kpac(KPAC(width=4), 'kpac.npz')
    assert not (tmp_path / 'owned').exists()


def test_other_npz_files_are_refused(tmp_path):
    net, (arrays, _) = KPAC(width=4), kpac_arrays(3)
    path = tmp_path / 'kpac.npz'
    for content, named in (
        (arrays[:-1], '`levels`'),
        (kpac_arrays(2)[0], '`levels`'),
        ([*arrays[:-1], 'text'], 'array 65 of params'),
        ([*arrays[:-1], arrays[-1].astype(np.int64)], 'array 65 of params'),
        ([arrays[1], arrays[0], *arrays[2:]], r'c0\.weight .*c0\.bias '),
    ):
        write_npz(path, content)
        refused(lambda: load_kpac(net, path, allow_pickle=True), net, f'(?s)kpac.npz: .*{named}')
    write_npz(path, arrays, name='weights')
    refused(lambda: load_kpac(net, path, allow_pickle=True), net, 'kpac.npz')
    path.write_bytes(pickle.dumps([1]))
    refused(lambda: load_kpac(net, path, allow_pickle=True), net, 'kpac.npz')
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
    state = ifan_state()
    torch.save(state, 'whole.pth')
    name = next(iter(state))
    torch.save({**state, name: torch.full_like(state[name], torch.nan)}, 'nan.pth')
    Path('void.pth').touch()
    Path('code.pth').write_bytes(pickle.dumps(os.mkdir))
    small = ('--arch', 'IFAN', '--options', 'num_filters=2', 'width=2')
    for words, code, named in (
        (('absent.pth', '--arch', 'IFAN'), 1, 'absent.pth'),
        (('empty.pth', '--arch', 'IFAM'), 2, 'IFAN'),
        (('empty.pth', '--arch', 'IFAN', '--options', 'widht=4'), 2, 'width'),
        (('empty.pth', '--arch', 'IFAN', '--options', 'width'), 2, '--options width'),
        (('empty.pth', '--arch', 'IFAN'), 1, 'empty.pth'),
        (('nan.pth', *small), 1, 'nan.pth'),
        (('void.pth', *small), 1, 'void.pth'),
        (('code.pth', *small), 1, 'code.pth'),
        (('whole.pth', *small, 'second_pass=K2'), 2, 'second_pass=K2'),
        (('whole.pth', *small, '-o', 'nowhere/out.pth'), 1, 'nowhere/out.pth'),
    ):
        found, _, err = command('convert', *(words if '-o' in words else (*words, '-o', 'out.pth')))
        assert (found, named in err) == (code, True), err
        assert 'weights_only' not in err
        assert not Path('out.pth').exists()
