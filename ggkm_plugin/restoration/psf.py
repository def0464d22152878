"""Point spread functions of the GGKM model from its coefficients, pixel by pixel.

    b_{m,n} = sum_p beta_p[m,n] w_p K_p,    K_1 = delta,    K_p = gbar_p (*) K_{p-1}        Eqs. (7), (9), (16)

K      (M,S,S)  the cumulative kernels of the chain, K[0] the identity; S is odd, the center in the middle
beta   (M,...)  coefficients; w (C,M) what the output layer gives to each kernel: W_p on its color diagonal

b acts on the chain's input u as in Eq. (2), (B o u)[m,n] = sum_{i,j} b_{m,n}[i,j] u[m-i,n-j], with u continued beyond
its edges. The network's W also mixes colors: what lies off its diagonal is no PSF of one color, and left out here.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from ggkm_plugin.archs.ggkmnet_ablations_arch import LearnedIGGCM
from ggkm_plugin.archs.ggkmnet_arch import IGGCM, FixedPointStep, GGKMNet

# Offsets times pixels of one block of `psf_maps`: 64 MiB in float32.
_BLOCK = 1 << 20
# Share of a kernel's sum that may lie outside the square it is shown and measured in.
_TAIL = 1e-3
# Offsets up to this radius, in pixels, are not averaged over rings.
_NEAR = 4


def predicts_psfs(net: nn.Module) -> bool:
    """Return whether a network is of GGKMNet's family and blurs by alpha and beta."""
    return isinstance(net, GGKMNet) and all(
        isinstance(cast(FixedPointStep, step).blur, IGGCM | LearnedIGGCM) for step in net.steps
    )


def step_kernels(bank: Tensor, alpha: Tensor) -> list[Tensor]:
    """Compute gbar_2 .. gbar_{P+1}, Eq. (16): (2p-1,2p-1) float64 each, for a bank (P,Q,2P+1) and alpha (P,Q)."""
    groups = len(bank)
    cut = [bank[j, :, groups - j - 1 : groups + j + 2].double() for j in range(groups)]
    return [torch.einsum('q,qm,qn->mn', alpha[j].to(taps), taps, taps) for j, taps in enumerate(cut)]


def composite_kernels(blur: IGGCM | LearnedIGGCM, alpha: Tensor) -> list[Tensor]:
    """Return `step_kernels` of a network's blur, also of learned kernels, on the CPU."""
    alpha = alpha.detach().cpu().double()
    if isinstance(blur, LearnedIGGCM):
        learned = [kernels.detach().cpu().double() for kernels in blur.kernels]
        return [torch.einsum('q,qmn->mn', alpha[j], kernels) for j, kernels in enumerate(learned)]
    return step_kernels(blur.make_bank(), alpha)


