"""The comparison sheet as a file: size, error maps, crops, scores."""

import cv2
import numpy as np
import pytest
from PIL import Image

from ggkm_plugin.report import figures, sheet
from ggkm_plugin.report.sheet import SheetRow, comparison_sheet


def row(name='photo', height=90, width=120, sharpened=0.5):
    """Random ground truth, its blur as input, and a result between the two."""
    gt = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    blurred = cv2.GaussianBlur(gt, (0, 0), 2)
    return SheetRow(name, blurred, blurred + sharpened * (gt - blurred), gt)


def read(path):
    with Image.open(path) as image:
        assert image.format == 'PNG'
        return np.asarray(image)


@pytest.fixture
def shown(monkeypatch):
    """Pictures and labels of the sheets drawn."""
    axes_of, show = [], figures.show

    def record(axes, picture, *arguments, **options):
        axes_of.append(axes)
        return show(axes, picture, *arguments, **options)

    monkeypatch.setattr(sheet.figures, 'show', record)
    return axes_of


def test_two_rows_of_different_aspect(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'sheet.png'
    comparison_sheet([row('wide', 150, 350), row('tall', 250, 100)], path)
    both = read(path)
    comparison_sheet([row('wide', 150, 350)], path)
    assert read(path).shape[1] == both.shape[1]
    assert read(path).shape[0] < both.shape[0]
    assert [file.name for file in tmp_path.rglob('*') if file.is_file()] == ['sheet.png']


def test_result_equal_to_ground_truth_has_a_black_error_map(tmp_path, shown):
    photo = row()
    comparison_sheet([SheetRow('same', photo.input, photo.gt, photo.gt)], tmp_path / 'sheet.png')
    of_input, of_result = (np.asarray(axes.images[0].get_array()) for axes in shown[3:5])
    assert of_input.mean() > 0.1
    assert (of_result == 0).all()
    comparison_sheet([SheetRow('same', photo.gt, photo.gt, photo.gt)], tmp_path / 'sheet.png')  # no error anywhere


def test_crop_is_where_the_error_fell(tmp_path, shown):
    gt = np.full((200, 300, 3), 0.5)
    result = gt + 0.2
    result[90:180, 140:290] = 0.5  # the size of the crop
    comparison_sheet([SheetRow('', gt + 0.2, result, gt)], tmp_path / 'sheet.png')
    crop = np.asarray(shown[6].images[0].get_array())
    np.testing.assert_allclose(crop, 0.5)


def test_psnr_is_of_the_clipped_images(tmp_path, shown):
    gt = np.ones((20, 20, 3))
    comparison_sheet([SheetRow('', gt - 0.1, gt + 0.1, gt)], tmp_path / 'sheet.png')
    assert [axes.get_xlabel() for axes in shown[:2]] == ['20.00 dB', 'identical']
