"""JDRL: its loss on pairs that are shifted by a known amount, what each phase trains, and a resume to the last bit."""

import copy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY
from places import new_place, same

from ggkm_plugin.models.flow import warp
from ggkm_plugin.training import check_config
from ggkm_plugin.utils.checkpoint import read_checkpoint
from ggkm_plugin.utils.config import load_options, packaged_folder
from ggkm_plugin.utils.errors import CheckpointError, OptionError

from basicsr.archs import build_network  # isort: skip
from basicsr.models import build_model  # isort: skip

HERE = Path(__file__).parent
SHIFT = (3.0, -2.0)
JDRL = {'flow': {'type': 'KnownShift', 'right': SHIFT[0], 'down': SHIFT[1]}, 'warp_iter': 2, 'reblur_iter': 2}
CHARBONNIER = {'type': 'CharbonnierLoss', 'eps': 1e-6}


@pytest.fixture(autouse=True, scope='module')
def parts():
    """The plugin's names, for this file alone."""
    from ggkm_plugin.utils import plugins

    before = {kind: dict(registry._obj_map) for kind, registry in plugins.REGISTRIES.items()}
    sys.path.insert(0, str(HERE))
    plugins.load_local(['jdrl_parts'])
    yield
    sys.path.remove(str(HERE))
    for kind, registry in plugins.REGISTRIES.items():
        registry._obj_map.clear()
        registry._obj_map.update(before[kind])
    sys.modules.pop('jdrl_parts')
    plugins._loaded.discard('jdrl_parts')


@pytest.fixture
def jdrl(options):
    """Options of two iterations of each phase, of the network that gives back its input."""
    options.update(model_type='JDRLModel', network_g={'type': 'OneNumber'})
    options['train'].update(jdrl=copy.deepcopy(JDRL), pixel_opt=dict(CHARBONNIER), total_iter=6)
    return options


def build(options, **train):
    options = copy.deepcopy(options)
    options['train'].update(train)
    torch.manual_seed(0)
    return build_model(options)


@pytest.fixture
def shifted():
    """A smooth sharp image as the photograph, and the same moved by SHIFT as its partner: lq(p) = gt(p + SHIFT)."""
    noise = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    scene = torch.nn.functional.interpolate(noise, size=(48, 48), mode='bicubic').clamp(0, 1)
    lq = scene[..., 8:40, 8:40]
    gt = scene[..., 8 - int(SHIFT[1]) : 40 - int(SHIFT[1]), 8 - int(SHIFT[0]) : 40 - int(SHIFT[0])]
    torch.testing.assert_close(warp(gt, moved(SHIFT))[..., 4:-4, 4:-4], lq[..., 4:-4, 4:-4], atol=1e-5, rtol=0)
    return {'lq': lq.contiguous(), 'gt': gt.contiguous()}


def moved(shift, size=(32, 32), batch=2):
    return torch.tensor(shift).view(1, 2, 1, 1).expand(batch, 2, *size)


def step(model, batch, iteration):
    model.update_learning_rate(iteration)
    model.feed_data(batch)
    model.optimize_parameters(iteration)
    return model.get_current_log()


def loss_terms(model, batch, iteration):
    """The loss and its terms in a step that is not made."""
    model.phase = model.jdrl.phase(iteration)
    model.feed_data(batch)
    model.output = model._forward(model.lq)
    total, terms = model._losses(model.output, model.lq, model.gt)
    return total, {name: term.item() for name, term in terms.items()}


# ---- the loss on shifted pairs


def test_the_calibrated_loss_of_a_shifted_pair_is_lower(jdrl, shifted):
    """The network gives the sharp scene: all that the uncalibrated loss sees is the shift. Terms have their weights."""
    model = build(jdrl, jdrl={**JDRL, 'reblur_weight': 2.0})
    uncalibrated = float(model.cri_pix(shifted['lq'], shifted['gt']))
    total, alone = loss_terms(model, shifted, 1)
    assert total.item() == pytest.approx(alone['l_pix'])
    total, reblurring = loss_terms(model, shifted, 3)
    assert total.item() == pytest.approx(2 * reblurring['l_reblur'])
    total, both = loss_terms(model, shifted, 5)
    assert total.item() == pytest.approx(both['l_pix'] + 2 * both['l_reblur'])
    assert uncalibrated > 0.05
    for name, terms in (('l_pix', alone), ('l_forth', both), ('l_back', both)):
        assert terms[name] < 0.3 * uncalibrated, name  # the strip that moved in from beyond the border is left
    assert both['l_pix'] == pytest.approx(both['l_forth'] + both['l_back'])
    assert both['believed'] == 1


