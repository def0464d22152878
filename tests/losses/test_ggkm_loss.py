"""GGKMLoss against Eqs. (17)-(21) in numpy and scikit-image, float64."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.losses import ggkm_loss
from ggkm_plugin.losses.ggkm_loss import GGKMLoss
from ggkm_plugin.utils.errors import CropSizeError
from ggkm_plugin.utils.registry import LOSS_REGISTRY

TERMS = ['l_mse', 'l_fr', 'l_ssim', 'l_sr']
ALONE = {name: {f'{other[2:]}_weight': float(other == name) for other in TERMS} for name in TERMS}
# The coarsest of three scales is 12x14: just above SSIM's window, and not square.
SIZE = (48, 56)


def rand(*shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def halved(image):
    """Bilinear x1/2 of (B,C,H,W): the mean of 2x2 pixels."""
    batch, channels, height, width = image.shape
    return image.reshape(batch, channels, height // 2, 2, width // 2, 2).mean(axis=(3, 5))


def levels(image, num_scales):
    """The pyramid, coarse to fine, in numpy."""
    images = [image.numpy()]
    for _ in range(num_scales - 1):
        images.append(halved(images[-1]))
    return images[::-1]


def training_output(num_scales=3, num_iters=1, size=SIZE, batch=2):
    """Random training output of a network, and the ground truth."""
    scales, inputs, reconstructions = [], [], []
    for t in range(num_scales):
        shape = (batch, 3, *(side >> (num_scales - 1 - t) for side in size))
        inputs.append(rand(*shape, seed=10 + t))
        for r in range(num_iters):
            scales.append(rand(*shape, seed=20 + 10 * t + r))
            reconstructions.append(rand(*shape, seed=60 + 10 * t + r))
    return {'scales': scales, 'inputs': inputs, 'reconstructions': reconstructions}, rand(batch, 3, *size, seed=1)


def by_hand(name, x, gt, reconstruction=None, y=None):
    """One term on one scale."""
    x = x.numpy()
    if name == 'l_mse':
        return np.mean((x - gt) ** 2)
    if name == 'l_fr':
        difference = np.fft.fft2(x) - np.fft.fft2(gt)  # norm='backward' is numpy's default, too
        return (np.abs(difference.real).mean() + np.abs(difference.imag).mean()) / 2
    if name == 'l_ssim':
        # This form of scikit-image's is Wang's 11x11 window of sigma 1.5, over valid windows only.
        form = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'data_range': 1}
        pairs = zip(x, gt, strict=True)
        return 1 - np.mean([structural_similarity(a, b, channel_axis=0, **form) for a, b in pairs])
    return np.abs(reconstruction.numpy() - y.numpy()).mean()


def sum_by_hand(name, output, gt, scale_weights):
    num_scales = len(output['inputs'])
    num_iters = len(output['scales']) // num_scales
    total = 0.0
    for t, target in enumerate(levels(gt, num_scales)):
        for i in range(t * num_iters, (t + 1) * num_iters):
            reconstruction = output['reconstructions'][i] if output['reconstructions'] else None
            term = by_hand(name, output['scales'][i], target, reconstruction, output['inputs'][t])
            total += scale_weights[t] * term / num_iters
    return total


@pytest.mark.parametrize('num_iters', [1, 2])
@pytest.mark.parametrize(('omega', 'scale_weights'), [('literal', (1, 1 / 2, 1 / 4)), ('reversed', (1 / 4, 1 / 2, 1))])
@pytest.mark.parametrize('name', TERMS)
def test_each_term_alone(name, omega, scale_weights, num_iters):
    """R iterations of a scale share its weight."""
    output, gt = training_output(num_iters=num_iters)
    if name != 'l_sr':
        output['reconstructions'] = []
    loss = GGKMLoss(**ALONE[name], omega=omega)
    value = loss(output, gt)
    assert value.shape == ()
    assert value.item() == pytest.approx(sum_by_hand(name, output, gt, scale_weights), rel=1e-12)


@pytest.mark.parametrize('weights', [(1, 0.1, 0.1, 0.1, 1), (5, 0.3, 7, 2, 11)])
def test_the_loss_is_the_weighted_sum_of_its_detached_terms(weights):
    output, gt = training_output()
    leaves = [tensor.requires_grad_() for tensor in output['scales'] + output['reconstructions']]
    keys = ('mse_weight', 'fr_weight', 'ssim_weight', 'sr_weight', 'loss_weight')
    loss = GGKMLoss() if weights[0] == 1 else GGKMLoss(**dict(zip(keys, weights, strict=True)))
    value = loss(output, gt)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in torch.autograd.grad(value, leaves))
    assert list(loss.terms) == TERMS
    output = {name: [tensor.detach() for tensor in tensors] for name, tensors in output.items()}
    for name, term in loss.terms.items():
        assert not term.requires_grad
        assert term.item() == pytest.approx(sum_by_hand(name, output, gt, (1, 1 / 2, 1 / 4)), rel=1e-12)
    weighted = sum(weight * loss.terms[name].item() for name, weight in zip(TERMS, weights, strict=False))
    assert value.item() == pytest.approx(weights[-1] * weighted, rel=1e-12)
    loss(output['scales'][-1], gt)
    assert 'l_sr' not in loss.terms  # terms of the earlier call are removed


def test_a_plain_image_is_one_scale_without_reconstruction():
    x, gt = rand(2, 3, 20, 17, seed=2), rand(2, 3, 20, 17, seed=3)
    loss = GGKMLoss()
    want = sum(w * by_hand(n, x, gt.numpy()) for n, w in (('l_mse', 1), ('l_fr', 0.1), ('l_ssim', 0.1)))
    assert loss(x, gt).item() == pytest.approx(want, rel=1e-12)
    assert list(loss.terms) == TERMS[:3]


def test_a_perfect_prediction_costs_only_the_reconstruction():
    output, gt = training_output()
    output['scales'] = [torch.from_numpy(level) for level in levels(gt, 3)]
    loss = GGKMLoss()
    value = loss(output, gt).item()
    for name in TERMS[:3]:
        assert loss.terms[name].item() == pytest.approx(0, abs=1e-12)
    assert value == pytest.approx(0.1 * loss.terms['l_sr'].item(), abs=1e-12)
    assert loss.terms['l_sr'] > 0.1
    output['reconstructions'] = output['inputs']
    assert loss(output, gt).item() == pytest.approx(0, abs=1e-12)


def test_a_term_of_weight_zero_is_not_computed(monkeypatch):
    def refused(*_, **__):
        raise AssertionError('computed')

    output, gt = training_output(size=(8, 8))
    monkeypatch.setattr(ggkm_loss, 'ssim', refused)
    monkeypatch.setattr(torch.fft, 'fft2', refused)
    monkeypatch.setattr(ggkm_loss.F, 'mse_loss', refused)
    # Without SSIM there is no minimum size: the coarsest scale is 2x2.
    loss = GGKMLoss(mse_weight=0, fr_weight=0, ssim_weight=0, sr_weight=1)
    loss(output, gt)
    assert list(loss.terms) == ['l_sr']


@pytest.mark.parametrize('name', TERMS)
def test_gradient_agrees_with_finite_differences(name):
    output, gt = training_output(num_scales=1, size=(11, 12), batch=1)
    tensors = output['scales'][0].requires_grad_(), output['reconstructions'][0].requires_grad_()
    loss = GGKMLoss(**ALONE[name])

    def value(x, reconstruction):
        reconstructions = [reconstruction] if name == 'l_sr' else []
        return loss({'scales': [x], 'inputs': output['inputs'], 'reconstructions': reconstructions}, gt)

    assert torch.autograd.gradcheck(value, tensors, fast_mode=True)


def test_accepts_the_training_output_of_the_network():
    torch.manual_seed(0)
    net = GGKMNet(num_groups=2, kernels_per_group=2, num_scales=2, num_iters=2, width=4)
    y, gt = rand(1, 3, 32, 32, seed=1).float(), rand(1, 3, 32, 32, seed=2).float()
    output = net(y)
    loss = GGKMLoss()
    value = loss(output, gt).item()
    output = {name: [tensor.detach().double() for tensor in tensors] for name, tensors in output.items()}
    want = {name: sum_by_hand(name, output, gt.double(), (1, 1 / 2)) for name in TERMS}
    assert value == pytest.approx(sum(loss.weights[name] * want[name] for name in TERMS), rel=1e-5)


def test_is_registered_and_declares_what_it_takes():
    assert LOSS_REGISTRY.get('GGKMLoss') is GGKMLoss
    assert GGKMLoss.takes_scales is True


# Errors


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        ({'mse_weight': 0, 'fr_weight': 0, 'ssim_weight': 0, 'sr_weight': 0}, 'GGKMLoss'),
        ({'fr_weight': -0.1}, 'fr_weight'),
        ({'mse_weight': '1'}, 'mse_weight'),
        ({'sr_weight': None}, 'sr_weight'),
        ({'omega': 'fine'}, 'omega'),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        GGKMLoss(**options)


def test_reconstructions_without_a_weight_are_refused():
    """The parameters of the SRM would have no gradient."""
    output, gt = training_output()
    with pytest.raises(ValueError, match=r'self_reconstruction: false.*sr_weight'):
        GGKMLoss(sr_weight=0)(output, gt)
    output['reconstructions'] = []
    GGKMLoss(sr_weight=0)(output, gt)
    with pytest.raises(ValueError, match='sr_weight'):
        GGKMLoss(mse_weight=0, fr_weight=0, ssim_weight=0)(output, gt)  # no term at all


@pytest.mark.parametrize('size', [(40, 48), (50, 56)])  # smaller than the window of SSIM, cannot be halved twice
def test_a_crop_that_does_not_fit_names_the_key(size):
    with pytest.raises(CropSizeError, match='gt_size'):
        GGKMLoss()(training_output(size=(48, 56))[0], rand(2, 3, *size, seed=1))
    output, gt = training_output(size=(44, 48))
    GGKMLoss()(output, gt)
