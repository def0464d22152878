"""AIFNet against a written-out forward pass, parameter counts, and laws.

float64; 1e-8 is the rounding error of 60 normalized layers.
"""

import pytest
import torch
from reference import Layers, close, edges_around, leaky, legacy_bilinear, moved, nearest, on_paper, pooled, rand

from ggkm_plugin.archs.aifnet_arch import AIFNet, BiasNorm2d


@pytest.mark.parametrize(('map_heads', 'parameters'), [(True, 41_557_358), (False, 39_966_564)])
def test_counts(map_heads, parameters):
    assert sum(parameter.numel() for parameter in on_paper(AIFNet, map_heads=map_heads).parameters()) == parameters


def as_recorded(net, y):
    """Compute m, the auxiliary maps and the image, with the running statistics."""
    layers = Layers(net)

    def norm(key, x):
        mean, var, bias = (
            layers[f'{key}.{name}'].view(1, -1, 1, 1) for name in ('running_mean', 'running_var', 'bias')
        )
        return (x - mean) / (var + 1e-5).sqrt() + bias

    def edge(key, x):
        return layers.conv(key, x, around=edges_around)

    def cbl(key, x):
        return leaky(norm(f'{key}.1', edge(f'{key}.0', x)), 0.2)

    def cbls(key, count, x):
        for i in range(count):
            x = cbl(f'{key}.{i}', x)
        return x

    def unit(key, x):
        return cbl(f'{key}.short', x) + cbls(f'{key}.long', 2, x)

    def lk(key, i, x, stride=1, dilation=1):
        return leaky(layers.same(f'deblur.{key}.{2 * i}', x, stride, dilation), 0.2)

    means = torch.tensor([103.939, 116.779, 123.68], dtype=y.dtype).view(1, 3, 1, 1)
    x, taps = 255 * y[:, [2, 1, 0]] - means.float().to(y.dtype), []
    for level, count in enumerate((2, 2, 4, 4, 4)):
        x = pooled(x) if level else x
        for i in range(count):
            x = edge(f'map.vgg.{level}.{2 * i}', x).relu()
        taps.append(x)
    features = [x]
    for level, count in ((3, 3), (2, 3), (1, 3), (0, 1)):
        x = cbls(f'map.u{level}', count, torch.cat([nearest(x), taps[level]], 1))
        features.append(x)
    for i in range(7):
        x = unit(f'map.units.{i}', x)
    m = edge('map.last.2', cbls('map.last', 2, x)).sigmoid()
    heads = [
        norm(f'map_heads.{i}.2', edge(f'map_heads.{i}.1', cbl(f'map_heads.{i}.0', feature))).sigmoid()
        for i, feature in enumerate(features)
    ]
    planes = torch.cat([y * (1 - (m - i / 28).abs()) for i in range(29)], 1)
    a = lk('a', 1, lk('a', 0, planes), stride=2)
    b = lk('b', 2, lk('b', 1, lk('b', 0, a)), stride=2)
    c = x = lk('c', 2, lk('c', 1, lk('c', 0, b)), stride=2)
    for i in range(3):
        x = lk('dilated', i, x, dilation=2)
    x = legacy_bilinear(lk('with_c', 0, torch.cat([x, c], 1)))
    x = lk('with_b', 0, torch.cat([lk('at_quarter', 1, lk('at_quarter', 0, x)), b], 1))
    x = lk('with_a', 0, torch.cat([lk('at_half', 0, legacy_bilinear(x)), a], 1))
    x = layers.same('deblur.image', lk('at_full', 0, legacy_bilinear(x))).sigmoid()
    return m, heads, x


def network(**options):
    """Build a network whose map is not constant."""
    net = moved(AIFNet(width=4, **options))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, BiasNorm2d):
                module.running_var.mul_(4)
    return net


def test_it_is_as_recorded():
    net, y = network(), rand(2, 3, 32, 48)
    with torch.no_grad():
        m, heads, x = as_recorded(net, y)
        close(net(y), x, atol=1e-8)
        assert m.std() > 1e-3
        for module in net.train().modules():  # the dict of training with the statistics of evaluation
            if isinstance(module, BiasNorm2d):
                module.eval()
        output = net(y)
    assert list(output) == ['scales', 'inputs', 'reconstructions', 'maps']
    close(output['scales'][0], x, atol=1e-8)
    for got, want in zip(output['maps'], [m, *heads], strict=True):
        close(got, want, atol=1e-8)
    assert [tuple(got.shape[-2:]) for got in output['maps'][1:]] == [(2, 3), (4, 6), (8, 12), (16, 24), (32, 48)]


def test_without_heads_the_image_is_the_same():
    """A training checkpoint loads strictly."""
    net, bare, y = network(), AIFNet(map_heads=False, width=4).double().eval(), rand(1, 3, 13, 21)
    bare.load_state_dict(net.state_dict())
    with torch.no_grad():
        close(bare(y), net(y), atol=0)
        assert isinstance(bare.train()(y), torch.Tensor)
