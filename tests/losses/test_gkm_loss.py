"""GKMLoss against its terms in numpy and scikit-image, float64."""

import io

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ggkm_plugin.archs.gkmnet_arch import GKMNet
from ggkm_plugin.losses.gkm_loss import GKMLoss
from ggkm_plugin.utils.errors import CropSizeError
from ggkm_plugin.utils.registry import LOSS_REGISTRY

SIZE = (48, 56)


def rand(*shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def training_output(num_scales=3, size=SIZE):
    shapes = [(2, 3, *(side >> (num_scales - 1 - t) for side in size)) for t in range(num_scales)]
    scales, inputs = ([rand(*shape, seed=n + t) for t, shape in enumerate(shapes)] for n in (10, 20))
    return {'scales': scales, 'inputs': inputs, 'reconstructions': []}, rand(2, 3, *size, seed=1)


def means(image, n):
    """Means of n x n pixels of (B,C,H,W)."""
    batch, channels, height, width = image.shape
    return image.numpy().reshape(batch, channels, height // n, n, width // n, n).mean(axis=(3, 5))


def by_hand(name, output, gt):
    total = 0.0
    for i, x in enumerate(output['scales']):
        target = means(gt, 2 ** (len(output['scales']) - 1 - i))
        if name == 'l_mse':
            total += np.mean((x.numpy() - target) ** 2)
        else:
            form = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'data_range': 1}
            pairs = zip(x.numpy(), target, strict=True)
            total += 1 - np.mean([structural_similarity(a, b, channel_axis=0, **form) for a, b in pairs])
    return total


def test_squared_error_with_equal_weights_of_the_scales():
    output, gt = training_output()
    loss = GKMLoss(loss_weight=3)
    assert loss(output, gt).item() == pytest.approx(3 * by_hand('l_mse', output, gt), rel=1e-12)
    assert list(loss.terms) == ['l_mse']
    assert loss.terms['l_mse'].item() == pytest.approx(by_hand('l_mse', output, gt), rel=1e-12)
    twice = {**output, 'scales': [x for x in output['scales'] for _ in range(2)]}  # iterations share the weight
    assert loss(twice, gt).item() == pytest.approx(loss(output, gt).item(), rel=1e-12)
    x = output['scales'][-1]
    assert loss(x, gt).item() == pytest.approx(3 * np.mean((x.numpy() - gt.numpy()) ** 2), rel=1e-12)
    later = GKMLoss(first_iteration=10**9)  # without iters_per_epoch there is no SSIM
    later(output, gt)
    assert list(later.terms) == ['l_mse']


@pytest.mark.parametrize(
    ('epoch', 'name'),
    [
        *((epoch, 'l_mse') for epoch in (0, 50, 999, 1100, 1199, 1900, 1999, 2100, 3999)),
        *((epoch, 'l_ssim') for epoch in (1000, 1099, 1200, 1899, 2000)),
    ],
)
def test_alternates_with_ssim_from_epoch_1000_on(epoch, name):
    output, gt = training_output()
    for iteration in (7 * epoch, 7 * epoch + 6):  # the first and the last of the epoch
        loss = GKMLoss(iters_per_epoch=7, first_iteration=iteration)
        value = loss(output, gt)
        assert list(loss.terms) == [name]
        assert value.item() == pytest.approx(by_hand(name, output, gt), rel=1e-12)
        assert loss.iteration == iteration + 1
        loss.eval()(output, gt)
        assert loss.iteration == iteration + 1


def test_the_count_is_restored_from_the_state():
    output, gt = training_output()
    loss, resumed = (GKMLoss(iters_per_epoch=2, first_iteration=first) for first in (1998, 0))
    loss(output, gt)
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    names = []
    for _ in range(2):
        resumed(output, gt)
        names.extend(resumed.terms)
    assert names == ['l_mse', 'l_ssim']  # 1999 is the last of epoch 999
    assert resumed.iteration == 2001


@pytest.mark.parametrize('first', [0, 1000])
def test_gradient_reaches_every_scale(first):
    output, gt = training_output()
    leaves = [tensor.requires_grad_() for tensor in output['scales']]
    loss = GKMLoss(iters_per_epoch=1, first_iteration=first)
    value = loss(output, gt)
    assert not any(term.requires_grad for term in loss.terms.values())
    for gradient in torch.autograd.grad(value, leaves):
        assert gradient.isfinite().all()
        assert gradient.any()


def test_accepts_the_training_output_of_the_network():
    torch.manual_seed(0)
    output = GKMNet()(rand(1, 3, 32, 32, seed=1).float())
    gt = rand(1, 3, 32, 32, seed=2)
    value = GKMLoss()(output, gt.float()).item()
    output = {'scales': [x.detach().double() for x in output['scales']]}
    assert value == pytest.approx(by_hand('l_mse', output, gt), rel=1e-5)


def test_is_registered_and_declares_what_it_takes():
    assert LOSS_REGISTRY.get('GKMLoss') is GKMLoss
    assert GKMLoss.takes_scales is True


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        ({'iters_per_epoch': 0}, 'iters_per_epoch'),
        ({'iters_per_epoch': 2.5}, 'iters_per_epoch'),
        ({'first_iteration': -1}, 'first_iteration'),
        ({'first_iteration': None}, 'first_iteration'),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        GKMLoss(**options)


def test_crops_and_networks_that_do_not_fit_are_refused():
    output, gt = training_output(size=(40, 48))
    GKMLoss()(output, gt)
    with pytest.raises(CropSizeError, match='gt_size'):  # before SSIM is used
        GKMLoss(iters_per_epoch=100)(output, gt)
    with pytest.raises(CropSizeError, match='gt_size'):
        GKMLoss()(output, rand(2, 3, 50, 56, seed=1))
    output['reconstructions'] = output['inputs']
    with pytest.raises(ValueError, match='self_reconstruction'):
        GKMLoss()(output, gt)
