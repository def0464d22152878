"""JDRL's reblurring module: blur a network's image to match the photograph, with isotropic kernels.

Y. Li et al., "Learning Single Image Defocus Deblurring with Misaligned Training Pairs" (AAAI 2023): every pixel has
kernels of radius 1 to 7, each given by its values along the radius, and weights for them and for the sharp image. Only
training uses it (see `JDRLModel`), so it is not registered as an arch. Written from published facts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.ops.boundary import pad

RADII = 7
_PROFILES = [r + 1 for r in range(1, RADII + 1)]  # values of each radius: at the distances 0 ... r


class ReblurNet(nn.Module):
    """Reblurring network: (sharp, blurred), both (B,3,H,W) RGB in [0,1] -> sharp with the blur of the other image.

        y = w_0 x + sum_r w_r k_r x,   r = 1 ... 7

    The kernels k_r of `radial_blurs` and the weights w, with sum 1, are predicted per pixel. 474,987 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.profiles = _trunk(sum(_PROFILES))
        self.shares = _trunk(RADII + 1)

    def forward(self, sharp: Tensor, blurred: Tensor) -> Tensor:
        both = torch.cat([sharp, blurred], dim=1)
        shares = self.shares(both).softmax(dim=1)[:, :, None]
        images = torch.cat([sharp[:, None], radial_blurs(sharp, self.profiles(both).abs())], dim=1)
        return (shares * images).sum(dim=1)


def _trunk(channels: int) -> nn.Sequential:
    """Build a convolution, three residual blocks and a convolution."""
    blocks = (_ResBlock(64) for _ in range(3))
    return nn.Sequential(nn.Conv2d(6, 64, 3, padding=1), *blocks, nn.Conv2d(64, channels, 3, padding=1))


class _ResBlock(nn.Module):
    """Residual block x + conv3(ReLU(conv3(x))) with biases; keeps the shape (B,C,H,W)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def radial_blurs(image: Tensor, profiles: Tensor) -> Tensor:
    """Blur an image (B,C,H,W) with seven kernels per pixel: (B,7,C,H,W).

    profiles: (B,35,H,W), the r+1 values at the distances 0 ... r for each radius r = 1 ... 7 in turn. The kernel of
    radius r has (2r+1)^2 taps, the softmax of

        v(d) = profile, linearly interpolated, up to the distance d = r;   0 beyond

    Assumed: reflection padding, because zeros would darken the border.

    All taps of one distance share a value, so the image is first summed over each ring, for all radii at once: 31 sums
    in place of 679 taps.
    """
    rings, distances, boxes = _rings(image)
    batch, channels, height, width = image.shape
    kernels = torch.cat([rings, boxes])[:, None]
    padded = pad(image, *(RADII,) * 4).reshape(-1, 1, height + 2 * RADII, width + 2 * RADII)
    sums = F.conv2d(padded, kernels).reshape(batch, channels, -1, height, width)
    counts = rings.sum(dim=(1, 2))
    blurs, first = [], 0
    for radius, length in enumerate(_PROFILES, 1):
        inside = int((distances <= radius).sum())
        rows = _interpolation(distances[:inside], length)
        values = torch.einsum('dp,bphw->bdhw', rows, profiles[:, first : first + length])
        first += length
        largest = values.detach().amax(dim=1, keepdim=True).clamp(min=0)  # softmax does not change under a shift
        powers, rest = (values - largest).exp(), (-largest).exp()
        within = sums[:, :, :inside]
        beyond = sums[:, :, len(rings) + radius - 1] - within.sum(dim=2)
        total = torch.einsum('bdhw,bcdhw->bchw', powers, within) + rest * beyond
        weight = torch.einsum('bdhw,d->bhw', powers, counts[:inside])[:, None]
        weight = weight + rest * ((2 * radius + 1) ** 2 - counts[:inside].sum())
        blurs.append(total / weight)
    return torch.stack(blurs, dim=1)


def _rings(like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Build masks (D,15,15) of the taps at each distance up to 7, the distances (D,), and the boxes (7,15,15)."""
    at = torch.arange(-RADII, RADII + 1, device=like.device)
    squares = at[:, None] ** 2 + at**2
    there = squares[squares <= RADII**2].unique()
    reach = torch.maximum(at[:, None].abs(), at.abs())
    radii = torch.arange(1, RADII + 1, device=like.device)[:, None, None]
    return (squares == there[:, None, None]).to(like), there.to(like).sqrt(), (reach <= radii).to(like)


def _interpolation(distances: Tensor, length: int) -> Tensor:
    """Build the matrix (D, length) that interpolates values at 0, 1 ... linearly at the distances."""
    return (1 - (distances[:, None] - torch.arange(length, device=distances.device)).abs()).clamp(min=0)