def test_the_mask_leaves_out_a_wrong_flow(jdrl, shifted):
    jdrl['train']['jdrl']['flow'].update(right=0.0, down=0.0, wrong=6)
    pair = {'lq': shifted['lq'], 'gt': shifted['lq']}
    masked, unmasked = (
        loss_terms(build({**jdrl, 'train': {**jdrl['train'], 'jdrl': {**jdrl['train']['jdrl'], **mask}}}), pair, 5)[1]
        for mask in ({}, {'mask_tolerance': 100.0})
    )
    assert masked['believed'] == pytest.approx(1 - 6 / 32)
    assert unmasked['believed'] == 1
    assert masked['l_forth'] < 0.1 * unmasked['l_forth']
    assert masked['l_back'] < 0.1 * unmasked['l_back']


def test_the_flow_is_a_constant(jdrl, shifted):
    """The network's gradient is that of the images alone, and the flow network has none."""
    model = build(jdrl, jdrl={**JDRL, 'reblur_weight': 0.0})
    total, _ = loss_terms(model, shifted, 5)
    total.backward()
    assert model.flow_net.weight.grad is None
    assert not model.flow_net.weight.requires_grad
    gain = torch.ones(1, requires_grad=True)
    sharp, gt = gain * shifted['lq'], shifted['gt']
    by_hand = model.cri_pix(sharp, warp(gt, moved(SHIFT))) + model.cri_pix(gt, warp(sharp, -moved(SHIFT)))
    by_hand.backward()
    torch.testing.assert_close(model.net_g.gain.grad, gain.grad)


# ---- phases


def contents(model):
    return {
        'network': dict(copy.deepcopy(model.net_g.state_dict())),
        'reblurring': dict(copy.deepcopy(model.net_r.state_dict())),
        'flow': dict(copy.deepcopy(model.flow_net.state_dict())),
    }


def changed(before, after):
    return {
        name for name in before if any(not torch.equal(before[name][key], after[name][key]) for key in before[name])
    }


def test_each_phase_changes_what_it_trains(jdrl, shifted):
    """And nothing else: in the second the BatchNorm's statistics stand still too."""
    model = build(jdrl)
    logs = []
    for iteration, expected in (
        (1, {'network'}), (2, {'network'}), (3, {'reblurring'}), (4, {'reblurring'}), (5, {'network', 'reblurring'}),
    ):  # fmt: skip
        before = contents(model)
        logs.append(step(model, shifted, iteration))
        assert changed(before, contents(model)) == expected, iteration
        assert model.net_g.training
    assert [sorted(name for name in log if name.startswith('l_')) for log in logs[1::2]] == [['l_pix'], ['l_reblur']]
    assert {'l_pix', 'l_forth', 'l_back', 'l_reblur', 'believed', 'grad_norm'} <= logs[-1].keys()


def test_reblurring_teaches_the_network_too(jdrl, shifted):
    model = build(jdrl)
    model.phase = 'both'
    model.feed_data(shifted)
    model.cri_pix(model.net_r(model.net_g(model.lq), model.lq), model.lq).backward()
    assert model.net_g.gain.grad.abs() > 0


def test_clipping_is_of_all_that_is_trained(jdrl, shifted):
    model = build(jdrl, grad_clip=1e-3)
    step(model, shifted, 5)
    parameters = [*model.net_g.parameters(), *model.net_r.parameters()]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    assert norm == pytest.approx(1e-3, rel=1e-2)


def test_it_wraps_a_network_of_several_scales(jdrl, shifted):
    """The finest counts; a loss of scales takes it as one."""
    jdrl['network_g'] = TINY['network_g']
    for loss in (CHARBONNIER, {'type': 'GGKMLoss', 'ssim_weight': 0}):
        model = build(jdrl, pixel_opt=dict(loss))
        for iteration in (1, 3, 5):
            before = contents(model)
            step(model, shifted, iteration)
            assert changed(before, contents(model))


def test_training_on_shifted_pairs_finds_the_gain(jdrl, shifted):
    """The photograph is the sharp scene at 0.8: without calibration the shift hides the gain of 1.25."""
    pair = {'lq': 0.8 * shifted['lq'], 'gt': shifted['gt']}
    gains = {}
    for name, shift in (('calibrated', SHIFT), ('uncalibrated', (0.0, 0.0))):
        jdrl['train']['jdrl'].update(warp_iter=99, flow={'type': 'KnownShift', 'right': shift[0], 'down': shift[1]})
        model = build(jdrl, optim_g={'type': 'Adam', 'lr': 0.02}, scheduler={'type': 'ConstantLR', 'factor': 1.0})
        for iteration in range(1, 51):
            step(model, pair, iteration)
        gains[name] = model.net_g.gain.item()
    assert gains['calibrated'] == pytest.approx(1.25, abs=0.02)
    assert abs(gains['uncalibrated'] - 1.25) > 0.05


