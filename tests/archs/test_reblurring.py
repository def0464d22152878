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


def test_single_precision():
    image, profiles = torch.rand(1, 3, 12, 12), 5 * torch.rand(1, CHANNELS, 12, 12)
    expected = radial_blurs_ref(image.double(), profiles.double())
    torch.testing.assert_close(radial_blurs(image, profiles).double(), expected, rtol=0, atol=1e-5)


def impulse_responses(profiles):
    """Compute the kernels (7,15,15) of profiles (35,) that are equal at all pixels."""
    image = torch.zeros(1, 1, 29, 29, dtype=torch.float64)
    image[..., 14, 14] = 1
    everywhere = profiles.double()[None, :, None, None].expand(1, CHANNELS, 29, 29)
    return radial_blurs(image, everywhere)[0, :, 0, 7:22, 7:22]


def test_kernels_are_round_and_sum_to_one():
    kernels = impulse_responses(3 * torch.rand(CHANNELS))
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(RADII, dtype=torch.float64))
    for turned in (kernels.flip(1), kernels.flip(2), kernels.transpose(1, 2)):
        torch.testing.assert_close(kernels, turned)
    assert torch.equal(kernels[0, 7, 8], kernels[0, 7, 6])
    torch.testing.assert_close(kernels[6, 7, 12], kernels[6, 10, 11])  # both at distance 5: (0,5) and (3,4)


def test_kernels_end_at_their_boxes():
    """With a profile of 0 a kernel is the mean over its box; corners beyond the radius have the value 0."""
    kernels = impulse_responses(torch.zeros(CHANNELS))
    for radius, kernel in enumerate(kernels, 1):
        box = torch.zeros(15, 15, dtype=torch.float64)
        box[7 - radius : 8 + radius, 7 - radius : 8 + radius] = 1 / (2 * radius + 1) ** 2
        torch.testing.assert_close(kernel, box)


def test_profiles_are_linear_in_between():
    """Radius 2: the value of the tap at distance sqrt(2) is between those of 1 and 2."""
    profiles = torch.zeros(CHANNELS)
    profiles[2:5] = torch.tensor([3.0, 2.0, 0.5])
    kernel = impulse_responses(profiles)[1]
    logarithm = (kernel / kernel[5, 5]).log()  # the corner (2,2) is beyond the radius: 0
    share = 2**0.5 - 1
    expected = [3.0, 2.0, (1 - share) * 2.0 + share * 0.5, 0.5]
    found = [logarithm[at].item() for at in ((7, 7), (7, 8), (8, 8), (7, 9))]
    assert found == pytest.approx(expected)


def test_an_even_image_stays_even():
    net, even = ReblurNet(), torch.full((2, 3, 13, 17), 0.4)
    torch.testing.assert_close(net(even, torch.rand(2, 3, 13, 17)), even)


def test_the_share_of_the_sharp_image():
    """A high bias keeps the sharp image; a low bias blurs all of it."""
    net, sharp, blurred = ReblurNet(), torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        net.shares[-1].bias[0] = 100
        torch.testing.assert_close(net(sharp, blurred), sharp)
        net.shares[-1].bias[0] = -100
        assert net(sharp, blurred).std() < 0.6 * sharp.std()


def test_it_learns_a_blur():
    torch.manual_seed(0)
    net, sharp = ReblurNet(), torch.rand(1, 3, 24, 24)
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(sharp, [1] * 4, 'reflect'), 3, 1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    errors = []
    for _ in range(40):
        error = (net(sharp, blurred) - blurred).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.4 * errors[0]
