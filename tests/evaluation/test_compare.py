"""`basicsr compare` end to end: scores compared with scikit-image, reuse, isolated failures, processes."""

import csv
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import write_pairs
from forking import Server

from ggkm_plugin.evaluation import cache
from ggkm_plugin.utils import image_decoding, memory
from ggkm_plugin.utils.image_decoding import read_image, write_image
from ggkm_plugin.weights import DEFAULT, LIGHT, packaged_weights

ON_LINUX = pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells what memory is free')


def by_hand(folder, gain):
    """PSNR of clipped gain * input, by image."""
    scores = {}
    for path in sorted((folder / 'pairs/input').iterdir()):
        lq, gt = read_image(str(path)), read_image(str(folder / 'pairs/ground_truth' / path.name))
        mse = np.mean((np.clip(lq * np.float32(gain), 0, 1).astype(np.float64) - gt) ** 2)
        scores[path.stem] = -10 * math.log10(mse)
    return scores


def test_scores_means_differences_and_files(bench):
    results, out, _ = bench.run()
    (dataset,) = results['datasets']
    bright, dark = by_hand(bench.folder, 1.02), by_hand(bench.folder, 0.9)
    assert [image['name'] for image in dataset['images']] == ['00', '01', '02', '03']
    for image in dataset['images']:
        assert image['scores']['bright']['psnr'] == pytest.approx(bright[image['name']], abs=1e-5)
        assert image['scores']['dark']['psnr'] == pytest.approx(dark[image['name']], abs=1e-5)
        assert image['size'] == [48, 64]
        assert set(image['files']) == {'input', 'gt', 'bright', 'dark'}
    pictures = {
        who: read_image(str(bench.folder / 'results/three' / file))
        for who, file in dataset['images'][1]['files'].items()
    }
    assert np.abs(pictures['dark'] - pictures['input'] * 0.9).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(pictures['gt'], read_image(str(bench.folder / 'pairs/ground_truth/01.png')))
    assert dataset['means']['dark']['psnr'] == pytest.approx(np.mean(list(dark.values())), abs=1e-5)
    difference = dataset['differences']['dark']['psnr']
    paired = [dark[name] - bright[name] for name in dark]
    assert difference['mean'] == pytest.approx(np.mean(paired), abs=1e-4)
    assert difference['low'] <= difference['mean'] <= difference['high']
    assert set(dataset['differences']) == {'dark'}
    assert (results['name'], results['protocol'], results['difference_to']) == ('three', 'dpdnet', 'bright')
    assert [model['status'] for model in results['models']] == ['ok', 'ok']
    assert [model['parameters'] for model in results['models']] == [1, 1]
    assert results['failures'] == []
    assert 'protocol dpdnet' in out
    assert 'bright' in out
    with (bench.folder / 'results/three/scores.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 3
    assert {row['protocol'] for row in rows} == {'dpdnet'}
    row = next(row for row in rows if row['image'] == '02' and row['model'] == 'dark')
    assert float(row['psnr']) == dataset['images'][2]['scores']['dark']['psnr']
    for name, word in (('table.md', '**'), ('table.tex', r'\textbf')):
        assert word in (bench.folder / 'results/three' / name).read_text()


def test_lpips_by_its_options(bench, shared_data):
    trunk = shared_data / 'lpips_squeeze/squeeze.backbone.pth'
    bench.opt.update(metrics=['lpips'], lpips={'net': 'squeeze', 'trunk': str(trunk)})
    results, out, _ = bench.run()
    means = results['datasets'][0]['means']
    assert 0 < means['input']['lpips'] < 1
    (metric,) = results['metrics']
    assert (metric['name'], metric['label'], metric['better']) == ('lpips', 'LPIPS-squeeze', 'lower')
    assert (metric['type'], metric['protocol'], metric['options']['net']) == ('defocus_lpips', 'dpdnet', 'squeeze')
    assert 'LPIPS-squeeze ↓' in out
    assert 'LPIPS of RGB in [-1,1]' in out
    best = min(('bright', 'dark'), key=lambda name: means[name]['lpips'])
    assert next(line for line in out.splitlines() if line.startswith(best)).split()[2] == '**'


# --- reuse ------------------------------------------------------------------------------------------------------------


def change_image(bench):
    path = bench.folder / 'pairs/input/02.png'
    write_image(str(path), (read_image(str(path)) * 200).astype(np.uint8))


def change_code(bench):
    path = Path(sys.modules['compare_test_archs'].__file__)  # of the first test of this process
    path.write_text(path.read_text() + '# changed\n')


# What changes, and how many of the eight results are computed again.
CHANGES = {
    'nothing': (lambda bench: None, 0),
    'bootstrap': (lambda bench: bench.opt.update(bootstrap={'samples': 100, 'seed': 1}), 0),
    'weights': (lambda bench: bench.weights('dark', 0.8), 4),
    'image': (change_image, 2),
    'protocol': (lambda bench: bench.opt.update(protocol='restormer'), 8),
    'metrics': (lambda bench: bench.opt.update(metrics=['psnr']), 8),
    'range': (lambda bench: bench.opt['models'][1].update(range=[0, 255]), 4),
    'options': (lambda bench: bench.opt['models'][1]['network_g'].update(only_below=0.5), 4),
    'code': (change_code, 8),
    'picture': (lambda bench: (bench.folder / 'results/three/images/pairs/01/dark.png').unlink(), 1),
    'entry': (lambda bench: (bench.folder / 'results/three/cache/scores/pairs/01/dark.json').write_text('{"x": '), 1),
}


@pytest.mark.parametrize('what', CHANGES)
def test_what_a_result_depends_on_is_noticed(bench, what):
    change, again = CHANGES[what]
    bench.run()
    before = bench.numbers()
    assert len(bench.forwards()) == 8
    change(bench)
    bench.run()
    assert len(bench.forwards()) == again
    now, then = (numbers['datasets'][0]['means']['dark'] for numbers in (bench.numbers(), before))
    assert (now != pytest.approx(then, abs=1e-6)) == (what in ('weights', 'image', 'metrics'))
    if what == 'nothing':
        assert bench.numbers() == before


def test_a_picture_without_its_entry_is_made_again(bench, monkeypatch):
    """A run that ended after writing a picture of other weights and before noting it."""
    picture = bench.folder / 'results/three/images/pairs/00/dark.png'
    bench.run()
    first = picture.read_bytes()
    bench.weights('dark', 0.5)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr('ggkm_plugin.evaluation.cache.Cache.write', interrupted)
        bench.run(code=1)
    assert picture.read_bytes() != first
    bench.weights('dark', 0.9)
    bench.run()
    assert picture.read_bytes() == first


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('failing', 'words'),
    [
        ('nan', 'NaN'),
        ('exception', 'ZeroDivisionError: a bug'),
        ('memory', 'out of memory on an image of 48x64'),
        pytest.param('hungry', 'out of memory on an image of 48x64', marks=ON_LINUX),
        ('size', 'shape (1, 3, 48, 63)'),
        ('list', 'a list'),
    ],
)
def test_one_failing_model_of_three(bench, monkeypatch, failing, words):
    healthy, _, _ = bench.run()
    monkeypatch.setattr(memory, '_available', lambda: 2**33)  # of which the one wants twice as much
    bench.add('bad', 1.0)['network_g'].update(failing=failing)
    results, out, err = bench.run(code=1)
    bad = results['models'][2]
    assert bad['status'] == 'failed'
    assert words in bad['error']
    assert 'pairs/00: ' in bad['error']
    assert bad['error'].endswith('(and 3 more images)')
    assert f'model bad: {bad["error"]}' in err
    assert results['datasets'][0]['means'] == healthy['datasets'][0]['means']
    assert next(line for line in out.splitlines() if line.startswith('bad')).split()[1] == 'failed'


