"""GGKMNet against a written-out forward pass, the parameter counts of the specification, and laws.

Tolerances: 1e-11 is the rounding error of float64, 1e-5 that of float32.
"""

import copy
import io
import math
import pickle
from functools import partial
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import reference
import torch
import torch.nn.functional as F
from reference import count, disturbed

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet, GGKMNetConfig, SelfReconstruction
from ggkm_plugin.losses.ggkm_loss import GGKMLoss
from ggkm_plugin.ops import gaussian_bank, ggkm_blur_ref, iterative_group_conv_ref
from ggkm_plugin.utils.errors import CropSizeError

rand = partial(reference.rand, dtype=torch.float32)
close = partial(reference.close, atol=1e-5)
SMALL = {'num_groups': 3, 'kernels_per_group': 2, 'num_scales': 2, 'width': 4}
# `fused` needs a GPU or Triton's interpreter: tests/ops/ggkm/test_triton.py
CHOICES = {name: get_args(hint) for name, hint in get_type_hints(GGKMNetConfig).items() if get_origin(hint) is Literal}
EVERY_CHOICE = [(name, value) for name, values in CHOICES.items() for value in values if value != 'fused'] + [
    ('include_identity', False),
    ('iterative', False),
    ('first_size', 1),
    ('self_reconstruction', False),
    ('in_ch', 1),
    ('num_iters', 2),
    ('num_scales', 1),
    ('kernels_per_group', 1),
    ('enc_blocks', (2, 0, 1)),
    ('dec_blocks', (0, 2, 1)),
    ('bottleneck_blocks', 2),
]


def small(seed=0, **options):
    torch.manual_seed(seed)
    return GGKMNet(**{**SMALL, **options})


# Parameter counts


def test_parameters_of_the_default_and_of_its_parts():
    net = GGKMNet()
    step = net.steps[0]
    assert count(step.bfe) == 1_473_376
    assert count(step.alpha_apu) == 60_384
    assert count(step.beta_apu) == 125_752
    assert count(net.srm) == 54_211
    assert count(net) == 1_713_945
    assert count(GGKMNet(num_scales=4)) == 1_713_945
    assert count(GGKMNet(self_reconstruction=False)) == 1_659_734
    assert count(GGKMNet(beta_norm='bn').steps[0].beta_apu) == 125_774
    dagger = {'enc_blocks': (12, 12, 12)}
    assert count(GGKMNet(self_reconstruction=False, **dagger)) == 5_917_526
    assert count(GGKMNet(**dagger)) == 5_971_737


@pytest.mark.parametrize(
    ('options', 'millions'),
    [
        ({'self_reconstruction': False}, 1.659),
        ({}, 1.713),
        ({'alpha_head': 'lstm_fc'}, 1.677),
        ({'num_iters': 2, 'self_reconstruction': False}, 3.318),
        ({'num_iters': 2}, 3.427),
        ({'num_iters': 2, 'alpha_head': 'lstm_fc'}, 3.353),
        ({'num_scales': 1, 'num_iters': 3, 'self_reconstruction': False}, 4.978),
        ({'num_scales': 1, 'num_iters': 3}, 5.140),
        ({'num_scales': 1, 'num_iters': 3, 'alpha_head': 'lstm_fc'}, 5.030),
        ({'enc_blocks': (12, 12, 12), 'alpha_head': 'lstm_fc'}, 5.934),
    ],
)
def test_calibration_table(options, millions):
    """The table of the specification, for fuse none and path 2 = c3 with bn."""
    net = GGKMNet(fuse='none', beta_path2='c3', beta_norm='bn', **options)
    assert count(net) / 1e6 == pytest.approx(millions, abs=0.0006)


# The forward pass


