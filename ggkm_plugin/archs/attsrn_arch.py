"""AttSRN: SRN with attention in every residual block.

Y. Xu, Y. Zhu, Y. Quan, H. Ji, "Attentive Deep Network for Blind Motion Deblurring on Dynamic Scenes", CVIU 2021.
Written from published facts about the authors' TensorFlow network.
"""

from typing import Literal

from torch import Tensor, nn

from ggkm_plugin.archs.arguments import checked
from ggkm_plugin.archs.srn_arch import SRN, ResBlock5
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.utils.schema import Count


class AttentionBlock(ResBlock5):
    """Residual block of SRN with two gates in (0, 1) on its branch: one per pixel, then one per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        squeezed = max(1, channels // 16)

        def gate(out_ch: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, squeezed, 1), nn.ReLU(inplace=True), nn.Conv2d(squeezed, out_ch, 1), nn.Sigmoid()
            )

        self.spatial, self.channel = gate(1), gate(channels)

    def branch(self, x: Tensor) -> Tensor:
        y = super().branch(x)
        y = y * self.spatial(y)
        return y * self.channel(y.mean(dim=(-2, -1), keepdim=True))


@ARCH_REGISTRY.register()
class AttSRN(SRN):
    """AttSRN: `SRN` with attention; the channel attention uses the mean of the whole image.

    Args:
        variant: lstm5, the port of SRN with attention (10,276,529 parameters, as in the papers on defocus); or release,
            the released network (6,907,057 parameters, no LSTM, the official conventions).
        width: channels at full resolution; not in the paper: for small trials.

    Raises:
        ValueError: an invalid argument.
    """

    block = AttentionBlock

    @checked
    def __init__(self, variant: Literal['lstm5', 'release'] = 'lstm5', width: Count = 32) -> None:
        if variant == 'lstm5':
            super().__init__(width=width)
        else:
            super().__init__(0, 4, 'blurry', 'official', width=width)
