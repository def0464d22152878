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
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ggkm_plugin.evaluation import cache
from ggkm_plugin.metrics.protocols import PROTOCOLS
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
        for who, file in image['files'].items():
            picture = cv2.imread(str(bench.folder / 'results/three' / file))
            assert picture.shape == (48, 64, 3), who
    assert set(dataset['images'][0]['files']) == {'input', 'gt', 'bright', 'dark'}
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


def test_pictures_are_the_results(bench):
    results, _, _ = bench.run()
    files = results['datasets'][0]['images'][1]['files']
    lq, dark = (read_image(str(bench.folder / 'results/three' / files[who])) for who in ('input', 'dark'))
    assert np.abs(dark - lq * 0.9).max() <= 0.5 / 255 + 1e-6
    gt = bench.folder / 'pairs/ground_truth/01.png'
    assert np.array_equal(read_image(str(bench.folder / 'results/three' / files['gt'])), read_image(str(gt)))


@pytest.mark.parametrize(
    ('form', 'word'), [('markdown', '### pairs'), ('latex', r'\begin{tabular}'), ('csv', 'dataset,')]
)
def test_formats(bench, form, word):
    _, out, _ = bench.run('--format', form)
    assert out.startswith(word) or word in out


def test_input_row_is_scikit_image_s(bench, shared_data):
    """dpdnet: float, uniform 7x7 window, data range 1."""
    folder = shared_data / 'lfdof_pairs'
    bench.opt['models'] = bench.opt['models'][:1]
    bench.opt['save_images'] = False
    bench.opt['datasets']['pairs'].update(dataroot_lq=str(folder / 'input'), dataroot_gt=str(folder / 'ground_truth'))
    results, _, _ = bench.run()
    images = results['datasets'][0]['images']
    assert len(images) == 4
    for image in images:
        lq, gt = (
            read_image(str(folder / side / f'{image["name"]}.png')).astype(np.float64)
            for side in ('input', 'ground_truth')
        )
        scores = image['scores']['input']
        assert scores['psnr'] == pytest.approx(peak_signal_noise_ratio(gt, lq, data_range=1), abs=1e-6)
        assert scores['ssim'] == pytest.approx(structural_similarity(gt, lq, data_range=1, channel_axis=2), abs=1e-6)
        assert scores['mae'] == pytest.approx(np.abs(gt - lq).mean(), abs=1e-6)
        assert image['files'] == {}


def test_protocols_differ_as_they_should(bench):
    """On the Input row of 48x72 images, a multiple of 8 and not of 16; `bright` overshoots 1 and is not rounded."""
    write_pairs(bench.folder / 'pairs', 4, (48, 72))
    bench.opt['models'] = bench.opt['models'][:1]
    found = {}
    for protocol in PROTOCOLS:
        bench.opt['protocol'] = protocol
        results, _, _ = bench.run()
        dataset = results['datasets'][0]
        found[protocol] = {who: (scores['psnr'], scores['ssim']) for who, scores in dataset['means'].items()}
        width = dataset['images'][0]['size'][1]
        assert width == (64 if protocol == 'drbnet' else 72)
    inputs = {protocol: scores['input'] for protocol, scores in found.items()}
    assert inputs['dpdnet'] == inputs['restormer'] == inputs['ifan']
    assert inputs['basicsr'][0] == pytest.approx(inputs['restormer'][0], abs=1e-4)  # files of 8 bits: nothing to round
    assert inputs['basicsr'][1] != pytest.approx(inputs['restormer'][1], abs=1e-4)  # the window
    for cropped_or_padded in ('drbnet', 'nrknet', 'gkmnet'):
        assert inputs[cropped_or_padded][0] != pytest.approx(inputs['restormer'][0], abs=1e-4)
    assert inputs['gkmnet'][0] > inputs['basicsr'][0]  # zeros on both sides score well
    assert found['ifan']['bright'][0] < found['restormer']['bright'][0]  # not clipped
    assert found['basicsr']['bright'][0] != found['restormer']['bright'][0]  # rounded


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


def test_a_second_run_gives_the_same_and_runs_nothing(bench):
    bench.run()
    first = bench.numbers()
    assert len(bench.forwards()) == 8
    bench.run()
    assert bench.forwards() == []
    assert bench.numbers() == first


def change_weights(bench):
    bench.weights('dark', 0.8)


