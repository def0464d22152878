"""DRBNet against a written-out forward pass with the released keys, counts, and laws.

float64; 1e-9 is the rounding error of 40 layers.
"""

import pytest
import torch
from reference import Layers, close, edges_around, leaky, mean_of_blocks, moved, nearest, on_paper, rand

from ggkm_plugin.archs.drbnet_arch import DRBNet


def test_counts_and_keys():
    net = on_paper(DRBNet)
    assert sum(parameter.numel() for parameter in net.parameters()) == 11_689_616
    assert len(net.state_dict()) == 138


def lk(x):
    return leaky(x, 0.1)


def fac(e, k):
    """Filter with 7x7 kernels shared by the colors, index 7 * row + column."""
    around = edges_around(e, 3)
    height, width = e.shape[-2:]
    return sum(
        k[:, 7 * u + v : 7 * u + v + 1] * around[..., u : u + height, v : v + width] for u in range(7) for v in range(7)
    )


def as_recorded(net, y, residual_act=True):
    layers = Layers(net)

    def conv(key, x, stride=1):
        return lk(layers.conv(f'{key}.0', x, stride))

    def res(key, x):
        return x + layers.conv(f'{key}.stem.0.2', lk(layers.conv(f'{key}.stem.0.0', x)))

    def three(key, x):
        for i in range(3):
            x = conv(f'{key}.{i}', x)
        return x

    def step(e, f, number, scale):
        q = torch.cat([f, three(f'img_d{scale}_feature', e)], 1)
        k, r = (conv(f'upconv{number}_{name}.1', conv(f'upconv{number}_{name}.0', q)) for name in ('kernel', 'res'))
        r = layers.conv(f'upconv{number}_res.2.0', r)
        return e + fac(e, layers.conv(f'upconv{number}_kernel.2', k)) + (lk(r) if residual_act else r)

    c = x = 2 * y - 1
    skips = []
    for level in (1, 2, 3, 4):
        x = conv(f'conv{level}_1', x, 1 if level == 1 else 2)
        x = conv(f'conv{level}_3', conv(f'conv{level}_2', x))
        skips.append(x)
    f = conv('conv4_4.3', res('conv4_4.2', res('conv4_4.1', conv('conv4_4.0', x))))
    e = step(mean_of_blocks(c, 8), f, 3, 8)
    for level, number, scale in ((3, 2, 4), (2, 1, 2), (1, 0, 1)):
        f = lk(layers.up(f'upconv{level}_u.0', f)) + skips[level - 1]
        f = res(f'upconv{level}_2', res(f'upconv{level}_1', f))
        e = step(nearest(e), f, number, scale)
    return (e + 1) / 2


@pytest.mark.parametrize('residual_act', [True, False])
def test_it_is_as_recorded(residual_act):
    net, y = moved(DRBNet(residual_act=residual_act, width=4)), rand(2, 3, 24, 40)
    with torch.no_grad():
        want = as_recorded(net, y, residual_act)
        close(net.train()(y), want, atol=1e-9)
        close(net.eval()(y), want.clamp(0, 1), atol=1e-9)
