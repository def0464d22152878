"""Networks of the ablation study against written-out definitions, parameter counts, and laws.

Tolerances: 1e-11 is the rounding error of float64, 1e-6 that of float32 kernels of sum 1.
"""

import copy
from functools import partial

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F
from reference import count, disturbed

from ggkm_plugin.archs.ggkmnet_ablations_arch import (
    GGKMNetFullyLearned,
    GGKMNetNoGroup,
    GGKMNetNoLSTM,
    MCPNet,
    ungrouped_bank,
)
from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.losses.ggkm_loss import GGKMLoss
from ggkm_plugin.ops import gaussian_bank
from ggkm_plugin.utils.errors import CropSizeError

rand = partial(reference.rand, dtype=torch.float32)
close = partial(reference.close, atol=1e-11)
GROUPS = {'num_groups': 3, 'kernels_per_group': 2}
# Small networks, by the names of Table 8's rows.
ROWS = {
    'w/o LSTM (S)': partial(GGKMNetNoLSTM, width=4, **GROUPS),
    'w/o LSTM (N)': partial(GGKMNetNoLSTM, shared=False, width=4, **GROUPS),
    'MCP-Net': partial(MCPNet, width=4, num_groups=4),
    'w/o Group (21)': partial(GGKMNetNoGroup, width=4),
    'w/o Group (84)': partial(GGKMNetNoGroup, num_kernels=84, width=4),
    'Fully-Learned (G)': partial(GGKMNetFullyLearned, width=4, **GROUPS),
    'Fully-Learned (R)': partial(GGKMNetFullyLearned, kernel_init='random', width=4, **GROUPS),
}
every_row = pytest.mark.parametrize('row', ROWS)


def build(row, seed=0, **options):
    torch.manual_seed(seed)
    return ROWS[row](**options)


# Parameter counts

TABLE = {'beta_path2': 'c3', 'beta_norm': 'bn'}  # options of the specification's table, with `fuse: none`


@pytest.mark.parametrize(
    ('arch', 'options', 'without_srm', 'with_srm'),
    [
        # The defaults; millions as in the specification's table, except MCP-Net's 1.498.
        (GGKMNetNoLSTM, {}, 1_504_984, 1_559_195),
        (GGKMNetNoLSTM, {'shared': False}, 4_514_952, 4_677_585),
        (GGKMNetNoLSTM, {'shared': False, 'num_scales': 2, 'num_iters': 3}, 6 * 1_504_984, 6 * 1_559_195),
        (MCPNet, {}, 1_497_931, 1_552_142),
        (GGKMNetNoGroup, {}, 1_599_350, 1_653_561),
        (GGKMNetNoGroup, {'num_kernels': 84}, 2_500_880, 2_573_235),
        (GGKMNetFullyLearned, {}, 1_659_734 + 56_756, 1_713_945 + 56_756),
        # The table's configuration.
        (GGKMNetNoLSTM, {'fuse': 'none', **TABLE}, 1_504_479, 1_558_690),
        (GGKMNetNoLSTM, {'fuse': 'none', 'shared': False, **TABLE}, 4_513_437, 4_676_070),
        (MCPNet, TABLE, 1_497_447, 1_551_658),
        (GGKMNetNoGroup, {'fuse': 'none', **TABLE}, 1_598_845, 1_653_056),
    ],
)
def test_parameters(arch, options, without_srm, with_srm):
    assert count(arch(self_reconstruction=False, **options)) == without_srm
    assert count(arch(**options)) == with_srm


def test_fully_learned_kernels_have_the_sizes_of_the_paper():
    kernels = GGKMNetFullyLearned().steps[0].blur.kernels
    assert [tuple(kernel.shape) for kernel in kernels] == [(4, size, size) for size in range(3, 44, 2)]


# Initialization


