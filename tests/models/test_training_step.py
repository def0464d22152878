"""A step of DefocusModel: its parts, its precision, its rate, and what becomes of it when something goes wrong."""

import copy
import math
import shutil

import pytest
import torch
from places import same

from ggkm_plugin.models import defocus_model, optimizing
from ggkm_plugin.utils.checkpoint import read_checkpoint
from ggkm_plugin.utils.errors import NotFiniteError, TrainingError

from basicsr.models import build_model  # isort: skip


def build(options, **train):
    """The same network each time, under other keys of `train`."""
    options = copy.deepcopy(options)
    options['train'].update(train)
    torch.manual_seed(0)
    return build_model(options)


def step(model, batch, iteration=1, warmup=-1):
    model.update_learning_rate(iteration, warmup_iter=warmup)
    model.feed_data(batch)
    model.optimize_parameters(iteration)
    return model.get_current_log()


def gradients(model):
    return torch.cat([parameter.grad.flatten() for parameter in model.net_g.parameters()])


def contents(model):
    """Copies of all that a step may change."""
    nets = [model.net_g.state_dict(), model.net_g_ema.state_dict()]
    return copy.deepcopy([*nets, *model.optimizer_g.state_dict()['state'].values()])


# ---- in parts


@pytest.mark.parametrize('images', [5, 2])
@pytest.mark.parametrize('network', ['GGKMNet', 'stock'])
def test_parts_have_the_gradients_of_the_whole(options, request, batch, monkeypatch, network, images):
    """Of five images in 2 + 2 + 1, each weighed by its images; of fewer images than parts.

    In float64, since float32 sums of thousands of signs, as L1 has them, differ by 1e-5 in another order.
    """
    if network == 'stock':
        request.getfixturevalue('stock')
    monkeypatch.setattr(defocus_model, '_as_float32', lambda output: output)
    pairs = {key: value.double() for key, value in batch(images).items()}
    whole, parts = build(options), build(options, accumulate=3)
    logs = []
    for model in (whole, parts):
        model.net_g.double()
        logs.append(step(model, pairs))
    expected = gradients(whole)
    assert expected.dtype == torch.float64
    assert expected.norm() > 0
    assert (gradients(parts) - expected).norm() < 1e-12 * expected.norm()
    assert logs[1].keys() == logs[0].keys()
    for name in logs[0]:
        if name.startswith('l_'):
            assert logs[1][name] == pytest.approx(logs[0][name], rel=1e-5), name


def test_parts_are_smaller(stock, batch):
    model = build(stock, accumulate=3)
    seen = []
    model.net_g.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    step(model, batch(5))
    assert seen == [2, 2, 1]


@pytest.mark.parametrize('accumulate', [1, 2, 3])
def test_a_loss_that_counts_its_calls_counts_iterations(stock, batch, accumulate):
    """Iteration 1001 is the first of SSIM: no part of the one before may be of it, however many there are."""
    stock['train']['pixel_opt'] = {'type': 'GKMLoss', 'iters_per_epoch': 1, 'first_iteration': 999}
    model = build(stock, accumulate=accumulate)
    terms = [set(step(model, batch(4), iteration)) - {'l_pix', 'grad_norm'} for iteration in (1, 2)]
    assert [{name for name in found if name.startswith('l_')} for found in terms] == [{'l_mse'}, {'l_ssim'}]
    assert int(model.cri_pix.iteration) == 1001


# ---- gradients, averages


@pytest.mark.parametrize('grad_clip', [1e-3, 1e3])
def test_clipping_bounds_the_norm_and_logs_what_it_was(stock, batch, grad_clip):
    free, clipped = build(stock), build(stock, grad_clip=grad_clip)
    norms = [step(model, batch())['grad_norm'] for model in (free, clipped)]
    assert norms[1] == norms[0] == pytest.approx(float(gradients(free).norm()), rel=1e-5)
    assert norms[0] > 1e-3
    assert float(gradients(clipped).norm()) == pytest.approx(min(norms[0], grad_clip), rel=1e-3)
    direction = torch.nn.functional.cosine_similarity(gradients(free), gradients(clipped), dim=0)
    assert float(direction) == pytest.approx(1, abs=1e-5)


