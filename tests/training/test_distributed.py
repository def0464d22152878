"""Several processes, on the CPU: they learn, validate, fail and stop as one, and torchrun brings them back."""

import copy
import json
import os
import re
import sys
from pathlib import Path
from subprocess import Popen, TimeoutExpired

import pytest
import torch
import yaml
from conftest import ROOT, TINY
from forking import free_port
from places import new_place, same, start, start_program, wait_for
from training.test_resuming import RESUME, TRAIN, lasting, outcome

pytestmark = pytest.mark.slow

TOGETHER = (*TRAIN, '--launcher', 'pytorch')

# What each process sees, agrees on and writes.
RECORD = """
import hashlib, json, os
from ggkm_plugin.models import validating_model
from ggkm_plugin.models.defocus_model import DefocusModel

rank = os.environ.get('RANK', '0')

def digest(tensors):
    return hashlib.sha256(b''.join(t.detach().cpu().numpy().tobytes() for t in tensors)).hexdigest()

def put_down(kind, *words):
    with open(f'{kind}_{rank}.txt', 'a') as file:
        print(*words, file=file)

def before(owner, name, act):
    original = getattr(owner, name)
    def recorded(*args, **kwargs):
        act(*args)
        return original(*args, **kwargs)
    setattr(owner, name, recorded)

def agreed(model, when):
    nets = [model.get_bare_model(model.net_g), *([model.net_g_ema] if hasattr(model, 'net_g_ema') else [])]
    put_down('agreed', when, digest(p for net in nets for p in net.parameters()))
    put_down('agreed', when, digest(b for net in nets for b in net.buffers()))

before(DefocusModel, 'optimize_parameters', lambda model, _: put_down('crops', digest([model.lq])))
before(DefocusModel, 'before_image', lambda model: agreed(model, 'validating'))
before(DefocusModel, '_save_networks', lambda model, name: name == 'latest' or agreed(model, f'saving {name}'))
before(DefocusModel, '_report', lambda model, *_: put_down('metrics', json.dumps(model.metric_results)))
before(validating_model, 'write_picture', lambda path, *_: put_down('written', path))
"""


def shared(tiny: dict) -> dict:
    """`lasting` for two processes: eight iterations, epochs of four, five images to validate on."""
    opt = lasting(tiny)
    opt['datasets']['train'].update(batch_size_per_gpu=1)
    return opt


def lines(place: Path, kind: str, rank: int) -> list[str]:
    return (place / f'{kind}_{rank}.txt').read_text().splitlines()


def torchrun(place: Path, *words: str, nodes: tuple[str, ...] = ('--standalone', '--nproc_per_node=2')) -> Popen:
    """The command as in docs/distributed.md, but for a `basicsr` that may not be on the PATH."""
    return start(place, *nodes, '-m', 'ggkm_plugin.cli.main', *words, module='torch.distributed.run')


def ended(process: Popen, timeout: float = 100) -> tuple[int, str]:
    """Exit code and all it printed; a process that hangs is killed, with its workers, and fails the test."""
    try:
        printed = process.communicate(timeout=timeout)[0]
    except TimeoutExpired:
        process.terminate()  # torchrun takes its workers along
        printed = process.communicate(timeout=60)[0]
        raise AssertionError(f'it hangs:\n{printed[-3000:]}') from None
    return process.returncode, printed


@pytest.fixture(scope='module')
def uninterrupted(server, tmp_path_factory):
    """Options of a run of two processes, and what it makes when it is left alone."""
    opt = shared(copy.deepcopy(TINY))
    place = new_place(tmp_path_factory.mktemp('runs') / 'uninterrupted', opt, 5)
    codes, printed = server.run_together(*TOGETHER, cwd=place)
    assert codes == [0, 0], printed[-3000:]
    assert printed.count('Weights: ') == 1
    assert (place / 'experiments/tiny/comparison_val.png').is_file()
    return opt, outcome(place)


def assert_same(one: dict, other: dict) -> None:
    assert [key for key in one if not same(one[key], other[key])] == []


