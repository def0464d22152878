"""Read and write image files as RGB arrays of 8 or 16 bits. Errors name the file."""

import io
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ggkm_plugin.utils.errors import DataError, listed
from ggkm_plugin.utils.files import write_whole

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp', '.webp')
_SUFFIXES_OF_16_BITS = ('.png', '.tif', '.tiff')


def image_files(folder: str, recursive: bool = False, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[str]:
    """List the images in a folder, sorted by name, without hidden files.

    Raises DataError if the folder is missing or has no image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f'{folder}: {"not a folder" if root.exists() else "no such folder"}')
    paths = [str(path) for path in find_images(root, recursive, suffixes)]
    gone = [path for path in paths if not Path(path).exists()]
    if gone:
        raise DataError(f'{folder}: broken links: {listed(gone)}. Repair or remove them')
    if not paths:
        raise DataError(f'{folder}: no image in this folder (looked for {", ".join(suffixes)})')
    return paths


def find_images(root: Path, recursive: bool = False, suffixes: Collection[str] | None = IMAGE_SUFFIXES) -> list[Path]:
    """Find files with `suffixes` (None: any), sorted; with broken links, without hidden files."""
    images = (
        path
        for path in (root.rglob('*') if recursive else root.iterdir())
        if (suffixes is None or path.suffix.lower() in suffixes)
        and not any(part.startswith('.') for part in path.relative_to(root).parts)
        and (path.is_file() or not path.exists())
    )
    return sorted(images, key=str)


def decode_image(content: bytes, name: str) -> np.ndarray:
    """Decode an image file to RGB (H,W,3) uint8 or uint16; gray is repeated, alpha dropped.

    Raises DataError naming `name` if the content is not an image, truncated, or has a wrong checksum (PNG only).
    """
    if not content:
        raise DataError(f'{name}: the file is empty')
    image = None
    if _is_complete(content):
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        except cv2.error:
            image = None
    if image is None:
        raise DataError(f'{name}: not a readable image (truncated, damaged, or another kind of file). Replace it')
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError(f'{name}: {image.dtype} pixels. Convert it to 8 or 16 bits')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_bytes(path: str) -> bytes:
    """Read a file. Raises DataError if that fails."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}') from error


def read_image(path: str) -> np.ndarray:
    """Read an image as RGB (H,W,3) float32 in [0,1]. Raises DataError."""
    return to_float(decode_image(read_bytes(path), path))


def to_float(image: np.ndarray) -> np.ndarray:
    """Convert uint8 or uint16 to a new float32 array in [0,1]: k/255 or k/65535, rounded once."""
    scaled = image.astype(np.float32)
    scaled /= np.iinfo(image.dtype).max
    return scaled


def write_image(path: str, image: np.ndarray) -> None:
    """Write RGB (H,W,3) uint8 or uint16 atomically, in the format of the path's suffix.

    uint16 is rounded to 8 bits for formats of 8 bits. Raises DataError if the suffix is not in `IMAGE_SUFFIXES` or the
    file cannot be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise DataError(f'{path}: cannot be encoded. Use one of the suffixes {", ".join(IMAGE_SUFFIXES)}')
    if image.dtype == np.uint16 and suffix not in _SUFFIXES_OF_16_BITS:  # OpenCV would clip values at 255
        image = (image / 257).round().astype(np.uint8)
    encoded, content = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not encoded:
        raise DataError(f'{path}: cannot be encoded')
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content.tobytes())
    except OSError as error:
        raise DataError(f'{path}: {error.strerror or error}') from error


def _is_complete(content: bytes) -> bool:
    """Whether a PNG or JPEG is complete; OpenCV 4 fills truncated ones with gray, without an error.

    Files without the end marker in its place (trailing bytes are legal) are decoded with Pillow, which is strict.
    """
    if content.startswith(PNG_SIGNATURE):
        ending = content[-8:-4] == b'IEND'
    elif content.startswith(b'\xff\xd8'):
        ending = content.endswith(b'\xff\xd9')
    else:
        return True
    if ending:
        return True
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (OSError, SyntaxError, UnidentifiedImageError):
        return False
    return True
