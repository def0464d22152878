"""Laws of PSFs: apertures and generalized Gaussians."""

from dataclasses import replace

import numpy as np
import pytest

from ggkm_plugin.data.apertures import DISK, GAUSSIAN, Aperture, GaussianPSF, random_aperture, spread
from ggkm_plugin.data.optics import disk_kernel

SHAPES = {
    'disk': DISK,
    'pentagon': Aperture(blades=5, turn=0.3),
    'rounded octagon': Aperture(blades=8, turn=0.1, roundness=0.6),
    "cat's eye": Aperture(cut=(0.4, -0.2)),
    'soft': Aperture(softness=0.5),
    'rim': Aperture(rim=0.7),
    'all': Aperture(6, 0.2, 0.3, (0.3, 0.3), 0.2, -0.4),
    'spherical': Aperture(spherical=0.9),
}
shapes = pytest.mark.parametrize('aperture', SHAPES.values(), ids=SHAPES)


def offsets(kernel):
    """(rows, columns) of the taps from the center."""
    reach = len(kernel) // 2
    return np.mgrid[-reach : reach + 1, -reach : reach + 1]


@shapes
@pytest.mark.parametrize('radius', [0.6, 3.0, 12.0, -5.0])
def test_kernels_are_nonnegative_sum_to_1_and_lie_within_the_circle_of_confusion(aperture, radius):
    kernel = aperture.kernel(radius)
    assert kernel.dtype == np.float32
    assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert kernel.min() >= 0
    rows, columns = offsets(kernel)
    nearest = np.hypot(np.maximum(np.abs(rows) - 0.5, 0), np.maximum(np.abs(columns) - 0.5, 0))
    assert kernel[nearest >= abs(radius)].max(initial=0) == 0


def test_a_radius_within_a_pixel_is_the_identity():
    for psf in (*SHAPES.values(), GAUSSIAN):
        for radius in (0, 0.5, -0.5):
            np.testing.assert_array_equal(psf.kernel(radius), np.ones((1, 1), np.float32))


@pytest.mark.parametrize('radius', [1.0, 2.37, 12.0])
def test_an_open_disk_is_the_disk_of_that_radius(radius):
    exact = disk_kernel(radius)
    # sampling gives the area of a pixel to about (points per pixel)^(-3/2), with 4 points or more
    np.testing.assert_allclose(DISK.kernel(radius), exact, atol=0.04 * exact.max())
    rows, _ = offsets(exact)
    assert (DISK.kernel(radius) * rows**2).sum() == pytest.approx((exact * rows**2).sum(), rel=5e-3)


@pytest.mark.parametrize('blades', [5, 8])
def test_a_polygon_has_the_variance_of_a_polygon(blades):
    """Of a regular polygon with corners at r, along any axis: r^2 (2 + cos(2 pi / n)) / 12; and 1/12 of a pixel."""
    kernel = Aperture(blades, 0.4).kernel(11.3)
    for at in offsets(kernel):
        expected = 11.3**2 * (2 + np.cos(2 * np.pi / blades)) / 12 + 1 / 12
        assert (kernel * at**2).sum() == pytest.approx(expected, rel=0.01)


def test_turn_rotates_the_polygon_and_full_roundness_makes_it_a_disk():
    """x to the right, y down: with turn 0 a corner of a triangle is at the right, at pi / 2 below."""
    right, below = (Aperture(3, turn).kernel(9.0) for turn in (0, np.pi / 2))
    assert right[9, 16] > 0
    assert right[9, 2] == 0
    np.testing.assert_allclose(below, right.T, atol=1e-4)
    np.testing.assert_allclose(Aperture(6, 0.1, roundness=1).kernel(8.0), DISK.kernel(8.0), atol=1e-4)


def test_a_cat_s_eye_is_the_intersection_of_two_disks():
    """The area of the lens shape of two unit disks at a distance d: 2 acos(d/2) - d/2 sqrt(4 - d^2)."""
    d = 0.5
    kernel = Aperture(cut=(d, 0)).kernel(12.0)
    share = (2 * np.arccos(d / 2) - d / 2 * np.sqrt(4 - d**2)) / np.pi
    # the light is uniform, so the brightest tap is one over the area
    assert 1 / kernel.max() == pytest.approx(share * np.pi * 12.0**2, rel=0.01)
    _, columns = offsets(kernel)
    assert (kernel * columns).sum() == pytest.approx(12 * d / 2, abs=0.05)  # the middle of the intersection