def test_torchrun_is_detected(tiny, tmp_path):
    """Without --launcher the processes are one training, not two in one folder."""
    place = new_place(tmp_path / 'place', shared(tiny), 5, record=RECORD)
    code, printed = ended(torchrun(place, *TRAIN, '--plugin', 'record'), timeout=400)
    assert code == 0, printed[-3000:]
    assert printed.count('Weights: ') == 1
    assert [path.name for path in (place / 'experiments').glob('tiny*')] == ['tiny']
    assert set(lines(place, 'crops', 0)).isdisjoint(lines(place, 'crops', 1))


# ---- a step

GRADIENTS = """
import json
import ggkm_plugin
ggkm_plugin.register()
import torch
from ggkm_plugin.basicsr_patches import distributed
from basicsr.models import build_model

opt = json.load(open('options.json'))
if opt['dist']:
    distributed.init_dist('pytorch')
opt['rank'], opt['world_size'] = distributed.rank_and_size()
torch.manual_seed(7)
batch = {name: torch.rand(4, 3, 32, 32) for name in ('lq', 'gt')}
torch.manual_seed(opt['rank'])  # the first one's weights count
model = build_model(opt)
model.feed_data({name: images.chunk(opt['world_size'])[opt['rank']] for name, images in batch.items()})
loss, terms, norm = model._gradients()
gradients = {name: p.grad for name, p in model.get_bare_model(model.net_g).named_parameters()}
torch.save(gradients, f'gradients_{opt["rank"]}.pt')
"""


def test_two_halves_of_a_batch_have_the_gradients_of_the_whole(server, tiny, tmp_path):
    """Each half in a process, or one after the other in one process."""
    folder = tmp_path / 'experiments/tiny'
    tiny.update(is_train=True, dist=False)
    tiny['path'].update({name: str(folder / name) for name in ('models', 'training_states', 'visualization')})
    tiny['path']['experiments_root'] = str(folder)
    (tmp_path / 'gradients.py').write_text(GRADIENTS)

    def gradients(processes: int, **train: object) -> list[dict[str, torch.Tensor]]:
        opt = copy.deepcopy(tiny)
        opt['dist'] = processes > 1
        opt['train'].update(train)
        (tmp_path / 'options.json').write_text(json.dumps(opt))
        codes, printed = server.run_together('gradients.py', cwd=tmp_path, processes=processes)
        assert codes == [0] * processes, printed[-3000:]
        return [torch.load(tmp_path / f'gradients_{rank}.pt') for rank in range(processes)]

    (whole,) = gradients(1)
    norm = torch.stack([value.norm() for value in whole.values()]).norm()
    assert norm > 0
    ranks = gradients(2)
    assert same(ranks[0], ranks[1])
    for halves in (ranks[0], *gradients(1, accumulate=2), gradients(2, accumulate=2)[0]):
        error = torch.stack([(halves[name] - value).norm() for name, value in whole.items()]).norm()
        assert error < 1e-6 * norm


def test_an_epoch_is_dealt_out_once(server, tiny, tmp_path):
    """With `manual_seed: ~`, which BasicSR draws in each process: the ranks still share one permutation."""
    tiny['manual_seed'] = None
    tiny['sync_bn'] = True
    tiny['train']['total_iter'] = 5
    tiny['datasets']['train']['batch_size_per_gpu'] = 1
    dealt = """
import os
from ggkm_plugin.models.defocus_model import DefocusModel
feed = DefocusModel.feed_data
def fed(self, data):
    if 'position' in data:
        with open(f"dealt_{os.environ['RANK']}.txt", 'a') as file:
            print(os.path.basename(data['lq_path'][0]), file=file)
    feed(self, data)
DefocusModel.feed_data = fed
"""
    place = new_place(tmp_path / 'place', tiny, 5, dealt=dealt)
    codes, printed = server.run_together(*TOGETHER, '--plugin', 'dealt', cwd=place)
    assert codes == [0, 0], printed[-3000:]
    assert 'sync_bn: only GPUs can' in printed
    names = lines(place, 'dealt', 0) + lines(place, 'dealt', 1)
    assert sorted(names) == sorted(2 * [f'{i:02d}.png' for i in range(5)])


