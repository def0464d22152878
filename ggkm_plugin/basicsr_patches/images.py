"""The host's decoder and JPEG encoder for its own data sets: all 16 bits, words for a damaged file, whole qualities."""

import cv2
import numpy as np

from ggkm_plugin.utils.image_decoding import decode_image, to_float

import basicsr.data.degradations as host_degradations  # isort: skip
import basicsr.utils.img_util as host_img_util  # isort: skip

_host_add_jpg_compression = host_degradations.add_jpg_compression


def imfrombytes(content: bytes, flag: str = 'color', float32: bool = False) -> np.ndarray:
    """As the host's, (H,W,3) BGR; with `float32` in [0,1] by the file's own depth. Raises DataError."""
    if flag != 'color' or not float32:
        return host_img_util.imfrombytes(content, flag, float32)
    return to_float(cv2.cvtColor(decode_image(content, 'an image'), cv2.COLOR_RGB2BGR))


def add_jpg_compression(img: np.ndarray, quality: float = 90) -> np.ndarray:
    """As the host's, (H,W,C) float32 in [0,1]; OpenCV takes whole qualities only, the host draws fractions."""
    return _host_add_jpg_compression(img, round(float(quality)))
