"""SRN: an encoder-decoder over three scales, coarse to fine, with a convolutional LSTM between them.

X. Tao, H. Gao, X. Shen, J. Wang, J. Jia, "Scale-Recurrent Network for Deep Image Deblurring", CVPR 2018. Written from
published facts about the authors' TensorFlow network and its PyTorch port. The port has the 10.25M parameters that
papers on defocus deblurring report.
"""

import warnings
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.archs.blocks import ConvLSTMCell, State, xavier_init
from ggkm_plugin.archs.tensorflow_layers import SameConv2d, double_legacy
from ggkm_plugin.ops.pyramid import double
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count

NUM_SCALES = 3


class ResBlock5(nn.Module):
    """Residual block x + branch(x) with 5x5 convolutions, conv-ReLU-conv; keeps the shape (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = SameConv2d(channels, channels, 5)
        self.conv2 = SameConv2d(channels, channels, 5)

    def branch(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x).relu())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


@ARCH_REGISTRY.register()
class SRN(AnySizeNet):
    """SRN: y (B,3,H,W) of any size -> the deblurred image, same shape, not clamped; 10,250,723 parameters by default.

    In training it returns a dict: `scales`, the images of the three scales coarse to fine, sides rounded up, `inputs`,
    the pyramid of y, `reconstructions` (empty), and `pyramid`, a function that builds the same pyramid of another
    image, for example the ground truth.

    `conventions='port'`: images in [-1,1]; an antialiased pyramid; bilinear upscaling of predictions and the LSTM's
    state; even padding of strided convolutions. `official`: images in [0,1]; a pyramid of every n-th pixel;
    TensorFlow's upscaling and padding (see `tensorflow_layers`); no gradient from a scale into the coarser prediction;
    the bias of the LSTM's forget gate is initialized with 1. Assumed: every level is resized from y; Xavier's
    initialization; separated colors are images of the batch.

    Args:
        lstm_kernel: kernel size of the ConvLSTM, 5 or 3 (the authors'); 0 omits the LSTM.
        deconv_kernel: kernel size of the transposed convolutions, 5 or 4 (the authors').
        first_pred: prediction before the coarsest scale: zeros, or blurry, the image itself (the authors').
        conventions: port or official.
        color: False treats each color as a gray image, as the authors' network with an LSTM does.
        width: channels at full resolution; not in the paper: for small trials.
        colour: deprecated name of `color`.

    Raises:
        ValueError: an invalid argument.
    """

    size_multiple = 16  # two halvings of the pyramid, then two strides
    block: type[nn.Module] = ResBlock5

    @checked
    def __init__(
        self,
        lstm_kernel: Literal[5, 3, 0] = 5,
        deconv_kernel: Literal[5, 4] = 5,
        first_pred: Literal['zeros', 'blurry'] = 'zeros',
        conventions: Literal['port', 'official'] = 'port',
        color: bool = True,
        width: Count = 32,
        colour: bool | None = None,
    ) -> None:
        super().__init__()
        if colour is not None:
            warnings.warn('SRN: colour is deprecated. Use color', DeprecationWarning, stacklevel=2)
            color = colour
        self.first_pred, self.color, self.official = first_pred, color, conventions == 'official'
        image_ch = 3 if color else 1
        c1, c2, c3 = width, 2 * width, 4 * width

        def encoder(in_ch: int, out_ch: int, stride: int) -> nn.Sequential:
            if self.official:
                conv: nn.Conv2d = SameConv2d(in_ch, out_ch, 5, stride)
            else:
                conv = nn.Conv2d(in_ch, out_ch, 5, stride, padding=2)
            return nn.Sequential(conv, nn.ReLU(inplace=True), *self._blocks(out_ch))

        def up(in_ch: int, out_ch: int) -> nn.Sequential:
            k = deconv_kernel
            conv = nn.ConvTranspose2d(in_ch, out_ch, k, stride=2, padding=k // 2 - 1 + k % 2, output_padding=k % 2)
            return nn.Sequential(*self._blocks(in_ch), conv, nn.ReLU(inplace=True))

        self.enc1, self.enc2, self.enc3 = encoder(2 * image_ch, c1, 1), encoder(c1, c2, 2), encoder(c2, c3, 2)
        self.lstm = ConvLSTMCell(c3, c3, lstm_kernel) if lstm_kernel else None
        self.dec3, self.dec2 = up(c3, c2), up(c2, c1)
        self.dec1 = nn.Sequential(*self._blocks(c1), SameConv2d(c1, image_ch, 5))
        xavier_init(self)
        if self.lstm is not None and self.official:
            _, forget, _, _ = cast(Tensor, self.lstm.conv.bias).chunk(4)
            nn.init.ones_(forget)

    def _blocks(self, channels: int) -> list[nn.Module]:
        return [self.block(channels) for _ in range(3)]

    def step(self, y: Tensor, prediction: Tensor, state: State | None) -> tuple[Tensor, State | None]:
        """Run one scale: the blurry image and the prediction so far -> the new prediction and state."""
        e1 = self.enc1(torch.cat([y, prediction], dim=1))
        e2 = self.enc2(e1)
        features = self.enc3(e2)
        if self.lstm is not None:
            state = self.lstm(features, state)
            features = state[0]
        return self.dec1(self.dec2(self.dec3(features) + e2) + e1), state

    def levels(self, y: Tensor) -> list[Tensor]:
        """Build y at the three scales, coarse to fine; H and W are multiples of 4."""
        if self.official:
            return [y[..., ::4, ::4], y[..., ::2, ::2], y]
        return [
            F.interpolate(y, scale_factor=1 / n, mode='bilinear', align_corners=False, antialias=True) for n in (4, 2)
        ] + [y]

    def pyramid(self, y: Tensor) -> list[Tensor]:
        """Build `levels` of y (B,3,H,W) of any size, sides rounded up."""
        return [self.cropped(level, y) for level in self.levels(self.padded(y))]

    def unroll(self, ys: list[Tensor]) -> list[Tensor]:
        """Return the predictions of all scales of a pyramid, coarse to fine."""
        enlarge = double_legacy if self.official else double
        predictions: list[Tensor] = []
        state: State | None = None
        for y in ys:
            if not predictions:
                prediction = y if self.first_pred == 'blurry' else torch.zeros_like(y)
            else:
                coarser = predictions[-1].detach() if self.official else predictions[-1]
                prediction = enlarge(coarser)
            if state is not None:
                state = enlarge(state[0]), enlarge(state[1])
            prediction, state = self.step(y, prediction, state)
            predictions.append(prediction)
        return predictions

    def restore(self, y: Tensor) -> Tensor | dict[str, Any]:
        images = y if self.color else y.reshape(-1, 1, *y.shape[-2:])
        inputs = self.levels(images)
        scaled = inputs if self.official else [2 * level - 1 for level in inputs]
        predictions = [(x if self.official else (x + 1) / 2).reshape(-1, 3, *x.shape[-2:]) for x in self.unroll(scaled)]
        if not self.training:
            return predictions[-1]
        inputs = [level.reshape(-1, 3, *level.shape[-2:]) for level in inputs]
        return {'scales': predictions, 'inputs': inputs, 'reconstructions': [], 'pyramid': self.pyramid}
