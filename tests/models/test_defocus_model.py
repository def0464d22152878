"""DefocusModel and BasicSR's SRModel, each with GGKMNet and with a network of BasicSR."""

import copy
import errno
import logging

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from ggkm_plugin.basicsr_patches import data_loading
from ggkm_plugin.utils import checkpoint
from ggkm_plugin.utils.errors import CheckpointError, DataError

from basicsr.models import build_model  # isort: skip


def _loaders(options):
    loader, _, val_loaders, *_ = data_loading.create_train_val_dataloader(options, logging.getLogger('test'))
    return loader, val_loaders[0]


def _step(model, options):
    model.feed_data(next(iter(_loaders(options)[0])))
    model.optimize_parameters(1)
    log = model.get_current_log()
    return {name: log[name] for name in log if name.startswith('l_')}


def test_every_loss_term_is_logged(options):
    log = _step(build_model(options), options)
    assert list(log) == ['l_pix', 'l_mse', 'l_fr', 'l_ssim', 'l_sr']
    total = log['l_mse'] + 0.1 * (log['l_fr'] + log['l_ssim'] + log['l_sr'])
    assert log['l_pix'] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize('model_type', ['SRModel', 'DefocusModel'])
@pytest.mark.parametrize(
    ('network', 'loss'),
    [
        (None, {'type': 'GGKMLoss'}),
        ({'type': 'SRVGGNetCompact', 'num_feat': 4, 'num_conv': 1, 'upscale': 1}, {'type': 'L1Loss'}),
        (
            {
                'type': 'SwinIR',
                'upscale': 1,
                'img_size': 32,
                'embed_dim': 6,
                'depths': [1],
                'num_heads': [2],
                'window_size': 8,
                'mlp_ratio': 2,
                'upsampler': '',
                'resi_connection': '1conv',
            },
            {'type': 'L1Loss'},
        ),
    ],
)
def test_any_model_arch_and_loss(options, model_type, network, loss):
    """GGKMNet in SRModel and a network of BasicSR in DefocusModel train and validate."""
    options['model_type'] = model_type
    options['network_g'] = network or options['network_g']
    options['train']['pixel_opt'] = loss
    options['val']['metrics'] = {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}
    model = build_model(options)
    assert np.isfinite(_step(model, options)['l_pix'])
    model.validation(_loaders(options)[1], 1, None, False)
    assert model.metric_results['psnr'] > 0


@pytest.mark.parametrize(
    ('network', 'loss', 'terms'),
    [
        ({'type': 'GKMNet'}, {'type': 'GKMLoss'}, {'l_mse'}),
        ({'type': 'GKMNet', 'self_reconstruction': True}, {'type': 'GGKMLoss'}, {'l_mse', 'l_fr', 'l_ssim', 'l_sr'}),
        ({'type': 'NRKNet'}, {'type': 'NRKLoss'}, {'l_mse', 'l_ssim', 'l_reblur'}),
        ({'type': 'NRKNet'}, {'type': 'GGKMLoss'}, {'l_mse', 'l_fr', 'l_ssim'}),
    ],
)
def test_the_predecessors_train_and_validate(options, network, loss, terms):
    """Under their own loss and under GGKMNet's (GKMNet with its self-reconstruction is the paper's GKMNet*)."""
    options['network_g'] = network
    options['train']['pixel_opt'] = loss
    options['datasets']['train']['gt_size'] = 48
    model = build_model(options)
    log = _step(model, options)
    assert set(log) == {'l_pix', *terms}
    assert all(np.isfinite(value) for value in log.values())
    model.validation(_loaders(options)[1], 1, None, False)
    assert model.metric_results['psnr'] > 0


def test_validation_scores_float_images(options):
    """The mean over images of the float PSNR, not of 8-bit ones; and the blurred input's beside it."""
    model = build_model(options)
    _, val_loader = _loaders(options)
    with torch.no_grad():
        model.net_g.eval()
        expected = np.mean(
            [
                peak_signal_noise_ratio(data['gt'].numpy(), model.net_g(data['lq']).clamp(0, 1).numpy(), data_range=1)
                for data in val_loader
            ]
        )
    seen = {}
    model._report = lambda dataset, inputs, *rest: seen.update(inputs)
    model.net_g.train()
    model.validation(val_loader, 1, None, False)
    assert model.metric_results['psnr'] == pytest.approx(expected, abs=1e-4)
    inputs = [peak_signal_noise_ratio(data['gt'].numpy(), data['lq'].numpy(), data_range=1) for data in val_loader]
    assert seen['psnr'] == pytest.approx(np.mean(inputs), abs=1e-4)
    assert model.net_g.training


