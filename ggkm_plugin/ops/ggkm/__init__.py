"""GGKM blur, Eq. (9), and the iterative group Gaussian convolution it is built on, Eqs. (13) and (16).

    B o x = sum_p beta_p * z_p,    z_1 = x,    z_p = gbar_p (*) z_{p-1},    gbar_p = sum_q alpha_p[q] g_{p,q}

x      (B,C,H,W)   image
alpha  (B,P,Q)     coefficients within the groups, for the steps p = 2..P+1; one set per image
beta   (B,M,H,W)   coefficient maps, M = P+1; map 0 belongs to z_1 = x, the identity kernel
bank   (P,Q,2P+1)  taps of the kernels g_{p,q} (`ggkm_plugin.ops.gaussian.gaussian_bank`)
z      (B,M,C,H,W) image under the cumulative kernels

The kernels are symmetric, so convolution and correlation agree; the middle tap is the center. `boundary` is how each
step extends its input: with `reflect` a constant image stays constant, with `zeros` a chain of steps darkens the
borders. Everything runs in float32 or wider, also under autocast: 21 steps in bfloat16 have an error of 0.012.

`ggkm_blur` has several forms with equal results up to rounding:

auto        the fastest form for the device and the size
dct, fft    products of spectra without storing z (`spectral`); `reflect` only
fused       the FFT form in Triton kernels, in float32 (`triton`); on a GPU, or in Triton's interpreter
separable   every g_{p,q} as two one-dimensional passes (`separable`)
reference   dense composite kernels, as the equations read (`reference`)

The form is a run-time choice: `with blur_form('separable'): net(y)`, or the environment variable BASICSR_BLUR_FORM.

Example:
    >>> bank = gaussian_bank(num_groups=21, kernels_per_group=4).float()
    >>> x, beta = torch.rand(1, 3, 64, 64), torch.rand(1, 22, 64, 64)
    >>> alpha = torch.rand(1, 21, 4).softmax(-1)
    >>> ggkm_blur(x, alpha, beta, bank).shape
    torch.Size([1, 3, 64, 64])
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ggkm_plugin.ops.ggkm.reference import (
    check_beta,
    ggkm_blur_ref,
    iterative_group_conv_ref,
    prepare,
    weighted_sum,
    with_identity,
)
from ggkm_plugin.ops.ggkm.separable import separable_blur, separable_chain
from ggkm_plugin.ops.ggkm.spectral import ADAPTIVE, compute_blur, cosine_chain, spectral_blur, unavailable
from ggkm_plugin.ops.precision import full_precision

__all__ = [
    'FORMS',
    'blur_form',
    'check_form',
    'chosen_form',
    'ggkm_blur',
    'ggkm_blur_ref',
    'iterative_group_conv',
    'iterative_group_conv_ref',
]

FORMS = ('auto', 'dct', 'fft', 'fused', 'separable', 'reference')
ENVIRONMENT = 'BASICSR_BLUR_FORM'

_REFLECT_ONLY = ('dct', 'fft', 'fused')
_chosen = threading.local()  # unlike a ContextVar, torch.compile can trace it


@contextmanager
def blur_form(form: str | None) -> Iterator[None]:
    """Evaluate the GGKM blur in this form within the context; None changes nothing.

    The form changes time and memory, not results. It holds for the current thread. Raises ValueError for an unknown
    form.
    """
    if form is None:
        yield
        return
    check_form(form)
    previous, _chosen.form = getattr(_chosen, 'form', None), form
    try:
        yield
    finally:
        _chosen.form = previous


def chosen_form(default: str = 'auto') -> str:
    """Return the form set by `blur_form`, else the one in BASICSR_BLUR_FORM, else `default`. Raises ValueError."""
    form = getattr(_chosen, 'form', None)
    if form is None and (form := os.environ.get(ENVIRONMENT)):
        check_form(form, name=ENVIRONMENT)
    return form or default


def check_form(
    form: str, boundary: str = 'reflect', name: str = 'blur_form', device: torch.device | None = None
) -> None:
    """Raise ValueError unless `form` is one of FORMS, and fits the boundary and the device; `name` is the option's."""
    if form not in FORMS:
        raise ValueError(f'{name} is one of {", ".join(FORMS)}, not {form!r}')
    if form in _REFLECT_ONLY and boundary != 'reflect':
        raise ValueError(f'{name}: {form} needs boundary: reflect, not {boundary}')
    if form == 'fused' and device is not None and (reason := unavailable(device)):
        raise ValueError(f'{name}: fused is not available: {reason}')


def ggkm_blur(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    bank: Tensor,
    mix: Tensor | None = None,
    boundary: str = 'reflect',
    include_identity: bool = True,
    iterative: bool = True,
    form: str = 'auto',
    margin: int | None = None,
) -> Tensor:
    """Compute B o x, Eq. (9): (B,C,H,W) in float32 or wider.

    The number of images in memory does not depend on P, except for about sqrt(P) of them in training.

    Args:
        mix: (C', M*C, 1, 1), a learned 1x1 convolution instead of the plain sum over p (Sec. 4.1). Its input channel
            p*C + c is color c of beta_p * z_p.
        iterative: False applies each gbar_p to x itself, the paper's "standard" alternative.
        form: one of FORMS. `auto` takes `blur_form`'s or BASICSR_BLUR_FORM's if set, else the fastest.
        margin: margin of the FFT in pixels (`spectral.widest_margin`). None derives it from alpha, which on a GPU
            waits for alpha.

    Raises:
        ValueError: wrong shapes, an unknown form or boundary, or `fused` where Triton cannot run.
    """
    form = chosen_form() if form == 'auto' else form
    check_form(form, boundary, 'form')
    if form == 'reference':
        return ggkm_blur_ref(x, alpha, beta, bank, mix, boundary, include_identity, iterative)
    with full_precision(x):
        x, alpha, bank = prepare(x, alpha, bank, boundary)
        check_beta(x, beta, bank, include_identity)
        mix = None if mix is None else mix.to(x.dtype)
        if boundary != 'reflect' or form == 'separable':
            return separable_blur(x, alpha, beta, bank, mix, boundary, iterative)
        if torch.compiler.is_exporting():  # exported programs hold standard operators only
            z = with_identity(x, cosine_chain(x, alpha, bank, iterative), include_identity)
            return weighted_sum(z, beta, mix)
        # The first call of a custom operator imports torch._dynamo, which takes longer than torch itself.
        plain = not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
        compute = compute_blur if plain else spectral_blur
        return compute(x, alpha, beta, bank, mix, iterative, ADAPTIVE if margin is None else margin, form)


def iterative_group_conv(
    x: Tensor,
    alpha: Tensor,
    bank: Tensor,
    boundary: str = 'reflect',
    include_identity: bool = True,
    iterative: bool = True,
    form: str = 'auto',
) -> Tensor:
    """Compute z, Eqs. (13) and (16): (B,M,C,H,W) in float32 or wider, M = P+1, or P without the identity.

    `iterative=False` applies each gbar_p to x itself. `form` is `auto` (products in the DCT-I basis with `reflect`) or
    `separable`. Raises ValueError for wrong shapes or an unknown boundary.
    """
    with full_precision(x):
        x, alpha, bank = prepare(x, alpha, bank, boundary)
        if boundary == 'reflect' and form == 'auto':
            chain = cosine_chain(x, alpha, bank, iterative)
        else:
            chain = separable_chain(x, alpha, bank, iterative, boundary)
        return with_identity(x, chain, include_identity)
