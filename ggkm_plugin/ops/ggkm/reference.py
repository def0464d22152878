"""Reference forms of the GGKM operators, as the equations read, and the checks that all forms share.

They are slow and keep every z_p; the fast forms are tested against them. Symbols are in `ggkm_plugin.ops.ggkm`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.ops.boundary import BOUNDARIES, pad
from ggkm_plugin.ops.precision import color_mix, full_precision


def iterative_group_conv_ref(
    x: Tensor,
    alpha: Tensor,
    bank: Tensor,
    boundary: str = 'reflect',
    include_identity: bool = True,
    iterative: bool = True,
) -> Tensor:
    """Compute z, Eqs. (13) and (16), with dense composite kernels: see `iterative_group_conv`."""
    with full_precision(x):
        x, alpha, bank = prepare(x, alpha, bank, boundary)
        return with_identity(x, _chain(x, alpha, bank, iterative, boundary), include_identity)


def ggkm_blur_ref(
    x: Tensor,
    alpha: Tensor,
    beta: Tensor,
    bank: Tensor,
    mix: Tensor | None = None,
    boundary: str = 'reflect',
    include_identity: bool = True,
    iterative: bool = True,
) -> Tensor:
    """Compute B o x, Eq. (9), from all z_p: see `ggkm_blur`."""
    z = iterative_group_conv_ref(x, alpha, bank, boundary, include_identity, iterative)
    check_beta(x, beta, bank, include_identity)
    with full_precision(z):
        return weighted_sum(z, beta, None if mix is None else mix.to(z.dtype))


def weighted_sum(z: Tensor, beta: Tensor, mix: Tensor | None) -> Tensor:
    """Sum beta_p * z_p over p, Eq. (9), or apply the learned 1x1 convolution `mix` to them (Sec. 4.1)."""
    weighted = beta.to(z.dtype).unsqueeze(2) * z
    return weighted.sum(dim=1) if mix is None else color_mix(weighted.flatten(1, 2), mix)


def with_identity(x: Tensor, chain: Tensor, include_identity: bool) -> Tensor:
    """Put z_1 = x before z_2 .. z_{P+1}."""
    return torch.cat([x.unsqueeze(1), chain], dim=1) if include_identity else chain


def prepare(x: Tensor, alpha: Tensor, bank: Tensor, boundary: str) -> tuple[Tensor, Tensor, Tensor]:
    """Check shapes and convert x, alpha and bank to one dtype, float32 or wider. Raises ValueError."""
    if boundary not in BOUNDARIES:
        raise ValueError(f'boundary is one of {", ".join(BOUNDARIES)}, not {boundary!r}')
    if alpha.shape != (x.shape[0], *bank.shape[:2]):
        raise ValueError(f'alpha has shape {tuple(alpha.shape)}, not (B, P, Q) = {(x.shape[0], *bank.shape[:2])}')
    dtype = torch.promote_types(torch.promote_types(x.dtype, alpha.dtype), torch.float32)
    return x.to(dtype), alpha.to(dtype), bank.to(dtype)


def check_beta(x: Tensor, beta: Tensor, bank: Tensor, include_identity: bool) -> None:
    """Check that beta is (B, M, H, W). Raises ValueError."""
    batch, _, *size = x.shape
    if beta.shape != (wanted := (batch, bank.shape[0] + include_identity, *size)):
        raise ValueError(f'beta has shape {tuple(beta.shape)}, not (B, M, H, W) = {wanted}')


def _chain(x: Tensor, alpha: Tensor, bank: Tensor, iterative: bool, boundary: str) -> Tensor:
    """Compute z_2 .. z_{P+1}: one convolution per step with the composite two-dimensional kernel."""
    batch, channels, height, width = x.shape
    num_groups = bank.shape[0]
    z, outputs = x, []
    for j in range(num_groups):
        reach = j + 1
        taps = bank[j, :, num_groups - reach : num_groups + reach + 1]
        kernel = torch.einsum('bq,qm,qn->bmn', alpha[:, j], taps, taps)  # gbar_p, Eq. (16)
        source = pad(z if iterative else x, reach, reach, reach, reach, boundary)
        source = source.reshape(1, batch * channels, height + 2 * reach, width + 2 * reach)
        weight = kernel.repeat_interleave(channels, dim=0).unsqueeze(1)
        z = F.conv2d(source, weight, groups=batch * channels).view(batch, channels, height, width)  # Eq. (13)
        outputs.append(z)
    return torch.stack(outputs, dim=1)