def test_a_model_that_fails_on_some_images_has_no_mean(bench):
    bench.add('bad', 1.0)['network_g'].update(failing='nan', only_below=0.5)
    path = bench.folder / 'pairs/input/03.png'
    write_image(str(path), np.full((48, 64, 3), 250, np.uint8))  # the one that does not fail
    results, _, _ = bench.run(code=1)
    dataset = results['datasets'][0]
    assert 'bad' not in dataset['means']
    assert 'bad' in dataset['images'][3]['scores']
    assert results['models'][2]['error'].endswith('(and 2 more images)')


def missing(bench, path):
    path.unlink()


def truncated(bench, path):
    path.write_bytes(path.read_bytes()[:100])


def other_arch(bench, path):
    torch.save({'params': {'conv.weight': torch.zeros(3)}}, path)


@pytest.mark.parametrize(
    ('harm', 'words'),
    [
        (missing, ['bright.pth']),
        (truncated, ['bright.pth']),
        (other_arch, ['bright.pth', 'Gain', 'conv.weight']),
    ],
)
def test_bad_weights(bench, harm, words):
    """Of the first model: the next one takes its place as the reference."""
    bench.add('third', 1.1)
    harm(bench, bench.folder / 'bright.pth')
    results, _, err = bench.run(code=1)
    assert results['models'][0]['status'] == 'failed'
    assert all(word in results['models'][0]['error'] and word in err for word in words), err
    assert set(results['datasets'][0]['means']) == {'input', 'dark', 'third'}
    assert results['difference_to'] == 'dark'
    assert set(results['datasets'][0]['differences']) == {'third'}


