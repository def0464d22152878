"""Losses against their terms in numpy and scikit-image, float64; and their errors.

test_registry.py trains every network with its loss.
"""

import io

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ggkm_plugin.losses import common
from ggkm_plugin.losses.ggkm_loss import GGKMLoss
from ggkm_plugin.losses.gkm_loss import GKMLoss
from ggkm_plugin.losses.ifan_loss import IFANLoss
from ggkm_plugin.losses.nrk_loss import NRKLoss
from ggkm_plugin.losses.srn_loss import SRNLoss
from ggkm_plugin.utils.errors import CropSizeError

# The coarsest of three scales is 12x14: just above SSIM's window, and not square.
SIZE = (48, 56)
GGKM_TERMS = ['l_mse', 'l_fr', 'l_ssim', 'l_sr']
NRK_TERMS = ['l_mse', 'l_ssim', 'l_fr', 'l_reblur']


def rand(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def training_output(num_scales=3, num_iters=1, size=SIZE, **more):
    """Random training output of a network without reconstructions, and the ground truth."""
    scales, inputs = [], []
    for t in range(num_scales):
        shape = (2, 3, *(side >> (num_scales - 1 - t) for side in size))
        inputs.append(rand(*shape, seed=10 + t))
        scales += [rand(*shape, seed=20 + 10 * t + r) for r in range(num_iters)]
    return {'scales': scales, 'inputs': inputs, 'reconstructions': [], **more}, rand(2, 3, *size)


def reconstructing(num_iters=1):
    output, gt = training_output(num_iters=num_iters)
    output['reconstructions'] = [rand(*x.shape, seed=60 + i) for i, x in enumerate(output['scales'])]
    return output, gt


def means(image, n):
    """Means of n x n pixels of (B,C,H,W)."""
    return image.unflatten(-1, (-1, n)).unflatten(-3, (-1, n)).mean((-3, -1))


def pyramid(gt):
    return [means(gt, 4), means(gt, 2), gt]


def term(name, x, gt):
    """One term on one scale."""
    x, gt = x.numpy(), gt.numpy()
    if name == 'l_fr':
        difference = np.fft.fft2(x) - np.fft.fft2(gt)  # norm='backward' is numpy's default, too
        return (np.abs(difference.real).mean() + np.abs(difference.imag).mean()) / 2
    if name == 'l_ssim':
        # This form of scikit-image's is Wang's 11x11 window of sigma 1.5, over valid windows only.
        form = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'data_range': 1}
        return 1 - np.mean([structural_similarity(a, b, channel_axis=0, **form) for a, b in zip(x, gt, strict=True)])
    return np.abs(x - gt).mean() if name == 'l_sr' else np.mean((x - gt) ** 2)


