"""The pairs of the PSF study: crops of a paired data set, and built-in ones whose PSFs are known."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ggkm_plugin.data.optics import SHARP_RADIUS, circle_of_confusion, procedural_disparity, render_defocus
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.data.photographs import Photograph, builtin_photographs, load_photograph
from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.ops.boundary import pad
from ggkm_plugin.studies.parametric_fit import GAUSSIAN, parameters, profile, ring_means, rings
from ggkm_plugin.studies.psf_fitting import MARGIN, StudyPair
from ggkm_plugin.utils.errors import DataError

# Of the built-in pairs: effective radius in pixels where the made-up scene is farthest and nearest, and the shape of
# the generalized Gaussian (4 has a flat top and soft edges).
_RADII = (0.3, 4.5)
_SHAPE = 4.0
_SCENE = 14  # the seed: a ground of all depths and two nearer objects
_LENS_RADIUS = 5.0  # of the disk, pixels, where the thin lens blurs most


def central(height: int, width: int, size: int) -> tuple[slice, slice]:
    """Rows and columns of a square of this size in the middle, or of as much as there is."""
    rows, columns = min(size, height), min(size, width)
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def with_margin(image: Tensor, rows: slice, columns: slice) -> Tensor:
    """The crop of (3,H,W) with MARGIN pixels around it, beyond the image's edges by reflection."""
    padded = pad(image, MARGIN, MARGIN, MARGIN, MARGIN)
    return padded[:, rows.start : rows.stop + 2 * MARGIN, columns.start : columns.stop + 2 * MARGIN].contiguous()


def pairs_of_dataset(options: dict[str, Any], count: int, size: int) -> Iterator[StudyPair]:
    """Central crops of `count` pairs, evenly spread over a data set; see PairedDefocusDataset for the options.

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
    """Photographs of scikit-image under Gaussian PSFs, under generalized Gaussian ones, and through a thin lens.

    The first two are blurred pixel by pixel as the model says, in the photograph's own values. The lens blurs by disks,
    in linear light, and lets near things hide far ones: no model here is exact for it.
    """
    yield _modelled('Gaussian PSFs', _photograph('train', 'astronaut'), GAUSSIAN, size)
    yield _modelled(f'generalized, nu = {_SHAPE:g}', _photograph('val', 'coffee'), _SHAPE, size)
    yield _thin_lens(_photograph('val', 'motorcycle_left'), size)


def _photograph(split: str, name: str) -> Photograph:
    return next(photo for photo in builtin_photographs(split) if photo.name == name)


def _modelled(name: str, photograph: Photograph, shape: float, size: int) -> StudyPair:
    image = to_tensor(load_photograph(photograph)[0])
    rows, columns = central(image.shape[1], image.shape[2], size)
    sharp = with_margin(image, rows, columns)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    disparity = procedural_disparity((height, width), np.random.default_rng(_SCENE))
    radius = torch.from_numpy(disparity) * (_RADII[1] - _RADII[0]) + _RADII[0]
    theta = parameters(radius, torch.full_like(radius, shape))
    return blurred_by(name, sharp, theta)


def blurred_by(name: str, sharp: Tensor, theta: Tensor) -> StudyPair:
    """The pair whose pixels have the generalized Gaussian PSFs of theta (H,W,2); sharp has its margin."""
    of = rings()
    lines, radii = [], []
    for row, line in enumerate(theta):
        shares = profile(line, of)
        lines.append(torch.einsum('nr,nrc->cn', shares, ring_means(sharp, of, row, row + 1)))
        radii.append((shares @ of.distance.square()).sqrt())
    return StudyPair(name, sharp, torch.stack(lines, dim=1), torch.stack(radii))


def _thin_lens(photograph: Photograph, size: int) -> StudyPair:
    image, disparity = load_photograph(photograph)
    assert disparity is not None  # the motorcycle has one
    focus = float(np.median(disparity))
    strength = _LENS_RADIUS / float(np.abs(disparity - focus).max())
    blurred = to_tensor(render_defocus(image, disparity, focus, strength))
    disk = torch.from_numpy(circle_of_confusion(disparity, focus, strength))
    radius = torch.where(disk > SHARP_RADIUS, disk / 2**0.5, 0.0)  # of a disk of even brightness
    rows, columns = central(blurred.shape[1], blurred.shape[2], size)
    sharp = with_margin(to_tensor(image), rows, columns)
    return StudyPair('thin lens', sharp, blurred[:, rows, columns].contiguous(), radius[rows, columns])
