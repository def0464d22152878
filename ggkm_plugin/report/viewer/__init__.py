"""The frame of all pages: one HTML file that needs no network and no framework, with a zoom for its pictures.

A page is a folder with `body.html`, `style.css` and scripts, to which this one's come first: colours and controls
(`base.css`), elements (`elements.js`), and the zoom (`zoom.js`).
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_FRAME = Path(__file__).parent


def page(title: str, data: Mapping[str, Any], parts: Path, scripts: Sequence[str], images: str = 'data:') -> str:
    """The page's HTML around `data`, which is plain JSON without NaN; no `<`, `>` or `&` of it ends the script.

    parts: the folder. scripts: its scripts in the order in which they run; they share one scope. images: where pictures
    may come from, in the words of a Content-Security-Policy.
    """
    embedded = json.dumps(data, allow_nan=False, separators=(',', ':'))
    for character in '<>&':
        embedded = embedded.replace(character, f'\\u{ord(character):04x}')
    code = [_FRAME / 'elements.js', _FRAME / 'zoom.js', *(parts / f'{name}.js' for name in scripts)]
    filled = {
        'TITLE': html.escape(title),
        'DATA': embedded,
        'STYLE': _text(_FRAME / 'base.css') + _text(parts / 'style.css'),
        'SCRIPT': '\n'.join(["'use strict';\n", *map(_text, code)]),
        'IMAGES': images,
    }
    frame = _text(_FRAME / 'page.html').replace('@BODY@', _text(parts / 'body.html'))
    return re.sub(f'@({"|".join(filled)})@', lambda match: filled[match[1]], frame)


def _text(path: Path) -> str:
    return path.read_text(encoding='utf-8')
