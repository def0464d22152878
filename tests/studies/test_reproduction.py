"""`basicsr reproduce`: every row of the tables with its state and command, and figures from available checkpoints."""

import csv
import io
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.studies import reproduction
from ggkm_plugin.studies.reproduction import TABLES, CellKey
from ggkm_plugin.utils import config, registry
from ggkm_plugin.utils.image_decoding import write_image

SMALL = {'width': 4, 'num_groups': 2, 'kernels_per_group': 2, 'num_scales': 2}
# Two test images of each benchmark, in its layout; DPDD also for training.
TREES = {
    'DPDD': [
        f'{split}_c/{kind}/{i}.png'
        for split in ('train', 'val', 'test')
        for kind in ('source', 'target')
        for i in range(2)
    ],
    'LFDOF': [
        path
        for i in range(2)
        for path in (f'test_data/input/IMG_{i}/IMG_{i}_ap1_1.png', f'test_data/ground_truth/IMG_{i}.png')
    ],
    'RealDOF': [f'{kind}/0{i}.png' for kind in ('source', 'target') for i in (1, 2)],
    'RTF': [path for i in (1, 2) for path in (f'image/0/image_0{i}.png', f'GT/sharp_0{i}.png')],
}
QUICK = ['--force_yml', 'metrics=[psnr,ssim]', 'num_gpu=0', 'complexity=false', 'bootstrap:samples=10']


@pytest.fixture
def benchmarks(workplace):
    """A current folder with a stand-in of each benchmark."""
    rng = np.random.default_rng(0)
    for name, paths in TREES.items():
        for path in paths:
            write_image(f'datasets/{name}/{path}', rng.integers(0, 256, (64, 80, 3), np.uint8))
    return workplace


def checkpoint(experiment, seed=0):
    """A checkpoint of a small GGKMNet where a training would have left it."""
    torch.manual_seed(seed)
    path = Path('experiments', experiment, 'models/net_g_latest.pth')
    path.parent.mkdir(parents=True)
    description = {'arch': 'GGKMNet', 'options': {**SMALL, 'self_reconstruction': False}, 'iteration': 9}
    torch.save({'params': GGKMNet(**description['options']).state_dict(), 'description': description}, path)


def rows(out):
    return list(csv.DictReader(io.StringIO(out)))


@pytest.mark.parametrize('number', TABLES)
def test_every_cell_has_a_training_or_needs_none(number):
    table = TABLES[number]
    untrained = {key.row for key, _ in table.cells() if key not in table.systems}
    assert untrained == {2: {'Input', 'JNB', 'EBDB'}, 3: {'Input'}, 4: {'Input'}, 5: {'Input'}}.get(number, set())
    assert set(table.systems) <= {key for key, _ in table.cells()}
    names = [system.experiment for system in table.systems.values()]  # raises for an unknown file or variant
    assert len(set(names)) == (3 if number in (6, 7) else len(names))


@pytest.mark.parametrize('dataset', ['DPDD', 'LFDOF'])
def test_trainings_are_those_that_the_comparisons_name(dataset):
    compared = config.load_options(config.find_option_file(f'compare_{dataset}'), 'methods')['models']
    table = TABLES[{'DPDD': 2, 'LFDOF': 3}[dataset]]
    for model in compared:
        if CellKey('', model['name']) in table.systems:
            experiment = table.systems[CellKey('', model['name'])].experiment
            assert model['weights'] == f'experiments/{experiment}/models/net_g_latest.pth'
    named = {model['name'] for model in compared}
    assert {key.row for key in table.systems} <= named


@pytest.mark.parametrize(('number', 'count'), [(2, 17), (4, 18), (6, 12), (11, 12)])
def test_a_fresh_folder_lists_all_rows(command, number, count):
    code, out, _ = command('reproduce', str(number), '--dry-run', '--format', 'csv')
    listed = rows(out)
    assert (code, len(listed)) == (0, count)
    assert {row['data'] for row in listed} == {'missing'}
    for row in listed:
        words = shlex.split(row['command'])
        assert words[0] == 'basicsr'
        if row['checkpoint'] == 'missing':
            assert words[1] == 'train'
            opt = config.load_options(config.find_option_file(words[3]), words[5] if len(words) > 4 else None)
            assert registry.registered('network_g', 'archs', opt['network_g'])


