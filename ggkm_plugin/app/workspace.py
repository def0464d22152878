"""Photographs of the page: restored once, then shown and saved at any strength.

Images of full size lie in files of a temporary folder and are mapped into memory, so that many photographs need no more
of it than one.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ggkm_plugin.inspection.inspection import shown_reach
from ggkm_plugin.report import figures
from ggkm_plugin.report.pictures import colored
from ggkm_plugin.restoration.blur_estimate import BlurEstimate
from ggkm_plugin.restoration.image_io import (
    FORMATS,
    Photograph,
    read_photograph,
    result_suffix,
    screen_picture,
    write_bytes,
    write_photograph,
)
from ggkm_plugin.restoration.psf import effective_radius
from ggkm_plugin.restoration.restorer import Restorer
from ggkm_plugin.restoration.strength import AdjustableResult
from ggkm_plugin.restoration.tiling import TileProgress
from ggkm_plugin.utils.image_decoding import to_float

# Pixels of the pictures on the page.
_SHOWN = 3_000_000
# Longer side that blur maps of small photographs are enlarged to, about.
_SMALLEST = 1000
_DECADES = 5  # of the logarithmic colors of PSFs
_PSF_SIDE = 360


@dataclass(frozen=True, eq=False)
class RestoredPhotograph:
    """A photograph with its result.

    Attributes:
        name: of its file.
        weights: by which it was restored.
        photograph: with the pixels before.
        result: in full size.
        preview: in the size of the page.
        folder: where its pictures and its result are written.
        seconds: that the network took.
    """

    name: str
    weights: str
    photograph: Photograph
    result: AdjustableResult[np.ndarray]
    preview: AdjustableResult[np.ndarray]
    folder: Path
    seconds: float

    def pictures(self, strength: float) -> tuple[str, str]:
        """Write the pictures before and after, for the slider. Return their paths."""
        after = self._picture(f'after_{strength:g}', self.preview.at(strength))
        return self._picture('before', self.preview.image), after

    def _picture(self, name: str, image: np.ndarray) -> str:
        path = self.folder / f'{name}.jpg'
        if not path.exists():
            pixels = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
            write_bytes(str(path), screen_picture(Photograph(pixels, icc=self.photograph.icc)))
        return str(path)

    def blur_picture(self) -> tuple[np.ndarray, float] | None:
        """Draw the blur map: (H',W',3) uint8, and the radius in pixels of its brightest color; None without one."""
        if self.preview.estimate is None:
            return None
        radius = self.preview.estimate.radius.numpy()
        most = max(float(np.percentile(radius, 99.5)), 1.0)
        # Gradio never enlarges a picture that can be clicked on.
        factor = max(1, _SMALLEST // max(radius.shape))
        return colored(radius, 0, most).repeat(factor, 0).repeat(factor, 1), most

    def place(self, x: int, y: int, picture: np.ndarray) -> tuple[int, int]:
        """Convert a place in a picture of the photograph to one in the photograph."""
        height, width = self.photograph.colors.shape[:2]
        rows, columns = picture.shape[:2]
        return min(int((x + 0.5) * width / columns), width - 1), min(int((y + 0.5) * height / rows), height - 1)

    def psf_picture(self, x: int, y: int) -> tuple[str, float, int] | None:
        """Draw the PSF at a place in the photograph. Return the path, the radius and the side in pixels."""
        estimate = self.result.estimate
        if estimate is None:
            return None
        psf = estimate.psf_at(x, y)
        reach, middle = shown_reach([psf]), psf.shape[-1] // 2
        window = slice(middle - reach, middle + reach + 1)
        drawn = figures.figure(_PSF_SIDE, _PSF_SIDE)
        shown = figures.signed_log(psf.mean(0)[window, window].numpy(), _DECADES)
        figures.show_signed(drawn.subplots(), shown, 1)
        path = self.folder / f'psf_{x}_{y}.png'
        figures.write_png(drawn, path)
        return str(path), effective_radius(psf.abs().sum(0)).item(), 2 * reach + 1

    def save(self, strength: float) -> tuple[str, list[str]]:
        """Write the result in full size, as `basicsr deblur` does. Return its path, and what the file does not hold."""
        name = Path(self.name)
        suffix = result_suffix(name.suffix)
        suffix = suffix if suffix.lower() in FORMATS else '.png'
        path = self.folder / f'strength_{strength:g}' / f'{name.stem}_deblurred{suffix}'
        return str(path), write_photograph(str(path), replace(self.photograph, colors=self.result.at(strength)))


class Workspace:
    """Restores photographs with the weights that are chosen, on one device."""

    def __init__(self, folder: str | Path, device: str = 'auto') -> None:
        self.folder = Path(folder)
        self.device = device
        self._restorers: dict[str, Restorer] = {}

    def restorer(self, weights: str) -> Restorer:
        """Return the restorer of a checkpoint, which is loaded once."""
        if weights not in self._restorers:
            self._restorers[weights] = Restorer(weights, self.device)
        return self._restorers[weights]

    def restore(self, path: str, weights: str, progress: Callable[[TileProgress], None]) -> RestoredPhotograph:
        """Restore the photograph of a file. Raises UserError."""
        photograph = read_photograph(path)
        restorer = self.restorer(weights)
        restorer.progress = progress
        start = time.monotonic()
        result = restorer.adjustable(photograph.colors)
        seconds = time.monotonic() - start
        preview = _reduced(result)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        photograph = replace(photograph, colors=_mapped(photograph.colors, folder / 'before.npy'))
        result = AdjustableResult(
            photograph.colors,
            torch.from_numpy(_mapped(result.result.numpy(), folder / 'after.npy')),
            result.estimate and _mapped_estimate(result.estimate, folder / 'radius.npy'),
        )
        return RestoredPhotograph(Path(path).name, weights, photograph, result, preview, folder, seconds)


def _mapped(array: np.ndarray, path: Path) -> np.ndarray:
    """Write an array to a file that is mapped into memory."""
    np.save(path, array)
    return np.load(path, mmap_mode='c')


def _mapped_estimate(estimate: BlurEstimate, path: Path) -> BlurEstimate:
    return replace(estimate, radius=torch.from_numpy(_mapped(estimate.radius.numpy(), path)))


def _reduced(result: AdjustableResult[np.ndarray]) -> AdjustableResult[np.ndarray]:
    """Average a result down to the size of the page, as floats."""
    height, width = result.image.shape[:2]
    scale = min(1.0, (_SHOWN / (height * width)) ** 0.5)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))

    def smaller(planes: Tensor) -> Tensor:
        return planes if scale == 1 else F.interpolate(planes[None], size, mode='area')[0]

    image = torch.from_numpy(np.atleast_3d(to_float(result.image))).movedim(2, 0)
    shown = smaller(image).movedim(0, 2).contiguous().numpy()
    shown = shown[..., 0] if shown.shape[2] == 1 else shown
    estimate = result.estimate and replace(result.estimate, radius=smaller(result.estimate.radius[None])[0].clone())
    return AdjustableResult(shown, smaller(result.result).clone(), estimate)
