"""KPAC against a written-out forward pass, counts, and laws. float64; 1e-10 is the rounding error of 40 layers."""

import pytest
import torch
from reference import Layers, close, leaky, moved, on_paper, rand

from ggkm_plugin.archs.kpac_arch import KPAC


@pytest.mark.parametrize(('levels', 'parameters'), [(3, 2_057_893), (2, 1_578_277)])
def test_counts(levels, parameters):
    net = on_paper(KPAC, levels=levels)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    assert net.size_multiple == 2**levels


def lk(x):
    return leaky(x, 0.2)


def block(layers, key, x):
    maps = x
    for i in (1, 2, 3, 4):
        maps = lk(layers.same(f'{key}.sca_dc{i}', maps, dilation=2))
    maps = layers.same(f'{key}.sca_c2', maps).sigmoid()
    mean = x.mean((2, 3), keepdim=True)
    shape = layers.same(f'{key}.sha_c2', lk(layers.same(f'{key}.sha_c1', mean))).sigmoid()
    branches = [lk(layers.same(f'{key}.shared', x, dilation=d) * maps[:, d - 1 : d] * shape) for d in range(1, 6)]
    return lk(layers.same(f'{key}.cf', torch.cat(branches, 1)))


def as_recorded(net, y, levels):
    layers = Layers(net)

    def pair(key, x, stride=2):
        return lk(layers.same(f'{key}_2', lk(layers.same(key, x, stride))))

    def joined(key, x, skip):
        return torch.cat([lk(layers.up(key, x)), skip], 1)

    y = 2 * y - 1
    f1 = pair('c0', y, 1)
    f2 = pair('c2', f1)
    f3 = pair('c3', f2)
    x = pair('c4', f3) if levels == 3 else f3
    one = block(layers, 'blocks.0', x)
    two = block(layers, 'blocks.1', one)
    x = lk(layers.same('cm_2', lk(layers.same('cm_1', torch.cat([x, one, two], 1)))))
    if levels == 3:
        x = lk(layers.same('d0_2', joined('d0', x, f3)))
    x = lk(layers.same('d1_2', joined('d1', x, f2)))
    return (layers.same('d2_2', joined('d2', x, f1)) + y + 1) / 2


@pytest.mark.parametrize('levels', [3, 2])
def test_it_is_as_recorded(levels):
    net, y = moved(KPAC(levels=levels, width=8)), rand(2, 3, 24, 32)
    with torch.no_grad():
        want = as_recorded(net, y, levels)
        close(net(y), want)
        close(net.train()(y), want)  # no dropout, no normalization, no clamping
        assert (want - y).abs().max() > 0.1


def test_initialization():
    net = KPAC()
    assert net.cm_1.weight.std().item() == pytest.approx(0.04, rel=0.01)
    assert not net.cm_1.bias.any()
