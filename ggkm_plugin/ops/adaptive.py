"""Per-pixel filtering: every pixel has its own kernel.

    out[b,c,i,j] = sum_{u,v} kernels[b,c, columns*u + v, i,j] * x[b,c, i + u - (rows-1)/2, j + v - (columns-1)/2]

x        (B,C,H,W)             extended by its edge pixels
kernels  (B,C,rows*columns,H,W) or (B,1,rows*columns,H,W), one for all channels

This is a correlation: the first row of a kernel weights the pixels above. `rows` and `columns` are odd.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def filter_per_pixel(x: Tensor, kernels: Tensor, rows: int, columns: int) -> Tensor:
    """Filter x tap by tap, without a copy of x per tap."""
    height, width = x.shape[-2:]
    around = F.pad(x, (columns // 2, columns // 2, rows // 2, rows // 2), mode='replicate')
    total = torch.zeros_like(x)
    for tap in range(rows * columns):
        top, left = divmod(tap, columns)
        total = torch.addcmul(total, kernels[:, :, tap], around[..., top : top + height, left : left + width])
    return total