@shapes
@pytest.mark.parametrize('radius', [11.0, -7.0])
def test_a_centered_kernel_shifts_nothing_and_keeps_its_shape(aperture, radius):
    kernel, shifted = replace(aperture, centered=True).kernel(radius), aperture.kernel(radius)
    rows, columns = offsets(kernel)
    centroids = [[(taps * at).sum() for at in (rows, columns)] for taps in (kernel, shifted)]
    assert np.abs(centroids[0]).max() < 0.06
    for at, centroid in zip((rows, columns), centroids[1], strict=True):
        assert (kernel * at**2).sum() == pytest.approx((shifted * (at - centroid) ** 2).sum(), rel=0.03)


@shapes
def test_behind_the_focal_plane_the_kernel_is_rotated_by_180_degrees(aperture):
    opposite = replace(aperture, spherical=-aperture.spherical)
    np.testing.assert_array_equal(aperture.kernel(-6.3), opposite.kernel(6.3)[::-1, ::-1])


def test_edges_and_rims():
    middle, edge = (12, 12), (12, 22)
    assert Aperture(softness=0.5).kernel(12.0)[edge] < 0.5 * Aperture(softness=0.5).kernel(12.0)[middle]
    rim = Aperture(rim=0.7).kernel(12.0)
    assert rim[edge] / rim[middle] == pytest.approx(1 + 0.7 * (10 / 12) ** 2, rel=0.02)


@pytest.mark.parametrize('exponent', [1.0, 2.0, 8.0])
@pytest.mark.parametrize('radius', [2.2, 16.0, -5.0])  # smaller ones are sampled too coarsely
def test_a_gaussian_has_the_sum_and_the_variance_of_a_disk(exponent, radius):
    """Per axis radius^2 / 4, and 1/12 of a pixel; minus the tails outside of the kernel."""
    kernel = GaussianPSF(exponent).kernel(radius)
    assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert kernel.min() >= 0
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-8)
    for at in offsets(kernel):
        assert (kernel * at**2).sum() == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.07)


def test_a_small_exponent_has_heavy_tails():
    kernels = [GaussianPSF(exponent).kernel(9.0) for exponent in (1.0, 2.0, 8.0)]
    fourth = [(kernel * offsets(kernel)[0] ** 4).sum() for kernel in kernels]
    assert fourth[0] > fourth[1] > fourth[2]


def test_the_gaussian_has_a_sigma_of_half_the_radius():
    kernel = GAUSSIAN.kernel(8.0)
    reach = len(kernel) // 2
    assert reach >= 3 * 4
    row = kernel[reach] / kernel[reach, reach]
    np.testing.assert_allclose(row, np.exp(-0.5 * (np.arange(-reach, reach + 1) / 4.0) ** 2), atol=2e-3)


@pytest.mark.parametrize('strength', [0.8, -0.8])
def test_spherical_aberration_flips_with_the_side_of_focus(strength):
    """A bright rim on one side, a bright core on the other; the mean of both sides is the open disk."""
    aperture = Aperture(spherical=strength)
    front, behind, middle, edge = aperture.kernel(12.0), aperture.kernel(-12.0), (12, 12), (12, 22)
    assert front[edge] / front[middle] == pytest.approx(
        (1 + strength * (2 * (10 / 12) ** 2 - 1)) / (1 - strength), rel=0.03
    )
    assert (front[edge] > front[middle]) == (behind[edge] < behind[middle]) == (strength > 0)
    np.testing.assert_allclose((front + behind) / 2, DISK.kernel(12.0), atol=0.01 * DISK.kernel(12.0).max())
    np.testing.assert_allclose(behind, Aperture(spherical=-strength).kernel(12.0), atol=1e-7)


@shapes
def test_a_point_becomes_the_kernel(aperture):
    kernel = aperture.kernel(4.4)
    point = np.zeros((31, 33, 2), np.float32)
    point[15, 16, 0] = 1
    reach = len(kernel) // 2
    image = spread(point, kernel)
    np.testing.assert_allclose(image[15 - reach : 16 + reach, 16 - reach : 17 + reach, 0], kernel, atol=1e-6)
    assert image[..., 0].sum() == pytest.approx(1, abs=1e-5)
    assert image[..., 1].max() == 0


def test_random_apertures_are_of_all_kinds_and_depend_on_the_seed():
    drawn = [random_aperture(np.random.default_rng(seed)) for seed in range(200)]
    assert drawn == [random_aperture(np.random.default_rng(seed)) for seed in range(200)]
    assert {aperture.blades for aperture in drawn} == {0, 5, 6, 7, 8}
    for has in (lambda a: any(a.cut), lambda a: a.softness > 0):
        assert 40 < sum(map(has, drawn)) < 140
