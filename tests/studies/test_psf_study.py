"""PSF models fitted to pairs whose PSFs are known: recovered, ordered as theory orders them, and written."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from ggkm_plugin.ops import gaussian_bank, ggkm_blur
from ggkm_plugin.ops.gaussian import gaussian_taps
from ggkm_plugin.restoration.psf import cumulative_kernels, step_kernels
from ggkm_plugin.studies import psf_study
from ggkm_plugin.studies.mixture_fit import fit_adam, fit_closed_form, fit_on_simplex, ggkm, gkm
from ggkm_plugin.studies.parametric_fit import fit_parametric, parameters, profile, ring_means, rings
from ggkm_plugin.studies.psf_fitting import MARGIN, StudyPair
from ggkm_plugin.studies.psf_pairs import blurred_by, builtin_pairs

SIZE = 48


def texture(size=SIZE, seed=0):
    """Independent colors at every pixel: nothing hides a PSF from the fit."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, size + 2 * MARGIN, size + 2 * MARGIN, generator=generator)


def ramp(low, high, size=SIZE):
    return torch.linspace(low, high, size).expand(size, size)


@pytest.fixture(scope='module')
def gaussian_pair():
    radius = ramp(0.8, 4.5)
    return blurred_by('gaussian', texture(), parameters(radius, torch.full_like(radius, 2.0)))


