"""Every packaged option file: parsed, explained in its first lines, its network, loss and data sets built."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.lmdb_store import write_lmdb
from ggkm_plugin.evaluation import compare_config as comparison
from ggkm_plugin.evaluation.paper import PUBLISHED
from ggkm_plugin.losses.common import loss_input
from ggkm_plugin.training import check_config
from ggkm_plugin.utils import config
from ggkm_plugin.utils.image_decoding import write_image
from ggkm_plugin.weights import NAMES

from basicsr.archs import build_network  # isort: skip
from basicsr.data import build_dataset  # isort: skip
from basicsr.losses import build_loss  # isort: skip
from torchvision.models.optical_flow import raft_large  # isort: skip

FILES = sorted(config.packaged_folder().glob('*.yml'))
# That GGKMNet is compared with.
METHODS = ('AIFNet', 'AttSRN', 'DPDNetS', 'DRBNet', 'GKMNet', 'IFAN', 'KPAC', 'MDP', 'NRKNet', 'SRN')
SETS = ('DPDD', 'LFDOF')
COMPARISONS = [file for file in FILES if file.stem.startswith('compare_')]
_TREES = {
    'DPDD': [
        f'{split}_c/{kind}/{i}.png'
        for split in ('train', 'val', 'test')
        for kind in ('source', 'target')
        for i in range(16)
    ],
    'LFDOF': [
        path
        for split in ('train', 'test')
        for i in range(18)
        for path in (f'{split}_data/input/IMG_{i}/IMG_{i}_ap1_1.png', f'{split}_data/ground_truth/IMG_{i}.png')
    ],
    'RealDOF': ['source/01.png', 'target/01.png'],
    'RTF': ['image/0/image_01.png', 'GT/sharp_01.png'],
    'CUHK': ['image/out_of_focus0001.jpg'],
    'pairs': [
        f'{split}/{kind}/{i}.png' for split in ('train', 'val') for kind in ('input', 'ground_truth') for i in range(4)
    ],
}


@pytest.fixture
def benchmarks(tmp_path, monkeypatch):
    """A current folder in which every benchmark has a few images, where the option files look for them: a batch at
    least, as large as the largest crop.
    """
    monkeypatch.chdir(tmp_path)
    for name, paths in _TREES.items():
        for path in paths:
            write_image(str(tmp_path / 'datasets' / name / path), np.zeros((512, 512, 3), np.uint8))
    pairs = [Pair(f'input/{i}', f'ground_truth/{i}') for i in range(8)]
    files = {key: f'datasets/RealDOF/{_TREES["RealDOF"][0]}' for pair in pairs for key in pair if key}
    for name in ('synthetic', 'synthetic_real'):
        for split in ('train', 'val'):
            write_lmdb(f'datasets/{name}/{split}.lmdb', files, pairs, 'raw')


def test_the_files_that_are_promised_are_there():
    names = {file.stem for file in FILES}
    assert {f'train_GGKMNet_{name}' for name in ('demo', 'DPDD', 'LFDOF', 'synthetic')} <= names
    assert {f'test_GGKMNet_{name}' for name in ('demo', 'DPDD', 'LFDOF', 'RealDOF', 'RTF', 'CUHK')} <= names
    assert {
        f'compare_{name}' for name in ('demo', 'pairs', 'classical', 'DPDD', 'LFDOF', 'RealDOF', 'RTF', 'CUHK')
    } <= names
    assert {f'train_{method}_{name}' for method in METHODS for name in SETS} <= names


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_first_lines_say_source_command_and_result(file):
    schema, source, command, result = file.read_text().splitlines()[:4]
    assert schema == '# yaml-language-server: $schema=schema.json'
    assert source.startswith('# ')
    kind = file.stem.split('_')[0].replace('finetune', 'train')
    assert command == f'# basicsr {kind} -opt options/{file.name}'
    assert re.match('# (Expect|Not yet reproduced)', result)


def is_large(file):
    """Whether a step of its network takes seconds."""
    return file.stem.split('_')[1] in METHODS or 'JDRL' in file.stem


@pytest.mark.parametrize(
    'file',
    [
        pytest.param(file, id=file.stem, marks=[pytest.mark.slow] if is_large(file) else [])
        for file in FILES
        if file not in COMPARISONS and not (is_large(file) and file.stem.endswith('LFDOF'))  # its network is DPDD's
    ],
)
def test_everything_in_it_can_be_built(benchmarks, file):
    opt = config.load_options(file)
    flow = opt.get('train', {}).get('jdrl', {}).get('flow')
    if flow:  # its weights are another's
        torch.save(raft_large(weights=None).state_dict(), flow['weights'])
    is_train = file.stem.startswith(('train', 'finetune'))
    if not is_train:  # the weights come from a training
        weights = Path(opt['path']['pretrain_network_g'])
        assert weights.parts[0] == 'experiments'
        weights.parent.mkdir(parents=True)
        torch.save({'params': build_network(copy.deepcopy(opt['network_g'])).state_dict()}, weights)
    check_config.check_options(opt, is_train)
    net = build_network(opt['network_g'])
    for phase, dataset_opt in opt['datasets'].items():
        dataset = build_dataset({**dataset_opt, 'phase': phase.split('_')[0]})
        assert dataset[0]['lq'].shape[0] == 3
    if is_train:
        size = 64 if is_large(file) else opt['datasets']['train']['gt_size']  # the check has made one of full size
        crop, loss = torch.rand(1, 3, size, size), build_loss(opt['train']['pixel_opt'])
        assert torch.isfinite(loss(loss_input(loss, net.train()(crop)), crop))


@pytest.mark.parametrize('file', COMPARISONS, ids=lambda file: file.stem)
@pytest.mark.parametrize('noise', [False, True])
def test_a_comparison_has_no_fault(benchmarks, monkeypatch, file, noise):
    monkeypatch.setenv('LPIPS_TRUNK', str(file))  # any file: the weights are read with the first image
    for variant in (None, *config.read_options(file)[1]):
        opt = config.load_options(file, variant)
        if noise and 'noise' not in opt:
            continue
        plan = comparison.parse(opt, noise)
        assert plan.file.name.startswith(file.stem)
        networks = [entry for entry in plan.models if isinstance(entry, comparison.Entry)]
        known = ('experiments', comparison.PACKAGED, comparison.UNTRAINED, *NAMES)
        assert all(Path(entry.weights).parts[0] in known for entry in networks)
        for images in plan.datasets:
            if 'layout' in images.options:
                assert build_dataset(images.options)[0]['lq'].shape[0] == 3


@pytest.mark.parametrize('name', ['DPDD', 'LFDOF', 'RealDOF', 'RTF', 'CUHK'])
def test_comparisons_are_of_what_the_test_files_test(name):
    compared, tested = (
        config.load_options(config.packaged_folder() / f'{file}.yml')
        for file in (f'compare_{name}', f'test_GGKMNet_{name}')
    )
    first = compared['models'][0]
    assert {**compared['datasets'][name], 'name': name} == tested['datasets']['test']
    assert first['network_g'] == tested['network_g']
    assert first['weights'] == tested['path']['pretrain_network_g']
    (metric,) = {metric['protocol'] for metric in (tested['val'].get('metrics') or {'': compared}).values()}
    assert compared['protocol'] == metric


def test_the_demo_is_tested_and_compared_on_what_it_was_validated_on():
    train, test, compared = (packaged(name) for name in ('train_GGKMNet_demo', 'test_GGKMNet_demo', 'compare_demo'))
    held_out = train['datasets']['val']
    assert test['datasets']['test'] == held_out
    assert test['val']['metrics'] == train['val']['metrics']
    assert compared['datasets'] == {held_out.pop('name'): held_out}
    assert {Path(model['weights']).parts[1] for model in compared['models']} == {train['name']}


@pytest.mark.parametrize('name', ['DPDD', 'LFDOF', 'demo'])
def test_test_files_describe_the_network_that_was_trained(name):
    trained, tested = (
        config.load_options(config.packaged_folder() / f'{kind}_GGKMNet_{name}.yml') for kind in ('train', 'test')
    )
    build_network(tested['network_g']).load_state_dict(build_network(trained['network_g']).state_dict())
    assert tested['path']['pretrain_network_g'] == f'experiments/{trained["name"]}/models/net_g_latest.pth'


def test_the_paper_s_recipe():
    """protocols.md section 4 in iterations: 87 of them an epoch, 5000 epochs, halved at 2000, 3000, 4000."""
    opt = config.load_options(config.packaged_folder() / 'train_GGKMNet_DPDD.yml')
    train = opt['train']
    assert train['total_iter'] == 5000 * (350 // 4)
    assert train['scheduler']['milestones'] == [2000 * 87, 3000 * 87, 4000 * 87]
    assert (train['scheduler']['gamma'], train['optim_g']['lr']) == (0.5, 1e-4)
    assert (opt['datasets']['train']['gt_size'], opt['datasets']['train']['batch_size_per_gpu']) == (256, 4)


# The methods that GGKMNet is compared with


def packaged(name, variant=None):
    return config.load_options(config.packaged_folder() / f'{name}.yml', variant)


def flat(opt, prefix=''):
    """{dotted.key: value}"""
    values = {}
    for key, value in opt.items():
        values.update(flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {f'{prefix}{key}': value})
    return values


def differing(one, other):
    one, other = flat(one), flat(other)
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


@pytest.fixture(params=[(method, name) for method in METHODS for name in SETS], ids=lambda pair: '_'.join(pair))
def method(request):
    return request.param


def test_equal_terms_are_ggkmnet_s_recipe(method):
    """Its data, loss, optimizer, schedule and length; what else the sampling of IFAN has is switched off."""
    name, dataset = method
    opt, own = packaged(f'train_{name}_{dataset}', 'equal_terms'), packaged(f'train_GGKMNet_{dataset}')
    train = opt['datasets']['train']
    assert not any(train.get(key) for key in ('noise_std', 'gray_prob', 'rescale_prob'))
    for key in ('noise_std', 'noise_prob', 'gray_prob', 'rescale_prob', 'rescale_range'):
        train.pop(key, None)
    assert {key for key in differing(opt, own) if not key.startswith('network_g.')} == {'name'}


def test_a_method_s_file_tells_its_published_scores(method):
    name, dataset = method
    known = {'DPDNetS': 'DPDNet-S', 'IFAN': 'IFANet'}.get(name, name)
    line = (config.packaged_folder() / f'train_{name}_{dataset}.yml').read_text().splitlines()[3]
    scores = [row for row in PUBLISHED if (row.method, row.dataset) == (known, dataset)]
    for row in scores:
        assert f'{known} in the GGKMNet paper: {row.psnr:.3f} dB / {row.ssim:.3f} / {row.lpips:.3f} (' in line
    assert scores or 'has no figure' in line


@pytest.mark.parametrize('dataset', SETS)
def test_all_methods_are_compared_by_the_names_of_the_published_scores(dataset):
    models = packaged(f'compare_{dataset}', 'methods')['models']
    trained = {packaged(f'train_{name}_{dataset}')['name'] for name in (*METHODS, 'GGKMNet')}
    assert trained <= {Path(model['weights']).parts[1] for model in models}
    assert {model['name'] for model in models} <= {row.method for row in PUBLISHED}


@pytest.mark.parametrize('dataset', SETS)
def test_gkmnet_star_is_gkmnet_with_self_reconstruction_under_ggkmnet_s_recipe(dataset):
    star, plain = (packaged(f'train_GKMNet_{dataset}', variant) for variant in ('star', 'equal_terms'))
    assert differing(star, plain) == {'name', 'network_g.self_reconstruction'}
    assert star['network_g'] == {'type': 'GKMNet', 'self_reconstruction': True}