def cumulative_kernels(composites: Sequence[Tensor], iterative: bool = True, include_identity: bool = True) -> Tensor:
    """Compute K (M,S,S) float64: products of the composites, or each alone if not `iterative`; exact on S pixels."""
    reaches = [len(kernel) // 2 for kernel in composites]
    reach = sum(reaches) if iterative else max(reaches, default=0)
    size = 2 * reach + 1
    spectrum = torch.ones(size, reach + 1, dtype=torch.complex128)
    spectra = [spectrum] if include_identity else []
    for kernel, own in zip(composites, reaches, strict=True):
        placed = torch.zeros(size, size, dtype=torch.float64)
        placed[: 2 * own + 1, : 2 * own + 1] = kernel
        transfer = torch.fft.rfft2(placed.roll((-own, -own), (0, 1)))
        spectrum = spectrum * transfer if iterative else transfer
        spectra.append(spectrum)
    return torch.fft.fftshift(torch.fft.irfft2(torch.stack(spectra), s=(size, size)), dim=(-2, -1))


def trimmed(kernels: Tensor, tail: float = 1e-6) -> Tensor:
    """Crop kernels to the smallest centered square that leaves at most `tail` of each kernel's absolute sum outside."""
    middle = kernels.shape[-1] // 2
    total = kernels.abs().sum(dim=(-2, -1))
    for reach in range(middle + 1):
        inside = kernels[..., middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
        if (total - inside.abs().sum(dim=(-2, -1)) <= tail * total).all():
            break
    return inside


def color_diagonal(mix: Tensor) -> Tensor:
    """Return w (C,M) of an output layer's weight (C,M*C,1,1): the weight of color c of z_p in color c."""
    colors = len(mix)
    return torch.einsum('cmc->cm', mix.reshape(colors, -1, colors))


def blur_kernels(blur: IGGCM | LearnedIGGCM, alpha: Tensor) -> Tensor:
    """Compute K (M,S,S) float64 of a network's blur on the CPU, trimmed to all but a thousandth of each kernel."""
    composites = composite_kernels(blur, alpha)
    return trimmed(cumulative_kernels(composites, blur.iterative, blur.include_identity), _TAIL)


def output_weight(blur: IGGCM | LearnedIGGCM) -> Tensor:
    """Return w (C,M) float32 of a network's blur, on the CPU."""
    return color_diagonal(blur.mix.weight.detach().cpu()).float()


def pixel_psfs(kernels: Tensor, beta: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute b (N,C,S,S) at N pixels, for beta (M,N); without a `weight` (C,M) the plain sum of Eq. (9), C = 1."""
    weight = kernels.new_ones(1, len(kernels)) if weight is None else weight.to(kernels)
    return torch.einsum('mn,cm,mij->ncij', beta.to(kernels), weight, kernels)


def effective_radius(psf: Tensor) -> Tensor:
    """Compute sqrt(sum r^2 |b| / sum |b|) in pixels of b (...,S,S); 0 for a PSF of zeros."""
    offsets = torch.arange(psf.shape[-1], dtype=psf.dtype, device=psf.device) - psf.shape[-1] // 2
    squares = offsets.square()[:, None] + offsets.square()
    size = psf.abs()
    total = size.sum(dim=(-2, -1))
    return ((size * squares).sum(dim=(-2, -1)) / total.where(total > 0, 1)).sqrt()


class PsfMaps(NamedTuple):
    """(H,W) float32: `effective_radius` of b at each pixel, and strength, the sum of |b - delta|, 0 for no blur.

    Of several colors the radius is that of all together, the strength their mean.
    """

    radius: Tensor
    strength: Tensor


def psf_maps(kernels: Tensor, beta: Tensor, weight: Tensor | None = None, rings: bool = False) -> PsfMaps:
    """Compute the maps for beta (M,H,W), on beta's device; without a `weight` (C,M) those of the plain sum of Eq. (9).

    |b| is not linear in beta, whose signs differ, so that kernel moments do not suffice: b itself is formed, block by
    block of pixels, as a product of beta with the kernels' values. Of kernels with the square's symmetries an eighth of
    their offsets is enough. With `rings`, offsets beyond 4 pixels are averaged over rings one pixel wide: ten times as
    fast, and equal but for PSFs that change their sign within a ring.
    """
    middle = kernels.shape[-1] // 2
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*[torch.arange(-middle, middle + 1)] * 2, indexing='ij'))
    counts = torch.ones(len(rows))
    if torch.allclose(kernels, kernels.mT, atol=1e-12) and torch.allclose(kernels, kernels.flip(-1), atol=1e-12):
        octant = (rows >= columns) & (columns >= 0)
        rows, columns = rows[octant], columns[octant]
        counts = torch.where((columns == 0) | (rows == columns), 4.0, 8.0).where(rows > 0, torch.tensor(1.0))
    values = kernels[:, rows + middle, columns + middle]
    squares = (rows.square() + columns.square()).to(counts)
    if rings:
        values, counts, squares = _in_rings(values, counts, squares)
    values = values.float().to(beta.device)
    center = kernels[:, middle, middle].to(values)
    weight = kernels.new_ones(1, len(kernels)) if weight is None else weight
    moments = torch.stack([counts, counts * squares]).to(values)
    flat = beta.flatten(1)
    sums, strength = values.new_zeros(2, flat.shape[1]), values.new_zeros(flat.shape[1])
    size = max(1, _BLOCK // values.shape[1])
    for start in range(0, flat.shape[1], size):
        chosen = slice(start, start + size)
        block = flat[:, chosen].float()
        for w in weight.to(values):
            weighed = block * w[:, None]
            own, middles = moments @ (values.T @ weighed).abs(), center @ weighed
            sums[:, chosen] += own
            strength[chosen] += (own[0] - middles.abs() + (middles - 1).abs()) / len(weight)
    radius = (sums[1] / sums[0].where(sums[0] > 0, 1)).sqrt()
    return PsfMaps(radius.view(beta.shape[1:]), strength.view(beta.shape[1:]))


def _in_rings(values: Tensor, counts: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Average values (M,N) and squared radii (N) of offsets beyond `_NEAR` pixels over rings; add up their counts."""
    radii = squares.sqrt().round()
    names = torch.where(radii > _NEAR, radii.long() + len(radii), torch.arange(len(radii)))
    _, ring = names.unique(return_inverse=True)
    total = counts.new_zeros(int(ring.max()) + 1).index_add(0, ring, counts)
    mean = values.new_zeros(len(values), len(total)).index_add(1, ring, values * counts) / total
    return mean, total, torch.zeros_like(total).index_add(0, ring, counts * squares) / total
