"""Single-file HTML pages without network access or framework: the frame that all pages of this package share.

assets/ holds the frame: colors and controls (base.css), elements (elements.js), the view in the address (address.js),
zoom and pan (zoom.js). A folder in it holds what one page adds: body.html, style.css and scripts, which run after the
frame's and share one scope with them.
"""

import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ASSETS = Path(__file__).with_name('assets')
_FRAME_SCRIPTS = ('elements', 'address', 'zoom')


def render(title: str, data: Mapping[str, Any], page: str, scripts: Sequence[str], images: str = 'data:') -> str:
    """Return the HTML of a page around `data`, plain JSON without NaN in which no character can end the script.

    page: folder of the page in assets/. scripts: its scripts in the order in which they run. images: allowed sources
    of images, as in a Content-Security-Policy.
    """
    embedded = json.dumps(data, allow_nan=False, separators=(',', ':'))
    for character in '<>&':
        embedded = embedded.replace(character, f'\\u{ord(character):04x}')
    code = [*(f'{name}.js' for name in _FRAME_SCRIPTS), *(f'{page}/{name}.js' for name in scripts)]
    filled = {
        'TITLE': html.escape(title),
        'DATA': embedded,
        'STYLE': _asset('base.css') + _asset(f'{page}/style.css'),
        'SCRIPT': '\n'.join(["'use strict';\n", *map(_asset, code)]),
        'IMAGES': images,
    }
    frame = _asset('page.html').replace('@BODY@', _asset(f'{page}/body.html'))
    return re.sub(f'@({"|".join(filled)})@', lambda match: filled[match[1]], frame)


def _asset(path: str) -> str:
    return (_ASSETS / path).read_text(encoding='utf-8')
