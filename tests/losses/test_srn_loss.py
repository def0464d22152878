"""SRNLoss against its terms written out, float64; and its errors."""

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


def test_the_pyramid_of_the_network_makes_the_targets():
    gt = rand(2, 3, 32, 24)
    given = output(pyramid=lambda image: [image[..., ::n, ::n] for n in (4, 2, 1)])
    want = sum(mse(x, gt[..., ::n, ::n]) for x, n in zip(given['scales'], (4, 2, 1), strict=True))
    torch.testing.assert_close(SRNLoss()(given, gt), want, rtol=0, atol=1e-12)


def test_the_gradient_term_is_of_the_finest_gray_image():
    gt, given, loss = rand(2, 3, 32, 24), output(), SRNLoss(gradient_weight=2.5)
    grays = [0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2] for image in (given['scales'][-1], gt)]
    across = mse(*(gray[..., 1:] - gray[..., :-1] for gray in grays))
    down = mse(*(gray[..., 1:, :] - gray[..., :-1, :] for gray in grays))
    total = loss(given, gt)
    torch.testing.assert_close(loss.terms['l_gradient'], across + down, rtol=0, atol=1e-12)
    torch.testing.assert_close(total, SRNLoss()(given, gt) + 2.5 * (across + down), rtol=0, atol=1e-12)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match='gradient_weight'):
        SRNLoss(gradient_weight=-1)
    with pytest.raises(ValueError, match=r'self_reconstruction: false'):
        SRNLoss()(output(reconstructions=[rand(1)]), rand(2, 3, 32, 24))
    with pytest.raises(CropSizeError, match='30x24'):
        SRNLoss()(output(), rand(2, 3, 30, 24))
