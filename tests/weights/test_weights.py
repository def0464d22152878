"""The packaged weights: what they say of themselves, and that they help where the model card says so."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from training.test_resuming import same

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.inference import Restorer
from ggkm_plugin.metrics.defocus_metrics import defocus_psnr
from ggkm_plugin.restoration import export
from ggkm_plugin.utils.checkpoint import network_options, read_checkpoint
from ggkm_plugin.utils.errors import CheckpointError
from ggkm_plugin.utils.image_decoding import decode_image
from ggkm_plugin.weights import DEFAULT, LIGHT, NAMES, checkpoint_path, packaged_weights

DATA = ROOT.parent / 'shared/data'
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason='real photographs are not there (../shared/data)')


ITERATIONS = {DEFAULT: 10000, LIGHT: 12000}
# Gain in dB over the four real LFDOF pairs, their mean and the least, as the model card says.
GAINS = {DEFAULT: (1.65, 1.01), LIGHT: (1.54, 0.99)}


@pytest.fixture(scope='module', params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope='module')
def restorer(name):
    return Restorer(name, 'cpu')


def photograph(path):
    return decode_image(path.read_bytes(), path.name)


def test_they_are_small_and_describe_themselves(name):
    path = packaged_weights(name)
    assert os.path.getsize(path) < 4 << 20
    network = network_options(path)
    assert network['type'] == 'GGKMNet'
    description = read_checkpoint(path)['description']
    assert description['iteration'] == ITERATIONS[name]
    assert name in Path(path).with_name('README.md').read_text()


def test_the_default_is_the_paper_s_network():
    network = network_options(packaged_weights())
    assert network.keys() <= {'type', 'init', 'self_reconstruction'}  # what only training reads


def test_a_name_is_a_file_where_there_is_one(workplace):
    assert checkpoint_path(LIGHT) == packaged_weights(LIGHT)
    assert checkpoint_path(Path('some.pth')) == 'some.pth'
    assert checkpoint_path('none/GGKMNet') == 'none/GGKMNet'
    for word, words in (
        ('GGKMNet_ligth', 'Did you mean GGKMNet_light'),
        ('GGKMNet_light.pth', 'Did you mean GGKMNet_light'),
        ('mine', 'Packaged are: GGKMNet, GGKMNet_light'),
    ):
        with pytest.raises(CheckpointError, match=f'{word}: no such checkpoint. {words}'):
            checkpoint_path(word)
    with pytest.raises(CheckpointError, match='is empty; name a file, or one of GGKMNet, GGKMNet_light'):
        checkpoint_path('')
    Path(LIGHT).mkdir()
    assert checkpoint_path(LIGHT) == packaged_weights(LIGHT)
    Path(LIGHT).rmdir()
    for name in NAMES:
        Path(name).write_bytes(b'')
        assert checkpoint_path(name) == name
    assert checkpoint_path(None) == packaged_weights(DEFAULT)


def test_an_image_that_is_sharp_or_empty_stays(restorer):
    """A flat sky and an edge: nothing out of focus, nothing to change."""
    flat = np.full((64, 80, 3), 180, np.uint8)
    assert np.abs(restorer(flat).astype(int) - flat).max() <= 2
    step = np.full((64, 80, 3), 50, np.uint8)
    step[:, 40:] = 200
    assert defocus_psnr(restorer(step), step) > 38


@needs_data
@pytest.mark.slow
def test_real_pairs_become_better(restorer, name):
    gains = []
    for path in sorted((DATA / 'lfdof_pairs/input').iterdir()):
        given, truth = photograph(path), photograph(DATA / 'lfdof_pairs/ground_truth' / path.name)
        gains.append(defocus_psnr(restorer(given), truth) - defocus_psnr(given, truth))
    assert len(gains) == 4
    assert (np.mean(gains), min(gains)) == pytest.approx(GAINS[name], abs=0.02)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize('number', [1, 14, 19, 21, 24])
def test_sharp_photographs_are_left_alone(restorer, number):
    """14, 19 and 21 were in the training of neither network."""
    image = photograph(DATA / f'kodak24/{number:02d}.png')
    assert defocus_psnr(restorer(image), image) > 38


# Packing


def test_packing_takes_the_averaged_weights_in_half_precision(workplace, capsys):
    small = {'width': 4, 'num_groups': 3, 'self_reconstruction': False}
    description = {'arch': 'GGKMNet', 'options': small, 'iteration': 3}
    average, last = (GGKMNet(**small).state_dict() for _ in range(2))
    torch.save({'params': last, 'params_ema': average, 'description': description}, 'trained.pth')
    torch.save({'params_ema': average, 'description': description}, 'averaged.pth')
    assert export.main(['averaged.pth', '-o', 'averaged_packed.pth']) == 0
    assert export.main(['trained.pth', '-o', 'packed.pth']) == 0
    assert [line.partition(':')[0] for line in capsys.readouterr().out.splitlines()] == [
        'averaged_packed.pth',
        'packed.pth',
    ]
    packed = read_checkpoint('packed.pth')
    assert same(packed, read_checkpoint('averaged_packed.pth'))
    assert packed['description'] == description
    assert packed['params'].keys() == average.keys()
    for key, value in packed['params'].items():
        assert value.dtype == torch.float16
        assert torch.equal(value, average[key].half())
    assert Restorer('packed.pth', 'cpu')(np.zeros((16, 16, 3), np.uint8)).shape == (16, 16, 3)


def test_packing_refuses_what_it_would_spoil(workplace, capsys):
    options = {'width': 4, 'num_groups': 3, 'self_reconstruction': False}
    description = {'arch': 'GGKMNet', 'options': options, 'iteration': 3}
    state = GGKMNet(**options).state_dict()
    torch.save({'params': state}, 'nameless.pth')
    torch.save(
        {'params': {**state, 'steps.0.fuse.bias': torch.tensor([0, 1e6, 0])}, 'description': description}, 'large.pth'
    )
    torch.save({'params': state, 'description': {**description, 'options': {}}}, 'other_options.pth')
    torch.save({'params': state, 'description': {**description, 'arch': 'GKMNet', 'options': {}}}, 'other_arch.pth')
    torch.save({'params': state, 'description': {**description, 'arch': 'NoSuchNet'}}, 'unregistered.pth')
    torch.save({'params': 3, 'description': description}, 'three.pth')
    torch.save({'description': description}, 'empty.pth')
    for name, words in (
        ('nameless.pth', 'does not say'),
        ('large.pth', 'steps.0.fuse.bias'),
        ('none.pth', 'no such checkpoint'),
        ('other_options.pth', 'not a checkpoint of GGKMNet'),
        ('other_arch.pth', 'not a checkpoint of GKMNet'),
        ('unregistered.pth', 'is not registered'),
        ('three.pth', 'no state dict under params'),
        ('empty.pth', 'not a checkpoint of GGKMNet'),
    ):
        assert export.main([name, '-o', 'packed.pth']) in (1, 2)
        err = capsys.readouterr().err
        assert err.startswith(f'packing: {name}: ')
        assert words in err
        assert not Path('packed.pth').exists()
    Path('packed.pth').write_bytes(b'mine')
    Path('link.pth').symlink_to('elsewhere.pth')
    torch.save({'params': state, 'description': description}, 'trained.pth')
    for target, words in (('packed.pth', 'there already'), ('link.pth', 'there already'), ('', '-o is empty')):
        assert export.main(['trained.pth', '-o', target]) == 2
        assert words in capsys.readouterr().err
    assert Path('packed.pth').read_bytes() == b'mine'
    assert Path('link.pth').is_symlink()


def test_packing_may_be_interrupted(workplace, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, 'save_atomically', interrupted)
    assert export.main([packaged_weights(LIGHT), '-o', 'packed.pth']) == 1
    assert capsys.readouterr().err == 'packing: interrupted; nothing is written\n'
