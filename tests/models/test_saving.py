"""Checkpoints that a training keeps: the newest, and the best by each score."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from ggkm_plugin.utils.checkpoint import read_checkpoint

from basicsr.models import build_model  # isort: skip


def names(options, kind='models'):
    return sorted(path.name for path in Path(options['path'][kind]).iterdir())


# ---- the newest


@pytest.mark.parametrize(('keep', 'kept'), [(2, [9, 10]), (9, [7, 8, 9, 10]), (None, [7, 8, 9, 10])])
def test_the_last_few_are_kept(stock, keep, kept):
    """By number, not by name: 10 comes after 9."""
    stock['logger']['keep_checkpoints'] = keep
    model = build_model(stock)
    for iteration in (7, 8, 9, 10):
        model.save(0, iteration)
    assert names(stock) == sorted(f'net_g_{iteration}.pth' for iteration in kept)
    assert names(stock, 'training_states') == sorted(f'{iteration}.state' for iteration in kept)


@pytest.mark.parametrize('left', ['both', 'state'])
def test_what_a_killed_run_did_not_forget_is_forgotten_at_the_end(stock, left):
    stock['logger']['keep_checkpoints'] = None
    model = build_model(stock)
    for iteration in (2, 4, 6):
        model.save(0, iteration)
    if left == 'state':
        (Path(stock['path']['models']) / 'net_g_2.pth').unlink()
    stock['logger']['keep_checkpoints'] = 2
    model = build_model(stock)
    model.save(-1, -1)
    assert names(stock) == ['net_g_4.pth', 'net_g_6.pth', 'net_g_latest.pth']
    assert names(stock, 'training_states') == ['4.state', '6.state']


def test_what_is_not_a_checkpoint_of_the_row_is_left_alone(stock):
    stock['logger']['keep_checkpoints'] = 1
    folder = Path(stock['path']['models'])
    foreign = ['net_g_best_psnr.pth', 'net_g_latest.pth', 'net_g_mine.pth', 'net_d_2.pth', 'notes.txt']
    for name in foreign:
        (folder / name).write_text(name)
    states = Path(stock['path']['training_states'])
    (states / 'mine.state').write_text('mine')
    model = build_model(stock)
    for iteration in (2, 4):
        model.save(0, iteration)
    assert names(stock) == sorted([*foreign, 'net_g_4.pth'])
    assert all((folder / name).read_text() == name for name in foreign)
    assert names(stock, 'training_states') == ['4.state', 'mine.state']


def test_the_end_saves_the_last_step_and_the_latest(stock, batch):
    model = build_model(stock)
    model.feed_data(batch())
    model.optimize_parameters(3)
    model.save(-1, -1)
    assert names(stock) == ['net_g_3.pth', 'net_g_latest.pth']
    assert names(stock, 'training_states') == ['3.state']


# ---- the best


class Scored(Dataset):
    """One image and its ground truth, which is as far from it as `distance` says at the moment."""

    def __init__(self, name, **opt):
        self.opt = {'name': name, **opt}
        self.distance = 0.0

    def __len__(self):
        return 1

    def __getitem__(self, index):
        gt = torch.full((3, 16, 16), 0.5)
        return {'lq': gt + self.distance, 'gt': gt, 'lq_path': 'a.png', 'gt_path': 'a.png'}


@pytest.fixture
def course(stock):
    """Validates a network that returns its input, at iterations 1, 2 ..., with these distances from the truth."""
    stock['val']['metrics'] = {'psnr': {'type': 'defocus_psnr'}, 'mae': {'type': 'defocus_mae', 'better': 'lower'}}
    stock['network_g']['num_conv'] = 0

    def run(sets, *distances):
        model = build_model(stock)
        for parameter in model.net_g.parameters():
            parameter.data.zero_()
        loaders = [torch.utils.data.DataLoader(dataset) for dataset in sets]
        model.attach(loaders, None, None)
        for iteration, row in enumerate(distances, start=1):
            model.iteration = iteration
            for loader, distance in zip(loaders, row, strict=True):
                loader.dataset.distance = distance
                model.validation(loader, iteration, None, False)
        found = {}
        for path in Path(stock['path']['models']).glob('net_g_best_*.pth'):
            found[path.stem.removeprefix('net_g_best_')] = read_checkpoint(str(path))['description']['iteration']
        return model, found

    return run


def test_the_best_of_each_metric(course):
    """The highest PSNR and the lowest error; the second of two equal ones, as in BasicSR."""
    model, found = course([Scored('val')], [0.3], [0.1], [0.2])
    assert found == {'psnr': 2, 'mae': 2}
    assert model.best_metric_results['val']['mae']['val'] == pytest.approx(0.1, abs=1e-6)
    assert model.best_metric_results['val']['psnr']['val'] == pytest.approx(20, abs=1e-4)


def test_two_data_sets_have_each_their_own(course):
    found = course([Scored('near'), Scored('far')], [0.1, 0.3], [0.2, 0.2], [0.3, 0.1])[1]
    assert found == {'near_psnr': 1, 'near_mae': 1, 'far_psnr': 3, 'far_mae': 3}


def test_nothing_is_chosen_on_a_test_split(course, stock):
    """Its scores are shown all the same."""
    model, found = course([Scored('held', split='val'), Scored('open', split='test')], [0.1, 0.3], [0.2, 0.1])
    assert found == {'held_psnr': 1, 'held_mae': 1}
    assert model.best_metric_results['open']['mae']['iter'] == 2


def test_the_best_is_known_after_a_resume(course, stock):
    """It is in the state, so that a worse one does not take its place."""
    course([Scored('val')], [0.1])[0].save(0, 1)
    model = build_model(stock)
    model.attach([torch.utils.data.DataLoader(Scored('val'))], None, None)
    model.resume_training(read_checkpoint(f'{stock["path"]["training_states"]}/1.state'))
    assert model.best_metric_results['val']['psnr'] == {
        'better': 'higher',
        'iter': 1,
        'val': pytest.approx(20, abs=1e-4),
    }
    best = Path(stock['path']['models']) / 'net_g_best_psnr.pth'
    before = best.read_bytes()
    loader = torch.utils.data.DataLoader(Scored('val'))
    loader.dataset.distance = 0.3
    model.iteration = 2
    model.validation(loader, 2, None, False)
    assert best.read_bytes() == before
