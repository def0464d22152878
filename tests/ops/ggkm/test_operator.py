"""GGKM operator: parity with its reference, two independent golden results, and the laws of Eqs. (9) and (13).

float64 unless stated. Tolerances: 1e-12 is the rounding error of values of size 1, 1e-10 that of gradients, which are
sums over pixels and steps.
"""

import numpy as np
import pytest
import scipy.fft
import torch
from problems import close, problem, with_gradients
from scipy.signal import convolve2d

from ggkm_plugin.ops import (
    blur_form,
    gaussian_bank,
    ggkm_blur,
    ggkm_blur_ref,
    iterative_group_conv,
    iterative_group_conv_ref,
)
from ggkm_plugin.ops.boundary import BOUNDARIES
from ggkm_plugin.ops.ggkm import ENVIRONMENT, FORMS, chosen_form

# One pixel, one line, smaller than the kernels, odd, and both sides larger than the first kernels.
SIZES = [(1, 1), (2, 5), (1, 8), (7, 9), (30, 17)]


# Parity with the reference


@pytest.mark.parametrize('iterative', [True, False])
@pytest.mark.parametrize('include_identity', [True, False])
@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize('size', SIZES)
def test_fast_form_equals_the_reference(size, boundary, include_identity, iterative):
    x, alpha, beta, mix, bank = problem(size, identity=include_identity)
    options = {'boundary': boundary, 'include_identity': include_identity, 'iterative': iterative}
    for fast, ref, inputs, rest in (
        (iterative_group_conv, iterative_group_conv_ref, (x, alpha), (bank,)),
        (ggkm_blur, ggkm_blur_ref, (x, alpha, beta), (bank,)),
        (
            lambda x, alpha, beta, mix, **o: ggkm_blur(x, alpha, beta, bank, mix, **o),
            lambda x, alpha, beta, mix, **o: ggkm_blur_ref(x, alpha, beta, bank, mix, **o),
            (x, alpha, beta, mix),
            (),
        ),
    ):
        value, gradients = with_gradients(fast, inputs, *rest, **options)
        want_value, want_gradients = with_gradients(ref, inputs, *rest, **options)
        close(value, want_value)
        for got, want in zip(gradients, want_gradients, strict=True):
            close(got, want, atol=1e-10)


@pytest.mark.parametrize('boundary', BOUNDARIES)
def test_the_bank_of_the_paper_equals_the_reference(boundary):
    """21 steps whose kernels are several times wider than the image."""
    x, alpha, beta, mix, bank = problem((7, 9), 21, 4)
    fast = with_gradients(lambda *a: ggkm_blur(*a[:3], bank, a[3], boundary=boundary), (x, alpha, beta, mix))
    want = with_gradients(lambda *a: ggkm_blur_ref(*a[:3], bank, a[3], boundary=boundary), (x, alpha, beta, mix))
    close(fast[0], want[0])
    for got, gradient in zip(fast[1], want[1], strict=True):
        close(got, gradient, atol=1e-10)


@pytest.mark.parametrize('boundary', BOUNDARIES)
def test_one_color_and_other_output_channels(boundary):
    x, alpha, beta, mix, bank = problem((6, 5), channels=1, out_channels=2)
    got = ggkm_blur(x, alpha, beta, bank, mix, boundary)
    assert got.shape == (2, 2, 6, 5)
    close(got, ggkm_blur_ref(x, alpha, beta, bank, mix, boundary))


@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize('size', [(5, 7), (48, 65)])
def test_float32_is_within_1e_5_of_float64(size, boundary):
    """Relative to the largest value."""
    x, alpha, _, _, bank = problem(size, 21, 4, batch=1)
    got = iterative_group_conv(x.float(), alpha.float(), bank.float(), boundary)
    want = iterative_group_conv_ref(x, alpha, bank, boundary)
    assert got.dtype == torch.float32
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


def test_float32_gradients_are_within_1e_5_of_float64():
    inputs = problem((33, 40), 21, 4)
    bank = inputs[4]

    def gradients(dtype):
        return with_gradients(
            lambda *a: ggkm_blur(*a[:3], bank.to(dtype), a[3]).double(), [tensor.to(dtype) for tensor in inputs[:4]]
        )[1]

    for got, want in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        assert (got - want).abs().max() <= 1e-5 * want.abs().max()


# Golden results by numpy and scipy


def composite_kernels(alpha, bank):
    """Yield gbar_p of one image, Eq. (16), each of size 2p-1."""
    groups = bank.shape[0]
    for j in range(groups):
        taps = bank[j, :, groups - j - 1 : groups + j + 2].numpy()
        yield sum(a * np.outer(g, g) for a, g in zip(alpha[j].numpy(), taps, strict=True))


