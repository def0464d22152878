"""SRN: one encoder-decoder run over three scales, coarse to fine, with a convolutional LSTM between them.

X. Tao, H. Gao, X. Shen, J. Wang, J. Jia, "Scale-Recurrent Network for Deep Image Deblurring", CVPR 2018. Written from
recorded facts about the authors' TensorFlow network and its PyTorch port, whose 10.25M parameters the defocus papers
quote.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.arguments import check_choice, check_width
from ggkm_plugin.archs.base import AnySizeNet
from ggkm_plugin.archs.blocks import ConvLSTMCell, xavier_init
from ggkm_plugin.archs.tensorflow_layers import SameConv2d, double_legacy
from ggkm_plugin.ops.pyramid import double
from ggkm_plugin.utils.registry import ARCH_REGISTRY

NUM_SCALES = 3
State = tuple[Tensor, Tensor]


class ResBlock5(nn.Module):
    """x + branch(x), the branch conv5-ReLU-conv5: (B,C,H,W) -> the same shape."""

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
    """y (B,3,H,W) of any size -> the deblurred image, same shape, not clamped; by default 10,250,723 parameters.

    In training it returns a dict: `scales`, the images of the three scales coarse to fine, sides rounded up, `inputs`,
    the pyramid of y, `reconstructions` (empty), and `pyramid`, which makes of another image, say the ground truth, what
    it made of y.

    `conventions='port'`: images in [-1,1]; a pyramid of antialiased halves; predictions and the LSTM's state enlarged
    bilinearly; strided convolutions padded evenly. `official`: images in [0,1]; a pyramid of every n-th pixel;
    TensorFlow's enlarging and padding (see `tensorflow_layers`); no gradient from a scale into the prediction of the
    coarser; the LSTM's forget gate starts open, its bias 1. Not in the facts: in both every level is made from y; all
    weights start as Xavier's; where colours are separated they are images of the batch.

    Args:
        lstm_kernel: 5 or 3, of the ConvLSTM; 0 leaves it out. The authors' LSTM has 3.
        deconv_kernel: 5 or 4, of the transposed convolutions. The authors' have 4.
        first_pred: what the coarsest scale takes for a prediction: zeros, or the blurry image itself, the authors'.
        conventions: port or official.
        colour: False treats each colour as a grey image of its own, as the authors' LSTM form does.
        width: channels at full resolution; not in the paper: for small trials.

    Raises:
        ValueError: an argument that is none of the above, naming it.
    """

    size_multiple = 16  # two halvings of the pyramid, then two strides
    block: type[nn.Module] = ResBlock5

    def __init__(
        self,
        lstm_kernel: int = 5,
        deconv_kernel: int = 5,
        first_pred: str = 'zeros',
        conventions: str = 'port',
        colour: bool = True,
        width: int = 32,
    ) -> None:
        super().__init__()
        check_choice('lstm_kernel', lstm_kernel, (5, 3, 0))
        check_choice('deconv_kernel', deconv_kernel, (5, 4))
        check_choice('first_pred', first_pred, ('zeros', 'blurry'))
        check_choice('conventions', conventions, ('port', 'official'))
        check_choice('colour', colour, (True, False))
        check_width(width)
        self.first_pred, self.colour, self.official = first_pred, colour, conventions == 'official'
        image_ch = 3 if colour else 1
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
        """One scale: the blurry image and the prediction so far -> the new prediction and state."""
        e1 = self.enc1(torch.cat([y, prediction], dim=1))
        e2 = self.enc2(e1)
        features = self.enc3(e2)
        if self.lstm is not None:
            state = self.lstm(features, state)
            features = state[0]
        return self.dec1(self.dec2(self.dec3(features) + e2) + e1), state

    def levels(self, y: Tensor) -> list[Tensor]:
        """y at the three scales, coarse to fine; H and W multiples of 4."""
        if self.official:
            return [y[..., ::4, ::4], y[..., ::2, ::2], y]
        return [
            F.interpolate(y, scale_factor=1 / n, mode='bilinear', align_corners=False, antialias=True) for n in (4, 2)
        ] + [y]

    def pyramid(self, y: Tensor) -> list[Tensor]:
        """`levels` of y (B,3,H,W) of any size, sides rounded up."""
        return [self.cropped(level, y) for level in self.levels(self.padded(y))]

    def unroll(self, ys: list[Tensor]) -> list[Tensor]:
        """The predictions of all scales of a pyramid, coarse to fine."""
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
        images = y if self.colour else y.reshape(-1, 1, *y.shape[-2:])
        inputs = self.levels(images)
        scaled = inputs if self.official else [2 * level - 1 for level in inputs]
        predictions = [(x if self.official else (x + 1) / 2).reshape(-1, 3, *x.shape[-2:]) for x in self.unroll(scaled)]
        if not self.training:
            return predictions[-1]
        inputs = [level.reshape(-1, 3, *level.shape[-2:]) for level in inputs]
        return {'scales': predictions, 'inputs': inputs, 'reconstructions': [], 'pyramid': self.pyramid}