def test_a_stock_network_and_loss_launched_the_old_way(server, tiny, tmp_path):
    """torch.distributed.launch puts --local-rank before the command's name."""
    tiny['network_g'] = {'type': 'SRVGGNetCompact', 'num_feat': 4, 'num_conv': 1, 'upscale': 1}
    tiny['train']['pixel_opt'] = {'type': 'L1Loss'}
    place = new_place(tmp_path / 'place', tiny, 5, record=RECORD)
    codes, printed = server.run_together('--local-rank=0', *TOGETHER, '--plugin', 'record', cwd=place)
    assert codes == [0, 0], printed[-3000:]
    assert lines(place, 'agreed', 0) == lines(place, 'agreed', 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason='GPUs need no message')
def test_a_stock_model_without_gpus_is_refused(server, tiny, tmp_path):
    tiny['model_type'] = 'SRModel'
    tiny['network_g'] = {'type': 'SRVGGNetCompact', 'num_feat': 4, 'num_conv': 1, 'upscale': 1}
    tiny['train']['pixel_opt'] = {'type': 'L1Loss'}
    codes, printed = server.run_together(*TOGETHER, cwd=new_place(tmp_path / 'place', tiny))
    assert codes == [2, 2], printed[-3000:]
    assert 'basicsr train: model_type: SRModel' in printed


# ---- validation


def test_validation_and_testing_are_shared_out(server, tiny, tmp_path):
    """Metrics to the last bit and pictures of one process, five images over two; what is judged is the same there."""
    opt = shared(tiny)
    opt['train']['total_iter'] = opt['val']['val_freq'] = 4
    opt['val']['save_img'] = True
    opt['val']['metrics']['ssim'] = {'type': 'defocus_ssim'}
    place = new_place(tmp_path / 'place', opt, 5, record=RECORD)
    codes, printed = server.run_together(*TOGETHER, '--plugin', 'record', cwd=place)
    assert codes == [0, 0], printed[-3000:]

    states = lines(place, 'agreed', 0)
    assert {' '.join(state.split()[:-1]) for state in states} == {
        'validating', 'saving 2', 'saving 4', 'saving best_psnr', 'saving best_ssim',
    }  # fmt: skip
    assert len(set(states)) > 6
    assert states == lines(place, 'agreed', 1)
    metrics = lines(place, 'metrics', 0)[-1]
    assert metrics == lines(place, 'metrics', 1)[-1]
    written = [path for rank in (0, 1) for path in lines(place, 'written', rank)]
    assert len(written) == 2 * 5  # at iteration 4, and again at the end
    assert set(lines(place, 'written', 0)).isdisjoint(lines(place, 'written', 1))
    pictures = {path.name[:2]: path.read_bytes() for path in place.glob('experiments/tiny/visualization/*/*_4.png')}
    assert len(pictures) == 5

    weights = {'pretrain_network_g': 'experiments/tiny/models/net_g_latest.pth', 'param_key_g': 'params_ema'}
    test = {key: opt[key] for key in ('model_type', 'scale', 'num_gpu', 'manual_seed', 'network_g', 'val')}
    test.update(datasets={'test_1': opt['datasets']['val']}, path={**weights, 'strict_load_g': True})
    for processes, launcher in ((1, 'none'), (2, 'pytorch')):
        for kind in ('metrics', 'written'):
            for rank in (0, 1):
                (place / f'{kind}_{rank}.txt').unlink(missing_ok=True)
        test['name'] = f'test_{processes}'
        (place / 'test.yml').write_text(yaml.safe_dump(test))
        codes, printed = server.run_together(
            'test', '-opt', 'test.yml', '--plugin', 'record', '--launcher', launcher, cwd=place, processes=processes
        )
        assert codes == [0] * processes, printed[-3000:]
        assert lines(place, 'metrics', 0) == [metrics]
        assert sum(len(lines(place, 'written', rank)) for rank in range(processes)) == 5
        folder = place / f'results/test_{processes}/visualization/val'
        assert {path.name[:2]: path.read_bytes() for path in folder.iterdir()} == pictures


# ---- loss of numbers

ODD_LOSS = """
import os
from ggkm_plugin.losses.ggkm_loss import GGKMLoss
from ggkm_plugin.models.defocus_model import DefocusModel
from ggkm_plugin.utils.registry import LOSS_REGISTRY

@LOSS_REGISTRY.register()
class OddLoss(GGKMLoss):
    iteration = 0
    def forward(self, *args):
        odd = OddLoss.iteration == 3 and torch.is_grad_enabled() and os.environ['RANK'] == '1'
        loss = super().forward(*args)
        return loss * float('nan') if odd else loss

step = DefocusModel.optimize_parameters

def counted(self, iteration):
    OddLoss.iteration = iteration
    return step(self, iteration)

DefocusModel.optimize_parameters = counted
import torch
"""