def test_missing_truth_and_a_damaged_image(bench):
    """One data set without a partner, one with a damaged image: the rest is compared."""
    write_pairs(bench.folder / 'others', 3)
    bench.opt['datasets']['others'] = {
        'type': 'PairedDefocusDataset', 'dataroot_lq': 'others/input', 'dataroot_gt': 'others/ground_truth'
    }  # fmt: skip
    (bench.folder / 'pairs/ground_truth/01.png').unlink()
    truncated(bench, bench.folder / 'others/input/02.png')
    results, _, err = bench.run(code=1)
    assert [dataset['name'] for dataset in results['datasets']] == ['others']
    assert [image['name'] for image in results['datasets'][0]['images']] == ['00', '01']
    assert set(results['datasets'][0]['means']) == {'input', 'bright', 'dark'}
    for words in (['data set pairs', '01.png', 'partner'], ['data set others', '02.png', 'truncated']):
        assert any(all(word in line for word in words) for line in err.splitlines()), err


DATASET = """
import torch
from basicsr.utils.registry import DATASET_REGISTRY


@DATASET_REGISTRY.register()
class Odd(torch.utils.data.Dataset):
    def __init__(self, opt):
        self.names = opt['names']

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        name = self.names[index]
        if name == 'bug':
            raise ZeroDivisionError('a bug')
        image = torch.full((3, 5 if name == 'small' else 32, 32), index / 10)
        return {'lq': image, 'gt': image / 2, **({} if name == 'nameless' else {'lq_path': name})}
"""


def test_a_data_set_of_someone_else_s_that_fails(bench):
    (bench.folder / 'odd_data.py').write_text(DATASET)
    bench.opt['plugins'].append('odd_data')
    bench.opt['datasets']['odd'] = {'type': 'Odd', 'names': ['a', 'bug', 'c', 'nameless', 'small']}
    results, _, err = bench.run(code=1)
    images = {dataset['name']: [image['name'] for image in dataset['images']] for dataset in results['datasets']}
    assert images == {'odd': ['a', 'c'], 'pairs': ['00', '01', '02', '03']}
    assert 'data set odd: 1: ZeroDivisionError: a bug' in err
    assert "data set odd: 3: KeyError: 'lq_path'" in err
    assert 'data set odd: 4: ValueError: SSIM with the uniform window needs images of at least 7x7 pixels' in err
    assert len(results['failures']) == 3
    assert [model['status'] for model in results['models']] == ['ok', 'ok']


def test_the_first_of_many_faults_are_told(bench):
    write_pairs(bench.folder / 'pairs', 9)
    bench.opt['datasets']['pairs']['bit_depth'] = 16
    results, _, err = bench.run(code=1)
    assert err.count('8 bits, not 16') == 5
    assert 'data set pairs: and 4 more images' in err
    assert results['datasets'][0]['images'] == []


