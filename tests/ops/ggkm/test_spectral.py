"""Spectral form of the blur: neglected frequencies and margins, memory, and its two bases against each other.

Parity with the reference for all options, and gradients, are in test_operator.py.
"""

import math

import pytest
import torch
from problems import close, noise, problem, with_gradients

from ggkm_plugin.evaluation.complexity import LiveTensors
from ggkm_plugin.ops import gaussian_bank, ggkm_blur
from ggkm_plugin.ops.ggkm import spectral
from ggkm_plugin.ops.ggkm.spectral import (
    ADAPTIVE,
    NEGLIGIBLE,
    margin_of,
    spectral_blur,
    spectral_blur_backward,
    widest_margin,
)
from ggkm_plugin.ops.steps import chunks_of

NARROW, WIDE = [1.0, 0, 0, 0], [0, 0, 0, 1.0]


def fixed(weights):
    return torch.tensor(weights, dtype=torch.float64).expand(1, 21, 4)


@pytest.mark.parametrize('form', ['dct', 'fft'])
@pytest.mark.parametrize(
    ('size', 'weights', 'reference'),
    [
        ((1, 1), None, 'reference'),
        ((25, 28), NARROW, 'reference'),
        ((25, 28), WIDE, 'reference'),
        ((131, 97), None, 'separable'),  # several blocks of rows, larger than the margin
    ],
)
def test_float32_with_gradients_is_within_1e_5_of_the_reference(form, size, weights, reference):
    """Also where the chain stays nearly sharp, and where most of the spectrum is neglected."""
    x, alpha, beta, mix, bank = problem(size, 21, 4, batch=1)
    alpha = alpha if weights is None else fixed(weights)
    inputs = (x, alpha, beta, mix)
    want = with_gradients(lambda *a: ggkm_blur(*a[:3], bank, a[3], form=reference), inputs)
    got = with_gradients(
        lambda *a: ggkm_blur(*a[:3], bank.float(), a[3], form=form).double(), [tensor.float() for tensor in inputs]
    )
    for one, other in zip((got[0], *got[1]), (want[0], *want[1]), strict=True):
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


@pytest.mark.parametrize('iterative', [True, False])
def test_a_fixed_margin_gives_what_the_adaptive_one_gives(iterative):
    """As on a GPU, where nothing depends on alpha."""
    x, alpha, beta, mix, bank = problem((33, 40), 21, 4)
    inputs, margin = (x, alpha, beta, mix), widest_margin(bank, iterative, torch.float64)

    def run(**options):
        return with_gradients(lambda *a: ggkm_blur(*a[:3], bank, a[3], iterative=iterative, **options), inputs)

    want = run(form='dct')
    for got in (run(form='fft', margin=margin), run(form='dct', margin=margin), run(form='fft')):
        close(got[0], want[0])
        for one, other in zip(got[1], want[1], strict=True):
            close(one, other, atol=1e-10)


@pytest.mark.parametrize('iterative', [True, False])
def test_the_widest_margin_suffices_for_every_alpha(iterative):
    bank = gaussian_bank()
    widest = widest_margin(bank, iterative)
    margins = [margin_of(noise(1, 21, 4, seed=i).mul(3).softmax(-1), bank, iterative, torch.float32) for i in range(9)]
    margins += [margin_of(fixed(weights), bank, iterative, torch.float32) for weights in (NARROW, WIDE)]
    assert max(margins) == widest
    assert min(margins) < widest / 2


def test_the_mass_outside_the_margin_is_negligible():
    """For the cumulative kernel, computed step by step."""
    bank, alpha = gaussian_bank(), noise(1, 21, 4, seed=1).softmax(-1)
    line = torch.ones(1, dtype=torch.float64)
    for taps in torch.einsum('pq,pqn->pn', alpha[0], bank):
        line = torch.nn.functional.conv1d(line[None, None], taps[None, None], padding=len(taps) - 1)[0, 0]
    margin, center = margin_of(alpha, bank, True, torch.float32), len(line) // 2

    def outside(m):
        return (line.sum() - line[center - m : center + m + 1].sum()).item()

    assert outside(margin) <= NEGLIGIBLE[torch.float32] < outside(margin - 1)


