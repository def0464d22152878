"""Pairs of the PSF study: crops of a paired data set, and built-in pairs with known PSFs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ggkm_plugin.data.optics import SHARP_RADIUS, circle_of_confusion, procedural_disparity, render_defocus
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.data.photographs import SharpPhotograph, builtin_photographs, load_photograph
from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.studies.parametric_fit import GAUSSIAN, parameters, profile, ring_means, rings
from ggkm_plugin.studies.psf_fitting import MARGIN, StudyPair
from ggkm_plugin.utils.errors import DataError

# Built-in pairs: effective radius in pixels at the farthest and nearest depth, and shape of the generalized Gaussian (4
# has a flat top and soft edges).
_RADII = (0.3, 4.5)
_SHAPE = 4.0
_SCENE = 14  # seed of a scene with a ground of all depths and two nearer objects
_LENS_RADIUS = 5.0  # largest radius, in pixels, of the thin lens's disks


def central(height: int, width: int, size: int) -> tuple[slice, slice]:
    """Return rows and columns of the central square of this size, or of the largest rectangle within it."""
    rows, columns = min(size, height), min(size, width)
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def with_margin(image: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return the crop of (3,H,W) with MARGIN pixels around it; the image is continued by reflection."""
    padded = pad(image, MARGIN, MARGIN, MARGIN, MARGIN)
    return padded[:, rows.start : rows.stop + 2 * MARGIN, columns.start : columns.stop + 2 * MARGIN].contiguous()


def pairs_of_dataset(options: dict[str, Any], count: int, size: int) -> Iterator[StudyPair]:
    """Yield central crops of `count` pairs, evenly spread over a data set (options of PairedDefocusDataset).

    Raises OptionError or DataError as it does, and DataError for images of less than 16 pixels.
    """
    dataset = PairedDefocusDataset({**options, 'phase': 'test'})
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int):
        data = dataset[int(index)]
        blurred, sharp = data['lq'], data['gt']
        assert isinstance(blurred, Tensor)
        assert isinstance(sharp, Tensor)
        if min(blurred.shape[1:]) < 16:
            raise DataError(f'{data["lq_path"]}: {blurred.shape[1]}x{blurred.shape[2]} is too small to study PSFs in')
        rows, columns = central(blurred.shape[1], blurred.shape[2], size)
        name = Path(str(data['lq_path'])).stem
        yield StudyPair(name, with_margin(sharp, rows, columns), blurred[:, rows, columns].contiguous())


def builtin_pairs(size: int) -> Iterator[StudyPair]:
    """Yield photographs of scikit-image with Gaussian PSFs, with generalized Gaussian PSFs, and through a thin lens.

    The first two are blurred pixel by pixel with the model's PSFs, in display values. The lens blurs with disks in
    linear light and with occlusion, for which no model here is exact.
    """
    yield _modeled('Gaussian PSFs', _photograph('train', 'astronaut'), GAUSSIAN, size)
    yield _modeled(f'generalized, nu = {_SHAPE:g}', _photograph('val', 'coffee'), _SHAPE, size)
    yield _thin_lens(_photograph('val', 'motorcycle_left'), size)


def _photograph(split: str, name: str) -> SharpPhotograph:
    return next(photo for photo in builtin_photographs(split) if photo.name == name)


def _modeled(name: str, photograph: SharpPhotograph, shape: float, size: int) -> StudyPair:
    image = to_tensor(load_photograph(photograph)[0])
    rows, columns = central(image.shape[1], image.shape[2], size)
    sharp = with_margin(image, rows, columns)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    disparity = procedural_disparity((height, width), np.random.default_rng(_SCENE))
    radius = torch.from_numpy(disparity) * (_RADII[1] - _RADII[0]) + _RADII[0]
    theta = parameters(radius, torch.full_like(radius, shape))
    return blurred_by(name, sharp, theta)


def blurred_by(name: str, sharp: Tensor, theta: Tensor) -> StudyPair:
    """Return the pair with the generalized Gaussian PSFs of theta (H,W,2). sharp: with its margin."""
    of = rings()
    lines, radii = [], []
    for row, line in enumerate(theta):
        shares = profile(line, of)
        lines.append(torch.einsum('nr,nrc->cn', shares, ring_means(sharp, of, row, row + 1)))
        radii.append((shares @ of.distance.square()).sqrt())
    return StudyPair(name, sharp, torch.stack(lines, dim=1), torch.stack(radii))


def _thin_lens(photograph: SharpPhotograph, size: int) -> StudyPair:
    image, disparity = load_photograph(photograph)
    assert disparity is not None
    focus = float(np.median(disparity))
    strength = _LENS_RADIUS / float(np.abs(disparity - focus).max())
    blurred = to_tensor(render_defocus(image, disparity, focus, strength))
    disk = torch.from_numpy(circle_of_confusion(disparity, focus, strength))
    radius = torch.where(disk > SHARP_RADIUS, disk / 2**0.5, 0.0)  # of a uniform disk
    rows, columns = central(blurred.shape[1], blurred.shape[2], size)
    sharp = with_margin(to_tensor(image), rows, columns)
    return StudyPair('thin lens', sharp, blurred[:, rows, columns].contiguous(), radius[rows, columns])
