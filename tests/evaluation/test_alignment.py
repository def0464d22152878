"""Scores after registration: a shift is undone, and what is not shifted keeps its plain score."""

import numpy as np
import pytest
import torch
from scipy.ndimage import fourier_shift, gaussian_filter

from ggkm_plugin.evaluation.alignment import aligned
from ggkm_plugin.utils.image_decoding import write_image


def photograph(height=300, width=320, seed=0):
    """(3,H,W) with detail at many scales."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=(height, width)), sigma) * sigma for sigma in (1.5, 3, 6, 12)]
    image = sum(layers)
    return np.stack([(image - image.min()) / np.ptp(image)] * 3).astype(np.float32)


def shifted(image, rows, columns):
    return np.stack([np.real(np.fft.ifft2(fourier_shift(np.fft.fft2(plane), (rows, columns)))) for plane in image])


def psnr(one, two):
    return -10 * torch.log10((one - two).square().mean()).item()


@pytest.mark.parametrize(('rows', 'columns'), [(1.5, -0.75), (-3, 0.4)])
def test_a_shift_is_undone(rows, columns):
    gt = torch.from_numpy(photograph())
    moved = torch.from_numpy(shifted(gt.numpy(), rows, columns).astype(np.float32))[:, 8:-8, 8:-8]
    inner = gt[:, 8:-8, 8:-8]
    one, two = aligned(moved, inner)
    assert one.shape == two.shape
    assert all(side <= size for side, size in zip(one.shape, inner.shape, strict=True))
    assert psnr(one, two) > psnr(moved, inner) + 10


@pytest.mark.parametrize('size', [(300, 320), (100, 320)])
def test_an_image_that_needs_none_is_kept(size):
    """Not shifted, of another scene, or too small to tell."""
    gt = torch.from_numpy(photograph(*size))
    other = torch.from_numpy(photograph(*size, seed=1))
    for image in (gt, other):
        one, two = aligned(image, gt)
        assert one is image
        assert two is gt


def test_aligned_scores_stand_beside_the_plain_ones(bench):
    gt = photograph()
    for name, image in (('ground_truth', gt), ('input', shifted(gt, 0, 1))):
        for path in (bench.folder / 'pairs' / name).iterdir():
            path.unlink()
        pixels = (np.moveaxis(image, 0, 2)[8:-8, 8:-8] * 255).clip(0, 255).round().astype(np.uint8)
        write_image(str(bench.folder / 'pairs' / name / '0.png'), pixels)
    bench.opt.update(align='shift', metrics=['psnr', 'ssim', 'niqe'])
    results, out, _ = bench.run()
    means = results['datasets'][0]['means']['input']
    assert [metric['name'] for metric in results['metrics']] == [
        'psnr', 'ssim', 'niqe', 'psnr_aligned', 'ssim_aligned',
    ]  # fmt: skip
    assert set(means) == {metric['name'] for metric in results['metrics']}
    assert means['psnr_aligned'] > means['psnr'] + 10
    assert 'PSNR aligned' in out
    del bench.opt['align']
    plain, _, _ = bench.run()
    assert plain['datasets'][0]['means']['input'] == {name: means[name] for name in ('psnr', 'ssim', 'niqe')}