def test_no_truth_no_scores(bench):
    bench.opt['datasets'] = {'photographs': {'type': 'SingleDefocusDataset', 'dataroot_lq': 'pairs/input'}}
    torch.manual_seed(0)
    spec = {'type': 'GGKMNet', 'width': 4, 'num_groups': 2, 'kernels_per_group': 2, 'num_scales': 2}
    from basicsr.archs import build_network

    torch.save({'params': build_network(dict(spec)).state_dict()}, bench.folder / 'ours.pth')
    bench.opt['models'].append({'name': 'ours', 'network_g': spec, 'weights': 'ours.pth'})
    results, _, _ = bench.run()
    dataset = results['datasets'][0]
    assert dataset['has_gt'] is False
    assert dataset['means'] == dataset['differences'] == {}
    assert dataset['note'].startswith('A blur map is dark where')
    for image in dataset['images']:
        assert image['scores'] == {}
        assert set(image['files']) == {'input', 'bright', 'dark', 'ours', 'ours blur map'}
        assert all((bench.folder / 'results/three' / file).is_file() for file in image['files'].values())
    assert len((bench.folder / 'results/three/scores.csv').read_text().splitlines()) == 1
    bench.forwards()
    bench.run()
    assert bench.forwards() == []


def test_blur_masks_of_the_data_set_are_shown(bench):
    """CUHK's, by the images' names; one is damaged, one is not there."""
    folder = bench.folder / 'CUHK'
    write_pairs(folder, 4)
    (folder / 'input').rename(folder / 'image')
    (folder / 'ground_truth').rename(folder / 'gt')
    for path in sorted(folder.glob('*/*')):
        path.rename(path.with_name(f'out_of_focus{path.name}'))
    (folder / 'gt/out_of_focus01.png').write_bytes(b'no picture')
    (folder / 'gt/out_of_focus02.png').unlink()
    bench.opt['protocol'] = 'drbnet'
    bench.opt['datasets'] = {'photos': {'type': 'SingleDefocusDataset', 'layout': 'CUHK', 'dataroot': 'CUHK'}}
    write_image(str(folder / 'image/out_of_focus00.png'), np.zeros((50, 70, 3), np.uint8))
    write_image(str(folder / 'gt/out_of_focus00.png'), np.full((50, 70), 255, np.uint8)[..., None].repeat(3, axis=2))
    results, _, err = bench.run(code=1)
    dataset = results['datasets'][0]
    files = [image['files'].get('blur mask') for image in dataset['images']]
    assert [bool(file) for file in files] == [True, False, False, True]
    white = cv2.imread(str(bench.folder / 'results/three' / files[0]))
    assert white.shape == (48, 64, 3)  # cropped as the photograph
    assert (white == 255).all()
    assert 'white where it is blurred' in dataset['note']
    assert 'data set photos: CUHK/gt/out_of_focus01.png' in err
    assert [model['status'] for model in results['models']] == ['ok', 'ok']
    assert all({'input', 'bright', 'dark'} <= set(image['files']) for image in dataset['images'])


# --- how networks want their images -----------------------------------------------------------------------------------


def test_sizes_that_do_not_divide(bench):
    write_pairs(bench.folder / 'pairs', 4, (50, 70))
    bench.add('padded', 1.02, size_multiple=16)
    bench.add('picky', 1.02, arch='Picky')
    results, _, _ = bench.run()
    assert [line.split(maxsplit=1)[1] for line in bench.forwards()].count('64 80') == 8
    dataset = results['datasets'][0]
    assert dataset['means']['padded'] == dataset['means']['picky'] == dataset['means']['bright']
    assert dataset['images'][0]['size'] == [50, 70]


def test_color_and_range(bench):
    """A network that dims its first channel: R of RGB, B where it wants BGR; and around mid-gray in [-1,1]."""
    bench.add('rgb', 0.5, arch='FirstChannel')
    bench.add('bgr', 0.5, arch='FirstChannel', color='bgr')
    bench.add('scaled', 0.9, range=[-1, 1])
    results, _, _ = bench.run()
    files = results['datasets'][0]['images'][0]['files']
    pictures = {who: read_image(str(bench.folder / 'results/three' / file)) for who, file in files.items()}
    lq = pictures['input']
    half = np.float32(0.5)
    expected = {
        'rgb': lq * [half, 1, 1],
        'bgr': lq * [1, 1, half],
        'scaled': ((lq * 2 - 1) * 0.9 + 1) / 2,
    }
    for who, image in expected.items():
        assert np.abs(pictures[who] - image).max() <= 0.5 / 255 + 1e-6, who


