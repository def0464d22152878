"""An inspection as one HTML file that needs nothing else: hovering over the photograph shows the PSF of the pixel.

The coefficients go into the page as whole numbers, -127 to 127 of each map's largest, compressed; the kernels in
float32. The page multiplies them itself: the PSF that it shows is off by at most 1/254 of the sum of the |beta_p w_p|.
"""

import base64
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from ggkm_plugin.inspection.inspection import Inspection, Place, shown_reach
from ggkm_plugin.inspection.sheet import DECADES, LETTERS, UNTRAINED, full_scale
from ggkm_plugin.report import drawing, viewer

_PARTS = Path(__file__).with_name('page_parts')
_LEVELS = 127
_JPEG_QUALITY = 92
_COLOUR_STOPS = 33


def page(seen: Inspection, name: str, places: Sequence[Place], note: str = '') -> str:
    """The file's text."""
    beta = seen.estimates[-1].beta.numpy()
    most = np.abs(beta).max(axis=(1, 2))
    levels = np.rint(beta / np.maximum(most, 1e-30)[:, None, None] * _LEVELS).astype(np.int8)
    height, width = seen.radius.shape
    data = {
        'name': name,
        'about': [f'{seen.subject.name}: {seen.subject.source}', *([note] if note else [])],
        'warning': '' if seen.subject.trained else UNTRAINED,
        'width': width,
        'height': height,
        'pictures': [
            ['Photograph', _jpeg(drawing.photograph(seen.photograph.permute(1, 2, 0).numpy()))],
            ['Result', _jpeg(drawing.photograph(seen.result.permute(1, 2, 0).numpy()))],
            ['Blur map', *_map(seen.radius, 'effective radius, pixels')],
            ['Strength', *_map(seen.strength, 'strength: sum of |b - delta|')],
        ],
        'colours': _stops(),
        'beta': _packed(levels),
        'steps': (most / _LEVELS).tolist(),
        'kernels': _packed(seen.kernels.numpy().astype('<f4')),
        'size': seen.kernels.shape[-1],
        'decades': DECADES,
        'reach': shown_reach([seen.psf_at(place) for place in places]),
        'radii': seen.kernel_radii,
        'weight': None if seen.weight is None else seen.weight.tolist(),
        'marks': [[letter, *place] for letter, place in zip(LETTERS, places, strict=False)],
    }
    return viewer.page(name, data, _PARTS, ('psf', 'layers', 'start'))


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode('ascii')


def _jpeg(picture: np.ndarray) -> str:
    _, content = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return f'data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode("ascii")}'


def _map(values: Tensor, unit: str) -> tuple[str, str, float]:
    """The picture, what its colours mean, and their full scale."""
    high = full_scale(values)
    return _jpeg(drawing.coloured(values.numpy(), 0, high)), unit, high


def _stops() -> list[str]:
    """The maps' colours from zero to full scale."""
    ramp = drawing.coloured(np.linspace(0, 1, _COLOUR_STOPS)[None], 0, 1)[0]
    return ['#{:02x}{:02x}{:02x}'.format(*colour) for colour in ramp]
