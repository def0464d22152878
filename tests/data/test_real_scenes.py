"""Laws of pairs with real optics: alignment, identity of sharp scenes, switches, seeds."""

import dataclasses

import cv2
import numpy as np
import pytest

from ggkm_plugin.data import real_scenes
from ggkm_plugin.data.apertures import GaussianPSF
from ggkm_plugin.data.real_scenes import PRESETS, Optics, training_pair, whole_pair
from ggkm_plugin.utils.errors import OptionError

# Only the scene: no blur, no camera.
NOTHING = dataclasses.replace(
    PRESETS['basic'], sharp_prob=0.0, radius=(0.5, 0.5), even_radius=(0.5, 0.5), noise_prob=0.0, compress_prob=0.0
)
SWITCHES = sorted(field.name for field in dataclasses.fields(Optics) if field.name.endswith('_prob'))


def picture(seed=0, shape=(110, 120)):
    """Smooth colors with edges and fine texture."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.random((*shape, 3), dtype=np.float32), (0, 0), 2)
    image = 0.9 * (image - image.min()) / np.ptp(image) + 0.1 * rng.random((*shape, 1), dtype=np.float32)
    return np.clip(image, 0, 1).astype(np.float32)


def pair(seed, optics=PRESETS['full'], size=48, max_radius=8.0):
    rng = np.random.default_rng(seed)
    return training_pair(rng, lambda: picture(int(rng.integers(5))), picture(), size, max_radius, optics)


def psnr(pair_):
    return cv2.PSNR(pair_.lq, pair_.gt)


def shifts(optics, count=12):
    """(count, 2) shifts of lq against gt in pixels: least squares on the gradient of both, smoothed."""
    found = []
    for seed in range(count):
        lq, gt = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) for image in pair(seed, optics, 96))
        lq, gt = (cv2.GaussianBlur(image, (0, 0), 4)[12:-12, 12:-12] for image in (lq, gt))
        gradient = np.stack(np.gradient((lq + gt) / 2), axis=-1).reshape(-1, 2)
        found.append(np.linalg.lstsq(gradient, (gt - lq).ravel(), rcond=None)[0])
    return np.array(found)


@pytest.mark.parametrize('gamma_prob', [0.0, 1.0])
def test_no_blur_and_no_camera_is_the_identity(gamma_prob):
    for seed in range(8):
        lq, gt = pair(seed, dataclasses.replace(NOTHING, gamma_prob=gamma_prob))
        np.testing.assert_array_equal(lq, gt)


@pytest.mark.parametrize(
    'feature',
    [
        {'even_prob': 1.0, 'even_radius': (3.0, 3.0)},
        {'residual_prob': 1.0, 'residual': (1.2, 1.2)},
        {'resize_prob': 1.0, 'resize': (1.1, 2.0)},
        {'soften_prob': 1.0, 'soften': (0.6, 0.8)},
        {'sharpen_prob': 1.0, 'sharpen': (0.8, 1.0)},
        {'chroma_prob': 1.0, 'luma_prob': 1.0},
        {'compress_prob': 1.0, 'quality': (60, 60)},
    ],
    ids=lambda feature: next(iter(feature)),
)
def test_lq_is_not_shifted_against_gt(feature):
    # Blur of values: the blur of light moves edges toward their dark side.
    optics = dataclasses.replace(
        NOTHING, gaussian_prob=1.0, highlights_prob=0.0, gamma_prob=1.0, gamma=(1, 1), **feature
    )
    found = shifts(optics)
    assert np.abs(found.mean(axis=0)).max() < 0.03
    assert np.hypot(*found.T).mean() < 0.1


def test_the_measured_shift_is_that_of_a_shifted_image(monkeypatch):
    monkeypatch.setattr(real_scenes, 'softened', lambda values, _: np.roll(values, (0, 1), (0, 1)))
    found = shifts(dataclasses.replace(NOTHING, soften_prob=1.0, soften=(0.5, 0.5)))
    np.testing.assert_allclose(found, np.tile([0, 1], (12, 1)), atol=0.1)


def test_sharp_scenes_are_near_the_identity():
    found = [psnr(pair(seed, dataclasses.replace(PRESETS['full'], sharp_prob=1.0))) for seed in range(40)]
    assert min(found) > 33
    assert np.mean(np.array(found) > 45) > 0.3  # OpenCV gives 361 dB for equal images


def test_a_switch_does_not_change_the_other_parameters():
    for switch in SWITCHES:
        off = dataclasses.replace(Optics(), **{switch: 0.0})
        for seed in range(20):
            one, other = (real_scenes._shot(np.random.default_rng(seed), o, 16.0) for o in (Optics(), off))
            if 'sharp' in (one.kind, other.kind) or switch == 'even_prob':
                continue
            assert (one.exposure, one.residual) == (other.exposure, other.residual) or switch == 'residual_prob'
            assert one.radius == other.radius
            assert one.scene.random() == other.scene.random()
            assert one.noise.random() == other.noise.random()


def test_switches_turn_their_property_off():
    def drawn(optics):
        return [real_scenes._shot(np.random.default_rng(seed), optics, 16.0) for seed in range(60)]

    basic = drawn(PRESETS['basic'])
    assert not any(isinstance(shot.psf, GaussianPSF) or shot.psf.spherical for shot in basic)
    assert not any(shot.chromatic or shot.residual or shot.chroma or shot.luma or shot.kind == 'even' for shot in basic)
    assert all(shot.resize == shot.soften == 1 and shot.sharpen[1] == 0 for shot in basic)
    full = drawn(PRESETS['full'])
    assert max(real_scenes._shot(np.random.default_rng(seed), Optics(), 4.0).radius for seed in range(60)) <= 4
    for has in (
        lambda s: isinstance(s.psf, GaussianPSF), lambda s: getattr(s.psf, 'spherical', 0) > 0,
        lambda s: getattr(s.psf, 'spherical', 0) < 0, lambda s: any(s.chromatic), lambda s: s.residual > 0,
        lambda s: s.chroma > 0, lambda s: s.luma > 0, lambda s: s.sharpen[1] > 0, lambda s: s.resize > 1,
        lambda s: s.soften < 1, lambda s: s.sensor.jpeg, lambda s: s.sensor.webp, lambda s: s.sensor.shot > 0,
    ):  # fmt: skip
        assert 0 < sum(map(bool, map(has, full))) < 60


def test_chromatic_offsets_of_red_and_blue_have_opposite_signs():
    optics = dataclasses.replace(Optics(), chromatic_prob=1.0, sharp_prob=0.0)
    signs = set()
    for seed in range(40):
        red, green, blue = real_scenes._shot(np.random.default_rng(seed), optics, 16.0).chromatic
        assert green == 0
        assert red * blue < 0
        assert 0.2 <= abs(red) <= 1.5
        signs.add(np.sign(red))
    assert signs == {1, -1}


def test_residual_blur_leaves_no_region_in_focus():
    optics = dataclasses.replace(NOTHING, residual_prob=1.0, residual=(1.0, 1.2))
    for seed in range(6):
        lq, gt = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float) for image in pair(seed, optics))
        detail = [cv2.blur(cv2.Laplacian(image, cv2.CV_64F) ** 2, (9, 9)) for image in (lq, gt)]
        textured = detail[1] > 9
        assert (detail[0] < 0.7 * detail[1])[textured].all()


def test_a_sharpening_of_both_images_is_the_same_and_of_lq_alone_adds_contrast():
    both = dataclasses.replace(NOTHING, sharpen_prob=1.0, sharpen_both=1.0, sharpen=(1.0, 1.0))
    alone = dataclasses.replace(both, sharpen_both=0.0)
    for seed in range(6):
        lq, gt = pair(seed, both)
        np.testing.assert_array_equal(lq, gt)
        lq, gt = pair(seed, alone)
        assert lq.std() > gt.std()


def test_whole_photographs_keep_their_size_and_are_never_in_focus():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        lq, gt = whole_pair(
            rng, lambda: picture(1, (40, 50)), picture(), 6.0, dataclasses.replace(Optics(), sharp_prob=1.0)
        )
        assert lq.shape == gt.shape == (110, 120, 3)
        assert (lq != gt).any()


def test_options_are_presets_and_keys():
    assert Optics.from_option(None) == Optics.from_option('full') == Optics()
    assert Optics.from_option({'preset': 'basic', 'radius': [0.5, 8]}) == dataclasses.replace(
        PRESETS['basic'], radius=(0.5, 8)
    )


@pytest.mark.parametrize(
    ('option', 'named'),
    [
        ('foggy', 'foggy'), ({'coma_prob': 1}, 'coma_prob'),
        ({'luma': [0, float('nan')]}, 'luma'), ({'sharpen_both': (0, 1)}, 'sharpen_both'),
        ({'even_prob': 1.5}, 'even_prob'), ({'even_prob': True}, 'even_prob'), ({'radius': 4}, 'radius'),
        ({'radius': [4, 2]}, 'radius'), ({'quality': [0, 90]}, 'quality'),
    ],
)  # fmt: skip
def test_wrong_options_are_named(option, named):
    with pytest.raises(OptionError, match=named):
        Optics.from_option(option)