def change_image(bench):
    path = bench.folder / 'pairs/input/02.png'
    write_image(str(path), (read_image(str(path)) * 200).astype(np.uint8))


def change_truth(bench):
    path = bench.folder / 'pairs/ground_truth/02.png'
    write_image(str(path), (read_image(str(path)) * 200).astype(np.uint8))


def change_protocol(bench):
    bench.opt['protocol'] = 'restormer'


def change_metrics(bench):
    bench.opt['metrics'] = ['psnr']


def change_range(bench):
    bench.opt['models'][1]['range'] = [0, 255]


def change_multiple(bench):
    bench.opt['models'][1]['size_multiple'] = 32


def change_options(bench):
    bench.opt['models'][1]['network_g'] = {'type': 'Gain', 'only_below': 0.5}


def remove_picture(bench):
    (bench.folder / 'results/three/images/pairs/01/dark.png').unlink()


def damage_entry(bench):
    (bench.folder / 'results/three/cache/scores/pairs/01/dark.json').write_text('{"digest": ')


def change_code(bench):
    path = Path(sys.modules['compare_test_archs'].__file__)  # of the first test of this process
    path.write_text(path.read_text() + '# changed\n')


def rename(bench):
    bench.opt['bootstrap'] = {'samples': 100, 'seed': 1}


@pytest.mark.parametrize(
    ('change', 'again'),
    [
        (change_weights, 4), (change_image, 2), (change_truth, 2), (change_protocol, 8), (change_metrics, 8),
        (change_range, 4), (change_multiple, 4), (change_options, 4), (change_code, 8), (remove_picture, 1),
        (damage_entry, 1), (rename, 0),
    ],
)  # fmt: skip
def test_what_a_result_depends_on_is_noticed(bench, change, again):
    bench.run()
    before = bench.numbers()
    bench.forwards()
    change(bench)
    bench.run()
    assert len(bench.forwards()) == again
    now, then = (numbers['datasets'][0]['means']['dark'] for numbers in (bench.numbers(), before))
    other_numbers = change in (change_weights, change_image, change_truth, change_metrics)
    assert (now != pytest.approx(then, abs=1e-6)) == other_numbers


def test_results_of_another_format_are_computed_again(bench, monkeypatch):
    bench.run()
    assert len(bench.forwards()) == 8
    monkeypatch.setattr('ggkm_plugin.evaluation.results.FORMAT', 3)
    assert bench.run()[0]['format'] == 3
    assert len(bench.forwards()) == 8


def test_pictures_follow_the_weights_back_and_forth(bench):
    """The pictures of weights that were compared before were overwritten in between."""
    picture = bench.folder / 'results/three/images/pairs/00/dark.png'
    bench.run()
    first = picture.read_bytes()
    bench.weights('dark', 0.5)
    bench.run()
    assert picture.read_bytes() != first
    bench.weights('dark', 0.9)
    bench.run()
    assert picture.read_bytes() == first


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


def no_description(bench, path):
    del bench.opt['models'][0]['network_g']


def no_such_key(bench, path):
    bench.opt['models'][0]['param_key'] = 'params_ema'