@pytest.fixture(scope='module')
def ggkm_pair():
    """Blurred by the operator of the network with smooth coefficients on the simplex."""
    sharp = texture().double()
    alpha = torch.randn(1, 21, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(-1)
    size = SIZE + 2 * MARGIN
    place = torch.linspace(2, 12, size, dtype=torch.float64).expand(size, size)
    beta = torch.exp(-((torch.arange(22).view(-1, 1, 1) - place) ** 2) / 4)
    beta = beta / beta.sum(dim=0)
    blurred = ggkm_blur(sharp[None], alpha, beta[None], gaussian_bank())[0, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
    return StudyPair('ggkm', sharp.float(), blurred.float())


# The ring means


def test_blur_by_rings_is_blur_by_the_kernel():
    """The 2-D Gaussian, applied directly; the kernels are cut at 24 pixels in both."""
    of, sharp = rings(), texture(16)
    sigma = 2.0
    theta = torch.tensor([[np.log(sigma * np.sqrt(2)), np.log(2)]], dtype=torch.float32)
    got = (profile(theta, of) @ ring_means(sharp, of, 3, 7)).view(4, 16, 3).permute(2, 0, 1)
    taps = gaussian_taps(49, sigma).float()
    kernel = torch.outer(taps, taps).view(1, 1, 49, 49)
    want = torch.nn.functional.conv2d(sharp[:, None], kernel)[:, 0]
    first = MARGIN - 24
    torch.testing.assert_close(got, want[:, first + 3 : first + 7, first : first + 16], rtol=0, atol=2e-6)
    assert of.count.sum() == 49**2
    assert profile(theta, of).sum() == pytest.approx(1)


# Recovery


def test_gaussians_are_recovered(gaussian_pair):
    fit, theta = fit_parametric(gaussian_pair, False, 20)
    assert fit.psnr > 130  # float32's rounding
    assert (fit.radius - gaussian_pair.radius).abs().max() < 1e-3
    assert (theta[..., 1] == np.log(np.float32(2))).all()


def test_generalized_gaussians_are_recovered_in_both_parameters():
    radius, shape = ramp(1.5, 4), ramp(1, 5).T
    pair = blurred_by('generalized', texture(), parameters(radius, shape))
    fit, theta = fit_parametric(pair, True, 30)
    assert fit.psnr > 70
    assert (fit.radius - pair.radius).abs().median() < 1e-3
    assert (theta[..., 1].exp() - shape).abs().median() < 0.01
    plain, _ = fit_parametric(pair, False, 20)
    assert plain.psnr < fit.psnr - 15


def test_a_mixture_that_is_gkm_s_own_is_recovered():
    """Each pixel under two neighboring Gaussians of the bank, in varying shares."""
    sharp = texture()
    model = gkm()
    images = model.images(sharp, model.uniform)
    share = ramp(0, 1)
    blurred = share * images[8] + (1 - share) * images[12]
    fit = fit_on_simplex(StudyPair('gkm', sharp, blurred), model, 0)
    assert fit.psnr > 100
    kernels = model.kernels(model.uniform)
    of_kernels = psf_radius_squared(kernels)
    want = (share * of_kernels[8] + (1 - share) * of_kernels[12]).sqrt()
    assert (fit.radius - want).abs().median() < 0.1  # three equations do not tell 22 coefficients, but their radius


def psf_radius_squared(kernels):
    offsets = torch.arange(kernels.shape[-1]) - kernels.shape[-1] // 2
    return (kernels * (offsets.square()[:, None] + offsets.square())).sum(dim=(-2, -1)).float()


def test_ggkm_explains_what_ggkm_blurred(ggkm_pair):
    """Its own chain with other alphas, found by descent from equal ones."""
    short, long = (fit_on_simplex(ggkm_pair, ggkm(), steps) for steps in (0, 12))
    assert long.psnr > short.psnr + 3
    assert long.psnr > fit_on_simplex(ggkm_pair, gkm(), 0).psnr


def test_identity_is_the_last_kernel_needed():
    """In a sharp pair the identity alone is exact, and without it the narrowest kernels are not."""
    sharp = texture()
    pair = StudyPair('sharp', sharp, sharp[:, MARGIN:-MARGIN, MARGIN:-MARGIN].clone())
    assert fit_on_simplex(pair, gkm(), 0).psnr == float('inf')
    fit = fit_on_simplex(pair, ggkm(), 0)
    assert fit.psnr == float('inf')
    assert fit.radius.max() < 1e-3
    assert fit_on_simplex(pair, ggkm(identity=False), 0).psnr < 40


# What the numbers measure


@pytest.mark.parametrize(('model', 'identity'), [(gkm, True), (ggkm, False)])
def test_the_closed_form_meets_the_equations_to_rounding(model, identity):
    """Also where y has nothing to do with x: the unconstrained number says nothing about the model."""
    assert fit_closed_form(StudyPair('foreign', texture(), torch.rand(3, SIZE, SIZE)), model(identity)).psnr > 250


def test_adam_is_on_its_way_there(gaussian_pair):
    curve = fit_adam(gaussian_pair, gkm(), 60).curve
    assert [point.step for point in curve] == list(range(61))
    assert curve[-1].psnr > curve[30].psnr + 3
    assert curve[-1].psnr < 100
    assert fit_adam(gaussian_pair, gkm(), 20).psnr == curve[20].psnr


def test_curves_never_fall(gaussian_pair):
    fits = [
        fit_parametric(gaussian_pair, True, 8)[0],
        fit_on_simplex(gaussian_pair, ggkm(), 3),
    ]
    for fit in fits:
        values = [point.psnr for point in fit.curve]
        assert (np.diff(values) >= -1e-9).all()
        assert values[-1] > values[0]
        assert (np.diff([point.seconds for point in fit.curve]) >= 0).all()


@pytest.mark.parametrize('model', [gkm, ggkm])
def test_images_are_those_of_the_kernels(model):
    """The kernels that the radii are measured on are those that the images are blurred by."""
    mixture, sharp = model(), texture(16).double()
    images = mixture.images(sharp, mixture.uniform)
    full = cumulative_kernels(step_kernels(mixture.bank, mixture.uniform), mixture.iterative)
    for number in (0, 3, 6):
        kernel = full[number]
        middle = len(kernel) // 2
        reach = min(middle, MARGIN)
        cut = kernel[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
        want = torch.nn.functional.conv2d(sharp[:, None], cut[None, None])[:, 0]
        inset = MARGIN - reach
        want = want[:, inset : inset + 16, inset : inset + 16]
        torch.testing.assert_close(images[number], want, rtol=0, atol=1e-7)


# The study and its pairs


def test_built_in_pairs_have_known_radii():
    pairs = list(builtin_pairs(40))
    assert [pair.blurred.shape for pair in pairs] == [(3, 40, 40)] * 3
    for pair in pairs:
        assert pair.sharp.shape == (3, 40 + 2 * MARGIN, 40 + 2 * MARGIN)
        assert pair.radius.shape == (40, 40)
        assert 0 < pair.radius.max() < 6


def test_the_command_on_pairs(command, workplace):
    code, out, _ = command(
        'psf-study', '--lq', 'pairs/input', '--gt', 'pairs/ground_truth', '--count', '1', '--size', '24',
        '--budget', '0.05', '-o', 'out',
    )  # fmt: skip
    assert code == 0
    assert 'GGKM, simplex' in out
    assert 'effective radius' not in out  # the true one is unknown
    with open('out/psf_study.csv') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    by_name = {(row['model'], row['coefficients']): float(row['psnr']) for row in rows}
    assert by_name['Gaussian', 'unit sum'] > 35  # the pairs are blurred by a Gaussian, and rounded to 8 bits
    assert by_name['GKM', 'any, closed form'] > 200
    with open('out/curves.csv') as file:
        curve = [row for row in csv.DictReader(file) if row['model'] == 'Gaussian']
    assert [row['step'] for row in curve] == ['0', '1']
    for name in ('curves.png', 'radius.png'):
        with Image.open(f'out/{name}') as picture:
            assert min(picture.size) > 200


@pytest.mark.parametrize(('arguments', 'words'), [
    (['--lq', 'pairs/input'], '--gt'),
    (['--lq', 'a', '--gt', 'b', '--dataroot', 'c'], '--dataroot'),
    (['--count', '0'], '--count'),
    (['--size', '5'], '--size'),
    (['--budget', '0'], '--budget'),
    (['--lq', 'nowhere', '--gt', 'pairs/input'], 'nowhere'),
])  # fmt: skip
def test_wrong_arguments(command, arguments, words):
    code, _, err = command('psf-study', *arguments)
    assert code in (1, 2)
    assert words in err


@pytest.mark.slow
def test_the_built_in_study_recovers_its_psfs():
    budget = psf_study.Budget(newton=12, alpha=4, adam=30)
    results = psf_study.study(builtin_pairs(96), psf_study.methods(budget), lambda line: None)
    errors = {(r.method.name, r.pair.name): r.radius_error for r in results}
    gaussian, generalized, lens = dict.fromkeys(r.pair.name for r in results)
    assert errors['Gaussian, unit sum', gaussian] < 0.001
    assert errors['generalized Gaussian, unit sum', generalized] < 0.01
    assert errors['generalized Gaussian, unit sum', lens] < 0.5
    assert errors['GKM, simplex', gaussian] < 0.15
    assert errors['GGKM, any, closed form', gaussian] > 1  # exact in y, and no PSF at all
    psnrs = {(r.method.name, r.pair.name): r.fit.psnr for r in results}
    assert psnrs['generalized Gaussian, unit sum', generalized] > psnrs['Gaussian, unit sum', generalized] + 5
    assert psf_study.report(results, form='markdown').count('| GGKM, simplex ') == 2
