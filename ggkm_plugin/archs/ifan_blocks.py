"""Blocks that IFAN and DRBNet share; module names are the released checkpoints' keys.

Convolutions have biases and zeros around them; LeakyReLU has slope 0.1; nothing is normalised.
"""

from torch import Tensor, nn


def leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.1, inplace=True)


def conv_lk(in_ch: int, out_ch: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_ch, out_ch, kernel_size, stride, kernel_size // 2), leaky())


def up_lk(in_ch: int, out_ch: int) -> nn.Sequential:
    """x2."""
    return nn.Sequential(nn.ConvTranspose2d(in_ch, out_ch, 4, stride=2, padding=1), leaky())


class ResStack(nn.Module):
    """`count` residual blocks x + conv3(LK(conv3(x))): (B,C,H,W) -> the same shape.

    `activated` (IFAN's): LK after each sum, and of several blocks the input is added once more at the end.
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
    """Three convolutions a level, PREFIX{level}_{1,2,3}; the first of every level but 1 halves the size."""
    for level, (in_ch, out_ch) in enumerate(zip((3, *channels[:-1]), channels, strict=True), start=1):
        for i in (1, 2, 3):
            stride = 2 if i == 1 and level > 1 else 1
            net.add_module(f'{prefix}{level}_{i}', conv_lk(in_ch if i == 1 else out_ch, out_ch, stride=stride))


def encode(net: nn.Module, prefix: str, levels: int, x: Tensor) -> list[Tensor]:
    """The features of each level of `add_encoder`'s, finest first."""
    features = []
    for level in range(1, levels + 1):
        for i in (1, 2, 3):
            x = net.get_submodule(f'{prefix}{level}_{i}')(x)
        features.append(x)
    return features


def add_upscales(net: nn.Module, channels: tuple[int, ...], activated: bool) -> None:
    """From 1/8 to full size, upconv{3,2,1}_u to channels[2], [1], [0], each with residual blocks _1 and _2."""
    for level in (3, 2, 1):
        out_ch = channels[level - 1]
        net.add_module(f'upconv{level}_u', up_lk(channels[level], out_ch))
        for i in (1, 2):
            net.add_module(f'upconv{level}_{i}', ResStack(out_ch, activated=activated))


def upscale(net: nn.Module, level: int, x: Tensor, skip: Tensor) -> Tensor:
    """One of `add_upscales`: (x, the encoder's features of this level) -> features of the skip's shape."""
    x = net.get_submodule(f'upconv{level}_u')(x) + skip
    for i in (1, 2):
        x = net.get_submodule(f'upconv{level}_{i}')(x)
    return x
