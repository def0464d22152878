"""Building blocks shared by the archs."""

import torch
from torch import Tensor, nn


def conv3x3(in_ch: int, out_ch: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """3x3 convolution, zero-padded to keep the size (or halve it with stride 2)."""
    return nn.Conv2d(in_ch, out_ch, 3, stride, 1, bias=bias)


class ResBlock(nn.Module):
    """x + conv3(ReLU(conv3(x))): (B,C,H,W) -> the same shape; no bias, no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.relu(self.conv1(x)))


def res_blocks(channels: int, count: int) -> nn.Sequential:
    """`count` residual blocks in a row."""
    return nn.Sequential(*(ResBlock(channels) for _ in range(count)))


class ConvLSTMCell(nn.Module):
    """One step of a convolutional LSTM, gates i, f, o, g from one biased convolution of [x; h].

    x (B,in_ch,H,W), state (h, c) each (B,hidden,H,W) or None for zeros; returns the new (h, c), h in (-1, 1).
    """

    def __init__(self, in_ch: int, hidden: int, kernel_size: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.conv = nn.Conv2d(in_ch + hidden, 4 * hidden, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        if state is None:
            zeros = x.new_zeros(x.shape[0], self.hidden, *x.shape[-2:])
            state = (zeros, zeros)
        h, c = state
        i, f, o, g = self.conv(torch.cat([x, h], dim=1)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
