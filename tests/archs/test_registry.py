"""Properties of every registered arch of this package.

A new arch needs an entry in ARCHS. Networks of the libraries are in test_external.py.
"""

import copy
import inspect
import io
import pickle

import pytest
import torch
import torch.distributed as dist
from reference import rand
from torch.nn.parallel import DistributedDataParallel

from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.evaluation import complexity
from ggkm_plugin.losses.common import loss_input
from ggkm_plugin.utils.checkpoint import network_options, read_checkpoint
from ggkm_plugin.utils.registry import ARCH_REGISTRY

from basicsr.archs import build_network  # isort: skip
from basicsr.losses import build_loss  # isort: skip
from basicsr.models import build_model  # isort: skip

NARROW = {'width': 4}
FAMILY = {'width': 4, 'num_groups': 2, 'kernels_per_group': 2, 'num_scales': 2}
# name: (options of a small network whose parameters are all trained, its loss)
ARCHS = {
    'AIFNet': ({**NARROW, 'map_heads': False}, {'type': 'GGKMLoss'}),
    'AttSRN': (NARROW, {'type': 'SRNLoss', 'gradient_weight': 2.5}),
    'DPDNetS': (NARROW, {'type': 'MSELoss'}),
    'DRBNet': (NARROW, {'type': 'L1Loss'}),
    'GGKMNet': (FAMILY, {'type': 'GGKMLoss'}),
    'GGKMNetFullyLearned': (FAMILY, {'type': 'GGKMLoss'}),
    'GGKMNetNoGroup': ({'width': 4, 'num_kernels': 21, 'num_scales': 2}, {'type': 'GGKMLoss'}),
    'GGKMNetNoLSTM': ({**FAMILY, 'shared': True}, {'type': 'GGKMLoss'}),
    'GKMNet': ({}, {'type': 'GKMLoss'}),
    'IFAN': ({**NARROW, 'reblur': True}, {'type': 'IFANLoss'}),
    'KPAC': (NARROW, {'type': 'L1Loss'}),
    'MCPNet': ({'width': 4, 'num_groups': 2, 'num_scales': 2}, {'type': 'GGKMLoss'}),
    'MDP': ({**NARROW, 'views': False}, {'type': 'MSELoss'}),
    'NRKNet': ({}, {'type': 'NRKLoss'}),
    'SRN': (NARROW, {'type': 'SRNLoss'}),
}
SIDE = 48  # of a training crop


def registered():
    """Return the classes that this package registers."""
    kinds = ((name, kind) for name, kind in ARCH_REGISTRY if inspect.isclass(kind))
    return {name: kind for name, kind in kinds if kind.__module__.startswith('ggkm_plugin.archs.')}


def test_every_arch_is_tested():
    assert set(registered()) == set(ARCHS)


@pytest.fixture(params=list(ARCHS))
def name(request):
    return request.param


def built(name, seed=0):
    torch.manual_seed(seed)
    return build_network({'type': name, **copy.deepcopy(ARCHS[name][0])})


def image(*size, batch=1, seed=1):
    return rand(batch, 3, *size, seed=seed, dtype=torch.float32)


def loss_of(name, net, y, gt):
    loss = build_loss(dict(ARCHS[name][1]))
    return loss(loss_input(loss, net(y)), gt)


def trained(name, seed=0):
    """Train one step, because some layers start at zero."""
    net = built(name, seed).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    loss_of(name, net, image(SIDE, SIDE, batch=2), image(SIDE, SIDE, batch=2, seed=2)).backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    return net.eval()


# Sizes


@pytest.mark.parametrize('size', [(37, 53), (5, 18), (1, 1)])
def test_any_size_is_kept_and_has_gradients(name, size):
    net, y = built(name).eval(), image(*size, batch=2).requires_grad_()
    x = net(y)
    assert x.shape == y.shape
    assert x.dtype == y.dtype
    assert x.isfinite().all()
    x.square().sum().backward()
    assert y.grad.isfinite().all()
    used = complexity.count_parameters(net)[1]
    reached = sum(parameter.numel() for parameter in net.parameters() if parameter.grad is not None)
    assert reached == used


def test_a_multiple_of_size_multiple_is_not_padded(name):
    """An image that was padded before gives the same result."""
    net, y = built(name).eval(), image(37, 53)
    right, below = -53 % net.size_multiple, -37 % net.size_multiple
    padded = torch.nn.functional.pad(y, (0, right, 0, below), mode='reflect')
    with torch.no_grad():
        torch.testing.assert_close(net(padded)[..., :37, :53], net(y), rtol=0, atol=0)


