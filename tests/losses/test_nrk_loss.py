"""NRKLoss against its terms in numpy and scikit-image, float64."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from ggkm_plugin.archs.nrknet_arch import NRKNet
from ggkm_plugin.losses import nrk_loss
from ggkm_plugin.losses.nrk_loss import NRKLoss
from ggkm_plugin.utils.errors import CropSizeError
from ggkm_plugin.utils.registry import LOSS_REGISTRY

TERMS = ['l_mse', 'l_ssim', 'l_fr', 'l_reblur']
ALONE = {name: {f'{other[2:]}_weight': float(other == name) for other in TERMS} for name in TERMS}
SIZE = (48, 56)


def rand(*shape, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reblur(images):
    """A different operator at every scale."""
    return [image * (i + 2) + 0.1 for i, image in enumerate(images)]


def training_output(num_scales=3, size=SIZE):
    shapes = [(2, 3, *(side >> (num_scales - 1 - t) for side in size)) for t in range(num_scales)]
    scales, inputs = ([rand(*shape, seed=n + t) for t, shape in enumerate(shapes)] for n in (10, 20))
    output = {'scales': scales, 'inputs': inputs, 'reconstructions': [], 'reblur': reblur}
    return output, rand(2, 3, *size, seed=1)


def by_hand(name, output, gt):
    total = 0.0
    for i, (x, y) in enumerate(zip(output['scales'], output['inputs'], strict=True)):
        step = 2 ** (len(output['scales']) - 1 - i)
        x, y, target = x.numpy(), y.numpy(), gt.numpy()[..., ::step, ::step]
        if name == 'l_mse':
            total += np.mean((x - target) ** 2)
        elif name == 'l_ssim':
            form = {'gaussian_weights': True, 'sigma': 1.5, 'use_sample_covariance': False, 'data_range': 1}
            pairs = zip(x, target, strict=True)
            total += 1 - np.mean([structural_similarity(a, b, channel_axis=0, **form) for a, b in pairs])
        elif name == 'l_fr':
            difference = np.fft.fft2(x) - np.fft.fft2(target)
            total += (np.abs(difference.real).mean() + np.abs(difference.imag).mean()) / 2
        else:
            total += np.mean((target * (i + 2) + 0.1 - y) ** 2)
    return total


@pytest.mark.parametrize('name', TERMS)
def test_each_term_alone(name):
    output, gt = training_output()
    loss = NRKLoss(**ALONE[name])
    assert loss(output, gt).item() == pytest.approx(by_hand(name, output, gt), rel=1e-12)
    assert list(loss.terms) == [name]


@pytest.mark.parametrize(
    ('options', 'weights'),
    [
        ({}, {'l_mse': 1, 'l_ssim': 1, 'l_reblur': 1}),
        ({'ssim_weight': 0, 'fr_weight': 0.1}, {'l_mse': 1, 'l_fr': 0.1, 'l_reblur': 1}),
        ({'mse_weight': 2, 'reblur_weight': 0.5, 'loss_weight': 3}, {'l_mse': 6, 'l_ssim': 3, 'l_reblur': 1.5}),
    ],
)
def test_both_forms_of_the_authors(options, weights):
    output, gt = training_output()
    loss = NRKLoss(**options)
    value = loss(output, gt).item()
    assert list(loss.terms) == list(weights)
    for name, term in loss.terms.items():
        assert not term.requires_grad
        assert term.item() == pytest.approx(by_hand(name, output, gt), rel=1e-12)
    assert value == pytest.approx(sum(weight * by_hand(n, output, gt) for n, weight in weights.items()), rel=1e-12)


def test_a_network_that_does_not_reblur_has_no_such_term():
    output, gt = training_output()
    del output['reblur']
    loss = NRKLoss()
    loss(output, gt)
    assert list(loss.terms) == ['l_mse', 'l_ssim']
    loss(output['scales'][-1], gt)  # a plain image
    assert list(loss.terms) == ['l_mse', 'l_ssim']
    with pytest.raises(ValueError, match='reblur_weight'):
        NRKLoss(**ALONE['l_reblur'])(output, gt)


def test_a_term_of_weight_zero_is_not_computed(monkeypatch):
    def refused(*_, **__):
        raise AssertionError('computed')

    output, gt = training_output(size=(8, 8))
    output['reblur'] = refused
    monkeypatch.setattr(nrk_loss, 'ssim', refused)
    monkeypatch.setattr(torch.fft, 'fft2', refused)
    loss = NRKLoss(ssim_weight=0, reblur_weight=0)
    loss(output, gt)
    assert list(loss.terms) == ['l_mse']


def test_reblurring_has_gradients_in_all_parameters():
    torch.manual_seed(0)
    net = NRKNet()
    y, gt = rand(1, 3, 32, 32, seed=1).float(), rand(1, 3, 32, 32, seed=2).float()
    NRKLoss(**ALONE['l_reblur'])(net(y), gt).backward()
    assert [key for key, parameter in net.named_parameters() if not parameter.grad.any()] == []


def test_accepts_the_training_output_of_the_network():
    torch.manual_seed(0)
    net = NRKNet()
    y, gt = rand(1, 3, 48, 48, seed=1).float(), rand(1, 3, 48, 48, seed=2).float()
    output = net(y)
    loss = NRKLoss(fr_weight=0.1)
    value = loss(output, gt).item()
    blurred = output['reblur']([gt[..., ::4, ::4], gt[..., ::2, ::2], gt])
    want = sum(((b - y_i) ** 2).mean().item() for b, y_i in zip(blurred, output['inputs'], strict=True))
    assert loss.terms['l_reblur'].item() == pytest.approx(want, rel=1e-5)
    terms = {name: term.item() for name, term in loss.terms.items()}
    assert value == pytest.approx(sum(loss.weights[name] * term for name, term in terms.items()), rel=1e-5)


def test_is_registered_and_declares_what_it_takes():
    assert LOSS_REGISTRY.get('NRKLoss') is NRKLoss
    assert NRKLoss.takes_scales is True


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        ({f'{name[2:]}_weight': 0 for name in TERMS}, 'NRKLoss'),
        ({'reblur_weight': -0.1}, 'reblur_weight'),
        ({'mse_weight': float('nan')}, 'mse_weight'),
        ({'fr_weight': '1'}, 'fr_weight'),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        NRKLoss(**options)


def test_crops_and_networks_that_do_not_fit_are_refused():
    output, gt = training_output(size=(40, 48))
    with pytest.raises(CropSizeError, match='gt_size'):
        NRKLoss()(output, gt)
    NRKLoss(ssim_weight=0)(output, gt)
    with pytest.raises(CropSizeError, match='gt_size'):
        NRKLoss()(output, rand(2, 3, 50, 56, seed=1))
    output, gt = training_output()
    with pytest.raises(ValueError, match='self_reconstruction'):
        NRKLoss()({**output, 'reconstructions': output['inputs']}, gt)
    with pytest.raises(ValueError, match='num_iters'):
        NRKLoss()({**output, 'scales': [x for x in output['scales'] for _ in range(2)]}, gt)
