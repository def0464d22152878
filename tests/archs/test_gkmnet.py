"""GKMNet against a written-out forward pass from the published facts, checkpoint keys, counts, and laws.

Tolerances: 1e-10 is the rounding error of float64 with BatchNorm, 1e-5 that of float32.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from reference import bilinear, close, count, moved, rand

from ggkm_plugin.archs.gkmnet_arch import GKMNet, released_pyramid
from ggkm_plugin.losses.ggkm_loss import GGKMLoss
from ggkm_plugin.losses.gkm_loss import GKMLoss
from ggkm_plugin.utils.errors import CropSizeError

BLOCKS = {  # weight, channels out
    'in_block': ((32, 3, 3, 3), 32),
    'conv_block1_1': ((64, 32, 3, 3), 64),
    'conv_block2_1': ((128, 64, 3, 3), 128),
    'bottle_neck_1': ((128, 128, 3, 3), 128),
    'conv_block3_1': ((128, 64, 2, 2), 64),  # transposed: channels in first
    'conv_block4_1': ((64, 32, 2, 2), 32),
}


def network(dtype=torch.float64, **options):
    """Build a network with all parameters and statistics moved from their start."""
    torch.manual_seed(0)
    return moved(GKMNet(**options), dtype=dtype)


# The checkpoint's format


def norm_shapes(key, channels):
    vectors = ('weight', 'bias', 'running_mean', 'running_var')
    return {**{f'{key}.{name}': (channels,) for name in vectors}, f'{key}.num_batches_tracked': ()}


def conv_shapes(key, weight, bias):
    return {f'{key}.weight': weight, f'{key}.bias': (bias,)}


def expected_shapes():
    shapes = {}
    for block, (weight, channels) in BLOCKS.items():
        shapes |= conv_shapes(f'{block}.conv.0', weight, channels)
        if block != 'in_block':
            shapes |= norm_shapes(f'{block}.conv.1', channels)
        for gate in ('cw', 'hc', 'hw'):
            shapes[f'{block}.ta.{gate}.conv.conv.weight'] = (1, 2, 7, 7)
            shapes |= norm_shapes(f'{block}.ta.{gate}.conv.bn', 1)
        for conv in ('conv', 'conv1'):
            shapes |= conv_shapes(f'{block}.res_block.{conv}.0', (channels, channels, 3, 3), channels)
            shapes |= norm_shapes(f'{block}.res_block.{conv}.1', channels)
    shapes |= conv_shapes('APU.conv.conv.0', (44, 32, 3, 3), 44) | norm_shapes('APU.conv.conv.1', 44)
    shapes |= conv_shapes('APU.conv_atten.conv', (176, 76, 5, 5), 176)
    return shapes | conv_shapes('SumLayer.conv', (3, 132, 1, 1), 3)


@pytest.mark.parametrize('order', ['paper', 'released'])
def test_keys_and_shapes_are_the_released_checkpoints(order):
    net = GKMNet(kernel_order=order)
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert len(shapes) == 240
    assert shapes == expected_shapes()
    assert count(net) == 1_409_131


def test_self_reconstruction_adds_only_itself():
    """1.47M, the count of GKMNet in the paper's Table 2."""
    net = GKMNet(self_reconstruction=True)
    added = {name for name in net.state_dict() if name not in expected_shapes()}
    assert added == {f'srm.layers.{i}.{kind}' for i in (0, 2, 4) for kind in ('weight', 'bias')}
    assert net.srm.layers[0].weight.shape == (32, 128 + 44 + 3, 3, 3)
    assert count(net.srm) == 60_547
    assert count(net) == 1_469_678


# The fixed kernels


def dense_kernels():
    """Build (22, 21, 21): the delta and Gaussians, each normalized in two dimensions."""
    sizes = [3, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15, 17, 17, 19, 19, 21, 21]
    kernels = np.zeros((22, 21, 21))
    kernels[0, 10, 10] = 1
    for i, size in enumerate(sizes):
        sigma, reach = 0.25 * (i + 1), size // 2
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        kernel = np.exp(-(x**2 + y**2) / (2 * sigma**2))
        kernels[i + 1, 10 - reach : 11 + reach, 10 - reach : 11 + reach] = kernel / kernel.sum()
    return torch.from_numpy(kernels)