# ---- options


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'jdrl': None}, ['train.jdrl']),
        ({'jdrl': {**JDRL, 'warp_iters': 3}}, ['train.jdrl.warp_iters', 'warp_iter?']),
        ({'jdrl': {'flow': JDRL['flow'], 'warp_iter': 1}}, ['train.jdrl.reblur_iter']),
        ({'jdrl': {**JDRL, 'mask_tolerance': -1}}, ['mask_tolerance', '-1']),
        ({'jdrl': {**JDRL, 'flow': {'type': 'RAFT', 'weights': 'no.pth'}}}, ['train.jdrl.flow', 'no.pth']),
        ({'perceptual_opt': {'type': 'PerceptualLoss'}}, ['perceptual_opt']),
    ],
)
def test_faults_are_found_before_the_first_step(jdrl, change, words):
    jdrl['train'].update(change)
    with pytest.raises(OptionError) as raised:
        check_config.check_options(given(jdrl), is_train=True)
    assert all(word in str(raised.value) for word in words), raised.value


def given(options):
    """Without the keys that BasicSR's parser adds."""
    options = copy.deepcopy(options)
    for key in ('dist', 'rank', 'world_size', 'is_train'):
        del options[key]
    options['path'] = {'pretrain_network_g': None}
    for dataset in options['datasets'].values():
        del dataset['phase']
    return options


def test_phases_that_leave_nothing_are_doubted(jdrl):
    jdrl['train']['jdrl']['reblur_iter'] = 4
    warnings = check_config.check_options(given(jdrl), is_train=True)
    assert any('train.jdrl' in warning for warning in warnings)


def test_mprnet_is_the_paper_s():
    net = build_network(load_options(packaged_folder() / 'train_MPRNet_JDRL_DPDD.yml')['network_g'])
    assert sum(parameter.numel() for parameter in net.parameters()) == 20_127_073


# ---- resuming


def jdrl_place(folder):
    opt = copy.deepcopy(TINY)
    opt.update(model_type='JDRLModel', network_g={'type': 'OneNumber'}, plugins=['jdrl_parts'])
    opt['train'].update(jdrl=JDRL, pixel_opt=CHARBONNIER, total_iter=7, ema_decay=0.9)
    opt['logger']['save_checkpoint_freq'] = 1
    opt['val']['val_freq'] = 3
    return new_place(folder, opt, jdrl_parts=(HERE / 'jdrl_parts.py').read_text())


def outcome(place):
    run = place / 'experiments/tiny'
    weights, state = torch.load(run / 'models/net_g_latest.pth'), torch.load(run / 'training_states/7.state')
    del weights['description'], state['saved']
    return weights, state


@pytest.fixture(scope='module')
def uninterrupted(server, tmp_path_factory):
    place = jdrl_place(tmp_path_factory.mktemp('jdrl') / 'whole')
    code, printed = server.run('train', '-opt', 'run.yml', cwd=place)
    assert code == 0, printed[-3000:]
    return place


@pytest.mark.slow
@pytest.mark.parametrize('last', [2, 3, 5])
def test_resumed_in_any_phase_it_ends_the_same(server, uninterrupted, tmp_path, last):
    """From a state of each phase; the reblurring module's weights and its optimizer's state among all else."""
    place = tmp_path / 'resumed'
    shutil.copytree(uninterrupted, place)
    run = place / 'experiments/tiny'
    for later in range(last + 1, 8):
        (run / f'training_states/{later}.state').unlink()
        (run / f'models/net_g_{later}.pth').unlink()
    (run / 'models/net_g_latest.pth').unlink()
    code, printed = server.run('train', '-opt', 'run.yml', '--auto_resume', cwd=place)
    assert code == 0, printed[-3000:]
    assert f'iter: {last}' in printed
    weights, state = outcome(uninterrupted)
    assert len(state['optimizers']) == len(state['schedulers']) == 2
    assert len(state['optimizers'][1]['state']) == len(state['reblurring']) == 32
    assert same((weights, state), outcome(place))


@pytest.mark.slow
def test_two_processes_keep_one_module(server, tmp_path):
    place = jdrl_place(tmp_path / 'together')
    codes, printed = server.run_together('train', '-opt', 'run.yml', '--launcher', 'pytorch', cwd=place)
    assert codes == [0, 0], printed[-3000:]
    weights, state = outcome(place)
    assert all(torch.isfinite(value).all() for value in [*weights['params'].values(), *state['reblurring'].values()])


def test_a_state_of_another_training_is_refused(jdrl, shifted):
    plain = build({**jdrl, 'model_type': 'DefocusModel'})
    step(plain, shifted, 1)
    plain.save(0, 1)
    state = read_checkpoint(f'{jdrl["path"]["training_states"]}/1.state')
    with pytest.raises(CheckpointError, match='without JDRL'):
        build(jdrl).resume_training(state)