def test_the_averaged_network(stock, batch):
    model = build(stock, ema_decay=0.75)
    before = [parameter.clone() for parameter in model.net_g.parameters()]
    step(model, batch())
    for old, new, mean in zip(before, model.net_g.parameters(), model.net_g_ema.parameters(), strict=True):
        assert not torch.equal(old, new)
        assert torch.allclose(mean, 0.75 * old + 0.25 * new, atol=1e-7)


# ---- precision and form


@pytest.mark.parametrize(('amp', 'dtype'), [('bf16', torch.bfloat16), ('fp16', torch.float16), ('none', torch.float32)])
def test_mixed_precision(stock, batch, amp, dtype):
    """The network computes in few bits; weights, gradients and the loss have them all."""
    model = build(stock, amp=amp)
    before = copy.deepcopy(model.net_g.state_dict())
    computed, judged = [], []
    model.net_g.body[0].register_forward_hook(lambda _, inputs, output: computed.append(output.dtype))
    model.cri_pix.register_forward_pre_hook(lambda _, inputs: judged.append(inputs[0].dtype))
    for iteration in range(1, 4):
        assert math.isfinite(step(model, batch(), iteration)['l_pix'])
    assert set(computed) == {dtype}
    assert set(judged) == {torch.float32}
    for name, value in model.net_g.state_dict().items():
        assert value.dtype == torch.float32
        assert not torch.equal(value, before[name])


def test_the_logged_norm_is_not_scaled(stock, batch):
    """fp16 multiplies the loss by 65536, the log and the clipping know nothing of it."""
    norms = [step(build(stock, amp=amp, grad_clip=0.01), batch())['grad_norm'] for amp in ('none', 'fp16')]
    assert norms[1] == pytest.approx(norms[0], rel=0.02)


def test_an_overflow_of_fp16_lowers_the_scale(stock, batch):
    """It is no fault: the step is left out, the next one is made with half the scale."""
    model = build(stock, amp='fp16')
    before = copy.deepcopy(model.net_g.state_dict())
    scale = model.scaler.get_scale()
    handle = next(model.net_g.parameters()).register_hook(lambda gradient: gradient * math.inf)
    step(model, batch())
    assert model.scaler.get_scale() == scale / 2
    assert same([before], [model.net_g.state_dict()])
    handle.remove()
    step(model, batch(), 2)
    assert not same([before], [model.net_g.state_dict()])


def test_gradients_that_no_scale_helps(stock, batch):
    """fp16's scaler would leave out every step for ever, and the run end well with the weights it began with."""
    stock['train']['amp'] = 'fp16'
    model = build_model(stock)
    next(model.net_g.parameters()).register_hook(lambda grad: grad * float('nan'))

    def train():
        for i in range(1, 40):
            model.feed_data(batch())
            model.optimize_parameters(i)

    with pytest.raises(NotFiniteError, match=r"fp16's scale.*train.amp to bf16"):
        train()
    assert model.iteration == 16  # of 2**16 as of 1


def test_the_scale_is_in_the_state(stock, batch):
    model = build(stock, amp='fp16')
    step(model, batch())
    model.scaler.update(512.0)
    model.save(0, 1)
    state = read_checkpoint(f'{stock["path"]["training_states"]}/1.state')
    assert state['scaler']['scale'] == 512
    again = build(stock, amp='fp16')
    again.resume_training(state)
    assert again.scaler.get_scale() == 512