def test_losses_by_noise(bench):
    bench.opt['noise'] = [15, 15.0]  # one level
    bench.opt['datasets']['photographs'] = {'type': 'SingleDefocusDataset', 'dataroot_lq': 'pairs/input'}
    bench.add('trained_with_noise', 0.95, drop_from='dark')
    assert [dataset['name'] for dataset in bench.run()[0]['datasets']] == ['pairs', 'photographs']
    results, out, _ = bench.run('--noise')
    clean, noisy, _ = results['datasets']
    assert [dataset['name'] for dataset in results['datasets']] == ['pairs', 'pairs_noise15', 'photographs']
    assert 'drops' not in clean
    assert set(noisy['drops']) == {'input', 'bright', 'dark', 'trained_with_noise'}
    for name, before in (('input', 'input'), ('dark', 'dark'), ('trained_with_noise', 'dark')):
        for metric, sign in (('psnr', 1), ('ssim', 1), ('mae', -1)):
            loss = sign * (clean['means'][before][metric] - noisy['means'][name][metric])
            assert noisy['drops'][name][metric] == pytest.approx(loss, abs=1e-12)
    assert noisy['drops']['input']['psnr'] > 0 < noisy['drops']['input']['mae']
    assert 'trained_with_noise: from dark' in out
    bench.forwards()
    again, _, _ = bench.run('--noise')
    assert (bench.forwards(), again['datasets']) == ([], results['datasets'])
    line = next(line for line in out[out.index('noise 15') :].splitlines() if line.startswith('Input')).split()
    psnr = noisy['means']['input']['psnr'], noisy['drops']['input']['psnr']
    assert line[1:3] == [f'{psnr[0]:.3f}', f'{psnr[1]:.3f}']


def test_costs_are_kept(bench):
    bench.opt['complexity'] = True
    bench.run()
    model = bench.results()['models'][0]
    assert model['macs_true'] == 0
    assert model['seconds'] > 0
    assert model['memory_bytes'] >= 2 * 3 * 720 * 1280 * 4
    bench.forwards()
    bench.run()
    assert bench.forwards() == []
    assert bench.results()['models'][0] == model


def test_a_benchmark_is_recognised_by_its_folders(bench):
    """Published scores are of test splits, whatever a data set is called here."""
    for split in ('train', 'test'):
        write_pairs(bench.folder / 'pairs', 4)
        (bench.folder / f'set/{split}_c').mkdir(parents=True)
        (bench.folder / 'pairs/input').rename(bench.folder / f'set/{split}_c/source')
        (bench.folder / 'pairs/ground_truth').rename(bench.folder / f'set/{split}_c/target')
    bench.opt.update(published=True, noise=[3])
    views = {'type': 'PairedDefocusDataset', 'dataroot': 'set', 'layout': 'auto'}
    bench.opt['datasets'] = {'views': views}
    results, out, _ = bench.run('--noise')
    assert [dataset['benchmark'] for dataset in results['datasets']] == ['DPDD', 'DPDD']
    assert {row['dataset'] for row in results['published'] + results['published_drops']} == {'DPDD'}
    assert {row['std'] for row in results['published_drops']} == {3}
    assert 'GGKMNet-dagger' in out[out.index('(published, protocol unknown)') :]
    assert {row['lpips'] for row in results['published']} == {None}  # nothing to compare it with is measured
    views['split'] = 'train'
    results, _, _ = bench.run()
    assert results['published'] == []


