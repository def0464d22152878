"""Fits PSFs that are mixtures of Gaussians: GKM, Eq. (5), and GGKM, Eqs. (7) to (9).

    y[m,n] = sum_k c_k[m,n] z_k[m,n],    z_k the sharp image under kernel k

Each pixel has three equations, one per color, for 21 or 22 coefficients.

unconstrained   The equations are solved to rounding wherever the z_k span the three colors; the closed form is the
                solution of least norm. A first-order optimizer (Adam) approaches it, and its PSNR measures the
                optimizer and its number of steps.
simplex         Coefficients of at least 0 with sum 1: blur adds light and preserves its amount. The mixtures are the
                convex hull of the z_k, and the point nearest to y is found exactly (`convex_hull`). This measures the
                model.

GGKM's alphas belong to the whole image. The closed form solves the equations for any alphas; on the simplex they are
optimized by Adam on logits, each step with the best coefficients beta.
"""

import torch
from torch import Tensor

from ggkm_plugin.archs.ggkmnet_ablations_arch import gkm_bank
from ggkm_plugin.ops import gaussian_bank, iterative_group_conv
from ggkm_plugin.restoration.psf import cumulative_kernels, effective_radius, psf_maps, step_kernels, trimmed
from ggkm_plugin.studies.convex_hull import nearest_in_hull
from ggkm_plugin.studies.psf_fitting import MARGIN, Curve, Fit, StudyPair

# Learning rate of the unconstrained fits, not in the paper: better than 0.1 after 300 steps on an LFDOF pair.
RATE = 0.01
# Learning rate of alpha.
ALPHA_RATE = 0.3


class Mixture:
    """A bank of kernels: the images blurred by it, and the kernels themselves."""

    def __init__(self, bank: Tensor, iterative: bool, identity: bool) -> None:
        self.bank, self.iterative, self.identity = bank, iterative, identity

    @property
    def uniform(self) -> Tensor:
        """Return equal alphas (P,Q)."""
        groups, kernels, _ = self.bank.shape
        return torch.full((groups, kernels), 1 / kernels, dtype=torch.float64)

    def images(self, sharp: Tensor, alpha: Tensor) -> Tensor:
        """Return z (K,3,H,W) in the dtype of `sharp`, inside its margin."""
        z = iterative_group_conv(
            sharp[None],
            alpha[None].to(sharp.dtype),
            self.bank.to(sharp.dtype),
            include_identity=self.identity,
            iterative=self.iterative,
        )
        return z[0, ..., MARGIN:-MARGIN, MARGIN:-MARGIN]

    def kernels(self, alpha: Tensor) -> Tensor:
        """Return the kernels (K,S,S) float64."""
        return trimmed(cumulative_kernels(step_kernels(self.bank, alpha), self.iterative, self.identity))


def gkm(identity: bool = True) -> Mixture:
    """Return the 21 Gaussians of GKMNet, with the identity kernel by default."""
    return Mixture(gkm_bank(), iterative=False, identity=identity)


def ggkm(identity: bool = True) -> Mixture:
    """Return the chain of P = 21 groups of Q = 4 of GGKMNet, with the identity kernel by default."""
    return Mixture(gaussian_bank(21, 4), iterative=True, identity=identity)


def _by_pixel(images: Tensor) -> Tensor:
    """Reorder (K,3,H,W) to (H*W,K,3)."""
    return images.flatten(2).permute(2, 0, 1).contiguous()


def fit_closed_form(pair: StudyPair, model: Mixture) -> Fit:
    """Fit the solution of least norm, in float64."""
    curve = Curve(pair.blurred.numel())
    alpha = model.uniform
    points = _by_pixel(model.images(pair.sharp.double(), alpha))
    y = pair.blurred.double().flatten(1).T.unsqueeze(2)
    coefficients = torch.linalg.lstsq(points.mT, y, driver='gelsd').solution
    curve.add(1, (points.mT @ coefficients - y).square().sum().item())
    maps = coefficients.squeeze(2).T.unflatten(1, pair.blurred.shape[1:])
    return Fit(curve.points, psf_maps(model.kernels(alpha), maps).radius)


def fit_adam(pair: StudyPair, model: Mixture, steps: int) -> Fit:
    """Fit unconstrained coefficients by Adam from equal ones, in float32; alphas are equal."""
    curve = Curve(pair.blurred.numel())
    alpha = model.uniform
    images = model.images(pair.sharp, alpha)
    maps = torch.full((len(images), *pair.blurred.shape[1:]), 1 / len(images), requires_grad=True)
    optimizer = torch.optim.Adam([maps], RATE)
    for step in range(steps + 1):
        residual = torch.einsum('khw,kchw->chw', maps.detach(), images) - pair.blurred
        curve.add(step, residual.double().square().sum().item())
        maps.grad = torch.einsum('kchw,chw->khw', images, residual)
        optimizer.step()
    return Fit(curve.points, psf_maps(model.kernels(alpha), maps.detach()).radius)


def _on_simplex(images: Tensor, blurred: Tensor) -> tuple[Tensor, float]:
    """Return the best coefficients (K,H,W) float64 for these images, and the squared error."""
    y = blurred.double().flatten(1).T.unsqueeze(1)
    coefficients, distances = nearest_in_hull(_by_pixel(images.double()) - y)
    return coefficients.T.unflatten(1, blurred.shape[1:]), distances.sum().item()


def _simplex_radius(kernels: Tensor, maps: Tensor) -> Tensor:
    """Compute the effective radius for coefficients of at least 0: its square is linear in them."""
    return torch.einsum('k,khw->hw', effective_radius(kernels).square(), maps).sqrt().float()


def fit_on_simplex(pair: StudyPair, model: Mixture, steps: int) -> Fit:
    """Fit the coefficients exactly for each alpha, and alpha by Adam.

    A step of the curve is one of alpha; at step 0 alphas are equal. GKM has no alpha and needs no step.
    """
    curve = Curve(pair.blurred.numel())
    logits = torch.zeros(model.bank.shape[:2], requires_grad=True)
    optimizer = torch.optim.Adam([logits], ALPHA_RATE)
    best, best_error = (logits.detach().clone(), torch.empty(0)), float('inf')
    for step in range(steps + 1):
        images = model.images(pair.sharp, logits.softmax(dim=1))
        maps, error = _on_simplex(images.detach(), pair.blurred)
        if error < best_error:
            best, best_error = (logits.detach().clone(), maps), error
        curve.add(step, best_error)
        if step < steps:
            # The gradient of the error with the best beta is the gradient with that beta held fixed.
            loss = (torch.einsum('khw,kchw->chw', maps.float(), images) - pair.blurred).square().sum()
            (logits.grad,) = torch.autograd.grad(loss, logits)
            optimizer.step()
    return Fit(curve.points, _simplex_radius(model.kernels(best[0].double().softmax(dim=1)), best[1]))
