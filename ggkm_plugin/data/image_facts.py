"""Facts about an image file: size, bit depth, file format, digest of its pixels."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from ggkm_plugin.utils.image_decoding import decode_image


@dataclass(frozen=True)
class ImageFacts:
    """An image that could be read. note: its file format, if the suffix claims another."""

    name: str
    width: int
    height: int
    bits: int
    digest: str  # of its pixels
    format: str = ''  # as Pillow calls it; '' if unknown
    has_alpha: bool = False
    note: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height


def facts_of(name: str, image: np.ndarray) -> ImageFacts:
    """Return the facts about an array (H,W,3), uint8 or uint16."""
    height, width, _ = image.shape
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest()
    return ImageFacts(name, width, height, 8 * image.itemsize, digest)


def read_facts(name: str, content: bytes) -> tuple[ImageFacts, np.ndarray]:
    """Decode an image file. Returns its facts and its pixels. Raises DataError if it cannot be decoded."""
    image = decode_image(content, name)
    facts = facts_of(name, image)
    try:
        with Image.open(io.BytesIO(content)) as header:
            kind, has_alpha = str(header.format), 'A' in header.getbands()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return facts, image  # OpenCV reads it, Pillow does not
    kind = 'JPEG' if kind == 'MPO' else kind  # cameras write it with the suffix .jpg
    claimed = Image.registered_extensions().get(PurePosixPath(name).suffix.lower())
    note = None if kind == claimed else f'{name}: is {kind}, but its suffix is of {claimed}'
    return ImageFacts(name, facts.width, facts.height, facts.bits, facts.digest, kind, has_alpha, note), image
