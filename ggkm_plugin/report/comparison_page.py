"""HTML reports that open from disk: a comparison of models, and photographs before and after deblurring.

A report is one folder: index.html, images/ and thumbs/; no network access. Sources (input, models, further pictures
such as a blur map, ground truth) become columns; no name is used as a key. The page makes the error maps itself,
|picture - ground truth| by the canvas' `difference` mode and an SVG filter, since a page opened from disk may draw
pictures but not read their pixels.
"""

import contextlib
import hashlib
import io
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from urllib.parse import quote

import cv2
from PIL import Image

from ggkm_plugin.report import html_page
from ggkm_plugin.report.comparison_tables import settings_words
from ggkm_plugin.report.pictures import color_stops
from ggkm_plugin.utils.files import write_whole

_SCRIPTS = ('data', 'tables', 'controls', 'list', 'plot', 'panes', 'address', 'start')
# Files of numbers that the page links where they exist.
_FILES = ('results.json', 'scores.csv', 'table.md', 'table.tex')
THUMB_SIZE = (192, 128)  # pixels: twice the size shown, for dense screens
_DEBLURRED = 'Deblurred'


def write_report(folder: str | Path, results: Mapping[str, Any]) -> Path:
    """Write `folder`/index.html and `folder`/thumbs from a comparison's results; return the page's path.

    results: name, protocol, machine, metrics, models, datasets, published; all may be missing, and so may scores,
    means and files. `files` are paths relative to `folder`. Optional: `difference_to` (reference of the paired
    differences), `measured_at` (size for MACs, time and memory). Numbers may be NaN or infinite. A file key other than
    input, gt and the models is shown as a further picture. A data set's `benchmark` (else its name) and `noise_std`
    choose its rows of `published` and `published_drops`; its `note` describes its further pictures.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = page_data(folder, results)
    page = html_page.render(data['name'], data, 'comparison', _SCRIPTS, images="'self' file: data:")
    content = page.encode('utf-8', 'replace')  # a file name in the title may have lone surrogates
    write_whole(folder / 'index.html', content)
    return folder / 'index.html'


def write_before_after(
    folder: Path, pairs: Sequence[tuple[str, str, str]], facts: Mapping[str, Any], failures: Sequence[str]
) -> str:
    """Write `folder`/index.html with a slider over each pair of pictures; return its address.

    pairs: name, and paths of the pictures before and after, of one size, below `folder`. facts: about the run, by
    name. failures: photographs that are not shown, and why. Pictures of an earlier, longer run are removed.
    """
    page = write_report(
        folder,
        {
            'name': 'Before and after deblurring',
            'machine': facts,
            'failures': list(failures),
            'models': [{'name': _DEBLURRED, 'status': 'ok'}],
            'datasets': [
                {'name': 'photographs', 'has_gt': False, 'images': [_pair(folder, *pair) for pair in pairs]},
            ],
        },
    )
    shown = {Path(path) for _, *pair in pairs for path in pair}
    for kind in ('before', 'after'):
        for picture in set(folder.glob(f'images/[0-9]*_{kind}.jpg')) - shown:
            (folder / thumb_path(picture.relative_to(folder))).unlink(missing_ok=True)
            picture.unlink()
    return page.absolute().as_uri()


def _pair(folder: Path, name: str, before: str, after: str) -> dict[str, Any]:
    files = {'input': before, _DEBLURRED: after}
    return {'name': name, 'files': {key: Path(path).relative_to(folder).as_posix() for key, path in files.items()}}


def page_data(folder: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the page's data as plain JSON; write missing previews."""
    shown = ('name', 'label', 'better', 'digits')
    metrics = [{key: metric[key] for key in shown} for metric in results.get('metrics') or ()]
    words = settings_words(results)
    models = [{**_plain(model), 'settings': words.get(model['name'])} for model in results.get('models') or ()]
    datasets = list(results.get('datasets') or ())
    sources = _sources([str(model['name']) for model in models], datasets)
    columns, names = [source['key'] for source in sources], [metric['name'] for metric in metrics]
    return {
        'name': str(results.get('name') or 'Comparison'),
        'protocol': _plain(results.get('protocol')),
        'protocol_words': _plain(results.get('protocol_words')),
        'failures': [str(failure) for failure in results.get('failures') or ()],
        'files': [name for name in _FILES if (folder / name).is_file()],
        'machine': [[str(key), _plain(value)] for key, value in (results.get('machine') or {}).items()],
        'difference_to': _plain(results.get('difference_to')),
        'drop_from': _plain(results.get('drop_from') or {}),
        'measured_at': _plain(results.get('measured_at')),
        'memory_source': _plain(results.get('memory_source')),
        'colors': color_stops(cv2.COLORMAP_INFERNO),  # of the error maps, as on the comparison sheet
        'metrics': metrics,
        'sources': sources,
        'models': models,
        'datasets': [_dataset(folder, dataset, columns, names) for dataset in datasets],
        'published': [
            _published(row, names) for key in ('published', 'published_drops') for row in results.get(key) or ()
        ],
    }