def conv(state, key, x, stride=1):
    weight = state[f'{key}.weight']
    return F.conv2d(x, weight, state.get(f'{key}.bias'), stride, weight.shape[-1] // 2)


def res(state, key, x):
    return x + conv(state, f'{key}.0.conv2', conv(state, f'{key}.0.conv1', x).relu())


def up(state, key, x):
    return F.conv_transpose2d(x, state[f'{key}.0.weight'], stride=2, padding=1).relu()


def lstm(state, key, x, memory):
    """PyTorch's LSTM cell has the gates i, f, g, o in this order."""
    h, c = memory
    gates = x @ state[f'{key}.weight_ih'].T + state[f'{key}.bias_ih']
    i, f, g, o = (gates + h @ state[f'{key}.weight_hh'].T + state[f'{key}.bias_hh']).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def conv_lstm(state, key, x, memory):
    h, c = memory
    i, f, o, g = conv(state, key, torch.cat([x, h], 1)).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def resized(x, factor, mode='bilinear'):
    return F.interpolate(x, scale_factor=factor, mode=mode, align_corners=None if mode == 'nearest' else False)


def as_specified(state, y, num_scales, num_iters, groups, kernels):
    """Compute the forward pass of the specification from a state dict, for the default options."""
    batch, maps = y.shape[0], groups + 1
    bank = gaussian_bank(groups, kernels)
    ys = [y]
    while len(ys) < num_scales:
        ys.insert(0, resized(ys[0], 0.5))
    memories: list = [None] * num_iters
    x, scales, reconstructions, coefficients = ys[0], [], [], []
    for t, y_t in enumerate(ys):
        if t:
            x = resized(x, 2)
        for r in range(num_iters):
            here = f'steps.{r}.'
            e1 = res(state, f'{here}bfe.enc1.2', conv(state, f'{here}bfe.enc1.0', y_t).relu())
            e2 = res(state, f'{here}bfe.enc2.2', conv(state, f'{here}bfe.enc2.0', e1, 2).relu())
            e3 = res(state, f'{here}bfe.enc3.2', conv(state, f'{here}bfe.enc3.0', e2, 2).relu())
            f1 = res(state, f'{here}bfe.bottleneck.2', conv(state, f'{here}bfe.bottleneck.0', e3).relu())
            d = up(state, f'{here}bfe.up1', res(state, f'{here}bfe.dec1', f1 + e3))
            d = up(state, f'{here}bfe.up2', res(state, f'{here}bfe.dec2', d + e2))
            f2 = res(state, f'{here}bfe.dec3', d + e1)

            if t == 0:
                sizes = (f1.shape[1] // 4,), (groups * kernels,), (maps, *(side // 2 for side in y_t.shape[-2:]))
                first, second, maps_memory = ([y.new_zeros(batch, *size)] * 2 for size in sizes)
            else:
                first, second, maps_memory = memories[r]
                maps_memory = [resized(tensor, 2) for tensor in maps_memory]
            first = lstm(state, f'{here}alpha_apu.lstm', f1.mean((2, 3)), first)
            second = lstm(state, f'{here}alpha_apu.head', first[0].relu(), second)
            alpha = second[0].reshape(batch, groups, kernels).softmax(2)

            maps_memory = conv_lstm(state, f'{here}beta_apu.lstm.conv', resized(f2, 0.5), maps_memory)
            b1 = resized(maps_memory[0], 2, 'nearest')
            b2 = conv(state, f'{here}beta_apu.path2.2', conv(state, f'{here}beta_apu.path2.0', f2).relu())
            beta = (b1 * b2 + b1).tanh()
            memories[r] = first, second, maps_memory

            u = conv(state, f'{here}fuse', torch.cat([y_t, x], 1))
            z = iterative_group_conv_ref(u, alpha, bank)
            x = y_t + x - conv(state, f'{here}blur.mix', (beta[:, :, None] * z).flatten(1, 2))

            s = torch.cat([F.interpolate(f1, y_t.shape[-2:], mode='bilinear', align_corners=False), beta, x], 1)
            s = conv(state, f'srm.{r}.layers.2', conv(state, f'srm.{r}.layers.0', s).relu()).relu()
            scales.append(x)
            reconstructions.append(conv(state, f'srm.{r}.layers.4', s).sigmoid())
            coefficients.append((alpha, beta))
    return scales, ys, reconstructions, coefficients


@pytest.mark.parametrize(('num_scales', 'num_iters'), [(1, 1), (3, 1), (2, 2), (1, 3)])
def test_training_forward_is_the_specification(num_scales, num_iters):
    net = disturbed(small(num_scales=num_scales, num_iters=num_iters).double())
    y = rand(2, 3, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        output, coefficients = net(y), net.coefficients(y)
        want = as_specified(net.state_dict(), y, num_scales, num_iters, 3, 2)
    assert list(output) == ['scales', 'inputs', 'reconstructions']
    lengths = {'scales': num_scales * num_iters, 'inputs': num_scales, 'reconstructions': num_scales * num_iters}
    for (name, tensors), tensors_wanted in zip(output.items(), want[:3], strict=True):
        assert len(tensors) == lengths[name]
        for got, tensor in zip(tensors, tensors_wanted, strict=True):
            close(got, tensor, atol=1e-11)
    for got, pair in zip(coefficients, want[3], strict=True):
        close(got.alpha, pair[0], atol=1e-11)
        close(got.beta, pair[1], atol=1e-11)
    with torch.no_grad():
        close(net.eval()(y), want[0][-1], atol=1e-11)
    assert want[0][-1].min() < 0  # the output is not clamped


@pytest.mark.parametrize(
    'options',
    [
        {'fuse': 'none', 'residual': 'none'},
        {'fuse': 'add', 'boundary': 'zeros'},
        {'boundary': 'replicate', 'iterative': False},
        {'include_identity': False, 'first_size': 1},
        {'sigma_denom': 'P', 'sigma_q0': 1, 'sigma_conv': 's2'},
    ],
)
def test_one_scale_by_hand(options):
    """x = y + xu - (mix of B o u), with the network's own coefficients and xu = y, for each option."""
    net = disturbed(small(num_scales=1, **options).double()).eval()
    y = rand(2, 3, 12, 20, dtype=torch.float64)
    of_bank = ('sigma_denom', 'sigma_q0', 'sigma_conv', 'first_size')
    bank = gaussian_bank(3, 2, **{name: options[name] for name in of_bank if name in options})
    blur = {name: options[name] for name in ('boundary', 'include_identity', 'iterative') if name in options}
    step = net.steps[0]
    with torch.no_grad():
        ((alpha, beta),) = net.coefficients(y)
        u = F.conv2d(torch.cat([y, y], 1), step.fuse.weight, step.fuse.bias) if step.fuse else y
        mix = step.blur.mix
        blurred = ggkm_blur_ref(u, alpha, beta, bank, mix.weight, **blur) + mix.bias.view(1, -1, 1, 1)
        want = blurred if options.get('residual') == 'none' else 2 * y - blurred
        close(net(y), want, atol=1e-11)


# Evaluation


def test_the_network_of_the_paper_takes_any_size():
    """Its 21 steps have a radius of 231 pixels, more than `F.pad` reflects on the 4x4 image of the coarsest scale."""
    net = GGKMNet().eval()
    with torch.no_grad():
        for size in ((1, 1), (5, 3), (37, 21)):
            x = net(rand(1, 3, *size))
            assert x.shape == (1, 3, *size)
            assert x.isfinite().all()


def test_the_same_image_twice_gives_the_same_result():
    """No recurrent state is kept between calls, also after an image of another size and batch."""
    net, y = small(num_iters=2).eval(), rand(1, 3, 24, 16)
    with torch.no_grad():
        first = net(y)
        net(rand(3, 3, 8, 40, seed=2))
        close(net(y), first, atol=0)


def test_evaluation_does_not_run_the_self_reconstruction(monkeypatch):
    y = rand(1, 3, 16, 16)
    net, bare = small().eval(), small(self_reconstruction=False).eval()
    bare.load_state_dict(net.state_dict())

    def refused(*_):
        raise AssertionError('the SRM ran')

    monkeypatch.setattr(SelfReconstruction, 'forward', refused)
    with torch.no_grad():
        close(net(y), bare(y), atol=0)
        net.coefficients(y)
        assert bare.train()(y)['reconstructions'] == []


# Training


@pytest.mark.parametrize(('size', 'num_scales', 'multiple'), [((36, 32), 2, 8), ((32, 40), 3, 16)])
def test_a_crop_that_does_not_fit_is_refused(size, num_scales, multiple):
    with pytest.raises(CropSizeError, match=rf'gt_size.*\b{multiple}\b'):
        small(num_scales=num_scales)(rand(1, 3, *size))


@pytest.mark.parametrize(('name', 'value'), EVERY_CHOICE)
def test_every_choice_trains_and_evaluates(name, value):
    """Each parameter has a gradient, as DistributedDataParallel requires."""
    net = small(**{name: value})
    channels = value if name == 'in_ch' else 3
    y, gt = rand(2, channels, 32, 32), rand(2, channels, 32, 32, seed=2)
    GGKMLoss()(net(y), gt).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    net.eval()
    with torch.no_grad():
        x = net(y[..., :21, :19])
    assert x.shape == (2, channels, 21, 19)
    assert x.isfinite().all()


def test_every_parameter_learns_something():
    """No gradient is zero, also of the recurrent weights, with two scales."""
    net = disturbed(small(num_iters=2))
    GGKMLoss()(net(rand(2, 3, 32, 32)), rand(2, 3, 32, 32, seed=2)).backward()
    assert [key for key, parameter in net.named_parameters() if not parameter.grad.any()] == []


# Coefficients and memory


@pytest.mark.parametrize('size', [(37, 61), (1, 1)])
def test_coefficients(size):
    num_iters = 2
    net = small(num_scales=3, num_iters=num_iters).double().eval()  # in float32 tanh rounds to 1
    with torch.no_grad():
        coefficients = net.coefficients(rand(2, 3, *size, dtype=torch.float64))
    assert len(coefficients) == 3 * num_iters
    for i, (alpha, beta) in enumerate(coefficients):
        shrink = 2 ** (2 - i // num_iters)
        assert alpha.shape == (2, 3, 2)
        assert beta.shape == (2, 4, math.ceil(size[0] / shrink), math.ceil(size[1] / shrink))
        close(alpha.sum(-1), torch.ones(2, 3, dtype=torch.float64), atol=1e-12)
        assert (alpha > 0).all()
        assert (beta.abs() < 1).all()


# Initialization


def test_xavier_is_uniform_within_its_bound_and_biases_are_zero():
    torch.manual_seed(0)
    net = GGKMNet(num_iters=2)
    for key, parameter in net.named_parameters():
        if parameter.dim() < 2:
            assert not parameter.any(), key
        elif '.fuse.' not in key:
            field = math.prod(parameter.shape[2:])
            bound = math.sqrt(6 / (field * (parameter.shape[0] + parameter.shape[1])))
            assert parameter.abs().max() <= bound, key
            # Uniform: with 198 numbers, the fewest in a tensor, the largest is within 3% of the bound.
            assert parameter.abs().max() > 0.97 * bound, key
            assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1), key
    for step in net.steps:
        assert step.fuse.weight[..., 0, 0].tolist() == [[0, 0, 0, *(float(i == j) for j in range(3))] for i in range(3)]
    norm = small(beta_norm='bn').steps[0].beta_apu.path2[1]
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()


def test_identity_starts_near_its_input():
    """Measured on this image over eight seeds: 0.002 to 0.007, and 1.4 or more from the paper's start."""
    y = resized(rand(1, 3, 12, 12), 4).clamp(0, 1)

    def distance(init):
        with torch.no_grad():
            return (GGKMNet(init=init).eval()(y) - y).abs().mean().item()

    assert distance('identity') < 0.02
    assert distance('xavier') > 0.5


# Checkpoints and copies


@pytest.mark.parametrize('copied', [lambda net: net, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_training_checkpoint_loads_strictly_without_the_srm(copied):
    """Also in a wrapper, as DataParallel, and in a copy."""
    checkpoint = small(num_iters=2).state_dict(prefix='module.')
    wrapper = torch.nn.Module()
    wrapper.module = copied(small(seed=1, num_iters=2, self_reconstruction=False))
    dropped = {key for key in checkpoint if key not in wrapper.state_dict()}
    assert dropped == {key for key in checkpoint if key.startswith('module.srm.')}
    keys = list(checkpoint)
    wrapper.load_state_dict(checkpoint, strict=True)
    assert list(checkpoint) == keys  # the caller's dict is unchanged
    for key, tensor in wrapper.state_dict().items():
        assert torch.equal(tensor, checkpoint[key])


def test_other_keys_are_refused():
    """A network without the SRM ignores the SRM's keys only."""
    whole, bare = small(), small(self_reconstruction=False)
    for wrong in ('srm2.0.layers.0.weight', 'steps.0.srm.weight', 'steps.0.blur.extra'):
        with pytest.raises(RuntimeError, match=wrong):
            bare.load_state_dict({**whole.state_dict(), wrong: torch.zeros(1)})
    for net, missing in ((bare, 'steps.0.blur.mix.weight'), (whole, 'srm.0.layers.0.weight')):
        state = whole.state_dict()
        del state[missing]
        with pytest.raises(RuntimeError, match=missing):
            net.load_state_dict(state)


# Precision


def test_half_precision_does_not_round_the_bank():
    options = {'sigma_denom': 'P', 'sigma_conv': 's2', 'sigma_q0': 1}
    net = copy.deepcopy(small(**options)).half()
    fresh = gaussian_bank(3, 2, **options)
    assert net.steps[0].blur.mix.weight.dtype == torch.float16
    for bank in (net.steps[0].blur.bank, net.float().steps[0].blur.bank):
        assert bank.dtype == torch.float32
        assert torch.equal(bank, fresh.float())
    # A float64 bank is not a rounded float32 bank.
    assert torch.equal(net.double().steps[0].blur.bank, fresh)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_the_chain_stays_in_float32(dtype):
    """Measured: 0.001 (float16) and 0.009 (bfloat16), from an output that reaches 1."""
    torch.manual_seed(0)
    net, y = GGKMNet(init='identity').eval(), rand(1, 3, 48, 40)
    with torch.no_grad():
        want = net(y)
        net.to(dtype)
        blurred = []
        net.steps[0].blur.register_forward_hook(lambda _, given, result: blurred.append(result.dtype))
        got = net(y.to(dtype))
    assert got.dtype == dtype
    assert blurred == [torch.float32] * 3
    close(got.float(), want, atol=0.05)


def test_autocast_trains_near_float32():
    net, y, gt = small(), rand(1, 3, 32, 32), rand(1, 3, 32, 32, seed=2)
    loss = GGKMLoss()
    want = loss(net(y), gt).item()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        output = net(y)
        assert output['scales'][-1].dtype == torch.float32
        value = loss(output, gt)
    value.backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())
    # Measured: at most 2.4e-4 over three seeds.
    assert value.item() == pytest.approx(want, rel=2e-3)


# Arguments


@pytest.mark.parametrize(
    ('name', 'value', 'more'),
    [
        ('fuse', 'nonsense', {}),
        *(('num_iters', value, {}) for value in (0, 1.5, '3', None, True)),
        *(('enc_blocks', value, {}) for value in ((1, 1), [-1, 1, 1], 3)),
        ('bottleneck_blocks', -1, {}),
        ('self_reconstruction', 'no', {}),
        ('blur_form', 'fft', {'boundary': 'zeros'}),
        ('init', 'identity', {'residual': 'none'}),
        ('init', 'identity', {'include_identity': False}),
    ],
)
def test_invalid_arguments_are_named(name, value, more):
    with pytest.raises(ValueError, match=f'^{name}'):
        small(**{name: value}, **more)


# Export


@pytest.mark.slow
@pytest.mark.parametrize('options', [{}, {'boundary': 'zeros', 'num_scales': 1}])
def test_export_of_dynamic_sizes(options):
    """Also for a side longer than the matrix form of the DCT takes in eager mode, and after saving."""
    net = small(**options).eval()
    sizes = {2: 16 * torch.export.Dim('rows', min=6), 3: 16 * torch.export.Dim('columns', min=6)}
    program = torch.export.export(net, (rand(1, 3, 112, 128),), dynamic_shapes=(sizes,))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    exported = torch.export.load(file).module()
    for size in [(112, 128), (96, 96), (1040, 96)]:
        y = rand(1, 3, *size)
        with torch.no_grad():
            close(exported(y), net(y), atol=1e-6)