@pytest.mark.parametrize(
    'arch', [GGKMNetNoLSTM, MCPNet, GGKMNetNoGroup, GGKMNetFullyLearned, partial(GGKMNetFullyLearned, 'random')]
)
def test_parameters_shared_with_ggkmnet_start_equal(arch):
    """Otherwise the rows of a table would differ by more than their names say."""
    torch.manual_seed(3)
    whole = GGKMNet().state_dict()
    torch.manual_seed(3)
    ablation = arch().state_dict()
    shared = whole.keys() & ablation.keys()
    for key in shared:
        assert torch.equal(whole[key], ablation[key]), key
    assert {key.split('.')[2] for key in shared} >= {'bfe', 'beta_apu', 'layers'}


@every_row
def test_new_layers_start_as_the_others_do(row):
    """Xavier's start: weights within the bound, biases 0."""
    for key, parameter in build(row).named_parameters():
        if '.kernels.' in key:
            continue
        if parameter.dim() < 2:
            assert not parameter.any(), key
        elif '.fuse.' not in key:
            fans = (parameter.shape[0] + parameter.shape[1]) * parameter[0, 0].numel()
            assert 0.5 < parameter.abs().max() / (6 / fans) ** 0.5 <= 1, key


@pytest.mark.parametrize('row', ['w/o LSTM (N)', 'w/o Group (21)', 'Fully-Learned (R)'])
def test_identity_starts_near_its_input(row):
    y = F.interpolate(rand(1, 3, 12, 12), scale_factor=4, mode='bilinear')
    with torch.no_grad():
        assert (build(row, init='identity').eval()(y) - y).abs().mean() < 0.05


# Forward, by the definitions


def conv(state, key, x):
    weight = state[f'{key}.weight']
    return F.conv2d(x, weight, state[f'{key}.bias'], padding=weight.shape[-1] // 2)


def predicted(state, here, f1, f2):
    """Compute alpha's logits and beta without memory, Sec. 6.1: linear layers and a convolution for the LSTMs."""
    beta = predicted_beta(state, here, f2)
    hidden = f1.mean((2, 3)) @ state[f'{here}alpha_apu.layers.0.weight'].T + state[f'{here}alpha_apu.layers.0.bias']
    weight, bias = state[f'{here}alpha_apu.layers.2.weight'], state[f'{here}alpha_apu.layers.2.bias']
    return hidden.relu() @ weight.T + bias, beta


def predicted_beta(state, here, f2):
    b1 = conv(state, f'{here}beta_apu.path1', F.interpolate(f2, scale_factor=0.5, mode='bilinear'))
    b1 = F.interpolate(b1, scale_factor=2, mode='nearest')
    b2 = conv(state, f'{here}beta_apu.path2.2', conv(state, f'{here}beta_apu.path2.0', f2).relu())
    return (b1 * b2 + b1).tanh()


def reflected(x, reach):
    """Pad with numpy, which reflects by any number of pixels."""
    return torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), (reach, reach), (reach, reach)], mode='reflect'))


