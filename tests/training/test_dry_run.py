"""`basicsr check`: all faults in one list, and a few steps measured without a trace."""

import io
import re
import sys

import pytest

STOCK = {'type': 'SRVGGNetCompact', 'num_feat': 4, 'num_conv': 1, 'upscale': 1}


def listing(place):
    return {path: path.read_bytes() for path in place.rglob('*') if path.is_file()}, set(place.rglob('*'))


@pytest.mark.parametrize('use_tb_logger', [False, True])
def test_what_it_says_and_what_it_leaves(command, workplace, tiny, write_options, use_tb_logger):
    """Every figure that one would ask for, and not a file."""
    tiny['logger']['use_tb_logger'] = use_tb_logger
    tiny['train'].update(total_iter=100_000, scheduler={'type': 'CosineAnnealingLR', 'T_max': 100_000}, ema_decay=0.9)
    tiny['val'].update(val_freq=1000, save_img=True)
    path = write_options(tiny)
    before = listing(workplace)
    code, out, err = command('check', '-opt', path)
    assert code == 0, err
    assert listing(workplace) == before
    lines = out.splitlines()
    assert 'no fault found' in lines
    table = dict(line.split(None, 1) for line in lines[lines.index('no fault found') + 1 :])
    assert list(table) == ['network', 'images', 'step', 'memory', 'validation', 'training']
    assert re.fullmatch(r'GGKMNet, [\d,]+ parameters', table['network'])
    assert table['images'] == '4 of train, 4 of val'
    assert re.match(r'[\d.e-]+ s for 2 crops of 32x32 \([\d.e-]+ s of it waiting for data\), on ', table['step'])
    assert float(re.match(r'([\d.]+) GiB at most', table['memory']).group(1)) > 0
    assert table['validation'].endswith('100 of them')
    step, each = (float(table[key].split()[0]) for key in ('step', 'validation'))
    amount, unit = re.match(r'about (\d+) (minutes|hours).* for 100,000 iterations', table['training']).groups()
    hours = float(amount) / (60 if unit == 'minutes' else 1)
    assert hours == pytest.approx((step * 100_000 + each * 100) / 3600, rel=0.05, abs=0.5)


def test_a_stock_model_arch_and_loss(command, tiny, write_options):
    tiny.update(model_type='SRModel', network_g=STOCK)
    tiny['train']['pixel_opt'] = {'type': 'L1Loss'}
    tiny['val']['metrics'] = {'psnr': {'type': 'calculate_psnr', 'crop_border': 0}}
    code, out, err = command('check', '-opt', write_options(tiny))
    assert code == 0, err
    assert 'SRVGGNetCompact' in out


@pytest.mark.parametrize('missing', ['datasets', 'section'])
def test_a_training_without_validation(command, tiny, write_options, missing):
    del tiny['datasets']['val']
    if missing == 'section':
        del tiny['val']
    code, out, err = command('check', '-opt', write_options(tiny))
    assert code == 0, err
    assert '4 of train' in out


def test_all_faults_in_one_list(command, workplace, tiny, write_options):
    """Of every kind at once: a slip in a key, a name, a number, a folder, an image model's crop."""
    tiny['train']['acumulate'] = 2
    tiny['train']['optim_g']['type'] = 'AdanW'
    tiny['train']['amp'] = 'fp8'
    tiny['logger']['keep_checkpoints'] = 0
    tiny['datasets']['val']['dataroot_gt'] = 'pairs/nowhere'
    tiny['network_g']['widht'] = 3
    path = write_options(tiny)
    before = listing(workplace)
    code, _, err = command('check', '-opt', path)
    assert code == 2
    assert '6 options are wrong' in err
    words = ['acumulate', 'accumulate', 'AdanW', 'AdamW', 'fp8', 'keep_checkpoints', 'pairs/nowhere', 'widht', 'width']
    assert [word for word in words if word not in err] == []
    assert listing(workplace) == before


def test_a_doubt_is_a_fault_to_check_and_a_warning_to_train(command, tiny, write_options):
    tiny['train']['scheduler']['milestones'] = [3, 7]
    path = write_options(tiny)
    code, out, err = command('check', '-opt', path)
    assert code == 2
    assert 'train.scheduler.milestones: [7] are never reached, since train.total_iter is 4' in err
    assert 'no fault' not in out
    code, out, err = command('train', '-opt', path)
    assert code == 0
    assert 'basicsr train: warning: train.scheduler.milestones: [7] are never reached' in err
    assert 'net_g_latest.pth' in out


def test_without_steps(command, tiny, write_options, monkeypatch):
    monkeypatch.setattr('ggkm_plugin.training.dry_run.measure', None)
    code, out, _ = command('check', '-opt', write_options(tiny), '--no-steps')
    assert (code, out) == (0, 'no fault found\n')


def test_what_only_a_step_shows(command, workplace, tiny, write_options):
    """An image that is damaged between its header and its end is named, as it would be in the training."""
    path = workplace / 'pairs/input/02.png'
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes(len(content) - 52) + content[-12:])
    code, out, err = command('check', '-opt', write_options(tiny))
    assert code == 1
    assert 'input/02.png' in err
    assert 'no fault' not in out


def test_no_bar_is_left_open_on_a_terminal(workplace, tiny, write_options, monkeypatch):
    """A bar that is not closed swallows the end of the line."""
    from ggkm_plugin.training import run

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, 'stderr', screen)
    run.check(run.Request(opt=write_options(tiny)))
    shown = screen.getvalue()
    assert 'loss=' not in shown or shown.endswith('\n')
