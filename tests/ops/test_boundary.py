"""Padding equals numpy's, exactly, since pixels are only copied; padding to a multiple and its inverse."""

import numpy as np
import pytest
import torch

from ggkm_plugin.ops.boundary import BOUNDARIES, crop_to, pad, pad_to_multiple, padded_size

# The names in numpy.pad.
NUMPY = {'reflect': 'reflect', 'zeros': 'constant', 'replicate': 'edge'}


@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize('margins', [(0, 0, 0, 0), (1, 2, 3, 4), (21, 0, 0, 21), (0, 30, 40, 0), (50, 51, 52, 53)])
@pytest.mark.parametrize('size', [(1, 1), (1, 8), (2, 5), (7, 9)])
def test_pad_equals_numpy(size, margins, boundary):
    """Four unequal margins detect exchanged sides and axes."""
    x = torch.arange(1.0, 1 + 2 * 3 * size[0] * size[1]).view(2, 3, *size)
    left, right, top, bottom = margins
    want = np.pad(x.numpy(), [(0, 0), (0, 0), (top, bottom), (left, right)], mode=NUMPY[boundary])
    np.testing.assert_array_equal(pad(x, left, right, top, bottom, boundary).numpy(), want)


@pytest.mark.parametrize('boundary', BOUNDARIES)
def test_gradient_counts_how_often_a_pixel_is_shown(boundary):
    x = torch.zeros(1, 1, 3, 2, requires_grad=True)
    pad(x, 5, 4, 3, 6, boundary).sum().backward()
    shown = pad(torch.arange(6.0).view(1, 1, 3, 2) + 1, 5, 4, 3, 6, boundary)
    np.testing.assert_array_equal(x.grad.flatten().numpy(), [(shown == i + 1).sum() for i in range(6)])


@pytest.mark.parametrize('margins', [(0, 0, 0, 0), (1, 1, 1, 1)])
def test_an_unknown_boundary_is_named_even_where_nothing_is_padded(margins):
    with pytest.raises(ValueError, match=r"boundary is one of reflect, zeros, replicate, not 'symmetric'"):
        pad(torch.zeros(1, 1, 4, 4), *margins, boundary='symmetric')


@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize(
    ('size', 'multiple', 'smallest', 'want'),
    [
        ((1, 1), 16, 0, (16, 16)),
        ((16, 32), 16, 0, (16, 32)),
        ((37, 61), 16, 0, (48, 64)),
        ((16, 61), 16, 32, (32, 64)),
        ((5, 40), 8, 30, (32, 40)),
        ((7, 3), 1, 0, (7, 3)),
    ],
)
def test_padding_to_a_multiple_is_on_the_right_and_at_the_bottom(size, multiple, smallest, want, boundary):
    x = torch.rand(2, 3, *size)
    padded = pad_to_multiple(x, multiple, smallest, boundary)
    assert tuple(padded.shape[-2:]) == padded_size(*size, multiple, smallest) == want
    margins = [(0, 0), (0, 0), (0, want[0] - size[0]), (0, want[1] - size[1])]
    np.testing.assert_array_equal(padded.numpy(), np.pad(x.numpy(), margins, mode=NUMPY[boundary]))
    assert torch.equal(crop_to(padded, *size), x)


@pytest.mark.parametrize(('scale', 'want'), [(1, (5, 18)), (2, (3, 9)), (4, (2, 5))])
def test_crops_of_downscaled_images_are_rounded_up(scale, want):
    x = torch.rand(1, 1, 16 // scale, 32 // scale)
    cropped = crop_to(x, 5, 18, scale)
    assert torch.equal(cropped, x[..., : want[0], : want[1]])
