"""Our checkpoints in spandrel's loader."""

import sys
from pickle import UnpicklingError

import pytest
import torch
from safetensors.torch import save_file

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.archs.gkmnet_arch import GKMNet
from ggkm_plugin.archs.nrknet_arch import NRKNet
from ggkm_plugin.spandrel import install
from ggkm_plugin.utils.checkpoint import save_checkpoint, save_content
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.weights import NAMES, packaged_weights

spandrel = pytest.importorskip('spandrel')

SMALL = {'width': 4, 'num_groups': 3, 'kernels_per_group': 2}
# Options that shapes tell.
SHAPES = [
    SMALL,
    {
        **SMALL,
        'num_groups': 4,
        'num_iters': 2,
        'alpha_head': 'lstm_fc',
        'self_reconstruction': False,
        'include_identity': False,
    },
    {**SMALL, 'beta_path2': 'c3', 'beta_norm': 'bn', 'enc_blocks': (2, 1, 0), 'dec_blocks': (0, 1, 2)},
    {**SMALL, 'beta_path2': 'c3c3', 'beta_norm': 'bn', 'fuse': 'none', 'bottleneck_blocks': 0},
]
# Options that only a description tells.
DESCRIBED = {**SMALL, 'num_scales': 2, 'boundary': 'zeros', 'fuse': 'add', 'residual': 'none'}


@pytest.fixture(autouse=True)
def installed():
    install()
    install()


def network(kind, **options):
    torch.manual_seed(0)
    return kind(**options).eval()


def assert_same(loaded, net):
    assert loaded.architecture.id == type(net).__name__
    assert (loaded.scale, loaded.purpose, loaded.input_channels) == (1, 'Restoration', 3)
    y = torch.rand(1, 3, 37, 50, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(y), net(y), rtol=0, atol=1e-6)


def description(net, options):
    return {'arch': type(net).__name__, 'options': {key: options[key] for key in options}}


@pytest.mark.parametrize('options', SHAPES)
def test_a_bare_state_dict_of_ggkmnet(tmp_path, options):
    net = network(GGKMNet, **options)
    save_file(net.state_dict(), tmp_path / 'w.safetensors')
    assert_same(spandrel.ModelLoader().load_from_file(tmp_path / 'w.safetensors'), net)
    assert_same(spandrel.ModelLoader().load_from_state_dict(net.state_dict()), net)


@pytest.mark.parametrize(('kind', 'options'), [(GKMNet, {}), (GKMNet, {'self_reconstruction': True}), (NRKNet, {})])
def test_a_bare_state_dict_of_its_predecessors(tmp_path, kind, options):
    net = network(kind, **options)
    torch.save(net.state_dict(), tmp_path / 'w.pth')
    assert_same(spandrel.ModelLoader().load_from_file(tmp_path / 'w.pth'), net)


@pytest.mark.parametrize(
    ('kind', 'options'), [(GGKMNet, DESCRIBED), (GKMNet, {'kernel_order': 'released', 'bn_mode': 'batch'})]
)
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_exported_and_training_checkpoints(tmp_path, kind, options, suffix):
    net, last = network(kind, **options), kind(**options)
    described = description(net, options)
    save_checkpoint(net.state_dict(), described, tmp_path / f'exported.{suffix}')
    states = {'params': last.state_dict(), 'params_ema': net.state_dict()}
    save_content({**states, 'description': described}, tmp_path / f'trained.{suffix}')
    for name in ('exported', 'trained'):
        assert_same(spandrel.ModelLoader().load_from_file(tmp_path / f'{name}.{suffix}'), net)


@pytest.mark.parametrize('name', NAMES)
def test_packaged_weights(name):
    loaded = spandrel.ModelLoader().load_from_file(packaged_weights(name))
    assert loaded.architecture.id == 'GGKMNet'
    assert loaded.model(torch.rand(1, 3, 20, 30)).shape == (1, 3, 20, 30)


def test_other_networks_stay_what_they_are(tmp_path):
    from spandrel.architectures.NAFNet import NAFNet

    net = NAFNet(width=4, enc_blk_nums=[1], middle_blk_num=1, dec_blk_nums=[1])
    torch.save(net.state_dict(), tmp_path / 'w.pth')
    assert spandrel.ModelLoader().load_from_file(tmp_path / 'w.pth').architecture.id == 'NAFNet'
    (tmp_path / 'damaged.pth').write_text('no checkpoint')
    with pytest.raises(UnpicklingError):
        spandrel.ModelLoader().load_from_file(tmp_path / 'damaged.pth')


def test_without_spandrel(monkeypatch):
    monkeypatch.setitem(sys.modules, 'spandrel', None)
    with pytest.raises(OptionError, match='spandrel'):
        install()