@pytest.mark.parametrize('iterative', [True, False])
@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize('size', [(1, 1), (2, 5), (13, 10)])
def test_golden_numpy_padding_and_scipy_convolution_step_by_step(size, boundary, iterative):
    x, alpha, _, _, bank = problem(size, 6, 2)
    got = iterative_group_conv(x, alpha, bank, boundary, iterative=iterative)
    mode = {'reflect': 'reflect', 'zeros': 'constant', 'replicate': 'edge'}[boundary]
    for b in range(2):
        for c in range(3):
            z = x[b, c].numpy()
            close(got[b, 0, c], z, atol=0)
            for m, kernel in enumerate(composite_kernels(alpha[b], bank), start=1):
                source = z if iterative else x[b, c].numpy()
                z = convolve2d(np.pad(source, len(kernel) // 2, mode=mode), kernel, mode='valid')
                close(got[b, m, c], z)


@pytest.mark.parametrize('size', [(2, 5), (17, 30), (64, 41)])
def test_golden_cumulative_products_in_the_dct_basis_of_scipy(size):
    """The whole chain of the paper as one transform: transfer functions are cosine sums of the kernels."""
    x, alpha, _, _, bank = problem(size, 21, 4)
    r = np.arange(-21, 22)
    rows, columns = (
        np.einsum('pqr,kr->pqk', bank.numpy(), np.cos(np.pi * np.outer(np.arange(n), r) / (n - 1))) for n in size
    )
    transfer = np.einsum('bpq,pqh,pqw->bphw', alpha.numpy(), rows, columns).cumprod(axis=1)
    spectrum = transfer[:, :, None] * scipy.fft.dctn(x.numpy(), type=1, axes=(-2, -1))[:, None]
    want = scipy.fft.idctn(spectrum, type=1, axes=(-2, -1))
    close(iterative_group_conv(x, alpha, bank)[:, 1:], want)
    close(iterative_group_conv(x, alpha, bank, include_identity=False), want)
    close(iterative_group_conv_ref(x, alpha, bank, include_identity=False), want)


# Laws


OPERATORS = pytest.mark.parametrize('operator', [iterative_group_conv, iterative_group_conv_ref])


@OPERATORS
@pytest.mark.parametrize('boundary', ['reflect', 'replicate'])
@pytest.mark.parametrize('iterative', [True, False])
def test_a_constant_image_stays_constant(operator, boundary, iterative):
    _, alpha, _, _, bank = problem((9, 30), 21, 4)
    x = torch.full((2, 3, 9, 30), 0.7, dtype=torch.float64)
    z = operator(x, alpha, bank, boundary, iterative=iterative)
    close(z, torch.full_like(z, 0.7))


@OPERATORS
@pytest.mark.parametrize('boundary', BOUNDARIES)
@pytest.mark.parametrize('iterative', [True, False])
@pytest.mark.parametrize('channel', [0, 1, 2])
def test_an_impulse_gives_the_cumulative_kernel_of_its_color(channel, iterative, boundary, operator):
    """Two published implementations apply kernels to the wrong color and fail this. Four steps reach 10 pixels."""
    _, alpha, _, _, bank = problem((25, 27), 4, 3)
    x = torch.zeros(2, 3, 25, 27, dtype=torch.float64)
    x[1, channel, 12, 13] = 1
    z = operator(x, alpha, bank, boundary, iterative=iterative)
    others = [c for c in range(3) if c != channel]
    assert not z[1, :, others].any()
    assert not z[0].any()

    drawn = np.ones((1, 1))
    close(z[1, 0, channel], x[1, channel], atol=0)
    for m, kernel in enumerate(composite_kernels(alpha[1], bank), start=1):
        drawn = convolve2d(drawn, kernel) if iterative else kernel
        reach = len(drawn) // 2
        assert drawn.sum() == pytest.approx(1)
        close(z[1, m, channel].sum(), 1.0)
        close(z[1, m, channel, 12 - reach : 13 + reach, 13 - reach : 14 + reach], drawn)


def test_channel_of_mix_is_map_times_colors_plus_color():
    x, alpha, beta, _, bank = problem((8, 6))
    z = iterative_group_conv_ref(x, alpha, bank)
    for m, c in ((0, 1), (2, 0), (4, 2)):
        mix = torch.zeros(3, 15, 1, 1, dtype=torch.float64)
        mix[1, 3 * m + c] = 2
        got = ggkm_blur(x, alpha, beta, bank, mix)
        close(got[:, 1], 2 * beta[:, m] * z[:, m, c])
        assert not got[:, [0, 2]].any()


# Precision


@pytest.mark.parametrize('boundary', BOUNDARIES)
def test_autocast_leaves_it_in_float32(boundary):
    """A chain in bfloat16 has an error of 0.012, so the result must be equal to the last bit."""
    x, alpha, beta, mix, bank = (tensor.float() for tensor in problem((9, 14), 21, 4))
    want = ggkm_blur(x, alpha, beta, bank, mix, boundary)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for operator, exact in ((ggkm_blur, 0), (ggkm_blur_ref, 1e-5)):
            got = operator(x, alpha, beta, bank, mix, boundary)
            assert got.dtype == torch.float32
            close(got, want, atol=exact)


def test_bfloat16_inputs_are_computed_in_float32():
    rounded = [tensor.bfloat16() for tensor in problem((9, 14), 21, 4)[:4]]
    bank = gaussian_bank().float()
    got = ggkm_blur(*rounded[:3], bank, rounded[3])
    assert got.dtype == torch.float32
    close(got, ggkm_blur(*[t.float() for t in rounded[:3]], bank, rounded[3].float()), atol=0)


# Errors


@pytest.mark.parametrize('operator', [iterative_group_conv, iterative_group_conv_ref])
def test_errors_name_the_shape_and_the_boundary(operator):
    x, alpha, _, _, bank = problem((4, 4))
    for wrong in (alpha[:1], alpha[:, :3], alpha[..., :2]):
        with pytest.raises(ValueError, match=r'alpha has shape .*, not \(B, P, Q\) = \(2, 4, 3\)'):
            operator(x, wrong, bank)
    with pytest.raises(ValueError, match="boundary is one of reflect, zeros, replicate, not 'circular'"):
        operator(x, alpha, bank, 'circular')


@pytest.mark.parametrize('operator', [ggkm_blur, ggkm_blur_ref])
def test_coefficient_maps_of_another_shape_are_refused(operator):
    """No map is broadcast silently: one map for all kernels is another operator."""
    x, alpha, beta, mix, bank = problem((4, 5))
    for wrong in (beta[:, :4], beta[:, :1], beta[:1], beta[..., :1, :1], beta[..., :4]):
        with pytest.raises(ValueError, match=r'beta has shape .*, not \(B, M, H, W\) = \(2, 5, 4, 5\)'):
            operator(x, alpha, wrong, bank, mix)
    with pytest.raises(ValueError, match=r'beta .* = \(2, 4, 4, 5\)'):
        operator(x, alpha, beta, bank, include_identity=False)


# The run-time choice of the form


@pytest.fixture
def forms(monkeypatch):
    """Names of the forms that `ggkm_blur` calls; each returns zeros."""
    called = []

    def recorded(name):
        return lambda x, *_: called.append(name) or torch.zeros_like(x)

    import ggkm_plugin.ops.ggkm as module

    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(module, 'ggkm_blur_ref', recorded('reference'))
    monkeypatch.setattr(module, 'separable_blur', recorded('separable'))
    monkeypatch.setattr(module, 'spectral_blur', lambda x, *rest: called.append(rest[-1]) or torch.zeros_like(x))
    return called


def test_the_form_comes_from_the_argument_the_context_or_the_environment(forms, monkeypatch):
    x, alpha, beta, _, bank = problem((4, 5))
    ggkm_blur(x, alpha, beta, bank)
    monkeypatch.setenv(ENVIRONMENT, 'separable')
    ggkm_blur(x, alpha, beta, bank)
    with blur_form('reference'):
        ggkm_blur(x, alpha, beta, bank)
        ggkm_blur(x, alpha, beta, bank, form='fft')
        with blur_form('dct'), blur_form(None):
            ggkm_blur(x, alpha, beta, bank)
        ggkm_blur(x, alpha, beta, bank)
    ggkm_blur(x, alpha, beta, bank)
    assert forms == ['auto', 'separable', 'reference', 'fft', 'dct', 'reference', 'separable']


def test_unknown_forms_are_errors(monkeypatch):
    with pytest.raises(ValueError, match='blur_form'), blur_form('fast'):
        pass
    monkeypatch.setenv(ENVIRONMENT, 'fast')
    with pytest.raises(ValueError, match=ENVIRONMENT):
        chosen_form()
    with blur_form('fft'):  # the context has priority
        assert chosen_form() == 'fft'


@pytest.mark.parametrize('form', [form for form in FORMS if form != 'fused'])
def test_every_form_gives_the_same_result_under_the_context(form):
    x, alpha, beta, mix, bank = problem((9, 12))
    with blur_form(form):
        close(ggkm_blur(x, alpha, beta, bank, mix), ggkm_blur_ref(x, alpha, beta, bank, mix))


@pytest.mark.parametrize('form', ['dct', 'fft', 'fused'])
def test_spectral_forms_need_reflection(form):
    x, alpha, beta, mix, bank = problem((4, 5))
    with blur_form(form), pytest.raises(ValueError, match='reflect'):
        ggkm_blur(x, alpha, beta, bank, mix, 'zeros')


@pytest.mark.parametrize('form', ['dct', 'fft', 'separable', 'reference'])
@pytest.mark.parametrize('iterative', [True, False])
def test_gradients_by_finite_differences(form, iterative):
    x, alpha, beta, mix, bank = problem((4, 5), groups=3, kernels=2, batch=1, channels=2, out_channels=2)
    inputs = [tensor.requires_grad_() for tensor in (x, alpha, beta, mix)]
    assert torch.autograd.gradcheck(
        lambda *a: ggkm_blur(*a[:3], bank, a[3], iterative=iterative, form=form), inputs, atol=1e-6
    )


def test_a_compiled_function_follows_the_context(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    x = torch.zeros(1)
    compiled = torch.compile(lambda x: chosen_form() == 'reference', backend='eager', fullgraph=True)
    assert not compiled(x)
    with blur_form('reference'):
        assert compiled(x)
    assert not compiled(x)
