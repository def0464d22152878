"""An inspection as one HTML file without network access: hovering over the photograph shows the PSF of the pixel.

The page holds the coefficients as compressed integers, -127 to 127 of each map's largest value, and the kernels in
float32, and multiplies them itself. Its PSFs differ by at most 1/254 of the sum of the |beta_p w_p|.
"""

import base64
import zlib
from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from ggkm_plugin.inspection.inspection import Inspection, Place, shown_reach
from ggkm_plugin.inspection.sheet import DECADES, LETTERS, UNTRAINED, full_scale
from ggkm_plugin.report import figures, html_page
from ggkm_plugin.report.pictures import color_stops, colored, to_uint8

_LEVELS = 127
_JPEG_QUALITY = 92


def page(inspection: Inspection, name: str, places: Sequence[Place], note: str = '') -> str:
    """Return the HTML. `places` are marked with letters, in order; `note` is shown below the title."""
    beta = inspection.estimates[-1].beta.numpy()
    most = np.abs(beta).max(axis=(1, 2))
    levels = np.rint(beta / np.maximum(most, 1e-30)[:, None, None] * _LEVELS).astype(np.int8)
    height, width = inspection.radius.shape
    data = {
        'name': name,
        'about': [f'{inspection.subject.name}: {inspection.subject.source}', *([note] if note else [])],
        'warning': '' if inspection.subject.trained else UNTRAINED,
        'width': width,
        'height': height,
        'pictures': [
            ['Photograph', _jpeg(to_uint8(inspection.photograph))],
            ['Result', _jpeg(to_uint8(inspection.result))],
            ['Blur map', *_map(inspection.radius, 'effective radius, pixels')],
            ['Strength', *_map(inspection.strength, 'strength: sum of |b - delta|')],
        ],
        'colors': color_stops(cv2.COLORMAP_VIRIDIS),
        'signed': [figures.BLUE, figures.VERMILION],
        'beta': _packed(levels),
        'steps': (most / _LEVELS).tolist(),
        'kernels': _packed(inspection.kernels.numpy().astype('<f4')),
        'size': inspection.kernels.shape[-1],
        'decades': DECADES,
        'reach': shown_reach([inspection.psf_at(place) for place in places]),
        'radii': inspection.kernel_radii,
        'weight': None if inspection.weight is None else inspection.weight.tolist(),
        'marks': [[letter, *place] for letter, place in zip(LETTERS, places, strict=False)],
    }
    return html_page.render(name, data, 'inspection', ('psf', 'layers', 'start'))


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode('ascii')


def _jpeg(picture: np.ndarray) -> str:
    _, content = cv2.imencode('.jpg', picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return f'data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode("ascii")}'


def _map(values: Tensor, unit: str) -> tuple[str, str, float]:
    """Return picture, unit and full scale of a map."""
    high = full_scale(values)
    return _jpeg(colored(values.numpy(), 0, high)), unit, high
