"""Optimizers and schedules by name."""

import pytest
import torch

from ggkm_plugin.models.optimizing import BASICSR_SCHEDULES, build_optimizer, build_schedule, optimizers, schedules
from ggkm_plugin.utils.errors import OptionError

import basicsr.models.lr_scheduler as basicsr_schedules  # isort: skip


@pytest.fixture
def weight():
    return torch.nn.Parameter(torch.ones(4, 3, 3, 3))


def test_known_names():
    assert {'Adam', 'AdamW', 'SGD', 'RAdam', 'Adafactor'} <= set(optimizers())
    assert not {'Optimizer', 'LBFGS', 'SparseAdam', 'Muon'} & set(optimizers())
    assert {'CosineAnnealingLR', 'OneCycleLR', 'MultiStepRestartLR'} <= set(schedules())
    assert not {'LRScheduler', 'ReduceLROnPlateau', 'LambdaLR', 'SequentialLR'} & set(schedules())


def test_names_of_basicsr_select_its_classes(weight):
    optimizer = build_optimizer('Adam', [weight], {'lr': 1.0})
    schedule = build_schedule('MultiStepLR', optimizer, {'milestones': [1], 'restarts': [0], 'restart_weights': [1]})
    assert type(schedule) is basicsr_schedules.MultiStepRestartLR
    assert set(BASICSR_SCHEDULES) == {'MultiStepLR', 'MultiStepRestartLR', 'CosineAnnealingRestartLR'}


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('AdanW', {}, r"train\.optim_g\.type: no 'AdanW'.*AdamW"),
        ('Adam', {'momentum': 0.9}, r'train\.optim_g: Adam: .*momentum'),
        ('Adam', {'lr': -1.0}, r'train\.optim_g: Adam: .*-1'),
    ],
)
def test_wrong_optimizers(weight, name, options, words):
    with pytest.raises(OptionError, match=words):
        build_optimizer(name, [weight], options)


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('CosineAnealingLR', {}, r"train\.scheduler\.type: no 'CosineAnealingLR'.*CosineAnnealingLR"),
        ('CosineAnnealingLR', {}, r'train\.scheduler: CosineAnnealingLR: .*T_max'),
        (
            'CosineAnnealingRestartLR',
            {'periods': [1, 2], 'restart_weights': [1]},
            'CosineAnnealingRestartLR: .*same length',
        ),
    ],
)
def test_wrong_schedules(weight, name, options, words):
    optimizer = torch.optim.SGD([weight], lr=1.0)
    with pytest.raises(OptionError, match=words):
        build_schedule(name, optimizer, options)
