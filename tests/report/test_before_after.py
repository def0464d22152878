"""The page of `basicsr deblur --compare`, in a browser if one is installed."""

import io

import numpy as np
import pytest
from conftest import until
from PIL import Image

from ggkm_plugin.report.comparison_page import write_before_after


@pytest.fixture
def address(tmp_path):
    """A page of two photographs, dark before and bright after."""
    pairs = []
    (tmp_path / 'images').mkdir()
    for name in ('sea/one #1.jpg', 'two<b>.jpg'):
        paths = [str(tmp_path / f'images/{len(pairs)}_{kind}.jpg') for kind in ('before', 'after')]
        for path, value in zip(paths, (40, 220), strict=True):
            Image.fromarray(np.full((60, 90, 3), value, np.uint8)).save(path)
        pairs.append((name, *paths))
    return write_before_after(tmp_path, pairs, {'weights': 'w.pth'}, ['bad.png: the file is empty'])


@pytest.mark.parametrize('width', [1280, 390])
def test_the_slider_shows_both(address, browser, width):
    page = browser.new_page(viewport={'width': width, 'height': 800})
    faults, requested = [], []
    page.on('console', lambda message: faults.append(message.text) if message.type == 'error' else None)
    page.on('pageerror', lambda error: faults.append(str(error)))
    page.on('request', lambda request: requested.append(request.url))
    page.goto(address)
    until(page, "document.querySelectorAll('.stage[data-state=ready] img').length === 2")
    sides = page.locator('.stage').bounding_box()
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert('L')
    middle = round(sides['y'] + sides['height'] / 2)
    left, right = (picture.getpixel((round(sides['x'] + sides['width'] * share), middle)) for share in (0.25, 0.75))
    assert abs(left - 40) < 10
    assert abs(right - 220) < 10
    handle = page.locator('[role=slider]')
    handle.focus()
    page.keyboard.press('Home')
    assert handle.get_attribute('aria-valuenow') == '0'
    for name in ('Data set', 'Errors', 'Measured on'):
        assert name not in page.locator('body').inner_text()
    assert page.locator('button[data-mode=slider]').get_attribute('aria-pressed') == 'true'
    assert 'sea/one #1.jpg' in page.locator('#list').inner_text()
    assert 'bad.png: the file is empty' in page.locator('body').inner_text()
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    assert faults == []
    assert all(url.startswith(('file:', 'data:')) for url in requested)
    page.close()


def test_pictures_of_an_earlier_run_are_removed(tmp_path):
    pairs = []
    (tmp_path / 'images').mkdir()
    for number in (1, 2):
        pair = [str(tmp_path / f'images/000{number}_{kind}.jpg') for kind in ('before', 'after')]
        for path in pair:
            Image.new('RGB', (30, 20)).save(path)
        pairs.append((f'{number}.jpg', *pair))
    (tmp_path / 'images/mine.jpg').write_bytes(b'')
    write_before_after(tmp_path, pairs, {}, [])
    assert len(list((tmp_path / 'thumbs').iterdir())) == 2
    write_before_after(tmp_path, pairs[:1], {}, [])
    assert sorted(file.name for file in (tmp_path / 'images').iterdir()) == [
        '0001_after.jpg',
        '0001_before.jpg',
        'mine.jpg',
    ]
    assert len(list((tmp_path / 'thumbs').iterdir())) == 1
