"""DPDNet-S against a written-out forward pass, counts, and laws. float64; 1e-10 is the rounding error of 24 layers."""

import pytest
import torch
from reference import Layers, close, moved, nearest, on_paper, pooled, rand

from ggkm_plugin.archs.dpdnets_arch import DPDNetS


def test_counts():
    net = on_paper(DPDNetS)
    assert sum(parameter.numel() for parameter in net.parameters()) == 31_033_423
    assert len([key for key in net.state_dict() if key.endswith('weight')]) == 24


def as_recorded(net, y):
    layers = Layers(net)

    def conv(key, x):
        return layers.same(f'{key}.0', x).relu()

    x, skips = y[:, [2, 1, 0]], []
    for level in range(5):
        x = pooled(x) if level else x
        x = conv(f'encoder.{level}.1', conv(f'encoder.{level}.0', x))
        skips.append(x)
    for i, skip in enumerate(reversed(skips[:-1])):
        key = f'decoder.{i}'
        x = torch.cat([skip, conv(f'{key}.up.conv', nearest(x))], 1)
        x = conv(f'{key}.convs.1', conv(f'{key}.convs.0', x))
    x = layers.same('output.image', conv('output.features', x)).sigmoid()
    return x[:, [2, 1, 0]]


def test_evaluation_is_as_recorded():
    net, y = moved(DPDNetS(width=4)), rand(2, 3, 32, 48)
    with torch.no_grad():
        x = net(y)
        close(x, as_recorded(net, y))
        assert x.std() > 1e-3


def test_dropout_is_after_the_two_deepest_levels_and_before_the_skip():
    """With everything dropped, these levels hold only biases, so all images give the same result."""
    net, y = moved(DPDNetS(width=2)), rand(2, 3, 32, 32)
    inputs = []
    for decoder in net.decoder:
        decoder.register_forward_hook(lambda _, given, result: inputs.append(given))
    net.train()
    net.dropout.p = 1.0
    with torch.no_grad():
        net(y)
    deepest, first_skip = inputs[0]
    assert not deepest.any()
    assert not first_skip.any()
    assert inputs[1][1].any()


def test_keras_initialization():
    net = DPDNetS(width=16)
    assert not any(parameter.any() for key, parameter in net.named_parameters() if key.endswith('bias'))
    assert net.decoder[0].convs[0][0].weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert net.output.image.weight.abs().max() <= 1  # Glorot's: sqrt(6 / (3 + 3))
