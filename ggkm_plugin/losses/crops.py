"""What a training crop must be for the multi-scale losses."""

from torch import Tensor

from ggkm_plugin.errors import CropSizeError

SSIM_WINDOW = 11


def check_crop(gt: Tensor, num_scales: int, with_ssim: bool) -> None:
    """Raises CropSizeError where gt (B,C,H,W) fits neither the pyramid nor, where it is needed, SSIM's window."""
    height, width = gt.shape[-2:]
    shrink = 2 ** (num_scales - 1)
    if height % shrink or width % shrink:
        raise CropSizeError(
            f'a training crop of {height}x{width} cannot be halved {num_scales - 1} times: '
            f'set datasets.train.gt_size to a multiple of {shrink}'
        )
    if with_ssim and min(height, width) // shrink < SSIM_WINDOW:
        raise CropSizeError(
            f'a training crop of {height}x{width} is {min(height, width) // shrink} pixels wide at the coarsest of '
            f'{num_scales} scales, smaller than the SSIM window of {SSIM_WINDOW}: set datasets.train.gt_size to '
            f'{SSIM_WINDOW * shrink} or more, or train.pixel_opt.ssim_weight: 0'
        )