@pytest.mark.parametrize('name', [name for name, kind in registered().items() if issubclass(kind, AnySizeNet)])
@pytest.mark.parametrize('size', [(37, 53), (48, 32)])
def test_any_crop_trains_every_parameter(name, size):
    net = built(name).train()
    loss = loss_of(name, net, image(*size, batch=2), image(*size, batch=2, seed=2))
    loss.backward()
    assert loss.isfinite()
    assert [key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


# Copies, files, other precision


def test_copies_are_equal_and_independent(name):
    net, y = trained(name), image(21, 34)
    with torch.no_grad():
        want = net(y)
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert torch.equal(other(y), want)
            for parameter in other.parameters():
                parameter.zero_()
            assert torch.equal(net(y), want)
        other = built(name, seed=1).eval()
        assert not torch.equal(other(y), want)
        file = io.BytesIO()
        torch.save(net.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(other(y), want)


@pytest.mark.slow
def test_the_exported_program_is_the_network(name):
    """On an odd size, with padding and cropping. 1e-5 allows other orders of summation."""
    net, y = trained(name), image(37, 53)
    program = torch.export.export(net, (y,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(y), net(y), rtol=0, atol=1e-5)


def test_the_form_for_inference_evaluates_to_the_same(name):
    """1e-4 is the rounding error of folded statistics for outputs up to 10."""
    net, y = trained(name), image(37, 53)
    fast = net.prepare_inference()
    with torch.no_grad():
        torch.testing.assert_close(fast(y), net(y), rtol=0, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_autocast_gives_an_image_in_the_input_s_type(name):
    net, y = built(name).eval(), image(20, 20)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        x = net(y)
    assert x.dtype == torch.float32
    assert x.isfinite().all()


# Training


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures('one_process')
def test_two_steps_of_distributed_training(name):
    """The second step fails if the first left a parameter without a gradient."""
    wrapped = DistributedDataParallel(built(name).train())
    for seed in (1, 2):
        loss_of(name, wrapped, image(SIDE, SIDE, batch=2, seed=seed), image(SIDE, SIDE, batch=2, seed=3)).backward()


@pytest.fixture
def training(workplace, tiny, name):
    """Return training options of this arch as BasicSR's parser completes them."""
    folder = workplace / 'experiments/tiny'
    network, loss = ARCHS[name]
    tiny.update(dist=False, rank=0, world_size=1, is_train=True, network_g={'type': name, **network}, val=None)
    tiny['path'].update(experiments_root=str(folder))
    for kind in ('models', 'training_states', 'visualization'):
        (folder / kind).mkdir(parents=True)
        tiny['path'][kind] = str(folder / kind)
    tiny['train']['pixel_opt'] = loss
    tiny['train']['optim_g']['lr'] = 1e-4
    return tiny


def stepped(options, steps, resumed=None):
    """Run these steps of a model, resumed from a saved state if given."""
    torch.manual_seed(0)
    model = build_model(copy.deepcopy(options))
    if resumed is not None:
        model.resume_training(resumed)
    for i in steps:
        model.update_learning_rate(i)
        model.feed_data({'lq': image(SIDE, SIDE, batch=2, seed=i), 'gt': image(SIDE, SIDE, batch=2, seed=9)})
        model.optimize_parameters(i)
    return model


def test_a_resumed_training_equals_an_uninterrupted_one(training):
    """Also for BatchNorm statistics and dropout; the checkpoint describes its network."""
    whole = stepped(training, (1, 2, 3))
    first = stepped(training, (1, 2))
    first.save(0, 2)
    weights = f'{training["path"]["models"]}/net_g_2.pth'
    state = torch.load(f'{training["path"]["training_states"]}/2.state', weights_only=True)
    again = copy.deepcopy(training)
    again['path']['pretrain_network_g'] = weights
    second = stepped(again, (3,), state)
    for key, value in whole.net_g.state_dict().items():
        assert torch.equal(second.net_g.state_dict()[key], value), key
    assert network_options(weights) == training['network_g']
    before = read_checkpoint(weights)['params']
    assert any(not torch.equal(value, before[key]) for key, value in whole.net_g.state_dict().items())


# Options


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('AttSRN', {'variant': 'official'}),
        ('DRBNet', {'residual_act': None}),
        ('GKMNet', {'bn_mode': 'nonsense'}),
        ('IFAN', {'width': True}),
        ('KPAC', {'levels': 2.0}),
        ('NRKNet', {'bn_mode': 1}),
        ('SRN', {'lstm_kernel': 4}),
    ],
)
def test_an_invalid_argument_is_named(name, options):
    with pytest.raises(ValueError, match=f'^{next(iter(options))}'):
        ARCH_REGISTRY.get(name)(**options)
