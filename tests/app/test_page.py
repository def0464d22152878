"""The page in a real browser, and its photographs without one."""

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from restoration.conftest import pixels, save

from ggkm_plugin.app.workspace import Workspace
from ggkm_plugin.restoration.image_io import read_photograph
from ggkm_plugin.restoration.restorer import Restorer
from ggkm_plugin.utils.errors import DataError

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')


@pytest.fixture
def weights(tmp_path):
    return save(tmp_path / 'weights.pth')


@pytest.fixture
def photograph(tmp_path):
    exif = Image.Exif()
    exif[271] = 'Camera'
    Image.fromarray(pixels(60, 80)).save(tmp_path / 'sea.jpg', quality=95, exif=exif)
    return tmp_path / 'sea.jpg'


@pytest.fixture
def restored(tmp_path, weights, photograph):
    (tmp_path / 'work').mkdir()
    seen = []
    found = Workspace(tmp_path / 'work', 'cpu').restore(str(photograph), weights, seen.append)
    assert seen[-1].share == 1
    return found


def test_what_is_saved_is_what_deblur_writes(restored, weights, photograph):
    before = read_photograph(str(photograph))
    for strength in (0, 0.5, 1, 2):
        path, lost = restored.save(strength)
        assert Path(path).name == 'sea_deblurred.jpg'
        assert lost == []
        assert Image.open(path).getexif()[271] == 'Camera'
        want = Restorer(weights, 'cpu')(before.colors, strength=strength)
        assert np.abs(read_photograph(path).colors.astype(int) - want).max() <= 12  # JPEG
        assert np.array_equal(restored.result.at(strength), want)


def test_pictures_of_a_large_photograph_are_reduced(tmp_path, weights, photograph, monkeypatch):
    monkeypatch.setattr('ggkm_plugin.app.workspace._SHOWN', 1200)
    restored = Workspace(tmp_path, 'cpu').restore(str(photograph), weights, print)
    for picture in restored.pictures(1.5):
        assert Image.open(picture).size == (40, 30)
    drawn, most = restored.blur_picture()
    assert drawn.shape == (750, 1000, 3)  # 30x40, enlarged
    assert most >= 1
    assert restored.place(999, 0, drawn) == (79, 0)
    path, radius, side = restored.psf_picture(*restored.place(500, 250, drawn))
    assert Image.open(path).size == (360, 360)
    assert 0 < radius < side
    assert isinstance(restored.photograph.colors, np.memmap)  # the rest of it is not in memory


def test_a_damaged_photograph_is_an_error(tmp_path, weights):
    (tmp_path / 'bad.png').write_text('text')
    with pytest.raises(DataError, match='bad'):
        Workspace(tmp_path, 'cpu').restore(str(tmp_path / 'bad.png'), weights, print)


@pytest.fixture
def page(tmp_path, weights):
    """The address of the running command; afterwards it ends and leaves nothing."""
    pytest.importorskip('gradio')
    temporary = tmp_path / 'tmp'
    temporary.mkdir()
    words = [sys.executable, '-m', 'ggkm_plugin.cli', 'app', '--weights', weights, '--device', 'cpu']
    environment = {**os.environ, 'TMPDIR': str(temporary)}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    lines = iter(process.stderr.readline, '')
    address = next(line.split()[2] for line in lines if line.startswith('basicsr app: http'))
    yield address
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert list(temporary.glob('ggkm_app_*')) == []


@pytest.fixture
def tab(page):
    """A tab of Chromium; it has no errors and asks no other machine."""
    playwright = pytest.importorskip('playwright.sync_api')
    if CHROMIUM is None:
        pytest.skip('no chromium on the path')
    problems, hosts = [], set()
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        tab = browser.new_page(viewport={'width': 1440, 'height': 900})
        tab.on('console', lambda message: problems.append(message.text) if message.type == 'error' else None)
        tab.on('pageerror', lambda error: problems.append(str(error)))
        tab.on('request', lambda request: hosts.add(request.url.split('/')[2] if '//' in request.url else 'data'))
        tab.goto(page)
        yield tab
        browser.close()
    assert problems == []
    assert hosts <= {page.split('/')[2], 'data'}


@pytest.mark.slow
def test_a_photograph_in_the_browser(tab, page, photograph, tmp_path, weights):
    assert page.startswith('http://127.0.0.1:')
    Image.fromarray(np.zeros((1500, 2000, 3), np.uint8)).save(tmp_path / 'large.png')
    tab.set_input_files('input[type=file]', str(tmp_path / 'large.png'))
    tab.click('#start')
    tab.click('#stop')
    tab.wait_for_selector('#stop[disabled]')
    assert tab.is_disabled('#save')
    tab.reload()
    Image.fromarray(pixels(40, 50, seed=1)).save(tmp_path / 'sky.png')
    tab.set_input_files('input[type=file]', [str(photograph), str(tmp_path / 'sky.png')])
    tab.wait_for_selector('#start:not([disabled])')
    tab.click('#start')
    tab.wait_for_selector('#slider img')
    tab.wait_for_selector('#save:not([disabled])')
    before = tab.get_attribute('#slider img >> nth=1', 'src')
    tab.fill('#strength input[type=number]', '2')
    tab.keyboard.press('Enter')
    tab.wait_for_function('old => document.querySelectorAll("#slider img")[1].src != old', arg=before)
    with tab.expect_download() as download:
        tab.click('#save')
    download.value.save_as(tmp_path / 'got.jpg')
    assert download.value.suggested_filename == 'sea_deblurred.jpg'
    want = Restorer(weights, 'cpu')(read_photograph(str(photograph)).colors, strength=2)
    assert np.abs(read_photograph(str(tmp_path / 'got.jpg')).colors.astype(int) - want).max() <= 12
    assert Image.open(tmp_path / 'got.jpg').getexif()[271] == 'Camera'
    with tab.expect_download() as download:
        tab.click('#save-all')
    download.value.save_as(tmp_path / 'all.zip')
    assert zipfile.ZipFile(tmp_path / 'all.zip').namelist() == ['sea_deblurred.jpg', 'sky_deblurred.png']
    tab.get_by_role('tab', name='Blur map').click()
    tab.click('#blur img')
    tab.wait_for_selector('#psf img')
    assert 'radius' in tab.inner_text('#psf-text')


def test_the_page_without_gradio(command, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    code, _, err = command('app')
    assert code == 2
    assert '[app]' in err


def test_a_port_that_cannot_be(command):
    assert command('app', '--port', '70000')[0] == 2