def test_what_is_at_hand_is_found(command, benchmarks):
    checkpoint('GGKMNet_DPDD_dagger')
    code, out, _ = command('reproduce', '2', '--dry-run', '--format', 'csv', '--rows', 'GGKMNet', 'GGKMNet-dagger')
    assert code == 0
    assert [(row['row'], row['checkpoint'], row['data']) for row in rows(out)] == [
        ('GGKMNet', 'missing', 'found'),
        ('GGKMNet-dagger', 'found', 'found'),
    ]


@pytest.mark.parametrize(
    ('words', 'named'), [(['--rows', 'GKNet'], 'GKNet'), (['--weights-dir', 'nowhere'], 'nowhere'), ([], 'DPDD')]
)
def test_mistakes_are_named(command, words, named):
    code, _, err = command('reproduce', '2', *words)
    assert code == 2
    assert named in err


@pytest.mark.slow
def test_tables_of_methods(command, benchmarks):
    """A short training of GGKMNet on DPDD fills its rows of Tables 2, 4 and 5; the rest stays missing."""
    small = ', '.join(f'{key}: {value}' for key, value in SMALL.items())
    lengths = ['datasets:train:gt_size=32', 'datasets:train:batch_size_per_gpu=1', 'train:total_iter=2']
    quick = ['datasets:train:num_worker_per_gpu=0', 'datasets:train:persistent_workers=false', 'num_gpu=0']
    saved = ['val:val_freq=2', 'logger:save_checkpoint_freq=2', 'logger:use_tb_logger=false']
    network = f'network_g={{type: GGKMNet, {small}}}'
    code, _, err = command('train', '-opt', 'train_GGKMNet_DPDD', '--force_yml', network, *lengths, *quick, *saved)
    assert code == 0, err
    for number, column in ((2, ''), (4, 'DPDD'), (5, 'DPDD')):
        names = ['--rows', 'Input', 'GGKMNet', 'NRKNet'] if number == 2 else []
        code, out, err = command('reproduce', str(number), '--format', 'csv', *names, *QUICK)
        assert code == 0, err
        cells = {(row['column'], row['row'], row['quantity']): row for row in rows(out)}
        ggkmnet, missing = cells[column, 'GGKMNet', 'psnr'], cells[column, 'NRKNet', 'psnr']
        assert float(ggkmnet['here']) > 0
        assert float(ggkmnet['paper']) == TABLES[number].columns[column]['GGKMNet'].psnr
        assert float(cells[column, 'Input', 'psnr']['here']) != float(ggkmnet['here'])
        assert (missing['here'], missing['checkpoint']) == ('', 'missing')
        assert missing['command'] == 'basicsr train -opt train_NRKNet_DPDD'


@pytest.mark.slow
def test_tables_of_noise_and_of_variants(command, benchmarks):
    for seed, name in enumerate(('GGKMNet_DPDD', 'GGKMNet_DPDD_noise', 'NRKNet_DPDD_noise', 'GGKMNet_DPDD_wo_lstm_s')):
        checkpoint(name, seed)
    checkpoint('GGKMNet_LFDOF', 9)
    for number in (6, 7):
        code, out, err = command('reproduce', str(number), '--format', 'csv', *QUICK)
        assert code == 0, err
        here = {(row['column'], row['row']): row['here'] for row in rows(out) if row['quantity'] == 'psnr'}
        assert len({here['GGKMNet', std] for std in ('3', '5', '15')} - {''}) == 3
        assert here['NRKNet', '3'] == here['IFANet', '3'] == ''  # the first has no training without noise
    for number, row in ((3, 'GGKMNet'), (8, 'w/o LSTM (S)'), (10, 'P=21, Q=4'), (11, 'S=3, R=1')):
        code, out, err = command('reproduce', str(number), *QUICK)
        assert code == 0, err
        assert f'Table {number}' in out
        (line,) = (line for line in out.splitlines() if line.startswith(f'{row} '))
        assert sum(word.replace('.', '').isdecimal() for word in line.split()) >= 4
    assert list(Path('results').iterdir())


def test_an_empty_folder_scores_the_input(command, benchmarks):
    code, out, err = command('reproduce', '4', '--format', 'csv', *QUICK)
    assert code == 0, err
    here = {row['row']: row['here'] for row in rows(out) if row['quantity'] == 'psnr'}
    assert here.pop('Input')
    assert set(here.values()) == {''}
    assert reproduction.plan(4).missing