def test_no_number_on_one_rank_stops_all(server, tiny, tmp_path):
    tiny['train']['pixel_opt']['type'] = 'OddLoss'
    place = new_place(tmp_path / 'place', tiny, 5, odd=ODD_LOSS)
    codes, printed = server.run_together(*TOGETHER, '--plugin', 'odd', cwd=place)
    assert codes == [1, 1]
    lines = re.findall('basicsr train: .*', printed)
    assert len(lines) == 1, lines
    assert 'the loss is not finite on another process at iteration 3' in lines[0]
    assert 'Traceback' not in printed
    assert [path.name for path in place.glob('experiments/tiny/training_states/*')] == ['2.state']


def test_no_number_on_one_rank_skips_the_step_on_all(server, tiny, tmp_path):
    tiny['train']['pixel_opt']['type'] = 'OddLoss'
    tiny['train']['nonfinite'] = 'skip'
    tiny['network_g']['beta_norm'] = 'bn'
    place = new_place(tmp_path / 'place', tiny, 5, odd=ODD_LOSS, record=RECORD)
    codes, printed = server.run_together(*TOGETHER, '--plugin', 'odd', '--plugin', 'record', cwd=place)
    assert codes == [0, 0], printed[-3000:]
    assert printed.count('at iteration 3: step skipped (1 in a row)') == 1
    assert lines(place, 'agreed', 0)[-1].startswith('saving best_psnr')
    assert lines(place, 'agreed', 0) == lines(place, 'agreed', 1)
    state = torch.load(place / 'experiments/tiny/training_states/4.state')
    assert {entry['step'].item() for entry in state['optimizers'][0]['state'].values()} == {3}
    weights = torch.load(place / 'experiments/tiny/models/net_g_latest.pth')['params']
    assert all(value.isfinite().all() for value in weights.values())


# ---- signals and deaths

# Rank 1 does something at iteration 5 of the first start, once all of its steps before it are made.
AT_FIVE = """
import os, pathlib, signal, time
from ggkm_plugin.models.defocus_model import DefocusModel

step = DefocusModel.optimize_parameters

def act(model):
    {act}

def watched(self, iteration):
    marker = pathlib.Path('acted')
    if iteration == 5 and os.environ['RANK'] == '1' and not marker.exists():
        marker.touch()
        act(self)
    step(self, iteration)

DefocusModel.optimize_parameters = watched
"""
DIE = AT_FIVE.format(act='os.kill(os.getpid(), signal.SIGKILL)')
STOP_ONE = (
    AT_FIVE.format(act='os.kill(os.getpid(), signal.SIGTERM)')
    + """
from ggkm_plugin.models import defocus_model
save, leave = defocus_model.save_atomically, DefocusModel._save_and_stop

def slowly(*args):
    time.sleep(0.3)
    save(*args)

def left(self):
    try:
        leave(self)
    finally:
        if not os.path.exists('experiments/tiny/training_states/5.state'):
            pathlib.Path('early').touch()

defocus_model.save_atomically, DefocusModel._save_and_stop = slowly, left
"""
)
# the agent forwards the signal; receiving it twice must not count as a second request
STOP_ALL = AT_FIVE.format(
    act="""os.kill(os.getppid(), signal.SIGTERM)
    while model.stop.signal is None:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)"""
)


def test_a_signal_to_one_rank_stops_all(server, uninterrupted, tmp_path):
    opt, expected = uninterrupted
    place = new_place(tmp_path / 'place', opt, 5, acting=STOP_ONE)
    codes, printed = server.run_together(*TOGETHER, '--plugin', 'acting', cwd=place)
    assert codes == [1, 1], printed[-3000:]
    assert printed.count('stopped by a signal after iteration 5; everything is saved') == 1
    assert printed.count(': basicsr train -opt run.yml') == 1
    assert (place / 'experiments/tiny/training_states/5.state').exists()
    assert not (place / 'early').exists()  # no process leaves before it is written
    codes, printed = server.run_together(*RESUME, '--launcher', 'pytorch', cwd=place)
    assert codes == [0, 0], printed[-3000:]
    assert 'iter: 5.' in printed
    resumed = outcome(place)
    assert_same({**expected, 'kept': resumed['kept']}, resumed)  # 5 was saved beside them


