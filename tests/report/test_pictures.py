"""Strips of images and coefficient maps for TensorBoard."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.report.pictures import coefficient_map, color_stops, colored, strip, to_uint8


def flat(value, height=6, width=8):
    return torch.full((3, height, width), float(value))


def test_columns_in_order():
    picture = strip(flat(0), flat(0.5), flat(1))
    assert picture.shape == (6, 24, 3)
    assert picture.dtype == np.uint8
    assert [set(np.unique(picture[:, i * 8 : i * 8 + 8])) for i in range(3)] == [{0}, {128}, {255}]


def test_channels_keep_their_colors():
    red = torch.stack([torch.ones(2, 2), torch.zeros(2, 2), torch.full((2, 2), 0.25)])
    assert to_uint8(red).tolist() == [[[255, 0, 64]] * 2] * 2
    assert strip(red).tolist() == to_uint8(red).tolist()


def test_values_are_clipped_and_rounded():
    image = torch.tensor([-1.0, 0.0, 0.4981, 2.0]).view(1, 2, 2).expand(3, 2, 2).bfloat16()
    assert to_uint8(image)[..., 0].tolist() == [[0, 0], [127, 255]]


@pytest.mark.parametrize(
    ('height', 'width', 'shape'), [(300, 960, (150, 480)), (480, 480, (480, 480)), (1, 960, (1, 480))]
)
def test_wide_images_are_reduced(height, width, shape):
    assert strip(flat(0.5, height, width)).shape == (*shape, 3)
    assert strip(flat(0.5, height, width), flat(1, height, width)).shape == (shape[0], 2 * shape[1], 3)


class Mixing(nn.Module):
    """A network with given coefficients at its finest scale."""

    def __init__(self, beta):
        super().__init__()
        self.beta = beta

    def coefficients(self, lq):
        coarse = SimpleNamespace(beta=torch.zeros(1, len(self.beta[0]), 1, 1))
        return [coarse, SimpleNamespace(beta=self.beta)]


def lightness(picture):
    return picture.astype(float).sum(axis=2)


def test_wider_groups_are_brighter():
    """From left to right the weight moves from the first group to the last; its sign has no effect."""
    share = torch.linspace(0, 1, 5).expand(4, 5)
    beta = torch.stack([1 - share, torch.zeros(4, 5), -share])[None]
    picture = coefficient_map(Mixing(beta), torch.rand(1, 3, 4, 5))
    assert picture.shape == (4, 5, 3)
    assert picture.dtype == np.uint8
    assert (np.diff(lightness(picture), axis=1) > 0).all()
    middle = coefficient_map(Mixing(torch.tensor([0.0, 2.0, 0.0]).view(1, 3, 1, 1)), torch.rand(1, 3, 1, 1))
    assert middle[0, 0].tolist() == picture[0, 2].tolist()


@pytest.mark.parametrize('beta', [torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2)])
def test_zero_weights_and_a_single_group_are_dark(beta):
    dark = coefficient_map(Mixing(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)), torch.rand(1, 3, 1, 1))
    assert (coefficient_map(Mixing(beta), torch.rand(1, 3, 2, 2)) == dark).all()


def test_a_network_without_coefficients():
    assert coefficient_map(nn.Conv2d(3, 3, 1), torch.rand(1, 3, 4, 4)) is None


@pytest.mark.parametrize('training', [True, False])
def test_the_network_is_unchanged(training):
    net = GGKMNet(width=4, num_groups=2, kernels_per_group=2, num_scales=2, beta_norm='bn').train(training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert coefficient_map(net, torch.rand(1, 3, 17, 23) if not training else torch.rand(1, 3, 16, 16)) is not None
    assert net.training == training
    if not training:
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_narrow_range_is_stretched():
    """Values between 0.5 and 0.52 take all colors; the outer 1 % take the last ones."""
    share = torch.linspace(0.5, 0.52, 400).view(1, 400)
    net = Mixing(torch.stack([1 - share, share])[None])
    plain, wide = (coefficient_map(net, torch.rand(1, 3, 1, 400), stretched) for stretched in (False, True))
    assert np.ptp(lightness(plain)) < 10
    for place, end in ((0, [1.0, 0.0]), (-1, [0.0, 1.0])):
        full = coefficient_map(Mixing(torch.tensor(end).view(1, 2, 1, 1)), torch.rand(1, 3, 1, 1))
        assert wide[0, place].tolist() == full[0, 0].tolist()
    assert (np.diff(lightness(wide)[0]) >= -2).all()  # viridis is rounded to 8 bits
    constant = coefficient_map(Mixing(torch.ones(1, 2, 3, 3)), torch.rand(1, 3, 3, 3), stretched=True)
    assert (constant == constant[0, 0]).all()


def test_colors_go_from_low_to_high_and_nan_is_gray():
    picture = colored(np.array([[1.0, 2.0, 3.0, 9.0, np.nan]]), 1, 3)
    assert (np.diff(lightness(picture)[0, :3]) > 0).all()
    assert picture[0, 3].tolist() == picture[0, 2].tolist()  # beyond the range: the color of its end
    assert picture[0, 4].tolist() == [160, 160, 160]
    stops = color_stops(cv2.COLORMAP_VIRIDIS)
    assert [stops[0], stops[-1]] == ['#{:02x}{:02x}{:02x}'.format(*picture[0, at]) for at in (0, 2)]
