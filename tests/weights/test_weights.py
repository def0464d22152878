"""The packaged weights: what they say of themselves, and that they help where the model card says so."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT

from ggkm_plugin.inference import Restorer
from ggkm_plugin.metrics.defocus_metrics import defocus_psnr
from ggkm_plugin.utils.checkpoint import network_options, read_checkpoint
from ggkm_plugin.utils.errors import CheckpointError
from ggkm_plugin.utils.image_decoding import decode_image
from ggkm_plugin.weights import DEFAULT, LIGHT, NAMES, checkpoint_path, packaged_weights

DATA = ROOT.parent / 'shared/data'
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason='real photographs are not there (../shared/data)')


# Of the last part of the training, the decay.
ITERATIONS = {DEFAULT: 2500, LIGHT: 4500}
# Gain in dB over real pairs, mean and least, as 8-bit results have it: see the model card.
GAINS = {
    DEFAULT: {'lfdof_pairs': (1.963, 1.219), 'dpdd_reduced': (0.457, -0.123)},
    LIGHT: {'lfdof_pairs': (1.781, 1.142), 'dpdd_reduced': (0.347, -0.122)},
}
# PSNR of the result against the photograph, held out from the training.
SHARP = {
    DEFAULT: {'kodak24/14.png': 59.71, 'kodak24/21.png': 55.32},
    LIGHT: {'kodak24/14.png': 51.74, 'kodak24/21.png': 52.34},
}


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


def test_the_model_card_has_hugging_faces_header():
    header = yaml.safe_load(Path(packaged_weights()).with_name('README.md').read_text().split('---\n')[1])
    assert (header['license'], header['pipeline_tag']) == ('apache-2.0', 'image-to-image')
    assert [model['name'] for model in header['model-index']] == list(NAMES)


def test_a_path_in_pth_finds_the_packaged_file(name):
    assert checkpoint_path(Path(packaged_weights(name)).with_suffix('.pth')) == packaged_weights(name)


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
        with pytest.raises(CheckpointError, match=f'{word}: .*{words}'):
            checkpoint_path(word)
    with pytest.raises(CheckpointError, match='GGKMNet, GGKMNet_light'):
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
@pytest.mark.parametrize('pairs', ['lfdof_pairs', 'dpdd_reduced'])
def test_real_pairs_become_better(restorer, name, pairs):
    gains = []
    for path in sorted((DATA / pairs / 'input').iterdir()):
        given, truth = photograph(path), photograph(DATA / pairs / 'ground_truth' / path.name)
        gains.append(defocus_psnr(restorer(given), truth) - defocus_psnr(given, truth))
    assert (np.mean(gains), min(gains)) == pytest.approx(GAINS[name][pairs], abs=0.02)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize('file', ['kodak24/14.png', 'kodak24/21.png'])
def test_sharp_photographs_are_left_alone(restorer, name, file):
    image = photograph(DATA / file)
    assert defocus_psnr(restorer(image), image) == pytest.approx(SHARP[name][file], abs=0.02)
