"""Files of `basicsr inspect`: NAME.png, NAME.html and NAME.json for each photograph."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.inspection.inspection import inspect, parse_points, reduced, spread_points
from ggkm_plugin.inspection.network import Subject
from ggkm_plugin.inspection.page import page
from ggkm_plugin.inspection.sheet import LETTERS, sheet
from ggkm_plugin.report.figures import write_png
from ggkm_plugin.restoration.image_io import FORMATS, read_photograph
from ggkm_plugin.utils.errors import OptionError, listed
from ggkm_plugin.utils.files import make_writable, write_whole, writing_into
from ggkm_plugin.utils.image_decoding import image_files, to_float


@dataclass(frozen=True)
class InspectRequest:
    """Arguments. points: 'X,Y' or None to choose them. longest: photographs are reduced to this side."""

    points: list[str] | None
    output_layer: bool
    longest: int
    folder: Path

    def files(self, photograph: str) -> list[Path]:
        """Return the paths of the sheet, the page and the numbers."""
        return [self.folder / f'{Path(photograph).stem}.{kind}' for kind in ('png', 'html', 'json')]


def photographs(names: Sequence[str]) -> list[str]:
    """Return the named images and those of folders. Raises DataError, and OptionError for equal stems."""
    paths = [
        path for name in names for path in (image_files(name, suffixes=FORMATS) if Path(name).is_dir() else [name])
    ]
    stems = [Path(path).stem for path in paths]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise OptionError(
            f'several photographs are called {listed(twice)}: inspect each into a folder of its own, with -o'
        )
    return paths


def check_folder(paths: Sequence[str], request: InspectRequest) -> None:
    """Check that results replace at most earlier results of the same photographs.

    Raises OptionError otherwise, DataError if the folder cannot be written.
    """
    inputs = {os.path.realpath(path) for path in paths}
    for path in paths:
        targets = request.files(path)
        if taken := [target for target in targets if os.path.realpath(target) in inputs]:
            raise OptionError(f'{taken[0]}: is an input photograph. Name another folder with -o')
        there = [target for target in targets if target.exists()]
        if there and _photograph_of(targets[-1]) != os.path.realpath(path):
            raise OptionError(f'{there[0]}: exists, and is not a result of {path}. Name another folder with -o')
    with writing_into(request.folder, '-o'):
        make_writable(request.folder)


def _photograph_of(numbers: Path) -> str | None:
    """Return the photograph of an earlier inspection from its JSON file, None if it is not one."""
    try:
        return os.path.realpath(json.loads(numbers.read_text(encoding='utf-8'))['image'])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def inspect_file(subject: Subject, path: str, request: InspectRequest) -> list[Path]:
    """Inspect one photograph and write its three files. Raises DataError, or OptionError for a wrong point."""
    colors = read_photograph(path).colors
    whole = to_float(colors if colors.ndim == 3 else np.dstack([colors] * 3))
    image = reduced(whole, request.longest)
    height, width = image.shape[:2]
    note = ''
    if image is not whole:
        note = (
            f'reduced from {whole.shape[1]}x{whole.shape[0]} to {width}x{height}: radii and places are in pixels of '
            'the reduced photograph'
        )
    if request.points and len(request.points) > len(LETTERS):
        raise OptionError(f'--points: {len(request.points)} places, but at most {len(LETTERS)} can be marked')
    try:
        places = parse_points(request.points, width, height) if request.points else []
    except OptionError as error:
        raise OptionError(f'{path}: {error}') from error
    inspection = inspect(subject, to_tensor(image), request.output_layer)
    places = places or spread_points(inspection.radius)
    name = Path(path).stem
    picture, document, numbers = request.files(path)
    record = {'image': os.path.abspath(path), 'note': note, **inspection.record(places)}
    with writing_into(request.folder, '-o'):
        write_whole(numbers, json.dumps(record, indent=1) + '\n')  # first: it names the photograph of the others
        write_png(sheet(inspection, name, places, note), picture)
        write_whole(document, page(inspection, name, places, note))
    return [picture, document, numbers]
