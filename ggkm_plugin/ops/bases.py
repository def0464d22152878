"""Two bases in which every symmetric convolution under whole-sample reflection is a product.

`CosineBasis`   DCT-I of the image itself, as matrix products: exact for any kernel, best for small images.
`FourierBasis`  FFT of the image continued by reflection, `margin` pixels and more on each side: for a kernel whose mass
                beyond the margin is negligible. N log N.

A convolution is `synthesise(transfer * analyse(u))`; the transfer function of a separable symmetric kernel is the real
outer product of one of the rows' frequencies and one of the columns'. A spectrum cut (`cut`) to the lowest frequencies
counts as zero beyond them. `synthesise` hands out the image in blocks of rows, which stay in the processor's cache.
Both transforms are real-linear: `synthesise_adjoint` gives the spectrum g^ for which sum(weight * Re(conj(g^) * S)) is
<g, synthesise(S)>, and `analyse_adjoint` takes what was accumulated from such spectra back to an image.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from ggkm_plugin.ops.boundary import pad, pad_adjoint
from ggkm_plugin.ops.dct import dct1_matrix

Band = tuple[int, int]


Block = tuple[slice, Tensor]


class Basis(Protocol):
    """See the module's description. Images are (B,C,H,W), spectra (B,C,F,G), a band is how many of F and G are kept."""

    frequencies: Band

    def transfer(self, taps: Tensor) -> tuple[Tensor, Tensor]: ...
    def analyse(self, u: Tensor) -> Tensor: ...
    def analyse_adjoint(self, spectrum: Tensor) -> Tensor: ...
    def cut(self, band: Band) -> Band: ...
    def synthesise(self, spectrum: Tensor) -> Iterator[Block]: ...
    def synthesise_adjoint(self, image: Tensor, band: Band) -> Tensor: ...
    def weight(self, band: Band) -> Tensor | float: ...


def symmetric_transfer(taps: Tensor, period: int, count: int) -> Tensor:
    """(..., count) transfer function, at the frequencies k / period, of symmetric (..., 2K+1) taps."""
    half_size = taps.shape[-1] // 2
    m = torch.arange(half_size + 1, dtype=torch.float64, device=taps.device)
    k = torch.arange(count, dtype=torch.float64, device=taps.device)
    cosines = 2 * torch.cos(torch.outer(m, k).remainder(period) * (2 * math.pi / period))
    cosines[0] = 1
    return taps[..., half_size:].double() @ cosines


@lru_cache(maxsize=32)
def _cosines(n: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The DCT-I matrix and its inverse."""
    matrix = dct1_matrix(n, torch.float64, device)
    return matrix.to(dtype), (matrix / max(2 * (n - 1), 1)).to(dtype)


class CosineBasis:
    """DCT-I by matrix products, of images (..., H, W)."""

    def __init__(self, like: Tensor) -> None:
        self.frequencies = (like.shape[-2], like.shape[-1])
        (self.rows, self.rows_inverse), (self.columns, self.columns_inverse) = (
            _cosines(n, like.dtype, like.device) for n in self.frequencies
        )

    def transfer(self, taps: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = (symmetric_transfer(taps, max(2 * (n - 1), 1), n) for n in self.frequencies)
        return rows, columns

    def analyse(self, u: Tensor) -> Tensor:
        return self.rows @ (u @ self.columns.T)

    def analyse_adjoint(self, spectrum: Tensor) -> Tensor:
        return self.rows.T @ (spectrum @ self.columns)

    def cut(self, band: Band) -> Band:
        return band

    def synthesise(self, spectrum: Tensor) -> Iterator[Block]:
        rows, columns = spectrum.shape[-2:]
        lines = spectrum @ self.columns_inverse[:, :columns].T
        yield slice(None), self.rows_inverse[:, :rows] @ lines

    def synthesise_adjoint(self, image: Tensor, band: Band) -> Tensor:
        return (self.rows_inverse[:, : band[0]].T @ image) @ self.columns_inverse[:, : band[1]]

    def weight(self, band: Band) -> float:
        return 1.0


# Rows of an image that a processor's cache holds.
_BLOCK = 96


def fast_length(n: int) -> int:
    """The next even number without prime factors above 5, for which FFTs are fast."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1 and n % 2 == 0:
            return n
        n += 1


class FourierBasis:
    """Real FFT of the image continued by reflection on all sides. Only columns of frequencies are cut, not rows."""

    def __init__(self, like: Tensor, margin: int) -> None:
        self.size = (like.shape[-2], like.shape[-1])
        self.margin = margin
        self.periods = (fast_length(self.size[0] + 2 * margin), fast_length(self.size[1] + 2 * margin))
        self.frequencies = (self.periods[0], self.periods[1] // 2 + 1)
        self.like = like
        self.block = _BLOCK if like.device.type == 'cpu' else self.size[0]

    @property
    def _margins(self) -> tuple[int, int, int, int]:
        (height, width), (rows, columns), m = self.size, self.periods, self.margin
        return m, columns - width - m, m, rows - height - m

    def transfer(self, taps: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = (
            symmetric_transfer(taps, period, count)
            for period, count in zip(self.periods, self.frequencies, strict=True)
        )
        return rows, columns

    def analyse(self, u: Tensor) -> Tensor:
        return torch.fft.rfft2(pad(u, *self._margins))

    def analyse_adjoint(self, spectrum: Tensor) -> Tensor:
        return pad_adjoint(torch.fft.irfft2(spectrum, s=self.periods), *self._margins)

    def cut(self, band: Band) -> Band:
        """The rows' frequencies go up to the highest and back: they stay as they are."""
        return self.frequencies[0], band[1]

    def synthesise(self, spectrum: Tensor) -> Iterator[Block]:
        """Columns first, then only the rows that are inside."""
        m, (height, width) = self.margin, self.size
        lines = torch.fft.ifft(spectrum, dim=-2)
        for first in range(0, height, self.block):
            rows = slice(first, min(first + self.block, height))
            block = lines[..., m + rows.start : m + rows.stop, :]
            yield rows, torch.fft.irfft(block, n=self.periods[1], dim=-1)[..., m : m + width]

    def synthesise_adjoint(self, image: Tensor, band: Band) -> Tensor:
        """The FFT of the image amid zeros: rows first, then only the columns of frequencies that are kept."""
        left, right, top, bottom = self._margins
        lines = torch.fft.rfft(torch.nn.functional.pad(image, (left, right)), dim=-1)[..., : band[1]]
        return torch.fft.fft(torch.nn.functional.pad(lines, (0, 0, top, bottom)), dim=-2)

    def weight(self, band: Band) -> Tensor:
        """Frequencies but the first and the last stand for their negatives too; the inverse FFT divides by N."""
        rows, columns = self.periods
        weight = self.like.new_full((self.frequencies[1],), 2 / (rows * columns))
        weight[0] = weight[-1] = 1 / (rows * columns)
        return weight[: band[1]]