def convolved(x, kernel):
    """Convolve (not correlate) x (B,C,H,W) with one kernel (k,k) under reflection."""
    weight = kernel.flip(0, 1).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(reflected(x, kernel.shape[-1] // 2), weight, groups=x.shape[1])


def gaussian(size, sigma):
    r = torch.arange(size, dtype=torch.float64) - size // 2
    kernel = torch.exp(-(r[:, None] ** 2 + r[None, :] ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def mixed(state, here, beta, z):
    return conv(state, f'{here}blur.mix', (beta[:, :, None] * torch.stack(z, 1)).flatten(1, 2))


def scales_of(net, y):
    """Yield, per iteration: number, key of the step, y_t, xu, the step's F1 and F2, and the network's x."""
    output = net(y)
    before: torch.Tensor | None = None
    for i, x in enumerate(output['scales']):
        t, r = divmod(i, net.num_iters)
        y_t = output['inputs'][t]
        xu = before if r else y_t if before is None else F.interpolate(before, scale_factor=2, mode='bilinear')
        number = i if getattr(net, 'shared', True) is False else r
        yield i, f'steps.{number}.', y_t, xu, *net.steps[number].bfe(y_t), x
        before = x


@pytest.mark.parametrize('row', ['w/o LSTM (S)', 'w/o LSTM (N)'])
@pytest.mark.parametrize('num_iters', [1, 2])
def test_without_lstm_is_its_definition(row, num_iters):
    net = disturbed(build(row, num_iters=num_iters).double())
    y, state = rand(2, 3, 32, 48, dtype=torch.float64), net.state_dict()
    with torch.no_grad():
        coefficients = net.coefficients(y)
        for i, here, y_t, xu, f1, f2, x in scales_of(net, y):
            logits, beta = predicted(state, here, f1, f2)
            alpha = logits.view(2, 3, 2).softmax(-1)
            close(coefficients[i].alpha, alpha)
            close(coefficients[i].beta, beta)
            z = [conv(state, f'{here}fuse', torch.cat([y_t, xu], 1))]
            for j in range(3):
                sigmas = [(j + 2 + 6) / 12 + q for q in range(2)]
                blurred = [convolved(z[-1], gaussian(2 * j + 3, sigma)) for sigma in sigmas]
                z.append(sum(alpha[:, j, q].view(-1, 1, 1, 1) * blurred[q] for q in range(2)))
            close(x, y_t + xu - mixed(state, here, beta, z))
        assert i == 3 * num_iters - 1


@pytest.mark.parametrize('row', ['w/o Group (21)', 'w/o Group (84)'])
def test_without_groups_is_its_definition(row):
    net = disturbed(build(row, num_scales=2).double())
    y, state = rand(1, 3, 16, 24, dtype=torch.float64), net.state_dict()
    if row.endswith('(21)'):  # ggkmnet.md section 5
        sizes = [3, 3, 3, *(size for size in range(5, 22, 2) for _ in range(2))]
        kernels = [gaussian(size, 0.25 * (i + 1)) for i, size in enumerate(sizes)]
    else:  # ggkmnet.md section 1
        kernels = [gaussian(2 * p - 1, (p + 84) / 168 + q) for p in range(2, 23) for q in range(4)]
    with torch.no_grad():
        coefficients = net.coefficients(y)  # beta is GGKMNet's, which test_ggkmnet.py tests
        for i, here, y_t, xu, _, _, x in scales_of(net, y):
            u = conv(state, f'{here}fuse', torch.cat([y_t, xu], 1))
            z = [u, *(convolved(u, kernel) for kernel in kernels)]
            alpha, beta = coefficients[i]
            assert beta.shape[1] == len(kernels) + 1
            close(x, y_t + xu - mixed(state, here, beta, z))
            close(alpha, torch.ones(1, len(kernels), 1, dtype=torch.float64))


def test_the_bank_without_groups_takes_the_options_of_sigma():
    sigma = {'sigma_denom': 'P', 'sigma_conv': 's2', 'sigma_q0': 1}
    for options in ({}, sigma):
        grouped = gaussian_bank(21, 4, **options)
        close(ungrouped_bank(**options)[..., 63:-63], grouped.view(84, 1, 43), atol=0)
        step = GGKMNetNoGroup(84, width=4, **options).steps[0]
        close(step.blur.bank, ungrouped_bank(**options).float(), atol=0)


def test_mcp_net_is_its_definition():
    net = disturbed(build('MCP-Net').double())
    y, state = rand(2, 3, 32, 48, dtype=torch.float64), net.state_dict()
    with torch.no_grad():
        coefficients = net.coefficients(y)
        for i, here, _, _, _, f2, x in scales_of(net, y):
            beta = predicted_beta(state, here, f2)
            close(coefficients[i].beta, beta)
            close(x, conv(state, f'{here}blur.conv', beta).sigmoid())
            assert coefficients[i].alpha.shape == (2, 0, 1)


# Learned kernels


@pytest.mark.parametrize(
    'options', [{}, {'iterative': False, 'boundary': 'zeros'}, {'include_identity': False, 'boundary': 'replicate'}]
)
def test_from_gaussians_it_is_ggkmnet(options):
    """In float32 the chain agrees to 1e-6 and the features are equal."""
    net, whole = build('Fully-Learned (G)', **options), GGKMNet(width=4, **GROUPS, **options)
    missing = net.load_state_dict(whole.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert missing.missing_keys == [f'steps.0.blur.kernels.{j}' for j in range(3)]
    y = rand(2, 3, 37, 50)
    with torch.no_grad():
        close(net.eval()(y), whole.eval()(y), atol=2e-6)
        close(net.double()(y.double()), whole.double()(y.double()), atol=1e-6)


@pytest.mark.parametrize('boundary', ['reflect', 'zeros'])
def test_kernels_of_any_shape_are_convolved(boundary):
    """Eqs. (13) and (16) hold for kernels that are not symmetric, not separable and not of unit sum."""
    blur = disturbed(build('Fully-Learned (R)', boundary=boundary).double()).steps[0].blur
    u, beta = rand(2, 3, 9, 12, dtype=torch.float64), rand(2, 4, 9, 12, seed=2, dtype=torch.float64)
    alpha = rand(2, 3, 2, seed=3, dtype=torch.float64)
    with torch.no_grad():
        got, z = blur(u, alpha, beta), [u]
        for j, kernels in enumerate(blur.kernels):
            composite = torch.einsum('bq,qmn->bmn', alpha[:, j], kernels).flip(-2, -1)
            source = reflected(z[-1], j + 1) if boundary == 'reflect' else F.pad(z[-1], [j + 1] * 4)
            z.append(torch.cat([F.conv2d(source[[b]], composite[b].expand(3, 1, -1, -1), groups=3) for b in range(2)]))
        want = F.conv2d((beta[:, :, None] * torch.stack(z, 1)).flatten(1, 2), blur.mix.weight, blur.mix.bias)
    close(got, want)


def test_random_kernels_are_means():
    for net in (GGKMNetFullyLearned('random', width=4), build('Fully-Learned (R)', num_iters=2)):
        for step in net.steps:
            for kernel in step.blur.kernels:
                assert (kernel >= 0).all()
                close(kernel.sum((-2, -1)), torch.ones(kernel.shape[0]), atol=1e-5)
                assert not torch.equal(kernel, kernel.flip(-1))


# Properties of all networks


@every_row
def test_training_dict_and_gradients(row):
    net, gt = disturbed(build(row).double(), seed=6), rand(2, 3, 64, 48, seed=2).double()
    output = net(rand(2, 3, 64, 48).double())
    assert list(output) == ['scales', 'inputs', 'reconstructions']
    for tensors in output.values():
        assert [tuple(x.shape) for x in tensors] == [(2, 3, 16, 12), (2, 3, 32, 24), (2, 3, 64, 48)]
    GGKMLoss()(output, gt).backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad.any(), key
        assert parameter.grad.isfinite().all(), key
    with pytest.raises(CropSizeError, match='gt_size'):
        net(rand(1, 3, 40, 48).double())


@pytest.mark.parametrize('row', ['w/o LSTM (S)', 'MCP-Net', 'Fully-Learned (R)'])
def test_bfloat16_is_near_float32(row):
    """Chains run in float32. Measured: at most 0.026 over four seeds; the untrained output is up to 5."""
    net, y = build(row).eval(), rand(1, 3, 48, 40)
    with torch.no_grad():
        want = net(y)
        got = copy.deepcopy(net).bfloat16()(y.bfloat16())
        with torch.autocast('cpu', dtype=torch.bfloat16):
            mixed_precision = net(y)
    assert got.dtype == torch.bfloat16
    close(got.float(), want, atol=0.05)
    close(mixed_precision.float(), want, atol=0.05)


# Arguments


@pytest.mark.parametrize(
    ('arch', 'options'),
    [
        (GGKMNetNoLSTM, {'alpha_head': 'lstm_fc'}),
        (GGKMNetNoLSTM, {'init': 'eye'}),
        (GGKMNetNoLSTM, {'num_scales': 0, 'shared': False}),
        (GGKMNetNoGroup, {'num_kernels': 22}),
        (GGKMNetNoGroup, {'num_groups': 21}),
        (GGKMNetNoGroup, {'iterative': True}),
        (GGKMNetNoGroup, {'sigma_conv': 's2'}),
        (GGKMNetFullyLearned, {'kernel_init': 'xavier'}),
        (MCPNet, {'beta_path2': 'c1'}),
    ],
)
def test_options_without_effect_are_errors(arch, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        arch(**options)
