"""JDRL's reblurring module: parameter count, laws of its kernels, and the fast form against the reference."""

import math

import pytest
import torch
import torch.nn.functional as F

from ggkm_plugin.archs.reblurring import RADII, ReblurNet, radial_blurs
from ggkm_plugin.ops.boundary import pad

CHANNELS = 35


def radial_blurs_ref(image, profiles):
    """Compute `radial_blurs` tap by tap."""
    batch, channels, height, width = image.shape
    blurs, first = [], 0
    for radius, length in enumerate(range(2, RADII + 2), 1):
        profile = profiles[:, first : first + length]
        first += length
        taps = []
        for y in range(-radius, radius + 1):
            for x in range(-radius, radius + 1):
                distance = math.hypot(y, x)
                low = min(int(distance), radius - 1)
                share = distance - low
                value = (1 - share) * profile[:, low] + share * profile[:, low + 1]
                taps.append(value if distance <= radius else torch.zeros_like(value))
        kernel = torch.stack(taps, dim=1).softmax(dim=1)
        around = F.unfold(pad(image, *(radius,) * 4), 2 * radius + 1)
        around = around.reshape(batch, channels, -1, height, width)
        blurs.append((kernel[:, None] * around).sum(dim=2))
    return torch.stack(blurs, dim=1)


def test_parameters():
    assert sum(parameter.numel() for parameter in ReblurNet().parameters()) == 474_987


@pytest.mark.parametrize('size', [(9, 11), (1, 7), (20, 16)])
@pytest.mark.parametrize('scale', [0.0, 3.0, 60.0])
def test_the_fast_form_is_the_definition(size, scale):
    """Values and gradients; profiles of 60 select one tap, and would overflow a naive softmax."""
    image = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    profiles = (scale * torch.rand(2, CHANNELS, *size, dtype=torch.float64)).requires_grad_()
    fast, reference = radial_blurs(image, profiles), radial_blurs_ref(image, profiles)
    assert fast.shape == (2, RADII, 3, *size)
    torch.testing.assert_close(fast, reference, rtol=0, atol=1e-13)
    direction = torch.rand_like(fast)
    gradients = (torch.autograd.grad((y * direction).sum(), (image, profiles)) for y in (fast, reference))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)


def test_the_share_of_the_sharp_image():
    """A high bias keeps the sharp image; a low bias blurs all of it."""
    net, sharp, blurred = ReblurNet(), torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        net.shares[-1].bias[0] = 100
        torch.testing.assert_close(net(sharp, blurred), sharp)
        net.shares[-1].bias[0] = -100
        assert net(sharp, blurred).std() < 0.6 * sharp.std()
