"""TensorBoard: logged values, and that it starts after a plain install."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch


@pytest.fixture
def events(command, workplace, tiny, write_options):
    """Runs the tiny training, with changes, and reads what it has written."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def run(**sections):
        tiny['logger']['use_tb_logger'] = True
        tiny['val']['val_freq'] = 2
        for section, changes in sections.items():
            tiny[section].update(changes)
        code, _, err = command('train', '-opt', write_options(tiny))
        assert code == 0, err
        found = EventAccumulator(str(workplace / 'tb_logger/tiny'), size_guidance={'images': 0})
        found.Reload()
        return found

    return run


def pixels(event):
    return cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)


def test_every_curve_and_picture(events):
    found = events()
    losses = {f'losses/{name}' for name in ('l_pix', 'l_mse', 'l_fr', 'l_ssim', 'l_sr')}
    scalars = set(found.Tags()['scalars'])
    assert losses | {'lr', 'grad_norm', 'images_per_s', 'data_wait', 'metrics/val/psnr'} <= scalars
    for name in (*losses, 'lr', 'grad_norm', 'images_per_s', 'data_wait'):
        assert [event.step for event in found.Scalars(name)] == [1, 2, 3, 4], name
    assert [event.value for event in found.Scalars('lr')] == pytest.approx([1e-3, 1e-3, 1e-3, 5e-4])
    assert all(event.value > 0 for name in ('grad_norm', 'images_per_s') for event in found.Scalars(name))
    assert all(0 <= event.value <= 1 for event in found.Scalars('data_wait'))
    assert [event.step for event in found.Scalars('metrics/val/psnr')][:2] == [2, 4]
    pictures = found.Tags()['images']
    strips = [tag for tag in pictures if tag.endswith('input_result_gt')]
    maps = [tag for tag in pictures if tag.endswith('coefficients')]
    assert len(strips) == len(maps) == 3
    assert len(pictures) == 6
    for tag in pictures:
        assert [event.step for event in found.Images(tag)][:2] == [2, 4]
    picture = pixels(found.Images(strips[0])[0])
    assert picture.shape == (48, 3 * 64, 3)
    assert np.array_equal(picture[:, :64], cv2.imread('pairs/input/00.png'))
    assert np.array_equal(picture[:, 128:], cv2.imread('pairs/ground_truth/00.png'))
    assert pixels(found.Images(maps[0])[0]).shape == (48, 64, 3)


def test_a_network_without_coefficients(events, tiny):
    tiny['network_g'] = {'type': 'SRVGGNetCompact', 'num_feat': 4, 'num_conv': 1, 'upscale': 1}
    tiny['train']['pixel_opt'] = {'type': 'L1Loss'}
    found = events()
    assert all(tag.endswith('input_result_gt') for tag in found.Tags()['images'])
    assert len(found.Tags()['images']) == 3


def test_pictures_cost_the_training_nothing(events, command, workplace, tiny, write_options):
    """With TensorBoard and without: the same weights."""
    events()
    first = torch.load(workplace / 'experiments/tiny/models/net_g_latest.pth')['params']
    tiny['logger']['use_tb_logger'] = False
    assert command('train', '-opt', write_options(tiny))[0] == 0
    again = torch.load(workplace / 'experiments/tiny/models/net_g_latest.pth')['params']
    assert all(torch.equal(value, again[name]) for name, value in first.items())


@pytest.mark.slow
def test_the_tensorboard_command():
    """A second TensorBoard beside basicsr's, or setuptools without pkg_resources, would break it."""
    program = Path(sys.executable).with_name('tensorboard')
    shown = subprocess.run([program, '--version'], capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 0, shown.stderr[-2000:]
    assert shown.stdout.strip()[0].isdigit()
