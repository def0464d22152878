"""Faults found before a run starts: each named with its key and the fix, all of them in one list."""

import copy
import re

import pytest
from conftest import write_pairs

from ggkm_plugin.training import check_config
from ggkm_plugin.utils import config
from ggkm_plugin.utils.errors import OptionError


def test_a_sound_file_passes(workplace, tiny):
    before = copy.deepcopy(tiny)
    check_config.check_options(tiny, is_train=True)
    assert tiny == before


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'network_g.type': 'GGKMnet'}, 'network_g.*Did you mean GGKMNet'),
        ({'network_g.num_group': 3}, 'no option num_group.*Did you mean num_groups'),
        ({'network_g.boundary': 'circular'}, 'boundary is one of'),
        ({'network_g.type': None}, 'network_g.type is missing'),
        ({'model_type': 'SrModel'}, 'Did you mean SRModel'),
        ({'train.pixel_opt.type': 'GGKMLos'}, 'Did you mean GGKMLoss'),
        ({'train.pixel_opt.omega': 'backwards'}, 'omega is literal or reversed'),
        ({'train.total_iter': None}, 'train.total_iter is missing'),
        ({'train.total_iter': '4'}, 'whole number'),
        ({'train.pixel_opt': None}, 'no loss'),
        ({'val.metrics.psnr.type': 'defocus_pnsr'}, 'Did you mean defocus_psnr'),
        ({'path.pretrain_network_g': 'gone.pth'}, 'gone.pth: no such file'),
        ({'num_gpu': 99}, 'num_gpu: auto'),
        ({'datasets.train.dataroot_lq': 'nowhere'}, 'nowhere: no such folder'),
        ({'datasets.train.dataroot_lq': None}, 'dataroot_lq and dataroot_gt'),
        ({'datasets.train.batch_size_per_gpu': 'four'}, 'batch_size_per_gpu'),
        ({'datasets.train.gt_size': None}, 'gt_size'),
        ({'datasets.train.batch_size_per_gpu': 9}, 'batch_size_per_gpu, or set dataset_enlarge_ratio to 3'),
        ({'datasets.train.name': None}, 'datasets.train.name'),
        ({'manual_seed': None}, None),
        ({'name': '../pairs'}, 'name: .* cannot name a folder'),
        ({'name': '..'}, 'cannot name a folder'),
        ({'name': ''}, 'cannot name a folder'),
        ({'name': 7}, 'cannot name a folder'),
        ({'name': 'x' * 300}, 'too long'),
        ({'datasets.val.name': 'a/b'}, 'datasets.val.name'),
        ({'manual_seed': -1}, 'manual_seed'),
        ({'val.val_freq': None}, 'val.val_freq'),
        ({'val.val_freq': 0}, 'val.val_freq'),
        ({'logger.print_freq': 0}, 'logger.print_freq'),
        ({'logger.save_checkpoint_freq': 'often'}, 'save_checkpoint_freq'),
        ({'train.optim_g.lr': None}, 'train.optim_g.lr is missing'),
        ({'train.optim_g.lr': -1}, 'train.optim_g: Adam: Invalid learning rate'),
        ({'train.optim_g.lr': '1e-4x'}, 'train.optim_g'),
        ({'train.optim_g.momentum': 1}, 'train.optim_g.*momentum'),
        ({'train.optim_g.type': 'SGD'}, None),
        ({'train.optim_g.type': 'AdamWW'}, 'Did you mean AdamW'),
        ({'train.optim_g.type': 'LBFGS'}, "no 'LBFGS' in torch.optim"),
        ({'model_type': 'SRModel', 'train.optim_g.type': 'SGD'}, "SRModel has Adam, not 'SGD'"),
        ({'train.scheduler.type': 'MultistepLR'}, 'Did you mean MultiStepLR'),
        ({'train.scheduler': {'type': 'CosineAnnealingLR', 'T_max': 4}}, None),
        ({'train.scheduler': {'type': 'CosineAnnealingLR', 'Tmax': 4}}, 'train.scheduler: CosineAnnealingLR.*Tmax'),
        ({'train.scheduler': {'type': 'LambdaLR'}}, "no 'LambdaLR'"),
        (
            {'model_type': 'SRModel', 'train.scheduler': {'type': 'CosineAnnealingLR', 'T_max': 4}},
            "SRModel has no 'CosineAnnealingLR'",
        ),
        ({'train.amp': 'bf16'}, None),
        ({'train.amp': 'half'}, "train.amp is one of none, bf16, fp16, not 'half'"),
        ({'train.accumulate': 0}, 'train.accumulate'),
        ({'train.grad_clip': -1}, 'train.grad_clip'),
        ({'train.nonfinite': 'ignore'}, 'train.nonfinite is stop or skip'),
        ({'model_type': 'SRModel', 'train.amp': 'bf16'}, 'train.amp is no option of SRModel'),
        ({'train.ema_decy': 0.9}, 'train.ema_decy is no option of DefocusModel. Did you mean ema_decay'),
        ({'val.frequency': 3}, 'val.frequency is no option'),
        ({'logger.print_frq': 3}, 'logger.print_frq .*Did you mean print_freq'),
        ({'path.pretrain_network': None}, 'path.pretrain_network .*Did you mean pretrain_network_g'),
        ({'seed': 3}, 'seed is no option'),
        ({'logger.keep_checkpoints': 0}, 'logger.keep_checkpoints'),
        ({'logger.wandb': {'project': None}}, None),
        ({'logger.wandb': {'project': 'mine'}}, 'logger.wandb'),
        ({'train.scheduler.milestones': 3}, 'train.scheduler'),
        (
            {'train.scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [2]}},
            'periods: .* end before total_iter',
        ),
        ({'train.pixel_opt.sr_weight': 0}, 'self_reconstruction: false'),
        ({'datasets.train.gt_size': 36}, 'gt_size to a multiple of 8'),
        ({'datasets.train.gt_size': 16}, 'SSIM window'),
        ({'network_g.in_ch': 1}, 'network_g with train.pixel_opt'),
        ({'datasets.train.dataset_enlarge_ratio': 'twice'}, 'dataset_enlarge_ratio'),
        ({'datasets.train.use_hfilp': True}, 'use_hfilp.*Did you mean use_hflip'),
        ({'datasets.train.io_backend': 'disk'}, 'io_backend'),
        ({'datasets.train_2': {}}, 'datasets.train_2'),
        ({'val.metrics.psnr.protocol': 'restorme'}, 'Did you mean restormer|restormer'),
        ({'val.metrics.psnr.prtocol': 'ifan'}, 'prtocol.*Did you mean protocol'),
        ({'val.metrics.psnr.type': 'calculate_psnr'}, 'crop_border'),
        ({'val.metrics': 'psnr'}, 'val.metrics: a mapping'),
        ({'network_g.type': ['GGKMNet']}, 'network_g.type'),
        ({'path': 'here'}, 'path: a mapping|path'),
        ({'path.pretrain_network_g': 3}, 'path.pretrain_network_g'),
        ({'datasets.validate': {'name': 'x'}}, 'datasets.validate'),
        ({'datasets.val.name': 'train'}, 'datasets: two are named train'),
        ({'datasets.train.prefetch_mode': 'gpu'}, "prefetch_mode: cpu, cuda or ~, not 'gpu'"),
        ({'datasets.train.prefetch_mode': 'cpu'}, None),
        ({'datasets.train.prefetch_mode': 'cpu', 'datasets.train.num_prefetch_queue': 0}, 'num_prefetch_queue'),
        ({'datasets.train.persistent_workers': 'no'}, 'persistent_workers: true or false'),
        ({'train.ema_decay': None}, 'ema_decay: a number'),
        ({'train.ema_decay': 1}, 'ema_decay: a number of at least 0 and below 1'),
        ({'train.warmup_iter': 'long'}, 'warmup_iter: a whole number'),
        ({'train.warmup_iter': None}, 'warmup_iter: a whole number'),
        ({'train.warmup_iter': -1}, None),
        ({'train.scheduler.milestones': '3'}, 'milestones: a list of iterations'),
        ({'train.compile': 'fastest'}, 'train.compile'),
        ({'logger.use_tb_logger': 'no'}, "use_tb_logger: true or false, not 'no'"),
        ({'val.save_img': 'no'}, 'val.save_img: true or false'),
        ({'sync_bn': 'yes'}, 'sync_bn: true or false'),
        ({'val.metrics.psnr.better': 'bigger'}, 'better: higher or lower'),
        ({'val.metrics': {'a/b': {'type': 'defocus_psnr'}}}, 'val.metrics: .*cannot name'),
        ({'val.metrics': {1: {'type': 'defocus_psnr'}}}, 'val.metrics: 1 cannot name'),
    ],
)
def test_one_fault(workplace, tiny, change, message):
    for key, value in change.items():
        config._set(tiny, key.split('.'), value, new_keys=True)
    if message is None:
        check_config.check_options(tiny, is_train=True)
    else:
        with pytest.raises(OptionError, match=message):
            check_config.check_options(tiny, is_train=True)