def test_images_of_one_scene_are_drawn_together(bench):
    """Four photographs of each of two scenes: the interval is that of the scenes."""
    write_pairs(bench.folder / 'pairs', 8)
    for index in range(8):
        truth = bench.folder / f'pairs/ground_truth/{index % 2:02d}.png'
        (bench.folder / f'pairs/ground_truth/{index:02d}.png').write_bytes(truth.read_bytes())
    results, out, _ = bench.run()
    dataset = results['datasets'][0]
    assert dataset['scenes'] == 2
    assert '8 images of 2 scenes' in out
    scores = [image['scores'] for image in dataset['images']]
    paired = [each['dark']['psnr'] - each['bright']['psnr'] for each in scores]
    found = dataset['differences']['dark']['psnr']
    ends = sorted((np.mean(paired[::2]), np.mean(paired[1::2])))
    assert (found['low'], found['high']) == pytest.approx(ends)


# --- wrong option files -----------------------------------------------------------------------------------------------


def test_all_faults_in_one_list(bench):
    bench.opt.update(protocol='dpdnte', metrics=['psnr', 'sim'], save_image=True, bootstrap={'samples': 0})
    bench.opt['models'][0].update(network_g={'type': 'Gian'}, range=[1, 0])
    bench.opt['models'][1].update(name='input', weight='x.pth', color='gray', size_multiple=0)
    bench.opt['models'].append({'name': 'none', 'network_g': {'type': 'Gain'}})
    bench.opt['datasets']['pairs'].update(dataroot_qt='x', type='PairedDefocusDataset')
    bench.opt['datasets']['others'] = {'type': 'PairedDefocus'}
    _, _, err = bench.run(code=2)
    for words in (
        ['protocol', 'dpdnte', 'dpdnet?'], ['metrics', 'sim', 'ssim'], ['save_image:', 'save_images'],
        ['bootstrap.samples', '0'], ['models[0].network_g', 'Gian', 'Gain'], ['models[0].range', '[1, 0]'],
        ['models[1].name', 'input'], ['models[1].weight:', 'weights'], ['models[1].color', 'gray'],
        ['models[1].size_multiple', '0'], ['models[2].weights'], ['datasets.pairs.dataroot_qt', 'dataroot_'],
        ['datasets.others.type', 'PairedDefocus', 'PairedDefocusDataset'],
    ):  # fmt: skip
        assert any(all(word in line for word in words) for line in err.splitlines()), (words, err)
    assert err.count('\n  ') == 13
    assert not (bench.folder / 'results').exists()


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda opt: opt.update(protocol='basicsr', metrics=['lpips']), ['lpips', 'basicsr']),
        (lambda opt: opt.update(models={'a': 1}), ['models']),
        (lambda opt: opt.update(name='a/b'), ['name', 'a/b']),
        (lambda opt: opt.update(num_gpu=99), ['num_gpu', '99']),
        (lambda opt: opt.pop('noise'), ['noise is missing']),
        (lambda opt: opt['models'][0].update(name='Dark'), ['models[1].name: dark']),  # one file on some systems
        (lambda opt: opt['models'][1].update(drop_from='nobody'), ['models[1].drop_from', "'nobody'"]),
        (lambda opt: opt['models'][1].update(param_key=3), ['models[1].param_key', '3']),
        (lambda opt: opt['datasets'].update(PAIRS=opt['datasets']['pairs']), ['PAIRS']),
        (lambda opt: opt['datasets'].update(pairs_noise3=opt['datasets']['pairs']), ['pairs_noise3']),
    ],
)
def test_one_fault(bench, change, words):
    bench.opt['noise'] = [3]
    change(bench.opt)
    _, _, err = bench.run('--noise', code=2)
    assert all(word in err for word in words), err


# --- the folder of the results ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('place', ['results/three', 'results/three/cache', 'results/three/images'])
def test_a_folder_that_cannot_be_made_is_told_before_anything_runs(bench, place):
    path = bench.folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    code, _, err = bench.command('compare', '-opt', bench.write())
    assert code == 1
    assert 'results/three' in err
    assert '--root' in err
    assert bench.forwards() == []


