"""Building blocks shared by the archs."""

from typing import Any

import torch
from torch import Tensor, nn

from ggkm_plugin.archs.folding import inference_form
from ggkm_plugin.ops.adaptive import filter_per_pixel
from ggkm_plugin.ops.boundary import pad


class AnySizeNet(nn.Module):
    """y (B,3,H,W), RGB in [0,1], of any size -> its image, same shape and dtype; to be derived from.

    y is continued by reflection to the right and below until `restore` can take it, and what that gives is cut back,
    in training too. Names in `training_only` are submodules that evaluation does not use, those in `optional` too may
    be absent: then a checkpoint that has them still loads strictly.
    """

    size_multiple: int  # of the H and W that `restore` takes
    training_only: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_pre_hook(_drop_absent)

    def restore(self, y: Tensor) -> Tensor | dict[str, Any]:
        """The image of y; or in training a dict (see `GGKMNet`), whose lists hold images of full size or halved."""
        raise NotImplementedError

    def padded(self, y: Tensor) -> Tensor:
        height, width = y.shape[-2:]
        return pad(y, 0, -width % self.size_multiple, 0, -height % self.size_multiple)

    def cut(self, image: Tensor, y: Tensor) -> Tensor:
        """The part of an image of `padded(y)`, or of one halved several times, that shows y; in y's dtype."""
        height, width = y.shape[-2:]
        shrink = (height + -height % self.size_multiple) // image.shape[-2]
        return image[..., : -(-height // shrink), : -(-width // shrink)].to(y.dtype)

    def forward(self, y: Tensor) -> Tensor | dict[str, Any]:
        output = self.restore(self.padded(y))
        if isinstance(output, Tensor):
            return self.cut(output, y)
        return {
            key: [self.cut(image, y) for image in value] if isinstance(value, list) else value
            for key, value in output.items()
        }

    def prepare_inference(self) -> 'AnySizeNet':
        """The form for inference (see `folding.inference_form`): a copy."""
        return inference_form(self)


def _drop_absent(net: AnySizeNet, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    for name in (*net.training_only, *net.optional):
        if getattr(net, name) is None:
            for key in [key for key in state_dict if key.startswith(f'{prefix}{name}.')]:
                del state_dict[key]


def check_width(width: int, least: int = 1) -> None:
    """Raises ValueError for channels that no network can be built of."""
    if type(width) is not int or width < least:
        raise ValueError(f'width is a whole number of at least {least}, not {width!r}')


def check_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    """Raises ValueError naming the argument and its choices; 2.0 is no 2."""
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise ValueError(f'{name} is one of {", ".join(map(str, choices))}, not {value!r}')


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


def xavier_init(network: nn.Module) -> None:
    """Xavier-uniform weights, zero biases; BatchNorm is left alone."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.dim() >= 2:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)


class PixelFilter(nn.Module):
    """`ops.adaptive.filter_per_pixel` as a module: so that its multiplications are counted (see `complexity`)."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, x: Tensor, kernels: Tensor) -> Tensor:
        return filter_per_pixel(x, kernels, self.rows, self.columns)
