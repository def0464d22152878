"""The comparison sheet as a file: size, error maps, atomic writing, refused rows."""

import cv2
import numpy as np
import pytest
from PIL import Image

from ggkm_plugin.report.sheet import SheetRow, _crop, _pictures, comparison_sheet


def row(name='photo', height=90, width=120, sharpened=0.5, seed=0):
    """Random ground truth, its blur as input, and a result between the two."""
    gt = np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)
    blurred = cv2.GaussianBlur(gt, (0, 0), 2)
    return SheetRow(name, blurred, blurred + sharpened * (gt - blurred), gt)


def read(path):
    with Image.open(path) as image:
        assert image.format == 'PNG'
        return np.asarray(image)


def test_two_rows_of_different_aspect(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'sheet.png'
    comparison_sheet([row('wide', 150, 350), row('tall', 250, 100)], path, max_width=700)
    sheet = read(path)
    assert sheet.shape[1] == 700
    plain = tmp_path / 'plain.png'
    comparison_sheet([row('wide', 150, 350), row('tall', 250, 100)], plain, max_width=700, zoom=False)
    assert read(plain).shape[1] == sheet.shape[1]
    assert read(plain).shape[0] < sheet.shape[0]
    assert sorted(file.name for file in tmp_path.rglob('*') if file.is_file()) == ['plain.png', 'sheet.png']


def test_result_equal_to_ground_truth_has_a_black_error_map(tmp_path):
    """Columns have equal widths; the last two are the error maps of input and result."""
    photo = row(sharpened=1)
    comparison_sheet([SheetRow('same', photo.input, photo.gt, photo.gt)], tmp_path / 'sheet.png', 1000, zoom=False)
    sheet = read(tmp_path / 'sheet.png').astype(int)[..., :3]
    rows = slice(sheet.shape[0] // 2 - 30, sheet.shape[0] // 2 - 10)
    of_input, of_result = (sheet[rows, 100 * share - 10 : 100 * share + 10] for share in (7, 9))
    assert of_result.max() < 10
    assert of_input.mean() > 60


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


def test_wrong_rows_are_refused(tmp_path):
    good, path = row('photo'), tmp_path / 'sheet.png'
    nan = np.full_like(good.gt, np.nan)
    for bad, name in (
        (SheetRow('photo', good.input[1:], good.result, good.gt), r"'photo': input.*\(90, 120, 3\)"),
        (SheetRow('photo', good.input, (good.gt * 255).astype(np.uint8), good.gt), "'photo': result"),
        (SheetRow('photo', good.input, nan, good.gt), "'photo': result"),
    ):
        with pytest.raises(ValueError, match=name):
            comparison_sheet([good, bad], path)
    with pytest.raises(ValueError, match='row'):
        comparison_sheet([], path)
    assert not path.exists()
    comparison_sheet([SheetRow('same', good.gt, good.gt, good.gt)], path)  # no error anywhere
    assert read(path).ndim == 3
