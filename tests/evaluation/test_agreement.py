"""Agreement of validation, `test`, `compare` and `deblur` on one checkpoint; names and depths of their results."""

import copy
import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import TINY, write_pairs

from ggkm_plugin.cli.main import main
from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.lmdb_store import write_lmdb
from ggkm_plugin.metrics.defocus_metrics import defocus_psnr
from ggkm_plugin.utils.image_decoding import read_image, write_image

WEIGHTS = 'experiments/tiny/models/net_g_latest.pth'
METRICS = {name: {'type': f'defocus_{name}', 'protocol': 'restormer'} for name in ('psnr', 'ssim', 'mae')}


def run(command, *arguments):
    code, _, err = command(*arguments)
    assert code == 0, err


def test_options(tiny: dict, **datasets: dict) -> dict:
    return {
        **{key: tiny[key] for key in ('model_type', 'scale', 'num_gpu', 'manual_seed', 'network_g')},
        'name': 'scored',
        'datasets': {f'test_{index}': spec for index, spec in enumerate(datasets.values(), 1)},
        'path': {'pretrain_network_g': WEIGHTS, 'strict_load_g': True},
        'val': {'save_img': True, 'suffix': 'x', 'metrics': METRICS},
    }


test_options.__test__ = False  # a helper


def comparison(**datasets: dict) -> dict:
    return {
        'name': 'compared',
        'protocol': 'restormer',
        'metrics': list(METRICS),
        'num_gpu': 0,
        'models': [{'name': 'ema', 'weights': WEIGHTS}, {'name': 'raw', 'weights': WEIGHTS, 'param_key': 'params'}],
        'datasets': datasets,
        'published': False,
        'complexity': False,
    }


@pytest.fixture(scope='module')
def training(tmp_path_factory):
    """Folder and options of a tiny training with EMA and BatchNorm, which has run."""
    opt, folder = copy.deepcopy(TINY), tmp_path_factory.mktemp('training')
    opt['train'].update(ema_decay=0.6, total_iter=5)
    opt['train']['optim_g']['lr'] = 0.01
    opt['network_g']['beta_norm'] = 'bn'
    opt['val'].update(val_freq=5, metrics=METRICS)
    write_pairs(folder / 'pairs', 4)
    (folder / 'tiny.yml').write_text(yaml.safe_dump(opt))
    assert main(['train', '-opt', str(folder / 'tiny.yml'), '--root', str(folder)]) == 0
    return folder, opt


@pytest.fixture
def trained(training, workplace):
    """Its options, and its results in the current folder."""
    folder, opt = training
    shutil.copytree(folder / 'experiments', workplace / 'experiments')
    return copy.deepcopy(opt)


def test_four_commands_give_one_file_the_same_numbers(trained, workplace, command, write_options):
    """To the last bit where the results are floats, within the rounding where they are files of 8 bits."""
    spec = trained['datasets']['val']
    run(command, 'test', '-opt', write_options(test_options(trained, val=spec), 'test.yml'))
    run(command, 'compare', '-opt', write_options(comparison(val=spec), 'compare.yml'), '--no-report')
    run(command, 'deblur', 'pairs/input', '-o', 'deblurred', '--suffix', '', '--weights', WEIGHTS)

    validated = torch.load('experiments/tiny/models/net_g_best_psnr.pth')['description']
    tested, compared = (
        json.loads(Path('results', file).read_text()) for file in ('scored/scores_val.json', 'compared/results.json')
    )
    assert tested['format'] == compared['format']
    (tested,), (compared,) = tested['datasets'], compared['datasets']
    assert validated['iteration'] == 5
    assert validated['metrics'] == tested['means']['result'] == compared['means']['ema']
    assert tested['means']['input'] == compared['means']['input']
    assert compared['means']['raw'] != compared['means']['ema']  # the EMA is not the last iterate
    assert len(tested['images']) == len(compared['images']) == 4
    for one, other in zip(tested['images'], compared['images'], strict=True):
        assert one['scores'] == {'input': other['scores']['input'], 'result': other['scores']['ema']}
        assert one.keys() == other.keys()
        deblurred = read_image(f'deblurred/{one["name"]}.png')
        for picture in (
            f'results/scored/visualization/val/{one["name"]}_x.png',
            f'results/compared/{other["files"]["ema"]}',
        ):
            assert np.array_equal(read_image(picture), deblurred)
        gt = torch.from_numpy(read_image(f'pairs/ground_truth/{one["name"]}.png')).permute(2, 0, 1)
        psnr = defocus_psnr(torch.from_numpy(deblurred).permute(2, 0, 1), gt)
        rmse, rounded = (10 ** (-value / 20) for value in (one['scores']['result']['psnr'], psnr))
        assert 0 < abs(rmse - rounded) <= 0.5 / 255


