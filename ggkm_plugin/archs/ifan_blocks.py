"""Layers shared by IFAN and DRBNet; module names are the released checkpoints' keys.

Convolutions have biases and zero padding; LeakyReLU has slope 0.1; there is no normalization.
"""

from torch import Tensor, nn


def leaky() -> nn.LeakyReLU:
    """Build the activation."""
    return nn.LeakyReLU(0.1, inplace=True)


def conv_lk(in_ch: int, out_ch: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Build convolution and LeakyReLU."""
    return nn.Sequential(nn.Conv2d(in_ch, out_ch, kernel_size, stride, kernel_size // 2), leaky())


def up_lk(in_ch: int, out_ch: int) -> nn.Sequential:
    """Build a transposed convolution that doubles the size, and LeakyReLU."""
    return nn.Sequential(nn.ConvTranspose2d(in_ch, out_ch, 4, stride=2, padding=1), leaky())


class ResStack(nn.Module):
    """Sequence of residual blocks x + conv3(LeakyReLU(conv3(x))); keeps the shape (B,C,H,W).

    `activated` (IFAN): LeakyReLU after each sum; after several blocks the input is added once more.
    """

    def __init__(self, channels: int, count: int = 1, activated: bool = False) -> None:
        super().__init__()
        self.stem = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1), leaky(), nn.Conv2d(channels, channels, 3, padding=1)
            )
            for _ in range(count)
        )
        self.act = leaky() if activated else None

    def forward(self, x: Tensor) -> Tensor:
        t = x
        for block in self.stem:
            t = t + block(t)
            if self.act is not None:
                t = self.act(t)
        return t + x if self.act is not None and len(self.stem) > 1 else t


def add_encoder(net: nn.Module, prefix: str, channels: tuple[int, ...]) -> None:
    """Add an encoder to a network: three convolutions per level, PREFIX{level}_{1,2,3}.

    The first of every level but level 1 halves the size.
    """
    for level, (in_ch, out_ch) in enumerate(zip((3, *channels[:-1]), channels, strict=True), start=1):
        for i in (1, 2, 3):
            stride = 2 if i == 1 and level > 1 else 1
            net.add_module(f'{prefix}{level}_{i}', conv_lk(in_ch if i == 1 else out_ch, out_ch, stride=stride))


def encode(net: nn.Module, prefix: str, levels: int, x: Tensor) -> list[Tensor]:
    """Compute the features of each level of the encoder, finest first."""
    features = []
    for level in range(1, levels + 1):
        for i in (1, 2, 3):
            x = net.get_submodule(f'{prefix}{level}_{i}')(x)
        features.append(x)
    return features


def add_upscales(net: nn.Module, channels: tuple[int, ...], activated: bool) -> None:
    """Add a decoder from 1/8 to full size: upconv{3,2,1}_u to channels[2], [1], [0], with residual blocks _1 and _2."""
    for level in (3, 2, 1):
        out_ch = channels[level - 1]
        net.add_module(f'upconv{level}_u', up_lk(channels[level], out_ch))
        for i in (1, 2):
            net.add_module(f'upconv{level}_{i}', ResStack(out_ch, activated=activated))


def decode_level(net: nn.Module, level: int, x: Tensor, skip: Tensor) -> Tensor:
    """Run one level of the decoder: (x, the encoder's features of this level) -> features of the skip's shape."""
    x = net.get_submodule(f'upconv{level}_u')(x) + skip
    for i in (1, 2):
        x = net.get_submodule(f'upconv{level}_{i}')(x)
    return x
