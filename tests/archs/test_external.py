"""Small networks of spandrel: sizes, stages, keys, weights, options, a missing package.

Equal operations give equal results; `close` allows float32 rounding.
"""

import copy
import inspect
import json
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from conftest import write_pairs

from ggkm_plugin.archs import external_arch
from ggkm_plugin.archs.external_arch import ARCHS, LibraryNetMixin
from ggkm_plugin.losses.ggkm_loss import GGKMLoss
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.registry import ARCH_REGISTRY

NAMES = [arch.__name__ for arch in ARCHS]
# name: (options of a small network, its size multiple)
SMALL = {
    'NAFNet': ({'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]}, 4),
    'Uformer': (
        {
            'embed_dim': 4, 'depths': [1] * 9, 'num_heads': [1] * 9, 'win_size': 2, 'img_size': 64,
            'drop_path_rate': 0.0,
        },
        32,
    ),
    'FFTformer': ({'dim': 4, 'num_blocks': [1, 1, 1], 'num_refinement_blocks': 1}, 32),
    'GRL': (
        {
            'embed_dim': 24, 'depths': [2], 'num_heads_window': [2], 'num_heads_stripe': [2], 'window_size': 8,
            'stripe_size': [8, 16], 'img_size': 16, 'drop_path_rate': 0.0,
        },
        16,
    ),
    'KBNet': ({'dim': 24, 'num_blocks': [1] * 4, 'heads': [1] * 4, 'num_refinement_blocks': 1}, 16),
    'Restormer': ({'dim': 4, 'num_blocks': [1] * 4, 'heads': [1] * 4, 'num_refinement_blocks': 1}, 8),
    'MPRNet': ({'n_feat': 4, 'scale_unetfeats': 2, 'scale_orsnetfeats': 2, 'num_cab': 1, 'reduction': 2}, 8),
}  # fmt: skip
# Millions, as stated by their papers and later comparisons; KBNet's paper states none for this network.
PUBLISHED = {'NAFNet': 67.9, 'Uformer': 50.9, 'FFTformer': 16.6, 'GRL': 19.8, 'Restormer': 26.13, 'MPRNet': 20.13}


def find(name):
    """Return the entry of a network; skip if its package is missing."""
    arch = next(arch for arch in ARCHS if arch.__name__ == name)
    package = arch.source[0].partition('.')[0]
    if find_spec(package) is None:
        pytest.skip(f'{name} needs the package {package}, which is not installed')
    return arch


def network(name, **options):
    """Build a small network with all parameters moved from their start, where some are 0."""
    net = find(name)(**{**SMALL[name][0], **options})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return net.eval()


def rand(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def close(got, want, atol=1e-5):
    torch.testing.assert_close(got, want, rtol=0, atol=atol)


def final(output):
    return output['scales'][-1] if isinstance(output, dict) else output


# Sizes


@pytest.mark.parametrize('name', NAMES)
def test_an_image_is_padded_by_reflection_and_cropped(name):
    net, multiple = network(name), SMALL[name][1]
    assert net.size_multiple == multiple
    library = type(net).__mro__[2]
    for height, width in ((50, 41), (1, 3), (2 * multiple, 2 * multiple)):
        rows, columns = (-(-side // multiple) * multiple for side in (height, width))
        if name == 'Uformer':
            rows = columns = max(rows, columns)
        y = rand(1, 3, height, width)
        margins = [(0, 0), (0, 0), (0, rows - height), (0, columns - width)]
        padded = torch.from_numpy(np.pad(y.numpy(), margins, mode='reflect'))
        with torch.no_grad():
            want, x = library.forward(net, padded), net(y)
        want = want[0] if name == 'MPRNet' else want
        close(x, want[..., :height, :width], atol=0)
        assert (x - y).abs().max() > 1e-3


def test_grl_takes_the_common_multiple_of_window_and_stripes():
    net = network('GRL', window_size=4, stripe_size=[8, 12], anchor_window_down_factor=2, img_size=24)
    assert net.size_multiple == 24
    with torch.no_grad():
        assert net(rand(1, 3, 25, 10)).shape == (1, 3, 25, 10)


# Training


@pytest.mark.parametrize('name', NAMES)
def test_every_parameter_learns_something(name):
    """Over a few seeds, because a ReLU on one or two channels may be dead for some."""
    learned, trained = set(), set()
    for seed in range(5):
        torch.manual_seed(seed)
        net = network(name).train()
        GGKMLoss(sr_weight=0)(net(rand(1, 3, 40, 40)), rand(1, 3, 40, 40, seed=2)).backward()
        grads = {key: parameter.grad for key, parameter in net.named_parameters() if parameter.requires_grad}
        assert all(grad is not None and grad.isfinite().all() for grad in grads.values())
        learned |= {key for key, grad in grads.items() if grad.any()}
        trained |= grads.keys()
        if trained == learned:
            break
    assert trained == learned
    frozen = {key for key, _ in net.named_parameters()} - trained
    assert frozen == ({'reduce_chan_level2.weight'} if name == 'FFTformer' else set())


@pytest.mark.parametrize('name', NAMES)
def test_trains_under_autocast(name):
    net, y = network(name).train(), rand(1, 3, 20, 20)
    with torch.autocast('cpu', torch.bfloat16):
        x = final(net(y))
    assert x.dtype == torch.float32
    (x - y).square().mean().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())
    if name == 'KBNet':
        close(x, net(y), atol=0)


def test_mprnet_trains_its_stages_and_gives_the_last():
    net, y = network('MPRNet'), rand(1, 3, 20, 28)
    library = type(net).__mro__[2]
    with torch.no_grad():
        third, second, first = library.forward(net, torch.nn.functional.pad(y, (0, 4, 0, 4), mode='reflect'))
        output = net.train()(y)
        assert list(output) == ['scales', 'inputs', 'reconstructions']
        for got, want in zip(output['scales'], (first, second, third), strict=True):
            close(got, want[..., :20, :28], atol=0)
        assert len(output['inputs']) == 1
        assert torch.equal(output['inputs'][0], y)
        assert output['reconstructions'] == []
        close(net.eval()(y), output['scales'][-1], atol=0)


# Weights


@pytest.mark.parametrize('name', NAMES)
def test_keys_are_the_librarys_own(name):
    net = network(name)
    library = type(net).__mro__[2]
    assert type(net).__name__ == name
    assert isinstance(net, LibraryNetMixin)
    options = {**find(name).defaults, **SMALL[name][0]}
    want = {key: value.shape for key, value in library(**options).state_dict().items()}
    assert {key: value.shape for key, value in net.state_dict().items()} == want


@pytest.mark.parametrize('prefix', ['model.', 'model_g.'])
def test_grls_own_checkpoints_load_strictly(prefix):
    """With the prefix of its trainer, keys of other networks, and tables stored as buffers."""
    source, net = network('GRL'), network('GRL')
    state = {f'{prefix}{key}': value for key, value in source.state_dict().items()}
    state |= {f'{prefix}{key}': value for key, value in source.named_buffers()}
    state['model_d.conv.weight'] = torch.zeros(1)
    given = dict(state)
    net.load_state_dict(state, strict=True)
    assert state == given
    with torch.no_grad():
        close(net(rand(1, 3, 20, 20)), source(rand(1, 3, 20, 20)), atol=0)


@pytest.mark.parametrize('name', NAMES)
def test_a_copy_is_equal_and_independent(name):
    net, y = network(name), rand(1, 3, 16, 20)
    other = copy.deepcopy(net)
    with torch.no_grad():
        want = net(y)
        close(other(y), want, atol=0)
        for parameter in other.parameters():
            parameter.add_(0.1)
        close(net(y), want, atol=0)


# Options


@pytest.mark.parametrize('name', NAMES)
def test_options_are_the_librarys_plain_ones(name):
    arch = find(name)
    library = inspect.signature(external_arch._class(arch.name, *arch.source).__mro__[2]).parameters
    own = inspect.signature(arch).parameters
    assert set(own) == set(library) - set(arch.hidden)
    assert set(arch.hidden) <= set(library)
    for key, parameter in own.items():
        assert isinstance(parameter.default, (int, float, str, bool, list, type(None)))
        assert parameter.default == arch.defaults.get(key, library[key].default)


@pytest.mark.parametrize('name', NAMES)
def test_defaults_have_the_published_number_of_parameters(name):
    arch = find(name)
    count = sum(parameter.numel() for parameter in arch().parameters()) / 1e6
    assert count == pytest.approx(PUBLISHED.get(name, 29.57), abs=0.051)


def test_a_wrong_option_is_named_with_the_nearest():
    """What would change the image's size is no option."""
    find('GRL')
    with pytest.raises(OptionError, match=r'network_g\.depthsx.*\bdepths\b'):
        registry.build('network_g', 'archs', {'type': 'GRL', 'depthsx': 4})
    with pytest.raises(TypeError, match='upscale'):
        ARCH_REGISTRY.get('GRL')(upscale=2)


# Names and packages


class Absent:
    """Import hook that hides a package."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition('.')[0] == self.package:
            raise ModuleNotFoundError(f'No module named {self.package!r}', name=self.package)


@pytest.mark.parametrize('name', ['NAFNet', 'Restormer'])
def test_a_missing_package_is_named_with_its_extra(name, monkeypatch):
    arch = next(arch for arch in ARCHS if arch.__name__ == name)
    package = arch.source[0].partition('.')[0]
    for module in [module for module in sys.modules if module.partition('.')[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, 'meta_path', [Absent(package), *sys.meta_path])
    monkeypatch.setattr(external_arch, '_class', external_arch._class.__wrapped__)  # without its cache
    extra = {'spandrel': 'models', 'spandrel_extra_arches': 'academic-models'}[package]
    with pytest.raises(OptionError) as caught:
        registry.build('network_g', 'archs', {'type': name})
    assert all(word in str(caught.value) for word in ('network_g', name, f"'ggkm_plugin[{extra}]'"))


def test_a_package_without_the_network_is_named_with_its_extra():
    find('NAFNet')
    for source in (('spandrel.architectures.NAFNet', 'NoNet'), ('spandrel.architectures.NoNet', 'NoNet')):
        with pytest.raises(OptionError, match=r'NoNet.*ggkm_plugin\[models\]'):
            external_arch.ExternalArch('NoNet', source, lambda net: 1, '')()


def test_registering_imports_no_package_and_keeps_a_registered_name(python):
    result = python("""
import sys
from ggkm_plugin.utils.registry import ARCH_REGISTRY

@ARCH_REGISTRY.register()
class NAFNet:
    pass

import ggkm_plugin
ggkm_plugin.register()
assert ARCH_REGISTRY.get('NAFNet') is NAFNet and 'Uformer' in ARCH_REGISTRY
assert not {'spandrel', 'spandrel_extra_arches', 'einops'} & set(sys.modules)
""")
    assert result.returncode == 0, result.stderr


# One block of an option file


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_it_is_trained_and_compared_by_changing_one_block(name, tiny, workplace, command, write_options):
    """The checkpoint of a training describes its network, which takes images of any size."""
    find(name)
    tiny['network_g'] = {'type': name, **SMALL[name][0]}
    code, _, err = command('train', '-opt', write_options(tiny))
    assert code == 0, err
    write_pairs(workplace / 'odd', 2, (45, 67))
    weights = {'name': 'model', 'weights': f'experiments/{tiny["name"]}/models/net_g_latest.pth'}
    data = {'type': 'PairedDefocusDataset', 'dataroot_lq': 'odd/input', 'dataroot_gt': 'odd/ground_truth'}
    comparison = {
        'name': 'one', 'protocol': 'restormer', 'metrics': ['psnr'], 'models': [weights], 'datasets': {'odd': data},
        'complexity': False, 'published': False, 'num_gpu': 0,
    }  # fmt: skip
    code, _, err = command('compare', '-opt', write_options(comparison, 'compare.yml'), '--no-report')
    assert code == 0, err
    results = json.loads((workplace / 'results/one/results.json').read_text())
    [model] = results['models']
    assert (model['arch'], model['status']) == (name, 'ok')
    assert results['datasets'][0]['images'][0]['size'] == [45, 67]
    assert 0 < results['datasets'][0]['means']['model']['psnr'] < 100
