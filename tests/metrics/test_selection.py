"""Metrics that cannot be computed are skipped, and shown as missing; no-reference metrics need no ground truth."""

import csv
import json

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_niqe
from conftest import write_pairs

from ggkm_plugin.metrics.perceptual import defocus_niqe
from ggkm_plugin.metrics.selection import better_of, missing_metrics, needs_reference
from ggkm_plugin.weights import LIGHT

LPIPS = {'type': 'defocus_lpips', 'trunk': 'gone.pth'}


def test_what_metrics_declare():
    psnr, niqe, basicsr_niqe = ({'type': name} for name in ('defocus_psnr', 'defocus_niqe', 'calculate_niqe'))
    assert [needs_reference(metric) for metric in (psnr, LPIPS, niqe, basicsr_niqe)] == [True, True, False, False]
    assert [better_of(metric) for metric in (psnr, LPIPS, niqe, basicsr_niqe)] == ['higher', *['lower'] * 3]
    assert better_of({**niqe, 'better': 'higher'}) == 'higher'


@pytest.mark.parametrize('content', [None, 'no weights'])
def test_lpips_without_a_usable_backbone_is_missing(tmp_path, content):
    path = tmp_path / 'alex.pth'
    if content:
        path.write_text(content)
    missing = missing_metrics({'psnr': {'type': 'defocus_psnr'}, 'lpips': {**LPIPS, 'trunk': str(path)}})
    assert list(missing) == ['lpips']
    assert str(path) in missing['lpips']


def test_niqe_is_that_of_basicsr():
    image = np.random.default_rng(0).integers(0, 256, (100, 200, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) / 255
    assert defocus_niqe(image) == defocus_niqe(tensor) == calculate_niqe(image, crop_border=0)
    with pytest.raises(ValueError, match='100x150'):
        defocus_niqe(image[:, :150])


@pytest.fixture
def test_options(workplace):
    """Options of a test of packaged weights on two pairs."""
    write_pairs(workplace / 'large', 2, (96, 192))
    pairs = {'type': 'PairedDefocusDataset', 'dataroot_lq': 'large/input', 'dataroot_gt': 'large/ground_truth'}
    metrics = {'psnr': {'type': 'defocus_psnr'}, 'lpips': LPIPS, 'niqe': {'type': 'defocus_niqe'}}
    return {
        'name': 'scored', 'model_type': 'DefocusModel', 'scale': 1, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {'test': {'name': 'set', **pairs}},
        'path': {'pretrain_network_g': LIGHT},
        'val': {'save_img': False, 'metrics': metrics},
    }  # fmt: skip


def means_of(workplace, name='scored'):
    content = json.loads((workplace / f'results/{name}/scores_set.json').read_text())
    return content['datasets'][0]['means']['result'], content


@pytest.mark.slow
def test_a_test_without_the_backbone_has_the_other_scores(command, write_options, test_options, workplace):
    path = write_options(test_options)
    assert command('check', '-opt', path)[0] == 0
    code, _, err = command('test', '-opt', path)
    assert code == 0, err
    assert err.count('val.metrics.lpips') == 1
    means, content = means_of(workplace)
    assert set(means) == {'psnr', 'niqe'}
    better = {metric['name']: metric['better'] for metric in content['metrics']}
    assert better == {'psnr': 'higher', 'lpips': 'lower', 'niqe': 'lower'}
    rows = list(csv.DictReader((workplace / 'results/scored/scores_set.csv').open()))
    assert {row['lpips'] for row in rows} == {''}


@pytest.mark.slow
def test_without_ground_truth_only_no_reference_metrics_are_scored(command, write_options, test_options, workplace):
    test_options['datasets']['test'] = {'name': 'set', 'type': 'SingleDefocusDataset', 'dataroot_lq': 'large/input'}
    code, _, err = command('test', '-opt', write_options(test_options))
    assert code == 0, err
    assert set(means_of(workplace)[0]) == {'niqe'}


@pytest.mark.slow
def test_compare_shows_metrics_that_are_missing(command, write_options, test_options, workplace):
    pairs = {key: value for key, value in test_options['datasets']['test'].items() if key != 'name'}
    options = {
        'name': 'both', 'protocol': 'restormer', 'metrics': ['psnr', 'lpips', 'niqe'], 'lpips': {'trunk': 'gone.pth'},
        'models': [{'name': 'light', 'weights': LIGHT}, {'name': 'again', 'weights': LIGHT}],
        'datasets': {
            'pairs': pairs, 'single': {'type': 'SingleDefocusDataset', 'dataroot_lq': 'large/input'},
        },
        'noise': [3], 'complexity': False, 'num_gpu': 0,
    }  # fmt: skip
    path = write_options(options)
    assert command('check', '-opt', path)[0] == 0
    code, _, err = command('compare', '-opt', path, '--noise')
    assert code == 0, err
    assert err.count('gone.pth') == 1
    results = json.loads((workplace / 'results/both/results.json').read_text())
    found = {dataset['name']: dataset for dataset in results['datasets']}
    assert set(found['pairs']['means']['light']) == {'psnr', 'niqe'}
    assert set(found['single']['means']['light']) == {'niqe'}
    assert found['pairs']['differences']['again']['lpips'] is None
    assert found['single']['differences']['again']['niqe']['mean'] == 0
    assert found['pairs_noise3']['drops']['light']['lpips'] is None
    table = (workplace / 'results/both/table.md').read_text()
    row = next(line for line in table.splitlines() if line.startswith('| light'))
    assert row.split('|')[3].strip() == '-'


@pytest.mark.slow
def test_a_training_without_the_backbone_validates(command, write_options, tiny, workplace):
    tiny['val']['metrics']['lpips'] = LPIPS
    code, _, err = command('train', '-opt', write_options(tiny))
    assert code == 0, err
    assert err.count('val.metrics.lpips') == 1
    assert (workplace / 'experiments/tiny/models/net_g_best_psnr.pth').is_file()
    assert not (workplace / 'experiments/tiny/models/net_g_best_lpips.pth').exists()