def test_three_processes_go_on_exactly(server, tiny, tmp_path):
    """The order in which three gradients are added up must not depend on when the run was started."""
    opt = shared(tiny)
    opt['datasets']['train']['dataset_enlarge_ratio'] = 3
    outcomes = []
    for name, words, expected in (('whole', (), 0), ('stopped', ('--plugin', 'acting'), 1)):
        place = new_place(tmp_path / name, opt, 5, acting=STOP_ONE)
        codes, printed = server.run_together(*TOGETHER, *words, cwd=place, processes=3)
        assert codes == [expected] * 3, printed[-3000:]
        if expected:
            codes, printed = server.run_together(*RESUME, '--launcher', 'pytorch', cwd=place, processes=3)
            assert codes == [0, 0, 0], printed[-3000:]
        outcomes.append({**outcome(place), 'kept': None})
    assert_same(*outcomes)


def test_a_signal_to_torchrun_stops_all(server, uninterrupted, tmp_path):
    opt, expected = uninterrupted
    place = new_place(tmp_path / 'place', opt, 5, acting=STOP_ALL)
    code, printed = ended(torchrun(place, *TOGETHER, '--plugin', 'acting'))
    assert code not in (0, None)
    assert printed.count('stopped by a signal after iteration 5; everything is saved') == 1, printed[-3000:]
    codes, printed = server.run_together(*RESUME, '--launcher', 'pytorch', cwd=place)
    assert codes == [0, 0], printed[-3000:]
    assert 'iter: 5.' in printed
    resumed = outcome(place)
    assert_same({**expected, 'kept': resumed['kept']}, resumed)


def assert_came_back(place: Path, expected: dict, printed: str) -> None:
    """It went on from the newest state, and ended as if nothing had been."""
    assert (place / 'acted').exists()
    assert printed.count('Start training from epoch: 0, iter: 0') == 1, printed[-3000:]
    assert printed.count('iter: 4.') == 1
    assert [path.name for path in (place / 'experiments').glob('tiny*')] == ['tiny']
    assert_same(expected, outcome(place))


def test_two_nodes_train_together_and_survive_a_killed_worker(uninterrupted, tmp_path):
    """Two torchruns that meet on the loopback and share the folder. Only one of them counts the restart."""
    opt, expected = uninterrupted
    place, results = _two_nodes(tmp_path / 'place', opt)
    printed = ''.join(text for _, text in results)
    assert [code for code, _ in results] == [0, 0], printed[-5000:]
    assert 'on 2 process(es)' in printed
    assert_came_back(place, expected, printed)


