"""NRKNet against a written-out forward pass from the published facts, checkpoint keys, counts, and laws.

Tolerances: 1e-10 is the rounding error of float64, 1e-5 that of float32.
"""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import close, moved, rand

from ggkm_plugin.archs.nrknet_arch import NRKNet
from ggkm_plugin.losses.ggkm_loss import GGKMLoss
from ggkm_plugin.losses.nrk_loss import NRKLoss
from ggkm_plugin.utils.errors import CropSizeError

SHAPES = {
    'SummationLayer.conv.weight': (3, 66, 1, 1),
    'SummationLayer.conv.bias': (3,),
    'GCM.kernels': (63, 1, 1, 2),
    'APU.conv.main.0.weight': (22, 64, 3, 3),
    'APU.conv.main.1.weight': (22,),
    'APU.conv.main.1.bias': (22,),
    'APU.conv.main.1.running_mean': (22,),
    'APU.conv.main.1.running_var': (22,),
    'APU.conv.main.1.num_batches_tracked': (),
    'APU.conv_atten.conv.weight': (88, 86, 5, 5),
    'APU.conv_atten.conv.bias': (88,),
    **{
        f'{name}.{i}.layers.0.main.{j}.main.0.weight': (channels, channels, 3, 3)
        for name, widths in (('Encoder', (64, 128, 256)), ('Decoder', (256, 128, 64)))
        for i, channels in enumerate(widths)
        for j in (0, 1)
    },
    'bottleneck.0.main.0.weight': (256, 256, 3, 3),
    'bottleneck.1.layers.0.main.0.main.0.weight': (256, 256, 3, 3),
    'bottleneck.1.layers.0.main.1.main.0.weight': (256, 256, 3, 3),
    'feat_extract.0.main.0.weight': (64, 3, 3, 3),
    'feat_extract.1.main.0.weight': (128, 64, 3, 3),
    'feat_extract.2.main.0.weight': (256, 128, 3, 3),
    'feat_extract.3.main.0.weight': (256, 128, 4, 4),
    'feat_extract.4.main.0.weight': (128, 64, 4, 4),
}


def network(**options):
    """Build a network with all parameters and statistics moved from their start."""
    torch.manual_seed(0)
    net = NRKNet(**options)
    with torch.no_grad():
        net.GCM.kernels.normal_()
    return moved(net)


def test_keys_and_shapes_are_the_released_checkpoints():
    net = NRKNet()
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert len(shapes) == 31
    assert shapes == SHAPES
    assert sum(parameter.numel() for parameter in net.parameters()) == 6_094_107


# The forward pass


def mirrored(x, n=1):
    return torch.from_numpy(np.pad(x.numpy(), [(0, 0), (0, 0), (n, n), (n, n)], mode='reflect'))


def conv(state, key, x, stride=1):
    return F.conv2d(mirrored(x), state[f'{key}.main.0.weight'], stride=stride)


def res(state, key, x):
    return x + conv(state, f'{key}.layers.0.main.1', conv(state, f'{key}.layers.0.main.0', x).relu())


def up(state, key, x):
    return F.conv_transpose2d(x, state[f'{key}.main.0.weight'], stride=2, padding=1).relu()


def resized(x, factor):
    return F.interpolate(x, scale_factor=factor, mode='bilinear', align_corners=False)