def test_channels_last(options, batch):
    options['network_g']['beta_norm'] = 'bn'
    models = build(options), build(options, channels_last=True)
    logs = [step(model, batch()) for model in models]
    assert models[1].lq.is_contiguous(memory_format=torch.channels_last)
    weights = [parameter for parameter in models[1].net_g.parameters() if parameter.dim() == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert logs[1]['l_pix'] == pytest.approx(logs[0]['l_pix'], rel=1e-5)
    expected = gradients(models[0])
    assert (gradients(models[1]) - expected).norm() < 1e-4 * expected.norm()  # another order of sums


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which('g++') and not shutil.which('clang++'), reason='torch.compile needs a C++ compiler'
)
def test_compiled(stock, batch):
    """The same loss as eager; nothing of it in the checkpoint; a validation image of another size is no matter."""
    models = build(stock), build(stock, compile=True)
    logs = [[step(model, batch(2, i), i)['l_pix'] for i in (1, 2)] for model in models]
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)
    assert models[1].net_g._compiled_call_impl is not None
    models[1].save(0, 2)
    saved = read_checkpoint(f'{stock["path"]["models"]}/net_g_2.pth')['params']
    assert list(saved) == list(models[0].net_g.state_dict())
    models[1].feed_data({'lq': torch.rand(1, 3, 45, 67)})
    models[1].test()
    assert models[1].output.shape == (1, 3, 45, 67)


# ---- not finite


def nonfinite_batch(model, kind, good):
    """A batch, and a network, of which the loss or the gradient is not finite."""
    if kind == 'loss':
        return {**good, 'lq': torch.full_like(good['lq'], math.nan)}, lambda: None
    handle = next(model.net_g.parameters()).register_hook(lambda gradient: gradient * math.inf)
    return good, handle.remove


@pytest.mark.parametrize('kind', ['loss', 'gradient'])
@pytest.mark.parametrize('nonfinite', ['stop', 'skip'])
def test_a_nonfinite_step_leaves_no_trace(options, batch, nonfinite, kind):
    """Weights, averages, optimizer, and the running statistics that the forward pass has touched already."""
    options['network_g']['beta_norm'] = 'bn'
    model = build(options, nonfinite=nonfinite, ema_decay=0.5)
    step(model, batch())
    before = contents(model)
    bad, mend = nonfinite_batch(model, kind, batch(number=1))
    if nonfinite == 'stop':
        with pytest.raises(NotFiniteError, match=f'the .*{kind}.* at iteration 2.*optim_g.lr.*--auto_resume'):
            step(model, bad, 2)
    else:
        step(model, bad, 2)
        assert model.skipped == 1
    assert same(before, contents(model))
    mend()
    if nonfinite == 'skip':
        step(model, batch(number=2), 3)
        assert model.skipped == 0
        assert not same(before, contents(model))
        assert all(value.isfinite().all() for value in model.net_g.state_dict().values())


def test_a_stopped_run_saves_nothing_of_the_nonfinite_step(stock, batch):
    """Nothing is saved after steps with NaN: the newest checkpoint is from before them."""
    model = build(stock)
    step(model, batch())
    with pytest.raises(NotFiniteError):
        step(model, {key: value * math.nan for key, value in batch().items()}, 2)
    model.save_finished_work()
    assert model.saved_iteration == 0


def test_too_many_nonfinite_steps_in_a_row(stock, batch):
    model = build(stock, nonfinite='skip', nonfinite_limit=3)
    bad = {key: value * math.nan for key, value in batch().items()}
    for iteration, images in enumerate((bad, bad, batch(), bad, bad), start=1):
        step(model, images, iteration)
    with pytest.raises(NotFiniteError, match='iteration 6, and so were 2 steps just before it'):
        step(model, bad, 6)


# ---- rate


RECURSIVE = {
    'CosineAnnealingLR': ({'T_max': 12, 'eta_min': 1e-5}, lambda i: 1e-5 + 4.95e-4 * (1 + math.cos(math.pi * i / 12))),
    'ExponentialLR': ({'gamma': 0.9}, lambda i: 1e-3 * 0.9**i),
    'MultiStepLR': ({'milestones': [3, 7], 'gamma': 0.5}, lambda i: 1e-3 * 0.5 ** ((i >= 3) + (i >= 7))),
}


