"""SAME padding, TensorFlow's bilinear upscaling and Keras' initialization, by their definitions."""

import math

import pytest
import torch
from reference import Layers, close, rand

from ggkm_plugin.archs.tensorflow_layers import SameConv2d, he_init


@pytest.mark.parametrize(
    ('kernel', 'stride', 'dilation', 'margins'),
    [
        (1, 1, 1, (0, 0)), (2, 1, 1, (0, 1)), (3, 1, 1, (1, 1)), (5, 1, 1, (2, 2)), (3, 2, 1, (0, 1)),
        (5, 2, 1, (1, 2)), (3, 1, 2, (2, 2)), (5, 1, 2, (4, 4)),
    ],
)  # fmt: skip
def test_same_padding(kernel, stride, dilation, margins):
    conv = SameConv2d(3, 4, kernel, stride, dilation).double()
    assert conv.margins == margins
    x = rand(2, 3, 6, 8)
    with torch.no_grad():
        net = torch.nn.ModuleDict({'conv': conv})
        close(conv(x), Layers(net).same('conv', x, stride, dilation), atol=1e-12)
        assert conv(x).shape[-2:] == (6 // stride, 8 // stride)


def test_he_normal():
    conv = SameConv2d(64, 100, 3)
    he_init(conv)
    std = math.sqrt(2 / (64 * 9))
    assert conv.weight.std().item() == pytest.approx(std, rel=0.01)  # of 57,600 numbers: 0.3 %
    assert conv.weight.abs().max() < 2 * std / 0.8796
    assert not conv.bias.any()
