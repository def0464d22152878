"""Per-pixel filtering: parity with the reference, and laws. float64; 1e-12 is the rounding error of sums of 49."""

import pytest
import torch
import torch.nn.functional as F

from ggkm_plugin.ops.adaptive import filter_per_pixel

KERNELS = [(3, 1), (1, 3), (7, 7), (1, 1)]


def noise(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference(x, kernels, rows, columns):
    """Filter x as the equation reads: gather all neighbors of every pixel, then sum."""
    batch, channels, height, width = x.shape
    around = F.pad(x, (columns // 2, columns // 2, rows // 2, rows // 2), mode='replicate')
    neighbors = F.unfold(around, (rows, columns)).view(batch, channels, rows * columns, height, width)
    return (kernels * neighbors).sum(dim=2)


@pytest.mark.parametrize('channels', [3, 1])
@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('size', [(1, 1), (2, 5), (9, 13)])
def test_values_and_gradients_equal_the_reference(size, kernel, channels):
    values, gradients = [], []
    for operator in (filter_per_pixel, reference):
        x = noise(2, 3, *size, seed=1).requires_grad_()
        kernels = noise(2, channels, kernel[0] * kernel[1], *size, seed=2).requires_grad_()
        y = operator(x, kernels, *kernel)
        (y * noise(*y.shape, seed=3)).sum().backward()
        values.append(y.detach())
        gradients.append((x.grad, kernels.grad))
    torch.testing.assert_close(*values, rtol=0, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_the_first_row_of_a_kernel_weighs_the_pixel_above_and_the_first_column_the_left():
    x = noise(1, 2, 6, 7, seed=1)
    above, left = torch.zeros(1, 1, 3, 6, 7, dtype=torch.float64), torch.zeros(1, 1, 21, 6, 7, dtype=torch.float64)
    above[:, :, 0] = 1
    left[:, :, 7] = 1  # row 1 of 3, column 0 of 7
    assert torch.equal(filter_per_pixel(x, above, 3, 1)[..., 1:, :], x[..., :-1, :])
    assert torch.equal(filter_per_pixel(x, above, 3, 1)[..., 0, :], x[..., 0, :])  # the edge repeats
    assert torch.equal(filter_per_pixel(x, left, 3, 7)[..., 3:], x[..., :-3])
