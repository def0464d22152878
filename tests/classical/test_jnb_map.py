"""Blur map of JNB: the packaged dictionary, counts of atoms, and learning."""

import numpy as np
import pytest
from scipy import ndimage

from ggkm_plugin.classical import jnb_learning, jnb_map
from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.utils.image_decoding import read_image


@pytest.fixture(scope='module')
def held_out():
    """Parts of the photographs that the dictionary was not learned from."""
    return [read_image(photo.path)[100:260, 100:300] for photo in builtin_photographs('val')]


def blurred(image, sigma):
    return ndimage.gaussian_filter(image, (sigma, sigma, 0), mode='nearest')


def test_the_dictionary_and_its_curve():
    known = jnb_map.dictionary()
    assert (known.atoms.shape, known.atoms.dtype) == ((128, 64), np.float32)
    np.testing.assert_allclose(np.linalg.norm(known.atoms, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(known.atoms.mean(axis=1), 0, atol=1e-7)
    assert (np.diff(known.counts) < 0).all()
    assert (np.diff(known.sigmas) > 0).all()
    assert (known.sigmas[0], known.sigmas[-1]) == (0, 4)


@pytest.mark.slow
def test_small_blur_of_other_photographs(held_out):
    for sigma in (0.75, 1, 1.5):
        for image in held_out:
            assert np.median(jnb_map.blur_map(blurred(image, sigma))) == pytest.approx(sigma, abs=0.3)


def test_the_sharp_and_the_blurred_half_differ(held_out):
    image = held_out[1]
    image = np.concatenate([image[:, :100], blurred(image, 1.5)[:, 100:]], axis=1)
    found = jnb_map.blur_map(image)
    assert np.median(found[:, :80]) < 0.6
    assert np.median(found[:, 120:]) > 1.2


def test_a_constant_image_has_the_largest_blur():
    assert (jnb_map.blur_map(np.full((20, 30, 3), 0.5)) == 4).all()


def test_threads_and_batches_do_not_change_the_counts(held_out, monkeypatch):
    gray, atoms = 255 * jnb_map.luma(held_out[0][:30]), jnb_map.dictionary().atoms
    one = jnb_map.atom_counts(gray, atoms, workers=1)
    np.testing.assert_array_equal(jnb_map.atom_counts(gray, atoms, workers=3), one)
    monkeypatch.setattr(jnb_map, '_AT_ONCE', 37)  # products of another shape may round differently
    assert (jnb_map.atom_counts(gray, atoms) != one).mean() < 0.01


@pytest.mark.slow
def test_the_dictionary_is_what_is_learned():
    """In double precision, so that rounding does not matter."""
    known, images = jnb_map.dictionary(), [read_image(photo.path) for photo in builtin_photographs('train')]
    atoms = jnb_learning.learned_atoms(images)
    np.testing.assert_allclose(atoms, known.atoms, atol=1e-5)
    for sigma in (1.0, 2.0):
        (count,) = known.counts[known.sigmas == sigma]
        assert jnb_learning.mean_count(images, known.atoms, sigma) == pytest.approx(count, rel=1e-3)
