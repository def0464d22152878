"""SRNLoss against its terms written out, and its mistakes. float64; 1e-12 is rounding of means."""

import pytest
import torch

from ggkm_plugin.losses.srn_loss import SRNLoss
from ggkm_plugin.utils.errors import CropSizeError


def rand(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output(**more):
    scales = [rand(2, 3, 8, 6, seed=3), rand(2, 3, 16, 12, seed=4), rand(2, 3, 32, 24, seed=5)]
    return {'scales': scales, 'inputs': scales, 'reconstructions': [], **more}


def halved(x):
    return x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).mean((-3, -1))


def mse(x, y):
    return ((x - y) ** 2).mean()


def test_the_sum_over_the_scales():
    gt, given, loss = rand(2, 3, 32, 24), output(), SRNLoss(loss_weight=2.0)
    targets = [halved(halved(gt)), halved(gt), gt]
    want = sum(mse(x, target) for x, target in zip(given['scales'], targets, strict=True))
    torch.testing.assert_close(loss(given, gt), 2 * want, rtol=0, atol=1e-12)
    assert list(loss.terms) == ['l_mse']
    torch.testing.assert_close(loss.terms['l_mse'], want, rtol=0, atol=1e-12)


def test_the_network_s_own_pyramid_makes_the_targets():
    gt = rand(2, 3, 32, 24)
    given = output(pyramid=lambda image: [image[..., ::n, ::n] for n in (4, 2, 1)])
    want = sum(mse(x, gt[..., ::n, ::n]) for x, n in zip(given['scales'], (4, 2, 1), strict=True))
    torch.testing.assert_close(SRNLoss()(given, gt), want, rtol=0, atol=1e-12)


def test_the_gradient_term_is_of_the_finest_grey_image():
    gt, given, loss = rand(2, 3, 32, 24), output(), SRNLoss(gradient_weight=2.5)
    greys = [0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2] for image in (given['scales'][-1], gt)]
    across = mse(*(grey[..., 1:] - grey[..., :-1] for grey in greys))
    down = mse(*(grey[..., 1:, :] - grey[..., :-1, :] for grey in greys))
    total = loss(given, gt)
    torch.testing.assert_close(loss.terms['l_gradient'], across + down, rtol=0, atol=1e-12)
    torch.testing.assert_close(total, SRNLoss()(given, gt) + 2.5 * (across + down), rtol=0, atol=1e-12)


def test_a_constant_shift_of_the_image_has_no_gradient_error():
    gt, loss = rand(1, 3, 16, 16), SRNLoss(gradient_weight=1.0)
    loss(gt + 0.25, gt)
    torch.testing.assert_close(loss.terms['l_gradient'], torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-30)
    torch.testing.assert_close(loss.terms['l_mse'], torch.tensor(0.0625).double(), rtol=0, atol=1e-12)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='gradient_weight is a number of at least 0, not -1'):
        SRNLoss(gradient_weight=-1)
    with pytest.raises(ValueError, match=r'self_reconstruction: false'):
        SRNLoss()(output(reconstructions=[rand(1)]), rand(2, 3, 32, 24))
    with pytest.raises(CropSizeError, match='30x24'):
        SRNLoss()(output(), rand(2, 3, 30, 24))
