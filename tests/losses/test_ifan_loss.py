"""IFANLoss against its terms written out, float64; and its errors."""

import pytest
import torch

from ggkm_plugin.losses.ifan_loss import IFANLoss


def rand(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_image_and_the_reblurred_ground_truth():
    x, gt, small = rand(2, 3, 16, 24), rand(2, 3, 16, 24, seed=2), rand(2, 3, 2, 3, seed=3)
    given = {
        'scales': [x], 'inputs': [x], 'reconstructions': [],
        'reblur_eighth': lambda image: (image[..., ::8, ::8] ** 2, small),
    }  # fmt: skip
    loss = IFANLoss(reblur_weight=0.5, loss_weight=2.0)
    l_mse, l_reblur = ((x - gt) ** 2).mean(), ((gt[..., ::8, ::8] ** 2 - small) ** 2).mean()
    torch.testing.assert_close(loss(given, gt), 2 * (l_mse + 0.5 * l_reblur), rtol=0, atol=1e-12)
    assert list(loss.terms) == ['l_mse', 'l_reblur']
    torch.testing.assert_close(loss.terms['l_reblur'], l_reblur, rtol=0, atol=1e-12)


def test_wrong_arguments_are_named():
    for weight in (0, -1, 'much'):
        with pytest.raises(ValueError, match='reblur_weight'):
            IFANLoss(reblur_weight=weight)
    x = rand(1, 3, 16, 16)
    for output in (x, {'scales': [x], 'inputs': [x], 'reconstructions': []}):
        with pytest.raises(ValueError, match='reblur: true'):
            IFANLoss()(output, x)
