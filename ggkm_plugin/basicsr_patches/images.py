"""Image decoder and JPEG compression for BasicSR's data sets: 16 bits kept, damaged files refused, integer quality."""

import cv2
import numpy as np

from ggkm_plugin.utils.image_decoding import decode_image, to_float

import basicsr.data.degradations as basicsr_degradations  # isort: skip
import basicsr.utils.img_util as basicsr_img_util  # isort: skip

_basicsr_add_jpg_compression = basicsr_degradations.add_jpg_compression


def imfrombytes(content: bytes, flag: str = 'color', float32: bool = False) -> np.ndarray:
    """Decode an image to (H,W,3) BGR; with `float32` to [0,1] by the file's bit depth. Raises DataError."""
    if flag != 'color' or not float32:
        return basicsr_img_util.imfrombytes(content, flag, float32)
    return to_float(cv2.cvtColor(decode_image(content, 'an image'), cv2.COLOR_RGB2BGR))


def add_jpg_compression(img: np.ndarray, quality: float = 90) -> np.ndarray:
    """Compress (H,W,C) float32 in [0,1]. The quality is rounded: BasicSR draws fractions, OpenCV takes integers."""
    return _basicsr_add_jpg_compression(img, round(float(quality)))