def images_alive(function, *arguments, size):
    """Count float32 images of `size` and three colors that are alive at the peak, without the arguments."""
    live = LiveTensors([each for each in arguments if isinstance(each, torch.Tensor)])
    before = live.now
    with live:
        function(*arguments)
    return (live.peak - before) / (3 * 4 * math.prod(size))


@pytest.fixture
def in_chunks(monkeypatch):
    """Compute four steps at once, as on a GPU."""
    monkeypatch.setattr(spectral, 'chunks_of', lambda steps, size: chunks_of(steps, 4))


@pytest.mark.parametrize('iterative', [True, False])
@pytest.mark.parametrize('mixed', [True, False])
@pytest.mark.parametrize('form', ['dct', 'fft'])
def test_chunks_do_not_change_the_result(in_chunks, form, mixed, iterative):
    *inputs, bank = problem((33, 20), 21, 4)
    inputs = inputs if mixed else inputs[:3]

    def run(form, margin):
        def blur(x, alpha, beta, mix=None):
            return ggkm_blur(x, alpha, beta, bank, mix, iterative=iterative, form=form, margin=margin)

        return with_gradients(blur, inputs)

    got, want = run(form, widest_margin(bank, iterative, torch.float64)), run('separable', None)
    close(got[0], want[0])
    for one, other in zip(got[1], want[1], strict=True):
        close(one, other, atol=1e-10)


@pytest.mark.parametrize(('form', 'most'), [('dct', 20), ('fft', 20), ('chunks', 40)])
def test_images_alive_do_not_grow_with_the_steps(request, form, most):
    """Forward: as many for 84 steps as for 21. Backward: without the gradient of beta, at most sqrt(P) more."""
    if form == 'chunks':
        request.getfixturevalue('in_chunks')
        form = 'fft'
    size, forward, backward = (160, 170), [], []
    for groups in (21, 84):
        bank = gaussian_bank(groups, 1).float()
        x, alpha, beta, mix, _ = (tensor.float() for tensor in problem(size, groups, 1, batch=1))
        arguments = (x, alpha, beta, bank, mix, True, 20, form)  # a fixed margin keeps all frequencies
        forward.append(images_alive(spectral_blur._init_fn, *arguments, size=size))
        gradient_maps = (groups + 1) / 3
        alive = images_alive(spectral_blur_backward._init_fn, x, *arguments, size=size)
        backward.append(alive - gradient_maps)
    assert forward[1] < forward[0] + 1
    assert forward[0] < most
    # a transfer function is half a spectrum, a third of an image
    assert backward[1] - backward[0] < math.sqrt(84) - math.sqrt(21) + 2


def test_under_torch_compile():
    x, alpha, beta, mix, bank = problem((20, 24), 4, 3)
    compiled = torch.compile(lambda *a: ggkm_blur(*a[:3], bank, a[3]).sin(), backend='aot_eager', fullgraph=True)
    got = with_gradients(compiled, (x, alpha, beta, mix))
    want = with_gradients(lambda *a: ggkm_blur(*a[:3], bank, a[3]).sin(), (x, alpha, beta, mix))
    close(got[0], want[0])
    for one, other in zip(got[1], want[1], strict=True):
        close(one, other, atol=1e-10)


def test_the_custom_operator_passes_opcheck():
    """Schema, fake kernels and autograd registration."""
    x, alpha, beta, mix, bank = problem((9, 12), 4, 3)
    for weights in (mix.requires_grad_(), None):
        inputs = [each.detach().requires_grad_() for each in (x, alpha, beta)]
        torch.library.opcheck(spectral_blur, (*inputs, bank, weights, True, ADAPTIVE, 'dct'))


def test_inference_mode_gives_the_same_bits_and_needs_no_compiler(python):
    """The command that restores one photograph must not wait for the import of torch._dynamo."""
    result = python("""
import sys, torch
from ggkm_plugin.ops import gaussian_bank, ggkm_blur
x, alpha, beta = torch.rand(1, 3, 20, 24), torch.rand(1, 4, 3).softmax(-1), torch.rand(1, 5, 20, 24)
with torch.inference_mode():
    plain = ggkm_blur(x, alpha, beta, gaussian_bank(4, 3).float())
assert 'torch._dynamo' not in sys.modules
with torch.no_grad():
    assert torch.equal(plain, ggkm_blur(x, alpha, beta, gaussian_bank(4, 3).float()))
""")
    assert result.returncode == 0, result.stderr
