"""Each seam: the host's defect shown on the host's own code, and ours in its place."""

import contextlib
import logging
import os
import queue
import socket
import sys

import pytest
import torch
from torch.utils.data import TensorDataset

from ggkm_plugin.errors import CheckpointError, DataError
from ggkm_plugin.host import loading, resuming, seams

import basicsr.data.prefetch_dataloader as host_prefetch  # isort: skip
import basicsr.train as host_train  # isort: skip
import basicsr.utils.dist_util as host_dist  # isort: skip
import basicsr.utils.options as host_options  # isort: skip


def _there(places):
    return [getattr(module, name) for module, name, _ in places]


def test_installed_puts_the_host_back():
    places = seams.Session().seams
    before = _there(places)
    with seams.installed() as session:
        assert _there(session.seams) == [ours for _, _, ours in session.seams]
    assert _there(places) == before
    with contextlib.suppress(KeyError), seams.installed():
        raise KeyError
    assert _there(places) == before


def test_the_seams_are_these():
    decoding = {(module.__name__, name) for module, name, _ in seams.Session().seams if name == 'imfrombytes'}
    assert {(module.__name__, name) for module, name, _ in seams.Session().seams} - decoding == {
        ('basicsr.train', 'load_resume_state'),
        ('basicsr.train', 'create_train_val_dataloader'),
        ('basicsr.train', 'init_tb_loggers'),
        ('basicsr.train', 'build_model'),
        ('basicsr.train', 'make_exp_dirs'),
        ('basicsr.test', 'make_exp_dirs'),
        ('basicsr.train', 'CPUPrefetcher'),
        ('basicsr.train', 'CUDAPrefetcher'),
        ('basicsr.data.prefetch_dataloader', 'PrefetchGenerator'),
        ('basicsr.utils.options', 'init_dist'),
    }
    users = {
        name
        for name, module in sys.modules.items()
        if name.startswith('basicsr.data.') and 'imfrombytes' in vars(module)
    }
    assert {name for name, _ in decoding} == users


def test_every_seam_is_looked_up_where_it_is_put():
    """A seam on a name that the host's loop does not use would never act."""
    for module, name, _ in seams.Session().seams:
        users = [
            f
            for f in vars(module).values()
            if callable(f) and hasattr(f, '__code__') and f.__module__ == module.__name__
        ]
        methods = [
            m for c in vars(module).values() if isinstance(c, type) for m in vars(c).values() if hasattr(m, '__code__')
        ]
        assert any(name in f.__code__.co_names for f in users + methods), (module.__name__, name)


# ---- load_resume_state


@pytest.fixture
def experiment(tmp_path):
    """Options of an experiment with whole states at 2 and 4, and their networks."""
    states, models = tmp_path / 'experiments/x/training_states', tmp_path / 'experiments/x/models'
    states.mkdir(parents=True)
    models.mkdir()
    for iteration in (2, 4):
        torch.save({'epoch': 0, 'iter': iteration, 'optimizers': [], 'schedulers': []}, states / f'{iteration}.state')
        torch.save({'params': {}}, models / f'net_g_{iteration}.pth')
    path = {'training_states': str(states), 'models': str(models), 'resume_state': None}
    return {'name': 'x', 'auto_resume': True, 'network_g': {}, 'path': path}


@pytest.mark.skipif(torch.cuda.is_available(), reason='the defect shows without a GPU')
def test_host_cannot_resume_without_cuda(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, RuntimeError)):
        host_train.load_resume_state(experiment)


def test_host_finds_nothing_from_another_folder(experiment):
    assert host_train.load_resume_state(experiment) is None


def test_resumes_the_newest_state_on_the_cpu_from_any_folder(experiment):
    assert resuming.load_resume_state(experiment)['iter'] == 4
    assert experiment['path']['pretrain_network_g'].endswith('net_g_4.pth')


@pytest.mark.parametrize('victim', ['training_states/4.state', 'models/net_g_4.pth'])
@pytest.mark.parametrize('harm', ['truncated', 'missing', 'foreign'])
def test_a_damaged_state_is_passed_over(experiment, tmp_path, capsys, victim, harm):
    path = tmp_path / 'experiments/x' / victim
    if harm == 'truncated':
        path.write_bytes(path.read_bytes()[:200])
    elif harm == 'foreign':
        path.write_text('not a checkpoint')
    else:
        path.unlink()
    assert resuming.load_resume_state(experiment)['iter'] == 2
    if (victim, harm) != ('training_states/4.state', 'missing'):
        assert '4.state' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['notes.state', 'nan.state', '9'])
def test_foreign_files_beside_the_states(experiment, tmp_path, name):
    (tmp_path / 'experiments/x/training_states' / name).write_text('mine')
    assert resuming.load_resume_state(experiment)['iter'] == 4


def test_a_network_damaged_in_the_middle_is_passed_over(experiment, tmp_path):
    path = tmp_path / 'experiments/x/models/net_g_4.pth'
    torch.save({'params': {'w': torch.rand(1000)}}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert resuming.load_resume_state(experiment)['iter'] == 2


def test_a_state_without_its_optimizers_is_passed_over(experiment, tmp_path):
    torch.save({'epoch': 0, 'iter': 4}, tmp_path / 'experiments/x/training_states/4.state')
    assert resuming.load_resume_state(experiment)['iter'] == 2


def test_no_whole_state_means_a_fresh_start(experiment, tmp_path):
    for path in (tmp_path / 'experiments/x/training_states').iterdir():
        path.write_bytes(b'')
    assert resuming.load_resume_state(experiment) is None


def test_a_named_state_that_is_damaged_is_an_error(experiment, tmp_path):
    experiment.update(auto_resume=False)
    path = tmp_path / 'experiments/x/training_states/4.state'
    experiment['path']['resume_state'] = str(path)
    assert resuming.load_resume_state(experiment)['iter'] == 4
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r'4\.state'):
        resuming.load_resume_state(experiment)