@pytest.mark.parametrize(
    ('gpu', 'pinned', 'message'),
    [(False, True, 'has no GPU'), (True, False, 'needs pin_memory: true'), (True, True, None)],
)
def test_prefetching_to_a_gpu(workplace, tiny, monkeypatch, gpu, pinned, message):
    monkeypatch.setattr('torch.cuda.is_available', lambda: gpu)
    tiny['datasets']['train'].update(prefetch_mode='cuda', pin_memory=pinned)
    if message is None:
        check_config.check_options(tiny, is_train=True)
    else:
        with pytest.raises(OptionError, match=message):
            check_config.check_options(tiny, is_train=True)


def test_one_fault_is_told_once(workplace, tiny):
    tiny['model_type'] = 'DefocusModl'
    with pytest.raises(OptionError) as caught:
        check_config.check_options(tiny, is_train=True)
    assert str(caught.value).count('DefocusModl') == 1


def test_all_faults_in_one_list(workplace, tiny):
    tiny['network_g']['type'] = 'Nobody'
    tiny['datasets']['val']['dataroot_gt'] = 'nowhere'
    with pytest.raises(OptionError) as caught:
        check_config.check_options(tiny, is_train=True)
    assert 'network_g' in str(caught.value)
    assert 'datasets.val' in str(caught.value)