@pytest.mark.parametrize('warmup', [-1, 5])
@pytest.mark.parametrize('name', RECURSIVE)
def test_the_rate_is_the_schedule_s_times_the_warm_up(stock, batch, name, warmup):
    """These schedules start from the current rate, which must not include the warm-up."""
    arguments, law = RECURSIVE[name]
    model = build(stock, scheduler={'type': name, **arguments})
    for iteration in range(1, 12):
        step(model, batch(), iteration, warmup)
        expected = law(iteration - 1) * min(1, iteration / warmup if warmup > 0 else 1)
        assert model.get_current_learning_rate() == [pytest.approx(expected, rel=1e-6)], iteration


# ---- every optimizer, every schedule

SCHEDULES = {
    'StepLR': {'step_size': 2},
    'MultiStepLR': {'milestones': [2]},
    'ConstantLR': {'total_iters': 2},
    'LinearLR': {'total_iters': 5},
    'ExponentialLR': {'gamma': 0.9},
    'PolynomialLR': {'total_iters': 5},
    'CosineAnnealingLR': {'T_max': 5},
    'CyclicLR': {'base_lr': 1e-4, 'max_lr': 1e-2, 'step_size_up': 2},
    'CosineAnnealingWarmRestarts': {'T_0': 2},
    'OneCycleLR': {'max_lr': 0.01, 'total_steps': 6},
    'MultiStepRestartLR': {'milestones': [2], 'restarts': [0, 3], 'restart_weights': [1, 0.5]},
    'CosineAnnealingRestartLR': {'periods': [3, 3], 'restart_weights': [1, 0.5]},
}


def test_every_schedule_is_tried():
    """A new torch may bring one more."""
    assert set(SCHEDULES) >= set(optimizing.schedules())


@pytest.mark.parametrize(
    ('optimizer', 'schedule'),
    [(name, 'StepLR') for name in optimizing.optimizers()] + [('SGD', name) for name in optimizing.schedules()],
)
def test_trains_and_goes_on(stock, batch, optimizer, schedule):
    """Three steps, saved, read safely; the fourth has the same bits as without the break."""
    momentum = {'momentum': 0.9} if optimizer == 'SGD' else {}
    train = {
        'optim_g': {'type': optimizer, 'lr': 1e-3, **momentum},
        'scheduler': {'type': schedule, **SCHEDULES[schedule]},
    }
    model = build(stock, **train)
    start = copy.deepcopy(model.net_g.state_dict())
    for iteration in (1, 2, 3):
        step(model, batch(number=iteration), iteration, warmup=5)
    assert not same([start], [model.net_g.state_dict()])
    model.save(0, 3)
    step(model, batch(number=4), 4, warmup=5)
    stock['path']['pretrain_network_g'] = f'{stock["path"]["models"]}/net_g_3.pth'
    resumed = build(stock, **train)
    resumed.resume_training(read_checkpoint(f'{stock["path"]["training_states"]}/3.state'))
    step(resumed, batch(number=4), 4, warmup=5)
    assert same([model.net_g.state_dict()], [resumed.net_g.state_dict()])
    assert resumed.get_current_learning_rate() == model.get_current_learning_rate()


# ---- memory


def full_gpu(_):
    raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')


def full_machine(_):
    return torch.empty(2**50)


def test_out_of_memory_in_a_step_and_a_validation(stock, batch, monkeypatch):
    model = build(stock)
    for full in (full_gpu, full_machine):
        monkeypatch.setattr(model.net_g, 'forward', full)
        model.feed_data({'lq': torch.rand(1, 3, 48, 64)})
        with pytest.raises(TrainingError, match='48x64'):
            model.test()
        with pytest.raises(TrainingError, match=r'2 images of 32 pixels.*batch_size_per_gpu.*gt_size.*accumulate.*amp'):
            step(model, batch())