@pytest.mark.parametrize('module', [cache, image_decoding], ids=['scores', 'pictures'])
def test_a_full_disk_ends_the_run_and_blames_no_model(bench, monkeypatch, module):
    """The next run continues."""
    left = [9]
    write = module.write_whole

    def full(path, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, 'No space left on device')
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(module, 'write_whole', full)
        code, _, err = bench.command('compare', '-opt', bench.write())
    assert code == 1
    assert 'No space left on device' in err.splitlines()[-1]
    assert 'of what was to be compared failed' not in err
    done = len(bench.forwards())
    assert 0 < done < 8
    bench.run()
    assert len(bench.forwards()) in (8 - done, 9 - done)


# --- processes --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def server():
    server = Server()
    yield server
    server.close()


def arguments(bench):
    return ('compare', '-opt', bench.write(), '--no-report')


def test_two_ranks_give_the_numbers_of_one(bench, server):
    """Five images, so that the shares differ; one model fails on one rank's images only, one set is damaged."""
    write_pairs(bench.folder / 'pairs', 5)
    path = bench.folder / 'pairs/input/03.png'
    write_image(str(path), np.full((48, 64, 3), 250, np.uint8))
    truncated(bench, bench.folder / 'pairs/input/04.png')
    bench.add('bad', 1.0)['network_g'].update(failing='nan', only_below=0.5)
    code, printed = server.run(*arguments(bench), cwd=bench.folder)
    assert code == 1
    assert '2 of what was to be compared failed' in printed, printed
    alone = bench.numbers()
    assert len(bench.forwards()) == 12
    bench.opt['name'] = 'together'
    codes, printed = server.run_together(*arguments(bench), '--launcher', 'pytorch', cwd=bench.folder)
    assert codes == [1, 1], printed
    assert len(bench.forwards()) == 12
    together = json.loads(json.dumps(bench.numbers()).replace('together', 'three'))
    assert together == alone
    assert printed.count('method ') == 3  # one process prints the tables
    assert printed.count('model bad: ') == 1


def test_a_killed_run_goes_on(bench, server):
    moments = (4, 7, 10, 13)
    bench.opt['name'] = 'whole'
    code, printed = server.run(*arguments(bench), cwd=bench.folder)
    assert code == 0, printed
    whole = bench.numbers()
    bench.forwards()
    bench.opt['name'] = 'cut'
    for moment in moments:
        code, printed = server.run(*arguments(bench), cwd=bench.folder, kill_at=moment)
        assert code == -9, printed
    code, printed = server.run(*arguments(bench), cwd=bench.folder)
    assert code == 0, printed
    assert 8 <= len(bench.forwards()) <= 8 + len(moments)
    assert json.loads(json.dumps(bench.numbers()).replace('cut', 'whole')) == whole


def test_the_packaged_weights_are_the_default(bench):
    bench.opt['models'] = [
        {'name': 'ours'},
        {'name': 'named', 'weights': 'packaged'},
        {'name': 'by_path', 'weights': packaged_weights()},
        {'name': 'light', 'weights': LIGHT},
    ]
    Path(DEFAULT).write_bytes(b'not used')
    results, out, err = bench.run()
    means = results['datasets'][0]['means']
    assert means['ours'] == means['named'] == means['by_path'] != means['input']
    ours, named, by_path, light = results['models']
    assert ours['settings'] == named['settings'] == by_path['settings'] == {'weights': f'{DEFAULT}, packaged'}
    assert light['settings'] == {'weights': f'{LIGHT}, packaged'}
    assert means['light'] != means['ours']
    assert ours['sha256'] == by_path['sha256']
    assert f'ours: weights {DEFAULT}, packaged' in out
    assert f'ours, named: with the packaged weights, {DEFAULT}' in err


def test_an_untrained_network_is_marked_as_such(bench):
    """It starts as it does in every comparison, whatever ran before it."""
    network = {'type': 'KPAC', 'levels': 2}
    bench.opt['models'] = [{'name': name, 'network_g': network, 'weights': 'untrained'} for name in ('one', 'two')]
    results, out, _ = bench.run()
    means = results['datasets'][0]['means']
    assert means['one'] == means['two'] != means['input']
    assert all(model['sha256'] is None for model in results['models'])
    assert 'one: weights none: untrained' in out
    bench.opt['models'] = [{'name': 'one', 'weights': 'untrained'}]
    _, _, err = bench.run(code=2)
    assert 'models[0]: network_g' in err