def _sources(models: Sequence[str], datasets: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """List the pictures of an image in the order shown; further files come between models and ground truth."""
    further: dict[str, None] = {}
    for dataset in datasets:
        for image in dataset.get('images') or ():
            further.update(dict.fromkeys(str(key) for key in image.get('files') or ()))
    extras = [key for key in further if key not in ('input', 'gt', *models)]
    return [
        {'key': 'input', 'label': 'Input', 'kind': 'input'},
        *({'key': name, 'label': name, 'kind': 'model'} for name in models),
        *({'key': key, 'label': key, 'kind': 'extra'} for key in extras),
        {'key': 'gt', 'label': 'Ground truth', 'kind': 'gt'},
    ]


def _dataset(folder: Path, dataset: Mapping[str, Any], columns: list[str], metrics: list[str]) -> dict[str, Any]:
    means, differences, drops = (dataset.get(key) or {} for key in ('means', 'differences', 'drops'))
    return {
        'name': str(dataset['name']),
        'has_gt': bool(dataset.get('has_gt', True)),
        'benchmark': _plain(dataset.get('benchmark')),
        'noise_std': _plain(dataset.get('noise_std') or 0),
        'scenes': _plain(dataset.get('scenes')),
        'note': _plain(dataset.get('note')),
        'images': [_image(folder, image, columns, metrics) for image in dataset.get('images') or ()],
        'means': [_scores(means.get(source), metrics) for source in columns],
        'drops': [_scores(drops.get(source), metrics) for source in columns],
        'differences': [
            [_plain((differences.get(source) or {}).get(metric)) for metric in metrics] for source in columns
        ],
    }


def _image(folder: Path, image: Mapping[str, Any], columns: list[str], metrics: list[str]) -> dict[str, Any]:
    files = {key: PurePosixPath(path) for key, path in (image.get('files') or {}).items()}
    scores = image.get('scores') or {}
    present = {key: path for key, path in files.items() if (folder / path).is_file()}
    preview = next((present[key] for key in ('input', 'gt', *present) if key in present), None)
    return {
        'name': str(image['name']),
        'size': _size(folder, image, preview),
        'thumb': _thumb(folder, preview) if preview else None,
        'files': [_url(present[key]) if key in present else None for key in columns],
        'scores': [_scores(scores.get(source), metrics) for source in columns],
    }


def _scores(scores: Mapping[str, Any] | None, metrics: list[str]) -> list[Any]:
    return [_plain((scores or {}).get(metric)) for metric in metrics]


def _published(row: Mapping[str, Any], metrics: list[str]) -> dict[str, Any]:
    """Return a published row, with null for metrics that were not measured or not published."""
    return {
        **{key: str(row.get(key) or '') for key in ('method', 'dataset', 'source')},
        'remark': '; '.join(str(row[key]) for key in ('remark', 'footnote') if row.get(key)),
        **{key: _plain(row.get(key)) for key in ('parameters', 'macs_paper')},
        'std': _plain(row.get('std') or 0),
        'scores': _scores(row, metrics),
    }


def _url(path: PurePosixPath) -> str:
    return quote(os.fsencode(path))


def _size(folder: Path, image: Mapping[str, Any], preview: PurePosixPath | None) -> list[int] | None:
    """Return height and width: as given, else from the picture's header."""
    if image.get('size'):
        return [int(side) for side in image['size'][:2]]
    if preview:
        with contextlib.suppress(OSError), Image.open(folder / preview) as picture:
            return [picture.height, picture.width]
    return None


def thumb_path(source: PurePath) -> PurePosixPath:
    """Return the path of a picture's preview; both are relative to the page's folder."""
    return PurePosixPath('thumbs', hashlib.sha256(os.fsencode(source)).hexdigest()[:16] + '.jpg')


def _thumb(folder: Path, source: PurePosixPath) -> str | None:
    """Return the relative URL of a picture's preview, written if missing or older; None for an unreadable picture."""
    thumb = thumb_path(source)
    target = folder / thumb
    try:
        if not target.is_file() or target.stat().st_mtime < (folder / source).stat().st_mtime:
            target.parent.mkdir(exist_ok=True)
            content = io.BytesIO()
            with Image.open(folder / source) as picture:
                picture.thumbnail(THUMB_SIZE, reducing_gap=2.0)
                picture.convert('RGB').save(content, format='JPEG', quality=80)
            write_whole(target, content.getvalue())
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow's errors
        return None
    return _url(thumb)


def _plain(value: Any) -> Any:
    """Convert `value` to JSON; NaN and infinities become the strings nan, inf and -inf, which the page reads."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    return str(value)
