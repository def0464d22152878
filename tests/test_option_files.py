"""Every packaged option file: parsed, explained in its first lines, its network, loss and data sets built."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from ggkm_plugin import options, preflight
from ggkm_plugin.compare import options as comparison
from ggkm_plugin.data.decoding import write_image

from basicsr.archs import build_network  # isort: skip
from basicsr.data import build_dataset  # isort: skip
from basicsr.losses import build_loss  # isort: skip
from torchvision.models.optical_flow import raft_large  # isort: skip

FILES = sorted(options.packaged_folder().glob('*.yml'))
COMPARISONS = [file for file in FILES if file.stem.startswith('compare_')]
_TREES = {
    'DPDD': [
        f'{split}_c/{kind}/{i}.png'
        for split in ('train', 'val', 'test')
        for kind in ('source', 'target')
        for i in (1, 2, 3, 4)
    ],
    'LFDOF': [
        path
        for split in ('train', 'test')
        for i in range(6)
        for path in (f'{split}_data/input/IMG_{i}/IMG_{i}_ap1_1.png', f'{split}_data/ground_truth/IMG_{i}.png')
    ],
    'RealDOF': ['source/01.png', 'target/01.png'],
    'RTF': ['image/0/image_01.png', 'GT/sharp_01.png'],
    'CUHK': ['image/out_of_focus0001.jpg'],
}


@pytest.fixture
def benchmarks(tmp_path, monkeypatch):
    """A current folder in which every benchmark has a few images, where the option files look for them."""
    monkeypatch.chdir(tmp_path)
    for name, paths in _TREES.items():
        for path in paths:
            write_image(str(tmp_path / 'datasets' / name / path), np.zeros((288, 288, 3), np.uint8))


def test_the_files_that_are_promised_are_there():
    names = {file.stem for file in FILES}
    assert {f'train_GGKMNet_{name}' for name in ('demo', 'DPDD', 'LFDOF')} <= names
    assert {f'test_GGKMNet_{name}' for name in ('demo', 'DPDD', 'LFDOF', 'RealDOF', 'RTF', 'CUHK')} <= names
    assert {
        f'compare_{name}' for name in ('demo', 'pairs', 'classical', 'DPDD', 'LFDOF', 'RealDOF', 'RTF', 'CUHK')
    } <= names


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_first_lines_say_source_command_and_result(file):
    source, command, result = file.read_text().splitlines()[:3]
    assert source.startswith('# ')
    assert command == f'# basicsr {file.stem.split("_")[0]} -opt options/{file.name}'
    assert re.match('# (Expect|Not yet reproduced)', result)


def other_files():
    """One crop of the paper's size takes half a minute in the largest networks."""
    for file in FILES:
        if file not in COMPARISONS:
            yield pytest.param(file, marks=[pytest.mark.slow] * ('MPRNet' in file.stem), id=file.stem)


@pytest.mark.parametrize('file', other_files())
def test_everything_in_it_can_be_built(benchmarks, file):
    opt = options.load_options(file)
    flow = opt.get('train', {}).get('jdrl', {}).get('flow')
    if flow:  # its weights are another's
        torch.save(raft_large(weights=None).state_dict(), flow['weights'])
    is_train = file.stem.startswith('train')
    if not is_train:  # the weights come from a training
        weights = Path(opt['path']['pretrain_network_g'])
        assert weights.parts[0] == 'experiments'
        weights.parent.mkdir(parents=True)
        weights.touch()
    preflight.check_options(opt, is_train)
    net = build_network(opt['network_g'])
    for phase, dataset_opt in opt['datasets'].items():
        dataset = build_dataset({**dataset_opt, 'phase': phase.split('_')[0]})
        assert dataset[0]['lq'].shape[0] == 3
    if is_train:
        crop, loss = torch.rand(1, 3, 64, 64), build_loss(opt['train']['pixel_opt'])
        output = net.train()(crop)
        if isinstance(output, dict) and not getattr(loss, 'takes_scales', False):
            output = output['scales'][-1]
        assert torch.isfinite(loss(output, crop))