def all_maps(state, ys, mode):
    maps = []
    h = c = torch.zeros(len(ys[0]), 22, *(side // 2 for side in ys[0].shape[-2:]), dtype=ys[0].dtype)
    for i, y in enumerate(ys):
        if i:
            h, c = resized(h, 2), resized(c, 2)
        e1 = res(state, 'Encoder.0', conv(state, 'feat_extract.0', y).relu())
        e2 = res(state, 'Encoder.1', conv(state, 'feat_extract.1', e1, 2).relu())
        e3 = res(state, 'Encoder.2', conv(state, 'feat_extract.2', e2, 2).relu())
        d = res(state, 'bottleneck.1', conv(state, 'bottleneck.0', e3).relu())
        d = up(state, 'feat_extract.3', res(state, 'Decoder.0', d + e3))
        d = up(state, 'feat_extract.4', res(state, 'Decoder.1', d + e2))
        d = res(state, 'Decoder.2', d + e1)

        b2 = conv(state, 'APU.conv', d)
        if mode == 'running':
            mean, var = (state[f'APU.conv.main.1.running_{name}'].view(1, -1, 1, 1) for name in ('mean', 'var'))
        else:
            dims = (2, 3) if mode == 'image' else (0, 2, 3)
            mean, var = b2.mean(dims, keepdim=True), b2.var(dims, unbiased=False, keepdim=True)
        weight, bias = (state[f'APU.conv.main.1.{name}'].view(1, -1, 1, 1) for name in ('weight', 'bias'))
        b2 = ((b2 - mean) / (var + 1e-5).sqrt() * weight + bias).relu()

        key = 'APU.conv_atten.conv'
        gates = torch.cat([F.avg_pool2d(d, 2), h], 1)
        i_, f, o, g = F.conv2d(gates, state[f'{key}.weight'], state[f'{key}.bias'], padding=2).chunk(4, 1)
        c = f.sigmoid() * c + i_.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        b1 = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        maps.append(b1 * b2 + b1)
    return maps


def blur(state, v, maps):
    """Blur by shifted images instead of convolutions."""
    kernels = state['GCM.kernels'].reshape(21, 3, 2)
    images = [v]
    for side_center in kernels:
        logits = torch.stack([side_center[:, 0], side_center[:, 1], side_center[:, 0]], 1)
        before, middle, after = logits.softmax(1).T[:, None, :, None, None]
        wide = mirrored(v)[:, :, 1:-1]
        v = before * wide[..., :-2] + middle * wide[..., 1:-1] + after * wide[..., 2:]
        tall = mirrored(v)[..., 1:-1]
        v = before * tall[..., :-2, :] + middle * tall[..., 1:-1, :] + after * tall[..., 2:, :]
        images.append(v)
    weight = state['SummationLayer.conv.weight'][:, :, 0, 0].reshape(3, 22, 3)
    mixed = torch.einsum('bmhw,omc,bmchw->bohw', maps, weight, torch.stack(images, 1))
    return mixed + state['SummationLayer.conv.bias'].view(1, 3, 1, 1)


def as_recorded(state, y, mode):
    """Compute the forward pass of the specification from a state dict."""
    y = y[:, [2, 1, 0]]
    ys = [F.interpolate(y, scale_factor=n, mode='nearest') for n in (0.25, 0.5)] + [y]
    maps = all_maps(state, ys, mode)
    last, scales = [], []
    for i, y_i in enumerate(ys):
        v = total = y_i
        for _ in range(3 - i):
            v = v - blur(state, v, maps[i])
            total = total + v
        last.append(v)
        scales.append(total)
    result = y + last[2] + resized(last[1], 2) + resized(last[0], 4)
    rgb = [[image[:, [2, 1, 0]] for image in images] for images in ([result], scales, ys)]
    return rgb[0][0], rgb[1], rgb[2], maps


@pytest.mark.parametrize('bn_mode', ['running', 'batch'])
def test_evaluation_is_as_recorded(bn_mode):
    net, y = network(bn_mode=bn_mode), rand(2, 3, 32, 48)
    with torch.no_grad():
        want = as_recorded(net.state_dict(), y, {'running': 'running', 'batch': 'image'}[bn_mode])[0]
        close(net(y), want)


def test_training_is_as_recorded():
    net, y = network().train(), rand(2, 3, 32, 48)
    gt = [rand(2, 3, 32 >> n, 48 >> n, seed=n) for n in (2, 1, 0)]
    with torch.no_grad():
        state = copy.deepcopy(net.state_dict())
        output = net(y)
        _, scales, inputs, maps = as_recorded(state, y, 'batch')
        assert list(output) == ['scales', 'inputs', 'reconstructions', 'reblur']
        assert output['reconstructions'] == []
        blurred = output['reblur'](gt)
        for i in range(3):
            close(output['scales'][i], scales[i])
            close(output['inputs'][i], inputs[i], atol=0)
            close(blurred[i], blur(state, gt[i][:, [2, 1, 0]], maps[i])[:, [2, 1, 0]])


# Laws


def test_kernels_start_as_the_mean_of_three():
    close(NRKNet().GCM.taps().detach(), torch.full((63, 1, 1, 3), 1 / 3), atol=1e-6)


# Evaluation


# Training


@pytest.mark.parametrize('size', [(36, 32), (16, 32), (16, 16)])
def test_a_crop_that_does_not_fit_names_the_key_and_the_multiple(size):
    with pytest.raises(CropSizeError, match=rf'{size[0]}x{size[1]}.*gt_size to a multiple of 16, 32 or more$'):
        NRKNet()(rand(2, 3, *size, dtype=torch.float32))


@pytest.mark.parametrize('loss', [NRKLoss(ssim_weight=0, fr_weight=0.1), GGKMLoss(sr_weight=0)])
def test_every_parameter_learns_something(loss):
    net = network().train()
    loss(net(rand(1, 3, 48, 48)), rand(1, 3, 48, 48, seed=2)).backward()
    assert [key for key, parameter in net.named_parameters() if not parameter.grad.any()] == []
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


# Copies and arguments
