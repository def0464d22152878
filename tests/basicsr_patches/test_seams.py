"""The seams: installed for the length of a command, in the modules that BasicSR looks them up in."""

import contextlib
import socket
import sys

import pytest
import torch

from ggkm_plugin.basicsr_patches import distributed, seams
from ggkm_plugin.utils.errors import OptionError

import basicsr.utils.dist_util as basicsr_dist  # isort: skip
import basicsr.utils.options as basicsr_options  # isort: skip


def _current(places):
    return [getattr(module, name, None) for module, name, _ in places]


def test_the_patches_are_removed_after_a_command():
    places = seams.Session().seams
    before = _current(places)
    with seams.installed() as session:
        assert _current(session.seams) == [replacement for _, _, replacement in session.seams]
    assert _current(places) == before
    with contextlib.suppress(KeyError), seams.installed():
        raise KeyError
    assert _current(places) == before


def test_every_decoding_module_is_patched():
    patched = {module.__name__ for module, name, _ in seams.Session().seams if name == 'imfrombytes'}
    assert patched == {
        name
        for name, module in sys.modules.items()
        if name.startswith('basicsr.data.') and 'imfrombytes' in vars(module)
    }


def test_every_seam_is_used_in_its_module():
    """A patch of a name that BasicSR's loop does not use has no effect."""
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


# ---- init_dist


@pytest.mark.skipif(torch.cuda.is_available(), reason='the defect shows without a GPU')
def test_process_group_without_a_gpu(monkeypatch):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    for key, value in {'RANK': '0', 'WORLD_SIZE': '1', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ZeroDivisionError):
        basicsr_dist._init_dist_pytorch('nccl')
    with seams.installed():
        basicsr_options.init_dist('pytorch')
        assert torch.distributed.get_backend() == 'gloo'
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(('launcher', 'starter'), [('pytorch', 'torchrun'), ('slurm', 'srun')])
def test_a_missing_launcher_is_named(monkeypatch, launcher, starter):
    for variable in ('RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(OptionError, match=f'--launcher {launcher}.*{starter}'):
        distributed.init_dist(launcher)


def test_a_command_has_a_log_of_its_own(tmp_path):
    """Also if BasicSR's logger was set up before, without a file; its files are closed after the command."""
    from basicsr.utils import get_root_logger

    logger = get_root_logger()
    for name in ('first', 'second'):
        with seams.installed():
            get_root_logger(log_file=str(tmp_path / f'{name}.log')).info(name)
        assert name in (tmp_path / f'{name}.log').read_text()
        assert not logger.handlers
