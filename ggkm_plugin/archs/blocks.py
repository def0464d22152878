"""Layers shared by several networks."""

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from ggkm_plugin.ops.adaptive import filter_per_pixel
from ggkm_plugin.ops.pyramid import double

Kernels = TypeVar('Kernels', bound='FixedKernels')
State = tuple[Tensor, Tensor]  # of an LSTM: h and c


def conv3x3(in_ch: int, out_ch: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """Build a zero-padded 3x3 convolution, which keeps the size (or halves it with stride 2)."""
    return nn.Conv2d(in_ch, out_ch, 3, stride, 1, bias=bias)


class ResBlock(nn.Module):
    """Residual block x + conv3(ReLU(conv3(x))), without bias and normalization; keeps the shape (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.relu(self.conv1(x)))


def res_blocks(channels: int, count: int) -> nn.Sequential:
    """Build a sequence of residual blocks."""
    return nn.Sequential(*(ResBlock(channels) for _ in range(count)))


def encoder(conv: nn.Module, channels: int, blocks: int) -> nn.Sequential:
    """Build an encoder block of GGKMNet: convolution, ReLU, residual blocks."""
    return nn.Sequential(conv, nn.ReLU(inplace=True), res_blocks(channels, blocks))


def upconv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Build a transposed convolution that doubles the size, with ReLU."""
    conv = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.ReLU(inplace=True))


def conv_stack(*channels: int) -> list[nn.Module]:
    """Build 3x3 convolutions with biases from each number of channels to the next, with ReLU between them."""
    layers: list[nn.Module] = []
    for in_ch, out_ch in pairwise(channels):
        layers += [conv3x3(in_ch, out_ch, bias=True), nn.ReLU(inplace=True)]
    return layers[:-1]


class ConvLSTMCell(nn.Module):
    """Convolutional LSTM cell; the gates i, f, o, g come from one biased convolution of [x; h].

    x is (B,in_ch,H,W); the state (h, c) is two tensors (B,hidden,H,W), or None for zeros. Returns the new state.
    """

    def __init__(self, in_ch: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.conv = nn.Conv2d(in_ch + hidden, 4 * hidden, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor, state: State | None) -> State:
        if state is None:
            zeros = x.new_zeros(x.shape[0], self.hidden, *x.shape[-2:])
            state = (zeros, zeros)
        h, c = state
        i, f, o, g = self.conv(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


def doubled(state: State | None) -> State | None:
    """Upscale the state of a ConvLSTM by 2."""
    return None if state is None else (double(state[0]), double(state[1]))


def xavier_init(network: nn.Module) -> None:
    """Initialize weights by Xavier's uniform rule and biases by zero; leave BatchNorm and parameter lists unchanged."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.ParameterList):
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.dim() >= 2:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)


class FixedKernels(nn.Module):
    """Base of modules with fixed kernels in the buffer `bank`: not in checkpoints, float32 or wider in any network."""

    bank: Tensor

    def make_bank(self) -> Tensor:
        """Compute the kernels in float64."""
        raise NotImplementedError

    def register_bank(self) -> None:
        """Create the buffer."""
        self.register_buffer('bank', self.make_bank().float(), persistent=False)

    def _apply(self: Kernels, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Kernels:
        super()._apply(fn, recurse)
        # `.half()` must not round the kernels, and `.double()` must not keep float32's rounding.
        self.bank = self.make_bank().to(self.bank.device, torch.promote_types(self.bank.dtype, torch.float32))
        return self


class PixelFilter(nn.Module):
    """`ops.adaptive.filter_per_pixel` as a module, so that its multiplications can be counted."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor, kernels: Tensor) -> Tensor:
        return filter_per_pixel(x, kernels, self.rows, self.columns)