@pytest.mark.parametrize(
    ('harm', 'words'),
    [
        (missing, ['bright.pth']),
        (truncated, ['bright.pth']),
        (other_arch, ['bright.pth', 'Gain', 'conv.weight']),
        (no_description, ['bright.pth', 'network_g']),
        (no_such_key, ['bright.pth', 'params_ema']),
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


def test_a_checkpoint_that_describes_itself(bench):
    torch.save(
        {'params': {'gain': torch.tensor([0.9])}, 'description': {'arch': 'Gain', 'options': {}}},
        bench.folder / 'bright.pth',
    )
    del bench.opt['models'][0]['network_g']
    results, _, _ = bench.run()
    means = results['datasets'][0]['means']
    assert means['bright'] == means['dark']
    assert results['models'][0]['arch'] == 'Gain'


def test_averaged_weights_unless_a_key_says_otherwise(bench):
    both = {'params': {'gain': torch.tensor([1.5])}, 'params_ema': {'module.gain': torch.tensor([0.9])}}
    torch.save(both, bench.folder / 'bright.pth')
    means = bench.run()[0]['datasets'][0]['means']
    assert means['bright'] == means['dark']
    bench.opt['models'][0]['param_key'] = 'params'
    bench.weights('dark', 1.5)
    means = bench.run()[0]['datasets'][0]['means']
    assert means['bright'] == means['dark']


@pytest.mark.parametrize('wrapper', ['params_ema', 'state_dict', 'model'])
def test_weights_as_other_programs_wrap_them(bench, wrapper):
    content = {wrapper: {'module.gain': torch.tensor([0.9])}, 'epoch': 3}
    torch.save(content, bench.folder / 'bright.pth')
    means = bench.run()[0]['datasets'][0]['means']
    assert means['bright'] == means['dark']
    torch.save({'mine': content[wrapper], 'params': {'gain': torch.tensor([1.5])}}, bench.folder / 'bright.pth')
    bench.opt['models'][0]['param_key'] = 'mine'
    means = bench.run()[0]['datasets'][0]['means']
    assert means['bright'] == means['dark']


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
    for words in (['data set pairs', '01.png', 'no partner'], ['data set others', '02.png', 'truncated']):
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
    bench.opt['datasets']['odd'] = {'type': 'Odd', 'names': ['a', 'bug', 'c', 'nameless']}
    results, _, err = bench.run(code=1)
    images = {dataset['name']: [image['name'] for image in dataset['images']] for dataset in results['datasets']}
    assert images == {'odd': ['a', 'c'], 'pairs': ['00', '01', '02', '03']}
    assert 'data set odd: 1: ZeroDivisionError: a bug' in err
    assert "data set odd: 3: KeyError: 'lq_path'" in err
    assert len(results['failures']) == 2


def test_an_image_that_cannot_be_scored_is_no_model_s_fault(bench):
    (bench.folder / 'odd_data.py').write_text(DATASET)
    bench.opt['plugins'].append('odd_data')
    bench.opt['datasets'] = {'odd': {'type': 'Odd', 'names': ['a', 'small']}}
    results, _, err = bench.run(code=1)
    assert [model['status'] for model in results['models']] == ['ok', 'ok']
    assert len(results['failures']) == 1
    assert 'data set odd: 1: ValueError: SSIM with the uniform window needs images of at least 7x7 pixels' in err
    assert set(results['datasets'][0]['means']) == {'input', 'bright', 'dark'}


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


def test_identical_images_have_infinite_psnr(bench):
    bench.opt['datasets']['pairs']['dataroot_gt'] = 'pairs/input'
    results, out, _ = bench.run()
    assert results['datasets'][0]['means']['input']['psnr'] is None
    assert next(line for line in out.splitlines() if line.startswith('Input')).split()[1] == 'inf'
    assert ',inf,' in (bench.folder / 'results/three/scores.csv').read_text()


# --- how networks want their images -----------------------------------------------------------------------------------


@pytest.mark.parametrize('model', [{'arch': 'Gain', 'size_multiple': 16}, {'arch': 'Picky'}])
def test_sizes_that_do_not_divide(bench, model):
    write_pairs(bench.folder / 'pairs', 4, (50, 70))
    bench.opt['models'] = bench.opt['models'][:1]
    bench.run()
    bench.forwards()
    bench.add('padded', 1.02, **model)
    results, _, _ = bench.run()
    assert {line.split(maxsplit=1)[1] for line in bench.forwards()} == {'64 80'}
    dataset = results['datasets'][0]
    assert dataset['means']['padded'] == dataset['means']['bright']
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


def test_noise_on_demand(bench):
    bench.opt['noise'] = [3, 15]
    assert [dataset['name'] for dataset in bench.run()[0]['datasets']] == ['pairs']
    results, out, _ = bench.run('--noise')
    assert [dataset['name'] for dataset in results['datasets']] == ['pairs', 'pairs_noise3', 'pairs_noise15']
    psnr = [dataset['means']['input']['psnr'] for dataset in results['datasets']]
    assert psnr[0] > psnr[1] > psnr[2]
    assert 'loss by noise' in out
    first = bench.numbers()
    bench.forwards()
    bench.run('--noise')
    assert bench.forwards() == []
    assert bench.numbers() == first


def test_losses_by_noise(bench):
    bench.opt['noise'] = [15, 15.0]  # one level
    bench.add('trained_with_noise', 0.95, drop_from='dark')
    results, out, _ = bench.run('--noise')
    clean, noisy = results['datasets']
    assert 'drops' not in clean
    assert set(noisy['drops']) == {'input', 'bright', 'dark', 'trained_with_noise'}
    for name, before in (('input', 'input'), ('dark', 'dark'), ('trained_with_noise', 'dark')):
        for metric, sign in (('psnr', 1), ('ssim', 1), ('mae', -1)):
            loss = sign * (clean['means'][before][metric] - noisy['means'][name][metric])
            assert noisy['drops'][name][metric] == pytest.approx(loss, abs=1e-12)
    assert noisy['drops']['input']['psnr'] > 0 < noisy['drops']['input']['mae']
    assert 'trained_with_noise: from dark' in out
    line = next(line for line in out[out.index('noise 15') :].splitlines() if line.startswith('Input')).split()
    psnr = noisy['means']['input']['psnr'], noisy['drops']['input']['psnr']
    assert line[1:3] == [f'{psnr[0]:.3f}', f'{psnr[1]:.3f}']


def test_photographs_without_truth_are_not_made_noisy(bench):
    bench.opt['noise'] = [3]
    bench.opt['datasets'] = {'photographs': {'type': 'SingleDefocusDataset', 'dataroot_lq': 'pairs/input'}}
    results, _, _ = bench.run('--noise')
    assert [dataset['name'] for dataset in results['datasets']] == ['photographs']


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


def test_published_rows(bench):
    bench.opt['published'] = True
    bench.opt['datasets'] = {'RTF': bench.opt['datasets']['pairs']}
    results, out, _ = bench.run()
    assert {row['dataset'] for row in results['published']} == {'RTF'}
    assert 'NRKNet (trained on DPDD)' in out
    after = out[out.index('(published, protocol unknown)') : out.index('** best')]
    assert '*' not in after.replace('Net*', '')


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
    results, _, _ = bench.run('--noise')
    assert [dataset['benchmark'] for dataset in results['datasets']] == ['DPDD', 'DPDD']
    assert {row['dataset'] for row in results['published'] + results['published_drops']} == {'DPDD'}
    assert {row['std'] for row in results['published_drops']} == {3}
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
    ('changes', 'words'),
    [
        ({'protocol': 'basicsr', 'metrics': ['lpips']}, ['lpips', 'basicsr']),
        ({'models': None}, ['models']),
        ({'models': {'a': 1}}, ['models']),
        ({'datasets': ['x']}, ['datasets']),
        ({'name': 'a/b'}, ['name', 'a/b']),
        ({'num_gpu': 99}, ['num_gpu', '99']),
        ({'complexity': 'no way'}, ['complexity', 'no way']),
    ],
)
def test_one_fault(bench, changes, words):
    bench.opt.update(changes)
    _, _, err = bench.run(code=2)
    assert all(word in err for word in words), err
    assert err.count('\n') == 1


def test_noise_without_levels(bench):
    _, _, err = bench.run('--noise', code=2)
    assert 'noise' in err


def test_two_models_of_one_name(bench):
    bench.add('dark', 0.9)
    _, _, err = bench.run(code=2)
    assert 'models[2].name: dark' in err


def test_names_that_a_file_system_may_not_tell_apart(bench):
    bench.opt['models'][0]['name'] = 'Dark'
    bench.opt['datasets']['PAIRS'] = bench.opt['datasets']['pairs']
    _, _, err = bench.run(code=2)
    assert 'models[1].name: dark' in err
    assert 'PAIRS' in err


def test_a_data_set_called_like_a_noisy_one(bench):
    bench.opt.update(noise=[3])
    bench.opt['datasets']['pairs_noise3'] = bench.opt['datasets']['pairs']
    _, _, err = bench.run('--noise', code=2)
    assert 'pairs_noise3' in err


@pytest.mark.parametrize(('key', 'value'), [('drop_from', 'nobody'), ('param_key', 3)])
def test_options_of_a_model(bench, key, value):
    bench.opt['models'][1][key] = value
    _, _, err = bench.run(code=2)
    assert f'models[1].{key}' in err
    assert repr(value) in err


# --- the folder of the results ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('place', ['results', 'results/three', 'results/three/cache', 'results/three/images'])
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
    last = err.splitlines()[-1]
    assert 'No space left on device' in last
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


@pytest.mark.parametrize('moments', [(4, 7, 10, 13)])
def test_a_killed_run_goes_on(bench, server, moments):
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