@pytest.mark.parametrize('order', ['paper', 'released'])
@pytest.mark.parametrize('color', [0, 1, 2])
def test_an_impulse_stays_in_its_color(order, color):
    """Channels 22 c .. 22 c + 21 are color c. The released bank holds each kernel three times in a row.

    So red has kernels 0 to 7, green 7 to 14 and blue 14 to 21.
    """
    x = torch.zeros(1, 3, 21, 21, dtype=torch.float64)
    x[0, color, 10, 10] = 1
    blurred = GKMNet(kernel_order=order).double().GCM(x)[0]
    assert blurred.shape == (66, 21, 21)
    kernels = dense_kernels()
    for j in range(66):
        if j // 22 != color:
            assert not blurred[j].any()
        else:
            close(blurred[j], kernels[j % 22 if order == 'paper' else j // 3], atol=1e-15)


# The forward pass


def conv(state, key, x, stride=1):
    weight = state[f'{key}.weight']
    return F.conv2d(x, weight, state.get(f'{key}.bias'), stride, weight.shape[-1] // 2)


def norm(state, key, x, mode):
    """Normalize with the stored statistics (`running`), each image's (`image`) or the batch's (`batch`)."""
    if mode == 'running':
        mean, var = (state[f'{key}.running_{name}'].view(1, -1, 1, 1) for name in ('mean', 'var'))
    else:
        dims = (2, 3) if mode == 'image' else (0, 2, 3)
        mean, var = x.mean(dims, keepdim=True), x.var(dims, unbiased=False, keepdim=True)
    weight, bias = (state[f'{key}.{name}'].view(1, -1, 1, 1) for name in ('weight', 'bias'))
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def gate(state, key, x, axis, mode):
    """Multiply x by a map over the two axes that remain when C, H or W (1, 2, 3) is pooled."""
    rows, columns = {1: (2, 3), 2: (1, 3), 3: (2, 1)}[axis]
    pooled = torch.stack([x.max(axis).values, x.mean(axis)], 1)  # the two remaining axes, in the order of the tensor
    if rows > columns:
        pooled = pooled.transpose(2, 3)
    weights = norm(state, f'{key}.conv.bn', conv(state, f'{key}.conv.conv', pooled), mode).sigmoid()[:, 0]
    if rows > columns:
        weights = weights.transpose(1, 2)
    return x * weights.unsqueeze(axis)


def block(state, key, x, mode, stride=1, transposed=False):
    if transposed:
        x = F.conv_transpose2d(x, state[f'{key}.conv.0.weight'], state[f'{key}.conv.0.bias'], stride=2)
    else:
        x = conv(state, f'{key}.conv.0', x, stride)
    if key != 'in_block':
        x = norm(state, f'{key}.conv.1', x, mode).relu()
    for name in ('conv', 'conv1'):
        here = f'{key}.res_block.{name}'
        x = x + norm(state, f'{here}.1', conv(state, f'{here}.0', x), mode).relu()
    return sum(gate(state, f'{key}.ta.{name}', x, axis, mode) for name, axis in (('hw', 1), ('cw', 2), ('hc', 3))) / 3


def mixture(x, order):
    kernels = dense_kernels()
    channels = []
    for j in range(66):
        kernel = kernels[j % 22 if order == 'paper' else j // 3]
        channels.append(F.conv2d(x[:, j // 22, None], kernel[None, None], padding=10))
    return torch.cat(channels, 1)


def step_as_recorded(state, y, x, memory, order, mode):
    """Compute one iteration of the specification from a state dict: the estimate, the memory, features and weights."""
    h, c = memory
    f1 = block(state, 'conv_block1_1', block(state, 'in_block', y, mode), mode, stride=2)
    f2 = block(state, 'conv_block2_1', f1, mode, stride=2)
    bottleneck = block(state, 'bottle_neck_1', f2, mode)
    f3 = block(state, 'conv_block3_1', bottleneck + f2, mode, transposed=True)
    f4 = block(state, 'conv_block4_1', f3 + f1, mode, transposed=True)

    b2 = norm(state, 'APU.conv.conv.1', conv(state, 'APU.conv.conv.0', f4), mode).relu()
    i, f, o, g = conv(state, 'APU.conv_atten.conv', torch.cat([F.avg_pool2d(f4, 2), h], 1)).chunk(4, 1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    b1 = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
    weights = (b1 * b2 + b1).sigmoid() * 2 - 1

    of_y, of_x = (torch.cat([maps] * 3, 1) for maps in (weights[:, :22], weights[:, 22:]))
    x = conv(state, 'SumLayer.conv', torch.cat([of_y * mixture(y, order), of_x * mixture(x, order)], 1))
    return x, (h, c), (bottleneck, weights)


def as_recorded(state, ys, order, mode, more=()):
    """Compute the forward pass of the specification from a pyramid and the state dict of each iteration."""
    x, scales, features = ys[0], [], []
    zeros = torch.zeros(len(x), 44, x.shape[2] // 2, x.shape[3] // 2, dtype=x.dtype)
    states = [state, *more]
    memories = [(zeros, zeros)] * len(states)
    for t, y in enumerate(ys):
        if t:
            x, memories = bilinear(x), [tuple(map(bilinear, memory)) for memory in memories]
        for r, own in enumerate(states):
            x, memories[r], feature = step_as_recorded(own, y, x, memories[r], order, mode)
            scales.append(x)
            features.append(feature)
    return scales, features


@pytest.mark.parametrize('order', ['paper', 'released'])
@pytest.mark.parametrize('bn_mode', ['running', 'batch'])
def test_evaluation_is_as_recorded(order, bn_mode):
    net, y = network(kernel_order=order, bn_mode=bn_mode), rand(2, 3, 32, 48)
    ys = [F.avg_pool2d(y, 4), F.avg_pool2d(y, 2), y] if order == 'paper' else released_pyramid(y)
    with torch.no_grad():
        want, _ = as_recorded(net.state_dict(), ys, order, {'running': 'running', 'batch': 'image'}[bn_mode])
        close(net(y), want[-1])


@pytest.mark.parametrize(('order', 'bn_mode'), [('paper', 'batch'), ('released', 'running')])
def test_training_is_as_recorded(order, bn_mode):
    net, y = network(kernel_order=order, bn_mode=bn_mode, self_reconstruction=True).train(), rand(2, 3, 32, 48)
    with torch.no_grad():
        state = copy.deepcopy(net.state_dict())
        output = net(y)
        ys = [F.avg_pool2d(y, 4), F.avg_pool2d(y, 2), y] if order == 'paper' else released_pyramid(y)
        scales, features = as_recorded(state, ys, order, 'batch')
        assert list(output) == ['scales', 'inputs', 'reconstructions']
        assert [len(tensors) for tensors in output.values()] == [3, 3, 3]
        for i, x in enumerate(scales):
            close(output['scales'][i], x)
            close(output['inputs'][i], ys[i])
            bottleneck, weights = features[i]
            s = F.interpolate(bottleneck, x.shape[-2:], mode='bilinear', align_corners=False)
            s = conv(state, 'srm.layers.0', torch.cat([s, weights, x], 1)).relu()
            s = conv(state, 'srm.layers.4', conv(state, 'srm.layers.2', s).relu()).sigmoid()
            close(output['reconstructions'][i], s)


@pytest.mark.parametrize(('num_scales', 'num_iters', 'millions'), [(1, 3, 4.227393), (2, 2, 2.818262)])
def test_scales_and_iterations(num_scales, num_iters, millions):
    """Table 11: each iteration has its own weights and recurrent states, and starts from the previous estimate."""
    net = network(num_scales=num_scales, num_iters=num_iters)
    assert count(net) == round(1e6 * millions) == num_iters * 1_409_131
    assert net.size_multiple == 2 ** (num_scales + 1)
    y = rand(2, 3, 16, 24)
    ys, more = [F.avg_pool2d(y, 2), y][-num_scales:], [step.state_dict() for step in net.steps]
    with torch.no_grad():
        want, _ = as_recorded(net.state_dict(), ys, 'paper', 'running', more)
        close(net(y), want[-1])
        output = net.train()(y)
    assert (len(output['scales']), len(output['inputs'])) == (num_scales * num_iters, num_scales)


# Pyramids


@pytest.mark.parametrize('size', [(64, 96), (16, 16), (48, 160)])
def test_released_pyramid_is_pillows(size):
    """Exactly: the half-size level from the image, the quarter-size level from the half-size level."""
    height, width = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    half = Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    quarter = half.resize((width // 4, height // 4), Image.Resampling.BILINEAR)
    y = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    for level, want in zip(released_pyramid(y), (quarter, half, image), strict=True):
        got = level[0].permute(1, 2, 0).numpy() * 255
        np.testing.assert_allclose(got, np.asarray(want, dtype=float), rtol=0, atol=1e-4)
    direct = Image.fromarray(image).resize((width // 4, height // 4), Image.Resampling.BILINEAR)
    assert (np.asarray(direct) != np.asarray(quarter)).any()  # resized from the full image it differs


def test_released_pyramid_is_of_an_eight_bit_image():
    y = rand(1, 3, 16, 16) * 3 - 1
    finest = released_pyramid(y)[-1]
    close(finest, ((y.clamp(0, 1) * 255).round() / 255))
    net = network(kernel_order='released')
    with torch.no_grad():
        close(net(y), net(finest), atol=0)


# BatchNorm


def statistics(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items() if 'running' in name or 'num_b' in name}


def test_only_training_updates_the_statistics():
    net, y = network(bn_mode='batch'), rand(2, 3, 32, 32)
    before = statistics(net)
    assert len(before) == 3 * 36
    with torch.no_grad():
        net(y)
        for name, tensor in statistics(net).items():
            assert torch.equal(tensor, before[name]), name
        net.train()(y)
        for name, tensor in statistics(net).items():
            assert not torch.equal(tensor, before[name]), name


def test_gates_remember_slowly():
    momenta = {name: module.momentum for name, module in GKMNet().named_modules() if hasattr(module, 'momentum')}
    assert {momentum for name, momentum in momenta.items() if '.ta.' in name} == {0.01}
    assert {momentum for name, momentum in momenta.items() if '.ta.' not in name} == {0.1}


# Evaluation


@pytest.mark.parametrize('size', [(1, 1), (37, 61)])
def test_any_size_is_kept_in_the_released_form(size):
    net = network(dtype=torch.float32, kernel_order='released', bn_mode='batch')
    y = rand(2, 3, *size, dtype=torch.float32)
    margins = [(0, 0), (0, 0), *((0, -side % 16) for side in size)]
    padded = torch.from_numpy(np.pad(y.numpy(), margins, mode='reflect'))
    with torch.no_grad():
        x = net(y)
        close(x, net(padded)[..., : size[0], : size[1]], atol=0)
    assert x.shape == y.shape
    assert x.dtype == y.dtype
    assert x.isfinite().all()


# Training


@pytest.mark.parametrize(('size', 'batch', 'smallest'), [((36, 32), 2, 16), ((32, 40), 1, 32), ((16, 16), 1, 32)])
def test_a_crop_that_does_not_fit_names_the_key_and_the_multiple(size, batch, smallest):
    message = rf'{size[0]}x{size[1]}.*gt_size to a multiple of 16, {smallest} or more$'
    with pytest.raises(CropSizeError, match=message):
        GKMNet()(rand(batch, 3, *size, dtype=torch.float32))
    GKMNet()(rand(2, 3, 16, 16, dtype=torch.float32))


@pytest.mark.parametrize(
    ('order', 'loss', 'srm', 'iters'), [('paper', GGKMLoss(), True, 1), ('released', GKMLoss(), False, 2)]
)
def test_every_parameter_learns_something(order, loss, srm, iters):
    net = network(kernel_order=order, self_reconstruction=srm, num_iters=iters).train()
    loss(net(rand(2, 3, 48, 48)), rand(2, 3, 48, 48, seed=2)).backward()
    assert [key for key, parameter in net.named_parameters() if not parameter.grad.any()] == []
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


# Copies and arguments


def test_bfloat16_runs():
    y = rand(1, 3, 32, 32, dtype=torch.float32)
    for options in ({}, {'kernel_order': 'released', 'bn_mode': 'batch'}):
        net = network(dtype=torch.float32, **options)
        with torch.no_grad():
            want, x = net(y), net.bfloat16()(y.bfloat16())
        assert x.dtype == torch.bfloat16
        assert (x.float() - want).abs().mean() < 0.05 * want.std() + 0.02
