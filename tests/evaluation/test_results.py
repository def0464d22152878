"""Files of results: equal values in JSON and CSV, infinite scores, indoor and outdoor means, faults."""

import csv
import hashlib
import json
import math

import numpy as np
import pytest
import torch

from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.sources import FolderSource
from ggkm_plugin.evaluation.evaluator import INPUT, RESULT, DatasetRecord, Evaluator, ImageRecord
from ggkm_plugin.evaluation.results import FORMAT, failures_of, with_infinities, write_test

CPU = torch.device('cpu')


@pytest.fixture
def tested(tmp_path):
    """Options of a test whose weights exist."""
    torch.save({'params': {}, 'description': {'iteration': 7, 'option_digest': 'abc'}}, tmp_path / 'net.pth')
    return {
        'name': 'test_it',
        'network_g': {'type': 'GGKMNet'},
        'path': {'pretrain_network_g': str(tmp_path / 'net.pth')},
        'val': {'metrics': {'psnr': {'type': 'defocus_psnr', 'protocol': 'dpdnet'}, 'mae': {'type': 'defocus_mae'}}},
    }


def record(count: int, **changes) -> DatasetRecord:
    images = [
        ImageRecord(
            i,
            f'é,{i:02d}',
            f'data/source/é,{i:02d}.png',
            (48, 64),
            scores={INPUT: {'psnr': 20 + i, 'mae': 0.2}, RESULT: {'psnr': 30.0 + i, 'mae': 0.1}},
        )
        for i in range(count)
    ]
    return DatasetRecord('set', '', True, images, [], **changes)


def test_every_image_and_what_it_depends_on(tmp_path, tested):
    write_test(tmp_path, record(3), tested, 'digest', CPU, [])
    results = json.loads((tmp_path / 'scores_set.json').read_text())
    assert results['format'] == FORMAT
    (dataset,) = results['datasets']
    assert dataset['means'] == {
        INPUT: pytest.approx({'psnr': 21, 'mae': 0.2}),
        RESULT: pytest.approx({'psnr': 31, 'mae': 0.1}),
    }
    assert [image['scores'][RESULT]['psnr'] for image in dataset['images']] == [30, 31, 32]
    assert dataset['images'][1]['name'] == 'é,01'
    assert [metric['protocol'] for metric in results['metrics']] == ['dpdnet', 'restormer']  # the second: its default
    (model,) = results['models']
    assert model['option_digest'] == 'digest'
    assert model['sha256'] == hashlib.sha256((tmp_path / 'net.pth').read_bytes()).hexdigest()
    assert (model['iteration'], model['training_digest']) == (7, 'abc')
    assert {'ggkm_plugin', 'basicsr', 'torch'} <= set(results['machine'])
    with open(tmp_path / 'scores_set.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert rows[3] == {
        'dataset': 'set', 'image': 'é,01', 'model': 'result', 'protocol': 'psnr: dpdnet, mae: restormer',
        'psnr': '31.0', 'mae': '0.1', 'settings': '',
    }  # fmt: skip


@pytest.mark.parametrize('split', ['test', None, 'val'])
def test_indoor_and_outdoor_means(tmp_path, tested, split):
    """By Restormer's lists of indices into DPDD's sorted test images."""
    np.save(tmp_path / 'indoor_labels.npy', np.arange(37))
    np.save(tmp_path / 'outdoor_labels.npy', np.arange(37, 76))

    class Images(list):
        pass

    images = Images(
        {'lq': torch.full((3, 8, 8), i / 100), 'gt': torch.zeros(3, 8, 8), 'lq_path': ''} for i in range(76)
    )
    images.opt = {'phase': 'test', 'split': split, 'dataroot': str(tmp_path)}
    images.source = FolderSource([Pair(f'x/{i:02d}.png', None) for i in range(76)], 'DPDD')
    evaluator = Evaluator({}, {'mae': {'type': 'defocus_mae'}}, CPU)
    tested['val']['metrics'].pop('psnr')
    found = evaluator.evaluate(images, 'DPDD')
    if split == 'val':
        assert not found.parts
        return
    write_test(tmp_path, found, tested, 'digest', CPU, [])
    parts = json.loads((tmp_path / 'scores_DPDD.json').read_text())['datasets'][0]['parts']
    assert (parts['indoor']['images'], parts['outdoor']['images']) == (37, 39)
    assert parts['indoor']['means'][INPUT]['mae'] == pytest.approx(0.18)
    assert parts['outdoor']['means'][INPUT]['mae'] == pytest.approx(0.56)


def test_one_protocol_is_named_once_and_that_of_basicsr_s_metrics(tmp_path, tested):
    tested['val']['metrics'] = {'psnr': {'type': 'calculate_psnr'}, 'mae': {'type': 'defocus_mae'}}
    write_test(tmp_path, record(1), tested, 'digest', CPU, [])
    assert json.loads((tmp_path / 'scores_set.json').read_text())['protocol'] == 'psnr: basicsr, mae: restormer'
    tested['val']['metrics']['psnr'] = {'type': 'defocus_psnr', 'protocol': 'restormer'}
    write_test(tmp_path, record(1), tested, 'digest', CPU, [])
    assert json.loads((tmp_path / 'scores_set.json').read_text())['protocol'] == 'restormer'


def test_an_infinite_score_is_null(tmp_path, tested):
    equal = record(1)
    equal.images[0].scores[RESULT]['psnr'] = math.inf
    write_test(tmp_path, equal, tested, 'digest', CPU, [])
    results = json.loads((tmp_path / 'scores_set.json').read_text(), parse_constant=pytest.fail)
    (dataset,) = results['datasets']
    assert dataset['images'][0]['scores'][RESULT] == dataset['means'][RESULT] == {'psnr': None, 'mae': 0.1}
    assert ',inf,' in (tmp_path / 'scores_set.csv').read_text()
    (dataset,) = with_infinities(results)['datasets']
    assert dataset['images'][0]['scores'][RESULT] == dataset['means'][RESULT] == {'psnr': math.inf, 'mae': 0.1}
    assert results['datasets'][0]['means'][RESULT]['psnr'] is None


def test_a_model_without_a_result_for_each_image_has_no_mean():
    found = record(3)
    del found.images[1].scores[RESULT]
    found.images[1].faults[RESULT] = 'NaN'
    found.faults.append('04.png: truncated')
    assert set(found.means()) == {INPUT}
    faults = failures_of(found, [RESULT])
    assert any('é,01' in fault and 'NaN' in fault for fault in faults)
    assert any('04.png' in fault for fault in faults)
