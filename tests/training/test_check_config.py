"""Faults of option files: each is found before a run starts and named by its key, all in one list."""

import copy
import re

import pytest
import torch
from conftest import write_pairs

from ggkm_plugin.training import check_config
from ggkm_plugin.utils import config
from ggkm_plugin.utils.errors import OptionError

from basicsr.archs import build_network  # isort: skip


def test_a_sound_file_passes(workplace, tiny):
    before = copy.deepcopy(tiny)
    check_config.check_options(tiny, is_train=True)
    assert tiny == before


# (changes, the key that is named, and the nearest key or name)
FAULTS = [
    ({'network_g.type': 'GGKMnet'}, 'network_g.type', 'GGKMNet'),
    ({'network_g.num_group': 3}, 'network_g.num_group', 'num_groups'),
    ({'network_g.type': 'GGKMNetNoLSTM', 'network_g.num_group': 3}, 'network_g.num_group', 'num_groups'),
    ({'network_g.boundary': 'circular'}, 'boundary', None),
    ({'network_g.self_reconstruction': 'false'}, 'network_g.self_reconstruction', None),
    ({'network_g.type': ['GGKMNet']}, 'network_g.type', None),
    ({'network_g.in_ch': 1}, 'network_g', None),
    ({'model_type': 'SrModel'}, 'model_type', 'SRModel'),
    ({'train.pixel_opt.type': 'GGKMLos'}, 'train.pixel_opt.type', 'GGKMLoss'),
    ({'train.pixel_opt.omega': 'backwards'}, 'omega', None),
    ({'train.pixel_opt.mse_wieght': 1}, 'train.pixel_opt.mse_wieght', 'mse_weight'),
    ({'train.pixel_opt': None}, 'train.pixel_opt', None),
    ({'train.pixel_opt.sr_weight': 0}, 'network_g.self_reconstruction', None),
    ({'train.total_iter': None}, 'train.total_iter', None),
    ({'train.total_iter': 4.5}, 'train.total_iter', None),
    ({'train.ema_decy': 0.9}, 'train.ema_decy', 'ema_decay'),
    ({'train.warmup_iter': None}, 'train.warmup_iter', None),
    ({'train.optim_g.lr': '1e-4x'}, 'train.optim_g.lr', None),
    ({'train.optim_g.weight_decy': 1}, 'train.optim_g.weight_decy', 'weight_decay'),
    ({'train.optim_g.betas': 1}, 'train.optim_g', None),
    ({'train.optim_g.type': 'AdamWW'}, 'train.optim_g.type', 'AdamW'),
    ({'model_type': 'SRModel', 'train.optim_g.type': 'SGD'}, 'train.optim_g.type', None),
    ({'train.scheduler.type': 'MultistepLR'}, 'train.scheduler.type', 'MultiStepLR'),
    ({'train.scheduler.milestones': 3}, 'train.scheduler.milestones', None),
    ({'train.scheduler': {'type': 'CosineAnnealingLR', 'Tmax': 4}}, 'train.scheduler.Tmax', 'T_max'),
    ({'train.scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [2]}}, 'train.scheduler.periods', None),
    (
        {'model_type': 'SRModel', 'train.scheduler': {'type': 'CosineAnnealingLR', 'T_max': 4}},
        'train.scheduler.type',
        'CosineAnnealingRestartLR',
    ),
    ({'train.amp': 'half'}, 'train.amp', None),
    ({'model_type': 'SRModel', 'train.amp': 'bf16'}, 'train.amp', None),
    ({'val.frequency': 3}, 'val.frequency', None),
    ({'val.val_freq': None}, 'val.val_freq', None),
    ({'val.metrics': 'psnr'}, 'val.metrics', None),
    ({'val.metrics': {'a/b': {'type': 'defocus_psnr'}}}, 'val.metrics.a/b', None),
    ({'val.metrics': {1: {'type': 'defocus_psnr'}}}, 'val.metrics', None),
    ({'val.metrics.psnr.type': 'defocus_pnsr'}, 'val.metrics.psnr.type', 'defocus_psnr'),
    ({'val.metrics.psnr.type': 'calculate_psnr'}, 'val.metrics.psnr.crop_border', None),
    ({'val.metrics.psnr.prtocol': 'ifan'}, 'val.metrics.psnr.prtocol', 'protocol'),
    ({'val.metrics.psnr.protocol': 'restorme'}, 'val.metrics.psnr', 'restormer'),
    ({'val.metrics.psnr.better': 'bigger'}, 'val.metrics.psnr.better', None),
    (
        {'val.metrics.psnr': {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_chanel': True}},
        'val.metrics.psnr.test_y_chanel',
        'test_y_channel',
    ),
    ({'logger.print_frq': 3}, 'logger.print_frq', 'print_freq'),
    ({'logger.keep_checkpoints': 0}, 'logger.keep_checkpoints', None),
    ({'logger.wandb': {'project': 'mine'}}, 'logger.wandb', None),
    ({'path': 'here'}, 'path', None),
    ({'path.pretrain_network': None}, 'path.pretrain_network', 'pretrain_network_g'),
    ({'path.pretrain_network_g': 'gone.pth'}, 'path.pretrain_network_g', None),
    ({'path.pretrain_network_g': 3}, 'path.pretrain_network_g', None),
    ({'num_gpu': 99}, 'num_gpu', None),
    ({'manual_seed': -1}, 'manual_seed', None),
    ({'seed': 3}, 'seed', None),
    *(({'name': name}, 'name', None) for name in ('../pairs', '', 7, 'x' * 300)),
    ({'datasets.val.name': 'a/b'}, 'datasets.val.name', None),
    ({'datasets.val.name': 'train'}, 'datasets', None),
    ({'datasets.train.dataroot_lq': 'nowhere'}, 'datasets.train', None),
    ({'datasets.train.dataroot_lq': None}, 'dataroot_lq', None),
    ({'datasets.train.batch_size_per_gpu': 9}, 'dataset_enlarge_ratio', None),
    ({'datasets.train.gt_size': None}, 'gt_size', None),
    ({'datasets.train.gt_size': 36}, 'datasets.train.gt_size', None),
    ({'datasets.train.gt_size': 16}, 'datasets.train.gt_size', None),
    ({'datasets.train.use_hfilp': True}, 'datasets.train.use_hfilp', 'use_hflip'),
    ({'datasets.train.use_hflip': 'false'}, 'datasets.train.use_hflip', None),
    ({'datasets.train.io_backend': 'disk'}, 'datasets.train.io_backend', None),
    (
        {'datasets.train.prefetch_mode': 'cpu', 'datasets.train.num_prefetch_queue': 0},
        'datasets.train.num_prefetch_queue',
        None,
    ),
    ({'datasets.train_2': {}}, 'datasets.train_2', None),
    ({'datasets.validate': {'name': 'x'}}, 'datasets.validate', None),
]


@pytest.mark.parametrize(('change', 'key', 'near'), FAULTS, ids=str)
def test_one_fault(workplace, tiny, change, key, near):
    for changed, value in change.items():
        config._set(tiny, changed.split('.'), value, new_keys=True)
    with pytest.raises(OptionError) as caught:
        check_config.check_options(tiny, is_train=True)
    assert key in str(caught.value)
    assert near is None or re.search(rf'\b{near}\b', str(caught.value))


@pytest.mark.parametrize(
    'change',
    [
        {'manual_seed': None},
        {'train.optim_g.type': 'SGD'},
        {'train.scheduler': {'type': 'CosineAnnealingLR', 'T_max': 4}},
        {'train.amp': 'auto'},
        {'train.total_iter': 4e0},
        {'datasets.train.prefetch_mode': 'cpu'},
        {'network_g.enc_blocks': [1, 1, 2]},
    ],
    ids=str,
)
def test_no_fault(workplace, tiny, change):
    for changed, value in change.items():
        config._set(tiny, changed.split('.'), value, new_keys=True)
    check_config.check_options(tiny, is_train=True)


@pytest.mark.parametrize(
    ('gpu', 'pinned', 'key'),
    [(False, True, 'prefetch_mode'), (True, False, 'pin_memory'), (True, True, None)],
)
def test_prefetching_to_a_gpu(workplace, tiny, monkeypatch, gpu, pinned, key):
    monkeypatch.setattr('torch.cuda.is_available', lambda: gpu)
    tiny['datasets']['train'].update(prefetch_mode='cuda', pin_memory=pinned)
    if key is None:
        check_config.check_options(tiny, is_train=True)
    else:
        with pytest.raises(OptionError, match=key):
            check_config.check_options(tiny, is_train=True)


def test_a_fault_is_listed_once(workplace, tiny):
    tiny['model_type'] = 'DefocusModl'
    with pytest.raises(OptionError) as caught:
        check_config.check_options(tiny, is_train=True)
    assert str(caught.value).count('DefocusModl') == 1


@pytest.mark.parametrize(
    ('change', 'key'),
    [
        ({'train.scheduler.milestones': [2, 4, 9]}, 'train.scheduler.milestones'),
        ({'train.warmup_iter': 5}, 'train.warmup_iter'),
        ({'datasets.val.split': 'test'}, 'datasets.val'),
    ],
)
def test_suspicious_settings(workplace, tiny, change, key):
    assert check_config.check_options(tiny, is_train=True) == []
    for changed, value in change.items():
        config._set(tiny, changed.split('.'), value, new_keys=True)
    [found] = check_config.check_options(tiny, is_train=True)
    assert found.startswith(key)


def test_an_emulated_type_is_suspicious(workplace, tiny, monkeypatch):
    monkeypatch.setattr('ggkm_plugin.utils.devices._cpu_flags', lambda: {'avx2'})
    for amp in ('none', 'auto', 'bf16'):
        tiny['train']['amp'] = amp
        warnings = check_config.check_options(tiny, is_train=True)
        assert [warning.split(':')[0] for warning in warnings] == ['train.amp'] * (amp == 'bf16')


def test_loss_and_model_that_do_not_fit(workplace, tiny):
    """SRModel passes the training dict of GGKMNet to the loss."""
    tiny['model_type'] = 'SRModel'
    check_config.check_options(tiny, is_train=True)
    tiny['train']['pixel_opt'] = {'type': 'L1Loss'}
    with pytest.raises(OptionError, match=r'train\.pixel_opt.*L1Loss.*DefocusModel.*GGKMLoss'):
        check_config.check_options(tiny, is_train=True)


def test_unused_parameters(workplace, tiny, monkeypatch):
    """Without the SRM's loss term the SRM has no gradient: a warning, and a fault on several processes."""
    tiny['train']['pixel_opt'] = {'type': 'L1Loss'}
    [warning] = check_config.check_options(tiny, is_train=True)
    assert 'srm' in warning
    monkeypatch.setattr(check_config, 'process_count', lambda: 2)
    with pytest.raises(OptionError, match='find_unused_parameters'):
        check_config.check_options(tiny, is_train=True)
    assert check_config.check_options({**tiny, 'find_unused_parameters': True}, is_train=True) == []
    tiny['network_g']['self_reconstruction'] = False
    assert check_config.check_options(tiny, is_train=True) == []


def test_fewer_images_than_the_benchmark_has(workplace, tiny):
    write_pairs(workplace / 'DPDD/train_c', 4)
    (workplace / 'DPDD/train_c/input').rename(workplace / 'DPDD/train_c/source')
    (workplace / 'DPDD/train_c/ground_truth').rename(workplace / 'DPDD/train_c/target')
    for key in ('dataroot_lq', 'dataroot_gt'):
        del tiny['datasets']['train'][key]
    tiny['datasets']['train'].update(dataroot='DPDD', layout='DPDD', split='train')
    [warning] = check_config.check_options(tiny, is_train=True)
    assert warning.startswith('datasets.train')
    assert '350' in warning


@pytest.mark.parametrize('missing', ['path.pretrain_network_g', 'val.save_img', 'network_g.type'])
def test_what_a_test_needs(workplace, tiny, missing):
    torch.save({'params': build_network(copy.deepcopy(tiny['network_g'])).state_dict()}, 'weights.pth')
    tiny['datasets'] = {'test': tiny['datasets']['val']}
    tiny['path']['pretrain_network_g'] = 'weights.pth'
    check_config.check_options(tiny, is_train=False)
    config._set(tiny, missing.split('.'), None, new_keys=True)
    with pytest.raises(OptionError, match=re.escape(missing)):
        check_config.check_options(tiny, is_train=False)
    with pytest.raises(OptionError, match='datasets'):
        check_config.check_options({**tiny, 'datasets': {}}, is_train=False)


STOCK = {
    'model_type': 'SRModel',
    'scale': 4,
    'network_g': {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 4},
}


def test_a_plain_basicsr_file_passes(workplace, tiny):
    """Super-resolution with BasicSR's own parts."""
    tiny.update(copy.deepcopy(STOCK))
    for dataset in tiny['datasets'].values():
        dataset.update(type='PairedImageDataset', io_backend={'type': 'disk'}, filename_tmpl='{}', use_rot=True)
    tiny['train']['pixel_opt'] = {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}
    tiny['val']['metrics'] = {'niqe': {'type': 'calculate_niqe', 'crop_border': 4, 'better': 'lower'}}
    check_config.check_options(tiny, is_train=True)
    check_config.check_options({**tiny, 'val': None}, is_train=True)


def test_models_and_metrics_of_other_authors_may_read_other_keys(workplace, tiny):
    """A model with its own optimizers, a metric that reads its keyword arguments."""
    from basicsr.models.sr_model import SRModel

    from ggkm_plugin.utils.registry import METRIC_REGISTRY, MODEL_REGISTRY

    class OwnModel(SRModel):
        def get_optimizer(self, optim_type, params, lr, **kwargs):
            raise AssertionError

    def own_metric(img, img2, **kwargs):
        raise AssertionError

    tiny['model_type'] = 'OwnModel'
    tiny['train']['optim_g'] = {'type': 'Lion', 'lr': 1e-4, 'beta': 3}
    tiny['train']['own'] = tiny['own'] = 3
    tiny['val']['metrics'] = {'own': {'type': 'own_metric', 'radius': 3}}
    MODEL_REGISTRY._obj_map['OwnModel'], METRIC_REGISTRY._obj_map['own_metric'] = OwnModel, own_metric
    try:
        check_config.check_options(tiny, is_train=True)
    finally:
        del MODEL_REGISTRY._obj_map['OwnModel'], METRIC_REGISTRY._obj_map['own_metric']


@pytest.mark.parametrize('changes', [
    {'model_type': 'SRGANModel', 'train.pixel_opt': None},
    {'model_type': 'SwinIRModel', 'network_g': {'type': 'SRVGGNetCompact', 'num_in_ch': 1, 'upscale': 1}},
    {'datasets.train.dataset_enlarge_ratio': 1.5},
])  # fmt: skip
def test_other_models_of_basicsr_pass(workplace, tiny, changes):
    for dataset in tiny['datasets'].values():
        dataset.update(type='PairedImageDataset', io_backend={'type': 'disk'}, use_rot=True)
    for key, value in changes.items():
        config._set(tiny, key.split('.'), value, new_keys=True)
    check_config.check_options(tiny, is_train=True)
