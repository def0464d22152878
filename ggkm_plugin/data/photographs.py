"""Sharp photographs from the scikit-image wheel (no download) or from folders."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ggkm_plugin.utils.image_decoding import image_files, read_image

# Files of skimage/data without chelsea.png (its background is out of focus), motorcycle_right.png (same scene as a
# val photograph) and images that no camera lens took (ihc, moon, retina, ...).
BUILTIN = {
    'train': ('astronaut.png', 'brick.png', 'camera.png', 'grass.png', 'gravel.png', 'rocket.jpg'),
    'val': ('coffee.png', 'motorcycle_left.png'),
}
# Middlebury 2014 "Motorcycle", left view, in pixels; inf where the right view does not see the point.
BUILTIN_DISPARITY = {'motorcycle_left.png': 'motorcycle_disp.npz'}


@dataclass(frozen=True)
class SharpPhotograph:
    """A sharp photograph. name: file name without suffix; disparity_path: npz file of its size, if there is one."""

    name: str
    path: str
    disparity_path: str | None = None


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def builtin_photographs(split: str) -> list[SharpPhotograph]:
    """Return the photographs of the installed scikit-image: `split` is 'train' (6) or 'val' (2, one with disparity)."""
    import skimage.data

    folder = os.path.dirname(skimage.data.__file__)
    photos = []
    for file in BUILTIN[split]:
        disparity = BUILTIN_DISPARITY.get(file)
        path = os.path.join(folder, file)
        photos.append(SharpPhotograph(_stem(file), path, disparity and os.path.join(folder, disparity)))
    return photos


def photographs_from_folders(folders: Sequence[str], more: Sequence[SharpPhotograph] = ()) -> list[SharpPhotograph]:
    """List the images of several folders, and `more`. Names that occur in two folders get the folder as a prefix.

    Raises DataError if a folder is missing or has no image.
    """
    photos = [SharpPhotograph(_stem(path), path) for folder in folders for path in image_files(folder)] + list(more)
    places: dict[str, set[str]] = {}
    for photo in photos:
        places.setdefault(photo.name, set()).add(os.path.dirname(photo.path))
    return [
        replace(photo, name=f'{os.path.basename(os.path.dirname(os.path.abspath(photo.path)))}_{photo.name}')
        if len(places[photo.name]) > 1
        else photo
        for photo in photos
    ]


def held_out(names: Iterable[str], share: float) -> list[str]:
    """Return the names whose SHA-256, as a fraction of its range, is below `share`."""
    return [
        name for name in names if int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], 'big') < share * 2.0**64
    ]


def fill_disparity(disparity: np.ndarray) -> np.ndarray:
    """Fill the non-finite pixels of (H, W) from their row, by the farther of the two nearest known ones; float32.

    A point that one camera of a stereo pair does not see is hidden by something nearer, so it is background. A row
    without a known pixel takes the nearest known row. At least one pixel must be known.
    """
    known = np.isfinite(disparity)
    rows = np.flatnonzero(known.any(axis=1))
    filled = np.empty(disparity.shape, np.float32)
    columns = np.arange(disparity.shape[1])
    for row in rows:
        at = np.flatnonzero(known[row])
        place = np.searchsorted(at, columns)
        left, right = at[np.maximum(place - 1, 0)], at[np.minimum(place, len(at) - 1)]
        filled[row] = np.where(known[row], disparity[row], np.minimum(disparity[row, left], disparity[row, right]))
    nearest = rows[np.abs(np.arange(len(disparity))[:, None] - rows).argmin(axis=1)]
    return filled[nearest]


def load_photograph(photo: SharpPhotograph) -> tuple[np.ndarray, np.ndarray | None]:
    """Load pixels, float32 (H, W, 3) sRGB in [0,1], and disparity, float32 (H, W) in [0,1], near = 1, or None.

    Raises DataError if the photograph is unreadable.
    """
    rgb = read_image(photo.path)
    if photo.disparity_path is None:
        return rgb, None
    with np.load(photo.disparity_path) as arrays:
        known = np.asarray(arrays[arrays.files[0]], np.float32)
    # Pixels on an outline mix both sides. Assigned to the far side, they remain as sharp specks of a near object that
    # is out of focus, so the near side is dilated by one pixel.
    disparity = cv2.dilate(fill_disparity(known), np.ones((3, 3), np.uint8))
    low, high = disparity.min(), disparity.max()
    return rgb, (disparity - low) / max(high - low, np.float32(1e-6))
