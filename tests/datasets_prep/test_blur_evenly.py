"""The script that blurs photographs evenly."""

import cv2
import numpy as np
import pytest

from ggkm_plugin.datasets_prep.blur_evenly import main
from ggkm_plugin.utils.image_decoding import decode_image, write_image


@pytest.fixture
def photos(tmp_path):
    for seed, name in enumerate('abc'):
        write_image(
            str(tmp_path / 'photos' / f'{name}.png'),
            np.random.default_rng(seed).integers(0, 256, (40, 52, 3), np.uint8),
        )
    return tmp_path / 'photos'


def image(path):
    return decode_image(path.read_bytes(), path.name)


def test_pairs_are_the_middle_of_the_photographs_and_its_blur(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(['out', '--photos', str(photos), '--sigma', '0.8', '2', '--crop', '32', '--count', '2']) == 0
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['sigma0.8', 'sigma2']
    for sigma in (0.8, 2):
        folder = tmp_path / f'out/sigma{sigma:g}'
        assert sorted(path.name for path in (folder / 'input').iterdir()) == ['a.png', 'b.png']
        sharp = image(photos / 'a.png')[4:36, 10:42]
        np.testing.assert_array_equal(image(folder / 'ground_truth/a.png'), sharp)
        blurred = image(folder / 'input/a.png').astype(float)
        np.testing.assert_allclose(blurred, cv2.GaussianBlur(sharp.astype(float), (0, 0), sigma), atol=1.5)


@pytest.mark.parametrize('words', [['--sigma', '0'], ['--crop', '0'], ['--photos', 'none']])
def test_mistakes_name_the_argument_and_nothing_is_overwritten(photos, tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert main(['out', '--photos', str(photos), *words]) != 0
    assert words[words[0] == '--photos'] in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    assert main([str(photos), '--photos', str(photos)]) != 0
    assert len(list(photos.iterdir())) == 3
