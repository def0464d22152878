"""The host's decoder for its own data sets, with all 16 bits and with words for a damaged file."""

import cv2
import numpy as np

from ggkm_plugin.data.decoding import decode_image, to_float

import basicsr.utils.img_util as host_img_util  # isort: skip


def imfrombytes(content: bytes, flag: str = 'color', float32: bool = False) -> np.ndarray:
    """As the host's, (H,W,3) BGR; with `float32` in [0,1] by the file's own depth. Raises DataError."""
    if flag != 'color' or not float32:
        return host_img_util.imfrombytes(content, flag, float32)
    return to_float(cv2.cvtColor(decode_image(content, 'an image'), cv2.COLOR_RGB2BGR))
