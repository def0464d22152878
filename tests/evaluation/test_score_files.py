"""Per-image scores of a test: the same numbers in CSV, JSON and log, with what they depend on."""

import csv
import hashlib
import json
import math

import numpy as np
import pytest
import torch

from ggkm_plugin.evaluation.score_files import ImageScores, write_scores
from ggkm_plugin.utils.errors import DataError


@pytest.fixture
def tested(tmp_path):
    """Options of a test whose weights are there."""
    torch.save({'params': {}, 'description': {'iteration': 7, 'option_digest': 'abc'}}, tmp_path / 'net.pth')
    return {
        'network_g': {'type': 'GGKMNet'},
        'path': {'pretrain_network_g': str(tmp_path / 'net.pth')},
        'val': {'metrics': {'psnr': {'type': 'defocus_psnr', 'protocol': 'dpdnet'}, 'mae': {'type': 'defocus_mae'}}},
    }


def images(count: int) -> list[ImageScores]:
    return [
        ImageScores(
            f'é,{i:02d}', f'data/source/é,{i:02d}.png', {'psnr': 30 + i, 'mae': 0.1}, {'psnr': 20 + i, 'mae': 0.2}
        )
        for i in range(count)
    ]


def test_every_image_and_what_it_depends_on(tmp_path, tested):
    assert write_scores(str(tmp_path), images(3), tested, {'name': 'set'}, 'digest') == []
    record = json.loads((tmp_path / 'scores_set.json').read_text())
    assert record['means']['all']['result'] == pytest.approx({'psnr': 31, 'mae': 0.1})
    assert record['means']['all']['input'] == pytest.approx({'psnr': 21, 'mae': 0.2})
    assert [image['result']['psnr'] for image in record['images']] == [30, 31, 32]
    assert record['metrics']['psnr']['protocol'] == 'dpdnet'
    assert record['metrics']['mae']['protocol'] == 'restormer'  # its default
    assert record['option_digest'] == 'digest'
    assert record['weights']['sha256'] == hashlib.sha256((tmp_path / 'net.pth').read_bytes()).hexdigest()
    assert (record['weights']['iteration'], record['weights']['option_digest']) == (7, 'abc')
    assert set(record['versions']) == {'ggkm_plugin', 'basicsr', 'torch'}
    with open(tmp_path / 'scores_set.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    protocol = 'psnr: dpdnet, mae: restormer'
    assert rows[1] == {
        'image': 'é,01',
        'protocol': protocol,
        'psnr': '31',
        'mae': '0.1',
        'input_psnr': '21',
        'input_mae': '0.2',
    }


@pytest.mark.parametrize('layout', ['DPDD', 'auto', None])
def test_indoor_and_outdoor_means(tmp_path, tested, layout):
    """By Restormer's lists of indices into DPDD's sorted test images."""
    np.save(tmp_path / 'indoor_labels.npy', np.arange(37))
    np.save(tmp_path / 'outdoor_labels.npy', np.arange(37, 76))
    dataset = {'name': 'DPDD', 'layout': layout, 'split': 'test', 'dataroot': str(tmp_path)}
    lines = write_scores(str(tmp_path), images(76), tested, dataset, 'digest')
    means = json.loads((tmp_path / 'scores_DPDD.json').read_text())['means']
    assert means['indoor']['result']['psnr'] == pytest.approx(30 + 18)
    assert means['outdoor']['result']['psnr'] == pytest.approx(30 + 56)
    assert '37 images' in lines[0]
    assert 'psnr 48.0000' in lines[0]


def test_one_protocol_is_named_once_and_the_host_s_metrics_as_such(tmp_path, tested):
    tested['val']['metrics'] = {'psnr': {'type': 'calculate_psnr'}, 'mae': {'type': 'defocus_mae'}}
    write_scores(str(tmp_path), images(1), tested, {'name': 'set'}, 'digest')
    assert 'psnr: host, mae: restormer' in (tmp_path / 'scores_set.csv').read_text()
    tested['val']['metrics']['psnr'] = {'type': 'defocus_psnr', 'protocol': 'restormer'}
    write_scores(str(tmp_path), images(1), tested, {'name': 'set'}, 'digest')
    assert ',restormer,30,' in (tmp_path / 'scores_set.csv').read_text()


def test_an_infinite_score_is_null(tmp_path, tested):
    equal = ImageScores('x', 'x.png', {'psnr': math.inf, 'mae': 0.0}, {'psnr': 20, 'mae': 0.1})
    write_scores(str(tmp_path), [equal], tested, {'name': 'set'}, 'digest')
    record = json.loads((tmp_path / 'scores_set.json').read_text(), parse_constant=pytest.fail)
    assert record['images'][0]['result'] == record['means']['all']['result'] == {'psnr': None, 'mae': 0.0}
    assert ',inf,' in (tmp_path / 'scores_set.csv').read_text()


def test_a_folder_that_cannot_be_written(tmp_path, tested):
    with pytest.raises(DataError, match=r'scores_set\.csv'):
        write_scores(str(tmp_path / 'gone'), images(1), tested, {'name': 'set'}, 'digest')