def test_keys_of_a_database_keep_their_folders(trained, workplace, command, write_options):
    """`a/x` and `b/x` have pictures and scores of their own, in two data sets with equal names."""
    write_pairs(workplace / 'pairs', 3)
    keys = dict(zip(('a/x', 'b/x', 'b/c/x'), ('00', '01', '02'), strict=True))
    for side, folder in (('lq', 'input'), ('gt', 'ground_truth')):
        files = {key: f'pairs/{folder}/{name}.png' for key, name in keys.items()}
        write_lmdb(f'{side}.lmdb', files, [Pair(key, None) for key in keys], 'raw')
    spec = {'type': 'PairedDefocusDataset', 'dataroot_lq': 'lq.lmdb', 'dataroot_gt': 'gt.lmdb'}
    one, other = {**spec, 'name': 'one'}, {**spec, 'name': 'other', 'noise_std': 50}
    run(command, 'test', '-opt', write_options(test_options(trained, one=one, other=other), 'test.yml'))
    run(command, 'compare', '-opt', write_options(comparison(one=one, other=other), 'compare.yml'), '--no-report')
    compared = json.loads(Path('results/compared/results.json').read_text())['datasets']
    pictures = []
    for dataset in compared:
        tested = json.loads(Path(f'results/scored/scores_{dataset["name"]}.json').read_text())['datasets'][0]
        assert [image['name'] for image in tested['images']] == sorted(keys)
        assert [image['name'] for image in dataset['images']] == sorted(keys)
        for image in dataset['images']:
            saved = Path(f'results/scored/visualization/{dataset["name"]}/{image["name"]}_x.png')
            assert np.array_equal(read_image(str(saved)), read_image(f'results/compared/{image["files"]["ema"]}'))
            pictures.append(saved.read_bytes())
        psnr = [image['scores']['ema']['psnr'] for image in dataset['images']]
        assert len(set(psnr)) == 3
    assert len(set(pictures)) == 6


def test_pictures_of_a_training_keep_the_folders(trained, workplace, command, write_options):
    for folder in ('input', 'ground_truth'):
        files = {key: f'pairs/{folder}/{name}.png' for key, name in (('a/x', '00'), ('b/x', '01'))}
        write_lmdb(f'{folder}.lmdb', files, [Pair(key, None) for key in files], 'png')
    trained['datasets']['val'].update(dataroot_lq='input.lmdb', dataroot_gt='ground_truth.lmdb')
    trained['val']['save_img'] = True
    run(command, 'train', '-opt', write_options(trained))
    folder = workplace / 'experiments/tiny/visualization'
    assert {path.relative_to(folder).as_posix() for path in folder.rglob('*.png')} == {'a/x/x_5.png', 'b/x/x_5.png'}


def test_results_have_the_depth_of_their_data(trained, workplace, command, write_options):
    """16 bits for 16 bits, with values that 8 bits cannot hold; 8 for 8."""
    rng = np.random.default_rng(0)
    for folder in ('input', 'ground_truth'):
        shade = cv2.resize(rng.integers(0, 65536, (6, 8, 3)).astype(np.float32), (64, 48)).astype(np.uint16)
        for suffix in ('png', 'tif'):
            write_image(f'deep/{folder}/{suffix}.{suffix}', shade)
        cv2.imwrite(f'deep/{folder}/plain.png', (shade / 257).astype(np.uint8))
    spec = {'dataroot_lq': 'deep/input', 'dataroot_gt': 'deep/ground_truth', 'name': 'deep'}
    specs = {
        'deep': {**spec, 'type': 'PairedDefocusDataset'},
        'own': {**spec, 'name': 'own', 'type': 'PairedImageDataset', 'io_backend': {'type': 'disk'}},
    }
    run(command, 'test', '-opt', write_options(test_options(trained, **specs), 'test.yml'))
    run(command, 'compare', '-opt', write_options(comparison(deep=specs['deep']), 'compare.yml'), '--no-report')
    results = json.loads(Path('results/compared/results.json').read_text())['datasets'][0]
    depths = {image['name']: image['bits'] for image in results['images']}
    assert depths == {'plain': 8, 'png': 16, 'tif': 16}
    for image in results['images']:
        files = [f'results/compared/{image["files"][who]}' for who in ('input', 'gt', 'ema')]
        files += [f'results/scored/visualization/{name}/{image["name"]}_x.png' for name in specs]
        pictures = [cv2.imread(file, cv2.IMREAD_UNCHANGED) for file in files]
        assert {picture.dtype.itemsize * 8 for picture in pictures} == {image['bits']}
        if image['bits'] == 16:
            source = cv2.imread(image['path'], cv2.IMREAD_UNCHANGED)
            assert np.array_equal(pictures[0], source)
            assert np.abs(pictures[2].astype(int) - pictures[3]).max() == 0
            assert len(np.unique(pictures[2] % 257)) > 100


def damage(path: Path) -> None:
    """Behind a header that is in order."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def test_a_bad_image_does_not_stop_a_test(trained, workplace, command, write_options):
    damage(Path('pairs/input/01.png'))
    spec = trained['datasets']['val']
    code, _, err = command('test', '-opt', write_options(test_options(trained, val=spec), 'test.yml'))
    assert code == 1
    assert '01.png' in err.splitlines()[-1]
    results = json.loads(Path('results/scored/scores_val.json').read_text())
    assert [image['name'] for image in results['datasets'][0]['images']] == ['00', '02', '03']
    assert len(results['failures']) == len(results['datasets'][0]['faults']) == 1
    assert math.isfinite(results['datasets'][0]['means']['result']['psnr'])
    assert results['name'] == 'scored'