def _two_nodes(folder: Path, opt: dict) -> tuple[Path, list[tuple[int, str]]]:
    place = new_place(folder, opt, 5, acting=DIE)
    nodes = (
        '--nnodes=2', '--nproc_per_node=1', '--max-restarts=2', '--rdzv-backend=c10d', '--rdzv-id=loopback',
        f'--rdzv-endpoint=127.0.0.1:{free_port()}',
    )  # fmt: skip
    agents = [torchrun(place, *TOGETHER, '--plugin', 'acting', nodes=nodes) for _ in range(2)]
    try:
        return place, [ended(agent, timeout=240) for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()


def test_a_damaged_image_on_one_rank_ends_the_run_with_one_message(tiny, tmp_path):
    """Said at once and again as torchrun's last words; the other process says nothing of closed connections."""
    place = new_place(tmp_path / 'place', tiny, 5)
    (place / 'pairs/input/02.png').write_bytes(b'\x89PNG\r\n\x1a\nnothing more')
    code, printed = ended(torchrun(place, *TOGETHER))
    assert code == 1
    assert 'input/02.png: not a readable image' in printed.partition('Root Cause')[2], printed[-3000:]
    assert len(re.findall('basicsr train:', printed)) == 2
    assert 'Connection' not in printed


# Aborts the process if Python is taken down, as a thread of gloo's now and then does.
LATE = """
import atexit, os, pathlib

class Late:
    def __del__(self):
        os.abort()

late = Late()
atexit.register(pathlib.Path('farewell').touch)
"""


@pytest.mark.parametrize('fails', [False, True])
def test_a_process_of_a_group_ends_at_once(tiny, tmp_path, fails):
    """Output is flushed and exit handlers run."""
    place = new_place(tmp_path / 'place', tiny, 5, late=LATE)
    if fails:
        (place / 'pairs/input/02.png').write_bytes(b'')
    alone = {'RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port())}
    code, printed = ended(start(place, *TOGETHER, '--skip-image-check', '--plugin', 'late', **alone))
    assert code == fails, printed[-3000:]
    assert ('input/02.png: ' if fails else 'Weights: ') in printed
    assert (place / 'farewell').exists()


# ---- groups of other makes

EVALUATE_ALONE = """
import os
import torch
from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.basicsr_patches import distributed

distributed.init_dist('pytorch')
rank = distributed.rank_and_size()[0]
assert distributed.from_first(100 + rank) == 100
assert distributed.gathered(rank) == [0, 1]
assert distributed.any_of(torch.tensor([float(rank), 0.0])).tolist() == [1, 0]
with distributed.group_left():
    net = torch.nn.parallel.DistributedDataParallel(GGKMNet(width=4, num_groups=2, num_scales=2))
    image = torch.rand(1, 3, 16, 16)
    for step in range(3):
        net.train()
        output = net(image)
        sum(x.square().mean() for x in output['scales'] + output['reconstructions']).backward()
        if rank == 0:
            net.eval()
            with torch.no_grad():
                net(image)
"""


def test_one_rank_may_evaluate_alone(server, tmp_path):
    """As the stock SRModel does between two training steps, through DDP, which broadcasts buffers in every forward."""
    (tmp_path / 'ranks.py').write_text(EVALUATE_ALONE)
    codes, printed = server.run_together('ranks.py', cwd=tmp_path)
    assert codes == [0, 0], printed[-3000:]


LEAVE_AGAIN = """
import os
import torch
from ggkm_plugin.basicsr_patches import distributed

rank = int(os.environ['RANK'])
for i in range(60):
    with distributed.group_left():
        store = f'file://{os.getcwd()}/{i}.store'
        torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
        net = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
        distributed.gathered(rank)
    del net
"""


def test_the_group_is_left_without_a_hang(server, tmp_path):
    """torch's gloo threads and the end of a DistributedDataParallel wait for one another, one time in ten or so."""
    (tmp_path / 'leave.py').write_text(LEAVE_AGAIN)
    codes, printed = server.run_together('leave.py', cwd=tmp_path, timeout=30)
    assert codes == [0, 0], printed[-3000:]


def executable(path: Path, text: str) -> None:
    path.write_text('#!/bin/sh\n' + text)
    path.chmod(0o755)


def test_the_slurm_script_stops_in_time_and_queues_again(tiny, tmp_path):
    """With a `srun` that starts one task here, and passes on to it what it is sent, as slurm's own."""
    tiny['train']['total_iter'] = 100000
    tiny['datasets']['train']['dataset_enlarge_ratio'] = 50
    place = new_place(tmp_path / 'place', tiny, 5)
    executable(place / 'scontrol', 'case $1 in show) echo 127.0.0.1;; requeue) echo "$2" > requeued;; esac\n')
    executable(
        place / 'srun',
        'while [ "${1#--}" != "$1" ]; do shift; done\n'
        'export SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_NODELIST=here\nexec "$@"\n',
    )
    executable(place / 'basicsr', f'exec {sys.executable} -m ggkm_plugin.cli.main "$@"\n')
    path = f'{place}{os.pathsep}{os.environ["PATH"]}'
    script = str(ROOT / 'examples/train_slurm.sh')
    process = start_program(place, 'bash', script, 'run.yml', PATH=path, SLURM_JOB_ID=str(free_port()))
    wait_for(process, 'iter:       3')
    process.terminate()
    code, printed = ended(process)
    assert code == 0, printed[-3000:]
    assert 'everything is saved' in printed
    assert (place / 'requeued').exists()
    assert len(list((place / 'experiments/tiny/training_states').iterdir())) >= 1