def summed(name, output, targets, weights=(1, 1, 1)):
    """A term over the scales; R iterations of a scale share its weight."""
    images = output['reconstructions'] if name == 'l_sr' else output['scales']
    targets = output['inputs'] if name == 'l_sr' else targets
    iterations = len(images) // len(targets)
    each = [term(name, x, targets[i // iterations]) * weights[i // iterations] for i, x in enumerate(images)]
    return sum(each) / iterations


def only(name, names):
    """Weights of a loss with one term."""
    return {f'{other[2:]}_weight': float(other == name) for other in names}


def approx(value):
    return pytest.approx(value, rel=1e-12)


# GGKMLoss, Eqs. (17)-(21)


@pytest.mark.parametrize(
    ('omega', 'weights', 'num_iters'), [('literal', (1, 1 / 2, 1 / 4), 1), ('reversed', (1 / 4, 1 / 2, 1), 2)]
)
@pytest.mark.parametrize('name', GGKM_TERMS)
def test_each_term_of_ggkm_alone(name, omega, weights, num_iters):
    output, gt = (reconstructing if name == 'l_sr' else training_output)(num_iters=num_iters)
    value = GGKMLoss(**only(name, GGKM_TERMS), omega=omega)(output, gt)
    assert value.shape == ()
    assert value.item() == approx(summed(name, output, pyramid(gt), weights))


@pytest.mark.parametrize('weights', [(1, 0.1, 0.1, 0.1, 1), (5, 0.3, 7, 2, 11)])
def test_the_loss_is_the_weighted_sum_of_its_detached_terms(weights):
    output, gt = reconstructing()
    leaves = [tensor.requires_grad_() for tensor in output['scales'] + output['reconstructions']]
    keys = ('mse_weight', 'fr_weight', 'ssim_weight', 'sr_weight', 'loss_weight')
    loss = GGKMLoss() if weights[0] == 1 else GGKMLoss(**dict(zip(keys, weights, strict=True)))
    value = loss(output, gt)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in torch.autograd.grad(value, leaves))
    assert list(loss.terms) == GGKM_TERMS
    output = {name: [tensor.detach() for tensor in tensors] for name, tensors in output.items()}
    for name, found in loss.terms.items():
        assert not found.requires_grad
        assert found.item() == approx(summed(name, output, pyramid(gt), (1, 1 / 2, 1 / 4)))
    weighted = sum(weight * loss.terms[name].item() for name, weight in zip(GGKM_TERMS, weights, strict=False))
    assert value.item() == approx(weights[-1] * weighted)
    x = output['scales'][-1]  # a plain image is one scale without reconstruction
    total = sum(weight * term(name, x, gt) for name, weight in zip(GGKM_TERMS[:3], weights, strict=False))
    assert loss(x, gt).item() == approx(weights[-1] * total)
    assert list(loss.terms) == GGKM_TERMS[:3]


@pytest.mark.parametrize('loss', [GGKMLoss(ssim_weight=0, fr_weight=0), NRKLoss(ssim_weight=0, reblur_weight=0)])
def test_a_term_of_weight_zero_is_not_computed(loss, monkeypatch):
    """Without SSIM there is no minimum size."""

    def refused(*_, **__):
        raise AssertionError('computed')

    output, gt = training_output(size=(8, 8), reblur=refused)
    monkeypatch.setattr(common, 'ssim', refused)
    monkeypatch.setattr(torch.fft, 'fft2', refused)
    loss(output, gt)
    assert list(loss.terms) == ['l_mse']


# GKMLoss


def test_gkm_is_the_squared_error_with_equal_weights_of_the_scales():
    output, gt = training_output()
    loss = GKMLoss(loss_weight=3)
    want = summed('l_mse', output, pyramid(gt))
    assert loss(output, gt).item() == approx(3 * want)
    assert {name: value.item() for name, value in loss.terms.items()} == {'l_mse': approx(want)}
    output, gt = training_output(num_iters=2)
    assert loss(output, gt).item() == approx(3 * summed('l_mse', output, pyramid(gt)))
    x = output['scales'][-1]
    assert loss(x, gt).item() == approx(3 * term('l_mse', x, gt))
    later = GKMLoss(first_iteration=10**9)  # without iters_per_epoch there is no SSIM
    later(output, gt)
    assert list(later.terms) == ['l_mse']


@pytest.mark.parametrize(
    ('epoch', 'name'),
    [(999, 'l_mse'), (1000, 'l_ssim'), (1099, 'l_ssim'), (1100, 'l_mse'), (1200, 'l_ssim'), (1999, 'l_mse')],
)
def test_gkm_alternates_with_ssim_from_epoch_1000_on(epoch, name):
    output, gt = training_output()
    for iteration in (7 * epoch, 7 * epoch + 6):  # the first and the last of the epoch
        loss = GKMLoss(iters_per_epoch=7, first_iteration=iteration)
        value = loss(output, gt)
        assert list(loss.terms) == [name]
        assert value.item() == approx(summed(name, output, pyramid(gt)))
        loss.eval()(output, gt)
        assert loss.iteration == iteration + 1


def test_the_count_of_gkm_is_restored_from_the_state():
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


# NRKLoss


def reblur(images):
    """A different operator at every scale."""
    return [image * (i + 2) + 0.1 for i, image in enumerate(images)]


@pytest.mark.parametrize(
    ('options', 'weights'),
    [
        *((only(name, NRK_TERMS), {name: 1}) for name in NRK_TERMS),
        ({}, {'l_mse': 1, 'l_ssim': 1, 'l_reblur': 1}),
        ({'ssim_weight': 0, 'fr_weight': 0.1}, {'l_mse': 1, 'l_fr': 0.1, 'l_reblur': 1}),
        ({'mse_weight': 2, 'reblur_weight': 0.5, 'loss_weight': 3}, {'l_mse': 6, 'l_ssim': 3, 'l_reblur': 1.5}),
    ],
)
def test_terms_of_nrk(options, weights):
    output, gt = training_output(reblur=reblur)
    targets = [gt[..., ::n, ::n] for n in (4, 2, 1)]
    want = {name: summed(name, output, targets) for name in weights if name != 'l_reblur'}
    if 'l_reblur' in weights:
        pairs = zip(reblur(targets), output['inputs'], strict=True)
        want['l_reblur'] = sum(term('l_mse', *pair) for pair in pairs)
    loss = NRKLoss(**options)
    value = loss(output, gt).item()
    assert {name: found.item() for name, found in loss.terms.items()} == approx(want)
    assert value == approx(sum(weight * want[name] for name, weight in weights.items()))


def test_a_network_that_does_not_reblur_has_no_such_term():
    output, gt = training_output()
    loss = NRKLoss()
    for given in (output, output['scales'][-1]):
        loss(given, gt)
        assert list(loss.terms) == ['l_mse', 'l_ssim']
    with pytest.raises(ValueError, match='reblur_weight'):
        NRKLoss(**only('l_reblur', NRK_TERMS))(output, gt)


# SRNLoss and IFANLoss


def test_srn_is_the_sum_over_the_scales_of_the_networks_or_the_bilinear_pyramid():
    output, gt = training_output()
    loss = SRNLoss(loss_weight=2.0)
    want = summed('l_mse', output, pyramid(gt))
    assert loss(output, gt).item() == approx(2 * want)
    assert {name: value.item() for name, value in loss.terms.items()} == {'l_mse': approx(want)}
    output['pyramid'] = lambda image: [image[..., ::n, ::n] for n in (4, 2, 1)]
    assert loss(output, gt).item() == approx(2 * summed('l_mse', output, output['pyramid'](gt)))


def test_the_gradient_term_is_of_the_finest_gray_image():
    output, gt = training_output()
    loss = SRNLoss(gradient_weight=2.5)
    pair = (output['scales'][-1], gt)
    one, other = ((0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2]).numpy() for image in pair)
    want = sum(np.mean((np.diff(one, axis=axis) - np.diff(other, axis=axis)) ** 2) for axis in (-1, -2))
    total = loss(output, gt).item()
    assert loss.terms['l_gradient'].item() == approx(want)
    assert total == approx(SRNLoss()(output, gt).item() + 2.5 * want)


def test_ifan_adds_the_error_of_the_reblurred_ground_truth():
    x, gt, small = rand(2, 3, 16, 24, seed=5), rand(2, 3, 16, 24, seed=2), rand(2, 3, 2, 3, seed=3)
    output = {'scales': [x], 'inputs': [x], 'reconstructions': []}
    loss = IFANLoss(reblur_weight=0.5, loss_weight=2.0)
    for wrong in (x, output):
        with pytest.raises(ValueError, match='reblur: true'):
            loss(wrong, gt)
    output['reblur_eighth'] = lambda image: (image[..., ::8, ::8] ** 2, small)
    l_mse, l_reblur = term('l_mse', x, gt), term('l_mse', gt[..., ::8, ::8] ** 2, small)
    assert loss(output, gt).item() == approx(2 * (l_mse + 0.5 * l_reblur))
    assert {name: value.item() for name, value in loss.terms.items()} == approx({'l_mse': l_mse, 'l_reblur': l_reblur})


# Errors


@pytest.mark.parametrize(
    ('loss', 'options', 'named'),
    [
        (GGKMLoss, {'mse_weight': 0, 'fr_weight': 0, 'ssim_weight': 0, 'sr_weight': 0}, 'GGKMLoss'),
        (GGKMLoss, {'fr_weight': -0.1}, 'fr_weight'),
        (GGKMLoss, {'mse_weight': '1'}, 'mse_weight'),
        (GGKMLoss, {'omega': 'fine'}, 'omega'),
        (GKMLoss, {'iters_per_epoch': 0}, 'iters_per_epoch'),
        (GKMLoss, {'first_iteration': -1}, 'first_iteration'),
        (NRKLoss, {'mse_weight': float('nan')}, 'mse_weight'),
        (SRNLoss, {'gradient_weight': -1}, 'gradient_weight'),
        (IFANLoss, {'reblur_weight': 0}, 'reblur_weight'),
    ],
)
def test_wrong_options_are_named(loss, options, named):
    with pytest.raises(ValueError, match=named):
        loss(**options)


def test_reconstructions_need_a_weight():
    """Else the parameters of the SRM would have no gradient."""
    output, gt = reconstructing()
    with pytest.raises(ValueError, match=r'self_reconstruction: false.*sr_weight'):
        GGKMLoss(sr_weight=0)(output, gt)
    for loss in (GKMLoss(), NRKLoss(), SRNLoss()):
        with pytest.raises(ValueError, match=rf'{type(loss).__name__}.*self_reconstruction: false'):
            loss(output, gt)
    output['reconstructions'] = []
    with pytest.raises(ValueError, match='sr_weight'):
        GGKMLoss(mse_weight=0, fr_weight=0, ssim_weight=0)(output, gt)  # no term at all


@pytest.mark.parametrize('loss', [GGKMLoss(), NRKLoss(), GKMLoss(iters_per_epoch=100)])
def test_a_crop_smaller_than_the_window_of_ssim_names_the_key(loss):
    output, gt = training_output(size=(40, 48))
    with pytest.raises(CropSizeError, match='gt_size'):
        loss(output, gt)