@pytest.mark.parametrize(
    ('change', 'doubt'),
    [
        ({'train.scheduler.milestones': [2, 4, 9]}, r'milestones: \[4, 9\] are never reached.* is 4'),
        ({'train.warmup_iter': 5}, 'warmup_iter: 5'),
        ({'datasets.val.split': 'test'}, 'no best weights are chosen on it'),
    ],
)
def test_what_runs_but_is_hardly_meant(workplace, tiny, change, doubt):
    assert list(check_config.doubts(tiny)) == []
    for key, value in change.items():
        config._set(tiny, key.split('.'), value, new_keys=True)
    [found] = check_config.doubts(tiny)
    assert re.search(doubt, found)


def test_strictly_a_doubt_is_a_fault_among_the_others(workplace, tiny):
    tiny['train']['total_iter'] = 2
    tiny['network_g']['type'] = 'Nobody'
    with pytest.raises(OptionError, match=r'(?s)2 options are wrong.*Nobody.*milestones'):
        check_config.check_options(tiny, is_train=True, strict=True)


def test_fewer_images_than_the_benchmark_has(workplace, tiny):
    write_pairs(workplace / 'DPDD/train_c', 4)
    (workplace / 'DPDD/train_c/input').rename(workplace / 'DPDD/train_c/source')
    (workplace / 'DPDD/train_c/ground_truth').rename(workplace / 'DPDD/train_c/target')
    for key in ('dataroot_lq', 'dataroot_gt'):
        del tiny['datasets']['train'][key]
    tiny['datasets']['train'].update(dataroot='DPDD', layout='DPDD', split='train')
    check_config.check_options(tiny, is_train=True)
    assert list(check_config.doubts(tiny)) == ['datasets.train: 4 images, where DPDD has 350']


def test_checking_makes_no_files_and_starts_no_log(workplace, tiny):
    import logging

    handlers = logging.getLogger('basicsr').handlers
    before = sorted(workplace.rglob('*')), list(handlers)
    check_config.check_options(tiny, is_train=True)
    assert (sorted(workplace.rglob('*')), list(handlers)) == before


@pytest.mark.parametrize('missing', ['path.pretrain_network_g', 'val.save_img', 'network_g.type'])
def test_what_a_test_needs(workplace, tiny, missing):
    (workplace / 'weights.pth').touch()
    tiny['datasets'] = {'test': tiny['datasets']['val']}
    tiny['path']['pretrain_network_g'] = 'weights.pth'
    check_config.check_options(tiny, is_train=False)
    config._set(tiny, missing.split('.'), None, new_keys=True)
    with pytest.raises(OptionError, match=f'{missing} is missing'):
        check_config.check_options(tiny, is_train=False)


def test_a_test_of_nothing(workplace, tiny):
    (workplace / 'weights.pth').touch()
    tiny['path']['pretrain_network_g'] = 'weights.pth'
    for datasets in ({}, {'train': tiny['datasets']['train']}):
        with pytest.raises(OptionError, match='datasets'):
            check_config.check_options({**tiny, 'datasets': datasets}, is_train=False)


STOCK = {
    'model_type': 'SRModel',
    'scale': 4,
    'network_g': {'type': 'MSRResNet', 'num_feat': 4, 'num_block': 1, 'upscale': 4},
}


def test_an_option_file_of_the_host_passes(workplace, tiny):
    """Super-resolution with stock parts, whose keys are none of ours."""
    tiny.update(copy.deepcopy(STOCK))
    for dataset in tiny['datasets'].values():
        dataset.update(type='PairedImageDataset', io_backend={'type': 'disk'}, filename_tmpl='{}', use_rot=True)
    tiny['train']['pixel_opt'] = {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'}
    tiny['val']['metrics'] = {'niqe': {'type': 'calculate_niqe', 'crop_border': 4, 'better': 'lower'}}
    check_config.check_options(tiny, is_train=True)
    check_config.check_options({**tiny, 'val': None}, is_train=True)


def test_what_a_plugin_s_model_and_metric_mean_is_theirs(workplace, tiny):
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
def test_what_other_models_train_on_is_theirs(workplace, tiny, changes):
    for dataset in tiny['datasets'].values():
        dataset.update(type='PairedImageDataset', io_backend={'type': 'disk'}, use_rot=True)
    for key, value in changes.items():
        config._set(tiny, key.split('.'), value, new_keys=True)
    check_config.check_options(tiny, is_train=True)