def test_a_hostile_state_is_not_executed(experiment, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'harmed'),)

    torch.save({'iter': Hostile()}, tmp_path / 'experiments/x/training_states/6.state')
    assert resuming.load_resume_state(experiment)['iter'] == 4
    assert not (tmp_path / 'harmed').exists()


# ---- create_train_val_dataloader


def _loader_options(tiny, **train):
    tiny.update(dist=False, rank=0, world_size=1)
    tiny['datasets']['train'].update(phase='train', **train)
    tiny['datasets']['val'].update(phase='val')
    return tiny


def test_host_counts_a_batch_that_is_dropped(workplace, tiny):
    """Four images in batches of three are one iteration an epoch; the host says two, so half the epochs."""
    opt = _loader_options(tiny, dataset_enlarge_ratio=1, batch_size_per_gpu=3)
    logger = logging.getLogger('test')
    loader, *_, host_epochs, _ = host_train.create_train_val_dataloader(opt, logger)
    assert (len(loader), host_epochs) == (1, 2)
    loader, _, val_loaders, epochs, iterations = loading.create_train_val_dataloader(opt, logger)
    assert (len(loader), epochs + 1, iterations, len(val_loaders)) == (1, 4, 4, 1)  # epochs are numbered from 0


def test_a_set_smaller_than_a_batch(workplace, tiny):
    """The host trains nothing and exits 0."""
    opt = _loader_options(tiny, dataset_enlarge_ratio=1, batch_size_per_gpu=5)
    assert len(host_train.create_train_val_dataloader(opt, logging.getLogger('test'))[0]) == 0
    with pytest.raises(DataError, match='batch_size_per_gpu, or set dataset_enlarge_ratio to 2'):
        loading.create_train_val_dataloader(opt, logging.getLogger('test'))


def test_workers_that_stay_but_are_none(workplace, tiny):
    """torch refuses persistent_workers without workers; somebody who debugs with 0 of them need not edit two keys."""
    opt = _loader_options(tiny, persistent_workers=True)
    assert len(loading.create_train_val_dataloader(opt, logging.getLogger('test'))[0]) == 4


def test_no_training_set(workplace, tiny):
    opt = _loader_options(tiny)
    del opt['datasets']['train']
    with pytest.raises(UnboundLocalError):
        host_train.create_train_val_dataloader(opt, logging.getLogger('test'))
    with pytest.raises(DataError, match='train'):
        loading.create_train_val_dataloader(opt, logging.getLogger('test'))


def test_epochs_draw_different_crops(workplace, tiny):
    loader, sampler, *_ = loading.create_train_val_dataloader(_loader_options(tiny), logging.getLogger('test'))
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(torch.cat([batch['gt'] for batch in loader]))
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])


# ---- prefetchers


class _CountingLoader:
    def __init__(self):
        self.starts = 0

    def __iter__(self):
        self.starts += 1
        return iter([1, 2])


def test_workers_start_once_an_epoch():
    starts = {}
    for name, prefetcher_class in (('host', host_prefetch.CPUPrefetcher), ('ours', loading.CPUPrefetcher)):
        loader = _CountingLoader()
        prefetcher = prefetcher_class(loader)
        prefetcher.reset()
        assert [prefetcher.next() for _ in range(3)] == [1, 2, None]
        starts[name] = loader.starts
    assert starts == {'host': 2, 'ours': 1}


def _broken_batches():
    yield 'batch'
    raise DataError('broken.png: not a readable image')


@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_host_hangs_after_a_bad_image():
    generator = host_prefetch.PrefetchGenerator(_broken_batches(), 2)
    assert next(generator) == 'batch'
    with pytest.raises(queue.Empty):
        generator.queue.get(timeout=0.5)


def test_a_bad_image_reaches_the_loop():
    generator = loading.PrefetchGenerator(_broken_batches(), 2)
    assert next(generator) == 'batch'
    with pytest.raises(DataError, match=r'broken\.png'):
        next(generator)
    assert list(loading.PrefetchGenerator(iter([1, 2]), 1)) == [1, 2]


# ---- init_dist


@pytest.mark.skipif(torch.cuda.is_available(), reason='the defect shows without a GPU')
def test_process_group_without_a_gpu(monkeypatch):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    for key, value in {'RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ZeroDivisionError):
        host_dist._init_dist_pytorch('nccl')
    with seams.installed():
        host_options.init_dist('pytorch')
        assert torch.distributed.get_backend() == 'gloo'
    assert not torch.distributed.is_initialized()


def test_the_log_is_closed_after_a_command(tmp_path):
    from basicsr.utils import get_root_logger

    with seams.installed():
        logger = get_root_logger(log_file=str(tmp_path / 'first.log'))
        logger.info('one')
    assert not logger.handlers
    with seams.installed():
        get_root_logger(log_file=str(tmp_path / 'second.log')).info('two')
    assert 'two' in (tmp_path / 'second.log').read_text()


def test_loader_batches_of_a_plain_tensor_set_still_work():
    """The sampler's indices are ints to any other data set."""
    from ggkm_plugin.host.sampler import EpochSampler

    dataset = TensorDataset(torch.arange(5))
    values = [int(dataset[i][0]) for i in EpochSampler(dataset, 1, 0, ratio=2)]
    assert sorted(values) == sorted([0, 1, 2, 3, 4] * 2)
