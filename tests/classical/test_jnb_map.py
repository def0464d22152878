"""JNB's map: the dictionary that comes with the package, what it counts, and how it was learned."""

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


def test_small_blur_of_other_photographs(held_out):
    for sigma in (0.75, 1, 1.5):
        for image in held_out:
            assert np.median(jnb_map.blur_map(blurred(image, sigma))) == pytest.approx(sigma, abs=0.3)


def test_more_blur_needs_fewer_atoms(held_out):
    atoms = jnb_map.dictionary().atoms
    for image in held_out:
        plane = 255 * jnb_map.luma(image)
        found = [jnb_map.atom_counts(ndimage.gaussian_filter(plane, sigma), atoms).mean() for sigma in (0.5, 1, 2, 4)]
        assert (np.diff(found) < 0).all()


def test_it_tells_the_sharp_from_the_blurred_half(held_out):
    image = held_out[1]
    image = np.concatenate([image[:, :100], blurred(image, 1.5)[:, 100:]], axis=1)
    found = jnb_map.blur_map(image)
    assert np.median(found[:, :80]) < 0.6
    assert np.median(found[:, 120:]) > 1.2


def test_an_even_surface_tells_nothing():
    assert (jnb_map.blur_map(np.full((20, 30, 3), 0.5)) == 4).all()


def test_a_patch_is_the_one_around_its_pixel(held_out):
    grey = 255 * jnb_map.luma(held_out[0][:40, :50].astype(np.float64))
    atoms = jnb_map.dictionary().atoms.astype(np.float64)
    counts = jnb_map.atom_counts(grey, atoms)
    assert counts.shape == grey.shape
    patch = grey[10:18, 20:28]
    alone, _ = jnb_map.pursuit((patch - patch.mean()).reshape(1, 64), atoms, jnb_map.ERROR, jnb_map.MOST_ATOMS)
    assert counts[13, 23] == alone[0] > 3


def test_neither_threads_nor_pieces_show(held_out, monkeypatch):
    grey, atoms = 255 * jnb_map.luma(held_out[0][:30]), jnb_map.dictionary().atoms
    one = jnb_map.atom_counts(grey, atoms, workers=1)
    np.testing.assert_array_equal(jnb_map.atom_counts(grey, atoms, workers=3), one)
    monkeypatch.setattr(jnb_map, '_AT_ONCE', 37)  # products of another shape may round otherwise
    assert (jnb_map.atom_counts(grey, atoms) != one).mean() < 0.01


def test_progress_is_told(held_out):
    told = []
    jnb_map.blur_map(held_out[0][:12], lambda *step: told.append(step))
    assert told == [('blur map', row, 12) for row in range(1, 13)]


@pytest.mark.slow
def test_the_dictionary_is_what_is_learned():
    """In double precision, so that rounding decides nothing; the photographs are scikit-image's."""
    known, images = jnb_map.dictionary(), [read_image(photo.path) for photo in builtin_photographs('train')]
    atoms = jnb_learning.learned_atoms(images)
    np.testing.assert_allclose(atoms, known.atoms, atol=1e-5)
    for sigma in (1.0, 2.0):
        (count,) = known.counts[known.sigmas == sigma]
        assert jnb_learning.mean_count(images, known.atoms, sigma) == pytest.approx(count, rel=1e-3)


def test_codes_leave_at_most_the_error():
    rng = np.random.default_rng(0)
    atoms = jnb_map.dictionary().atoms.astype(np.float64)
    signals = 40 * rng.standard_normal((30, 128)) * (rng.random((30, 128)) < 0.04) @ atoms
    codes = jnb_learning.sparse_codes(signals, atoms)
    assert np.linalg.norm(signals - codes @ atoms, axis=1).max() <= jnb_map.ERROR + 1e-6
    assert np.count_nonzero(codes, axis=1).max() <= jnb_map.MOST_ATOMS