def test_validation_without_ground_truth_saves_images(options, workplace):
    options['datasets']['val'].update(type='SingleDefocusDataset')
    model = build_model(options)
    model.validation(_loaders(options)[1], 7, None, True)
    assert (workplace / 'experiments/tiny/visualization/00/00_7.png').is_file()


def test_two_data_sets_with_the_same_file_names(options, workplace):
    first = options['datasets']['val']
    options['datasets']['val_2'] = {**first, 'name': 'second'}
    model = build_model(options)
    for loader in data_loading.create_train_val_dataloader(options, logging.getLogger('test'))[2]:
        model.validation(loader, 7, None, True)
    saved = workplace / 'experiments/tiny/visualization'
    assert sorted(path.name for path in saved.iterdir()) == ['second', 'val']
    assert (saved / 'second/00/00_7.png').is_file()


def test_picture_only_at_the_end(options, workplace):
    model = build_model(options)
    _, val_loader = _loaders(options)
    picture = workplace / 'experiments/tiny/comparison_val.png'
    model.validation(val_loader, 2, None, False)
    assert not picture.exists()
    model.save(epoch=-1, current_iter=-1)
    model.validation(val_loader, 6, None, False)
    assert picture.exists()
    assert model.best_metric_results['val']['psnr']['iter'] == 4  # total_iter: BasicSR's own count runs past it


def _full_disk(content, file):
    if isinstance(file, str):
        with open(file, 'wb') as opened:
            opened.write(b'half')
    else:
        file.write(b'half')
    raise OSError(errno.ENOSPC, 'No space left on device')


def test_a_checkpoint_is_whole_or_the_old_one(options, workplace, monkeypatch):
    model = build_model(options)
    model.save(0, 2)
    folder = workplace / 'experiments/tiny'
    before = {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    monkeypatch.setattr(torch, 'save', _full_disk)
    with pytest.raises(CheckpointError, match=r'net_g_2\.pth.*No space left.*--auto_resume'):
        model.save(0, 2)
    with pytest.raises(CheckpointError, match=r'2\.state'):
        model.save_training_state(0, 2)
    assert {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()} == before


def test_checkpoints_load_in_the_host_s_own_model(options, workplace):
    model = build_model(options)
    model.save(0, 2)
    options['model_type'] = 'SRModel'
    options['path']['pretrain_network_g'] = str(workplace / 'experiments/tiny/models/net_g_2.pth')
    loaded = build_model(options)
    for name, value in model.net_g.state_dict().items():
        assert torch.equal(loaded.net_g.state_dict()[name], value)


def test_checkpoints_say_what_they_hold(options):
    network = copy.deepcopy(options['network_g'])
    model = build_model(options)
    model.validation(_loaders(options)[1], 1, None, False)
    model.save(0, 2)
    path = f'{options["path"]["models"]}/net_g_2.pth'
    assert checkpoint.network_options(path) == network
    description = checkpoint.read_checkpoint(path)['description']
    assert description['iteration'] == 2
    assert description['metrics'] == model.metric_results
    assert len(description['option_digest']) == 64


def test_ema_follows_buffers_too(options):
    options['train']['ema_decay'] = 0.5
    options['network_g']['beta_norm'] = 'bn'
    model = build_model(options)
    _step(model, options)
    moved = [name for name, buffer in model.net_g.named_buffers() if 'running_mean' in name and buffer.abs().sum() > 0]
    assert moved
    for name in moved:
        assert torch.equal(dict(model.net_g_ema.named_buffers())[name], dict(model.net_g.named_buffers())[name])
    model.save(0, 2)
    content = torch.load(f'{options["path"]["models"]}/net_g_2.pth')
    assert set(content) == {'params', 'params_ema', 'description'}


def test_a_network_that_gives_no_numbers_in_a_validation(options, caplog):
    """The training continues: the fault is logged, and nothing is recorded."""
    model = build_model(options)
    _, val_loader = _loaders(options)
    with torch.no_grad():
        next(model.net_g.parameters()).fill_(torch.nan)
    model.validation(val_loader, 2, None, False)
    assert model.metric_results == {}
    assert 'NaN' in caplog.text


def test_a_damaged_image_in_a_validation(options, workplace):
    """A training ends."""
    model = build_model(options)
    _, val_loader = _loaders(options)
    (workplace / 'pairs/input/01.png').write_bytes(b'')
    with pytest.raises(DataError, match=r'01\.png'):
        model.validation(val_loader, 2, None, False)