@pytest.mark.parametrize('file', COMPARISONS, ids=lambda file: file.stem)
@pytest.mark.parametrize('noise', [False, True])
def test_a_comparison_has_no_fault(benchmarks, monkeypatch, file, noise):
    monkeypatch.setenv('LPIPS_TRUNK', str(file))  # any file: the weights are read with the first image
    for variant in (None, *(yaml.safe_load(file.read_text()).get('variants') or {})):
        opt = options.load_options(file, variant)
        if noise and 'noise' not in opt:
            continue
        plan = comparison.parse(opt, noise)
        assert plan.name.startswith(file.stem)
        networks = [entry for entry in plan.models if isinstance(entry, comparison.Entry)]
        assert all(Path(entry.weights).parts[0] == 'experiments' for entry in networks)
        for images in plan.datasets:
            if 'layout' in images.options:
                assert build_dataset(images.options)[0]['lq'].shape[0] == 3


@pytest.mark.parametrize('name', ['DPDD', 'LFDOF', 'RealDOF', 'RTF', 'CUHK'])
def test_comparisons_are_of_what_the_test_files_test(name):
    compared, tested = (
        options.load_options(options.packaged_folder() / f'{file}.yml')
        for file in (f'compare_{name}', f'test_GGKMNet_{name}')
    )
    ours = compared['models'][0]
    assert {**compared['datasets'][name], 'name': name} == tested['datasets']['test']
    assert ours['network_g'] == tested['network_g']
    assert ours['weights'] == tested['path']['pretrain_network_g']
    (metric,) = {metric['protocol'] for metric in (tested['val'].get('metrics') or {'': compared}).values()}
    assert compared['protocol'] == metric


def test_the_demo_s_comparison_is_on_what_it_was_validated_on():
    train, compared = (
        options.load_options(options.packaged_folder() / f'{file}.yml')
        for file in ('train_GGKMNet_demo', 'compare_demo')
    )
    held_out = train['datasets']['val']
    assert {held_out.pop('name'): held_out} == compared['datasets']
    assert {str(Path(model['weights']).parent) for model in compared['models']} == {
        f'experiments/{train["name"]}/models'
    }


@pytest.mark.parametrize('name', ['DPDD', 'LFDOF', 'demo'])
def test_test_files_describe_the_network_that_was_trained(name):
    trained, tested = (
        options.load_options(options.packaged_folder() / f'{kind}_GGKMNet_{name}.yml') for kind in ('train', 'test')
    )
    build_network(tested['network_g']).load_state_dict(build_network(trained['network_g']).state_dict())
    assert tested['path']['pretrain_network_g'] == f'experiments/{trained["name"]}/models/net_g_latest.pth'


def test_the_demo_is_tested_on_what_it_was_validated_on():
    train, test = (
        options.load_options(options.packaged_folder() / f'{kind}_GGKMNet_demo.yml') for kind in ('train', 'test')
    )
    assert train['datasets']['val'] == test['datasets']['test']
    assert train['val']['metrics'] == test['val']['metrics']


def test_the_training_files_differ_only_where_they_must():
    dpdd, lfdof = (
        options.load_options(options.packaged_folder() / f'train_GGKMNet_{name}.yml') for name in ('DPDD', 'LFDOF')
    )
    same = copy.deepcopy(dpdd)
    same['name'] = lfdof['name']
    for phase in ('train', 'val'):
        for key in ('name', 'layout', 'dataroot'):
            same['datasets'][phase][key] = lfdof['datasets'][phase][key]
    same['train'].update(
        total_iter=1_407_500, scheduler={**same['train']['scheduler'], 'milestones': [563_000, 844_500, 1_126_000]}
    )
    assert same == lfdof


def test_the_paper_s_recipe():
    """protocols.md section 4 in iterations: 87 of them an epoch, 5000 epochs, halved at 2000, 3000, 4000."""
    opt = options.load_options(options.packaged_folder() / 'train_GGKMNet_DPDD.yml')
    train = opt['train']
    assert train['total_iter'] == 5000 * (350 // 4)
    assert train['scheduler']['milestones'] == [2000 * 87, 3000 * 87, 4000 * 87]
    assert (train['scheduler']['gamma'], train['optim_g']['lr']) == (0.5, 1e-4)
    assert (opt['datasets']['train']['gt_size'], opt['datasets']['train']['batch_size_per_gpu']) == (256, 4)
