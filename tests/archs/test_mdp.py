"""MDP against a written-out forward pass, counts, and laws. float64; 1e-10 is the rounding error of 15 layers."""

import pytest
import torch
from reference import Layers, close, moved, nearest, on_paper, pooled, rand

from ggkm_plugin.archs.mdp_arch import MDP

NAMES = ('left', 'right', 'sharp')


def test_counts():
    for views, parameters, convs in ((True, 46_860_397, 49), (False, 45_094_735, 35)):
        net = on_paper(MDP, views=views)
        assert sum(parameter.numel() for parameter in net.parameters()) == parameters
        assert len([key for key in net.state_dict() if key.endswith('weight')]) == convs


def as_recorded(net, y):
    layers = Layers(net)

    def conv(key, x):
        return layers.same(f'{key}.0', x).relu()

    def convs(key, count, x):
        for i in range(count):
            x = conv(f'{key}.{i}', x)
        return x

    skips, x = [], y[:, [2, 1, 0]]
    for level, count in enumerate((2, 2, 2, 1)):
        x = convs(f'encoder.{level}', count, pooled(x) if level else x)
        skips.append(x)
    c1, c2, c3, c4 = skips
    x, early, images = pooled(x), [], {}
    for name in NAMES:
        key = f'early_{name}'
        t = conv(f'{key}.up6.conv', nearest(convs(f'{key}.bottom', 1, x)))
        t = convs(f'{key}.conv6', 1, torch.cat([c4, t], 1))
        t = convs(f'{key}.conv7', 2, torch.cat([c3, conv(f'{key}.up7.conv', nearest(t))], 1))
        early.append(conv(f'{key}.up8.conv', nearest(t)))
    common = torch.cat([c2, *early], 1)
    for name in NAMES:
        key = f'late_{name}'
        t = conv(f'{key}.up9.conv', nearest(convs(f'{key}.conv8', 2, common)))
        t = convs(f'{key}.conv9', 2, torch.cat([c1, t], 1))
        images[name] = layers.same(f'{key}.output.image', conv(f'{key}.output.features', t)).sigmoid()[:, [2, 1, 0]]
    return images


def test_it_is_as_recorded():
    net, y = moved(MDP(width=4)), rand(2, 3, 32, 48)
    with torch.no_grad():
        want = as_recorded(net, y)
        close(net(y), want['sharp'])
        output = net.train()(y)
    assert list(output) == ['scales', 'inputs', 'reconstructions', 'views']
    close(output['scales'][0], want['sharp'])
    close(output['views'][0], want['left'])
    close(output['views'][1], want['right'])
    assert (want['left'] - want['right']).abs().max() > 1e-3


def test_without_views_the_image_is_the_same():
    """Weights with views load strictly."""
    whole, sharp, y = moved(MDP(width=4)), MDP(views=False, width=4).double().eval(), rand(1, 3, 37, 20)
    state = whole.state_dict()
    sharp.load_state_dict(state)
    assert 'late_left.output.image.bias' in state
    with torch.no_grad():
        close(sharp(y), whole(y), atol=0)
        assert isinstance(sharp.train()(y), torch.Tensor)
    with pytest.raises(RuntimeError, match='late_left'):
        whole.load_state_dict(sharp.state_dict())
