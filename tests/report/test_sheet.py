"""The comparison sheet as a file: size, scale, atomic writing, refusals. How it looks is judged by eye."""

import cv2
import numpy as np
import pytest
from PIL import Image

from ggkm_plugin.report.sheet import _GAP, _MARGIN, SheetRow, _crop, _pictures, comparison_sheet


def row(name='photo', height=90, width=120, sharpened=0.5, seed=0):
    """A noise photograph, its blur as input, and a result part of the way back."""
    gt = np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)
    blurred = cv2.GaussianBlur(gt, (0, 0), 2)
    return SheetRow(name, blurred, blurred + sharpened * (gt - blurred), gt)


def read(path):
    with Image.open(path) as image:
        assert image.format == 'PNG'
        return np.asarray(image)


def test_two_rows_of_different_aspect(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'sheet.png'
    comparison_sheet([row('wide', 300, 700), row('tall', 500, 200)], path, max_width=1400)
    sheet = read(path)
    assert 1380 <= sheet.shape[1] <= 1400
    plain = tmp_path / 'plain.png'
    comparison_sheet([row('wide', 300, 700), row('tall', 500, 200)], plain, max_width=1400, zoom=False)
    assert read(plain).shape[1] == sheet.shape[1]
    assert read(plain).shape[0] < sheet.shape[0]
    assert sorted(file.name for file in tmp_path.rglob('*') if file.is_file()) == ['plain.png', 'sheet.png']


def test_small_images_keep_their_pixels(tmp_path):
    photo = row(height=60, width=100)
    comparison_sheet([photo], tmp_path / 'sheet.png', zoom=False)
    sheet = read(tmp_path / 'sheet.png')
    truth = np.rint(photo.gt * 255).astype(np.uint8).repeat(3, axis=0).repeat(3, axis=1)
    left, top = (
        _MARGIN + 2 * (300 + _GAP),
        np.flatnonzero((sheet[:, 700] == truth[0, 52]).all(axis=1)),
    )
    assert any(np.array_equal(sheet[y : y + 180, left : left + 300], truth) for y in top)


def test_result_equal_to_ground_truth_has_a_black_error_map(tmp_path):
    photo = row(sharpened=1)
    comparison_sheet([SheetRow('same', photo.input, photo.gt, photo.gt)], tmp_path / 'sheet.png', zoom=False)
    sheet = read(tmp_path / 'sheet.png').astype(int)
    column = (sheet.shape[1] - 2 * _MARGIN - 4 * _GAP) // 5
    middle = sheet.shape[0] // 2
    of_input, of_result = (_MARGIN + index * (column + _GAP) + column // 2 for index in (3, 4))
    assert sheet[middle - 20 : middle + 20, of_result - 20 : of_result + 20].max() < 10
    assert sheet[middle - 20 : middle + 20, of_input - 20 : of_input + 20].mean() > 60


def test_crop_is_where_the_error_fell(tmp_path):
    gt = np.full((200, 300, 3), 0.5)
    blurred, result = gt + 0.2, gt + 0.2
    result[120:150, 210:250] = 0.5
    ys, xs = _crop(_pictures(SheetRow('', blurred, result, gt)), width=40, height=30)
    assert (ys, xs) == (slice(120, 150), slice(210, 250))


def test_psnr_is_of_the_clipped_images():
    gt = np.ones((20, 20, 3))
    pictures = _pictures(SheetRow('', gt - 0.1, gt + 0.1, gt))
    assert pictures.psnrs == pytest.approx((20, np.inf), abs=1e-5)


def test_sheet_without_any_error(tmp_path):
    gt = row().gt
    comparison_sheet([SheetRow('same', gt, gt, gt)], tmp_path / 'sheet.png')
    assert read(tmp_path / 'sheet.png').ndim == 3


def test_a_failed_write_leaves_the_old_sheet_and_no_temporary(tmp_path, monkeypatch):
    path = tmp_path / 'sheet.png'
    path.write_text('old')

    def fail(source, target):
        raise OSError('disk full')

    monkeypatch.setattr('os.replace', fail)
    with pytest.raises(OSError, match='disk full'):
        comparison_sheet([row()], path)
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_rows_are_refused(tmp_path):
    good, path = row('photo'), tmp_path / 'sheet.png'
    nan = np.full_like(good.gt, np.nan)
    for bad, message in (
        (
            SheetRow('photo', good.input[1:], good.result, good.gt),
            r"Row 'photo': input .*\(90, 120, 3\), got float32 \(89",
        ),
        (SheetRow('photo', good.input, (good.gt * 255).astype(np.uint8), good.gt), 'result must be a float.*got uint8'),
        (SheetRow('photo', good.input, nan, good.gt), 'result has values that are not finite'),
    ):
        with pytest.raises(ValueError, match=message):
            comparison_sheet([good, bad], path)
    with pytest.raises(ValueError, match='needs a row and 996 pixels, got 0 and 1680'):
        comparison_sheet([], path)
    with pytest.raises(ValueError, match='got 1 and 500'):
        comparison_sheet([good], path, max_width=500)
    assert not path.exists()
