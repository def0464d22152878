"""Strips of images and coefficient maps for TensorBoard."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.report.pictures import coefficient_map, color_stops, colored, strip


def flat(value, height=6, width=8):
    return torch.full((3, height, width), float(value))


def test_columns_are_in_order_clipped_rounded_and_reduced():
    red = torch.tensor([2.0, -1.0, 0.4981]).view(3, 1, 1).expand(3, 300, 960)
    picture = strip(flat(0, 300, 960), red.bfloat16(), flat(1, 300, 960))
    assert (picture.shape, picture.dtype) == ((150, 3 * 480, 3), np.uint8)
    assert [picture[9, 9 + 480 * column].tolist() for column in range(3)] == [[0] * 3, [255, 0, 127], [255] * 3]
    assert strip(flat(0.5, 1, 960)).shape == (1, 480, 3)


def test_a_network_is_left_as_it_was():
    net = GGKMNet(width=4, num_groups=2, kernels_per_group=2, num_scales=2, beta_norm='bn').eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert coefficient_map(net, torch.rand(1, 3, 17, 23)) is not None
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert coefficient_map(nn.Conv2d(3, 3, 1), torch.rand(1, 3, 4, 4)) is None


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
