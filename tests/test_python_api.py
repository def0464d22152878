"""The Python code of docs/python-api.md runs."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / 'docs/python-api.md'


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    """All blocks in one namespace, in order, with the page's line numbers in tracebacks."""
    monkeypatch.chdir(tmp_path)
    text, namespace = PAGE.read_text(encoding='utf-8'), {'__name__': 'page'}
    blocks = list(re.finditer(r'^```python\n(.*?)^```', text, re.DOTALL | re.MULTILINE))
    assert blocks
    for block in blocks:
        lines = text.count('\n', 0, block.start(1))
        exec(compile('\n' * lines + block.group(1), str(PAGE), 'exec'), namespace)
    assert {path.name for path in tmp_path.iterdir()} == {'photo.png', 'photo_deblurred.png', 'restored.png'}
