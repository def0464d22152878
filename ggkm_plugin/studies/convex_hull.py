"""Points of convex hulls nearest to the origin, in batches: P. Wolfe's method (Math. Programming 11, 1976).

Mixtures sum_k c_k z_k with coefficients on the simplex (c >= 0, sum c = 1) form the convex hull of the points z_k. To
find the point nearest to y, subtract y from the z_k. At most D+1 of K points in R^D have a weight there.
"""

import torch
from torch import Tensor

# A search ends if no point improves the bound by this share of the largest squared norm.
TOLERANCE = 1e-12


def nearest_in_hull(points: Tensor, cycles: int = 100) -> tuple[Tensor, Tensor]:
    """Return coefficients (N,K) on the simplex and squared distances (N,) of N searches, for points (N,K,D) float64.

    A search starts at the nearest point. In each cycle every unfinished search adds the most promising point.
    """
    count, known, dims = points.shape
    scale = points.square().sum(dim=2).amax(dim=1)
    corner = torch.zeros(count, dims + 1, dtype=torch.long)
    used = torch.zeros(count, dims + 1, dtype=torch.bool)
    weight = points.new_zeros(count, dims + 1)
    corner[:, 0] = points.square().sum(dim=2).argmin(dim=1)
    used[:, 0], weight[:, 0] = True, 1
    alive = torch.arange(count)
    for _ in range(cycles):
        nearest = (weight[alive].unsqueeze(2) * _at(points[alive], corner[alive])).sum(dim=1)
        bound, entering = (points[alive] @ nearest.unsqueeze(2)).squeeze(2).min(dim=1)
        inside = ((corner[alive] == entering[:, None]) & used[alive]).any(dim=1) | used[alive].all(dim=1)
        going = ~inside & (nearest.square().sum(dim=1) - bound > TOLERANCE * scale[alive])
        alive = alive[going]
        if not len(alive):
            break
        free = used[alive].logical_not().float().argmax(dim=1)
        corner[alive, free], used[alive, free] = entering[going], True
        _settle(points, scale, corner, used, weight, alive)
    nearest = (weight.unsqueeze(2) * _at(points, corner)).sum(dim=1)
    return points.new_zeros(count, known).scatter_add_(1, corner, weight), nearest.square().sum(dim=1)


def _at(points: Tensor, corner: Tensor) -> Tensor:
    return points.gather(1, corner.unsqueeze(2).expand(-1, -1, points.shape[2]))


def _settle(points: Tensor, scale: Tensor, corner: Tensor, used: Tensor, weight: Tensor, alive: Tensor) -> None:
    """Run minor cycles in place: move to the nearest point of the corners' affine hull, or to the simplex' boundary.

    Corners without weight are removed; repeat until none is.
    """
    for _ in range(used.shape[1]):
        here, old = used[alive], weight[alive]
        chosen = _at(points[alive], corner[alive]) * here.unsqueeze(2)
        gram = chosen @ chosen.mT / scale[alive].view(-1, 1, 1)
        ones = here.to(points.dtype)
        # Affine hull: (G + 1 1^T) v = 1 up to a factor. Unused corners have 1 on the diagonal and weight 0.
        unused = torch.diag_embed(1 - ones + 1e-14)
        aim = torch.linalg.solve(gram + ones.unsqueeze(2) * ones.unsqueeze(1) + unused, ones) * ones
        aim = aim / aim.sum(dim=1, keepdim=True)
        outside = (aim <= 0) & here
        reach = torch.where(outside, old / (old - aim).clamp(min=1e-300), 1.0).amin(dim=1, keepdim=True).clamp(0, 1)
        new = (old + reach * (aim - old)).clamp(min=0) * here
        left = here & ~(outside & (new <= 1e-12))
        new = new * left
        used[alive], weight[alive] = left, new / new.sum(dim=1, keepdim=True)
        alive = alive[outside.any(dim=1)]
        if not len(alive):
            return
