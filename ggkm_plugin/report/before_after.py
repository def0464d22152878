"""Deblurred photographs under a slider beside what they were: the report of a comparison without scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ggkm_plugin.report.comparison_page import thumb_path, write_report

_RESULT = 'Deblurred'


def write_page(
    folder: Path, pairs: Sequence[tuple[str, str, str]], facts: dict[str, Any], failures: Sequence[str]
) -> str:
    """Write `folder`/index.html, which needs nothing but its folder; returns its address, which opens at the slider.

    pairs: names, and paths of pictures before and after, of one size, below `folder`. facts: what the page says
    about the run, name: value. failures: photographs that it does not show, and why. Pictures that an earlier, longer
    run left there are removed.
    """
    page = write_report(
        folder,
        {
            'name': 'Before and after deblurring',
            'machine': facts,
            'failures': list(failures),
            'models': [{'name': _RESULT, 'status': 'ok'}],
            'datasets': [
                {'name': 'photographs', 'has_gt': False, 'images': [_image(folder, *pair) for pair in pairs]},
            ],
        },
    )
    _remove_unshown(folder, {Path(path) for _, *pair in pairs for path in pair})
    return page.absolute().as_uri()


def _remove_unshown(folder: Path, shown: set[Path]) -> None:
    for kind in ('before', 'after'):
        for picture in set(folder.glob(f'images/[0-9]*_{kind}.jpg')) - shown:
            (folder / thumb_path(picture.relative_to(folder))).unlink(missing_ok=True)
            picture.unlink()


def _image(folder: Path, name: str, before: str, after: str) -> dict[str, Any]:
    with Image.open(before) as picture:
        size = picture.height, picture.width
    files = {'input': before, _RESULT: after}
    return {
        'name': name,
        'size': size,
        'files': {key: Path(path).relative_to(folder).as_posix() for key, path in files.items()},
    }
