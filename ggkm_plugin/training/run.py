"""Runs the host's `train_pipeline` and `test_pipeline` on an option file, with every plugin registered."""

import fcntl
import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ggkm_plugin.basicsr_patches.launch import first_process, restarted
from ggkm_plugin.utils import config, plugins
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.files import working_folder


@dataclass(frozen=True)
class Request:
    """What `basicsr train`, `test` and `check` were asked for."""

    opt: str
    launcher: str = 'none'
    auto_resume: bool = False
    debug: bool = False
    force_yml: list[str] = field(default_factory=list)
    variant: str | None = None
    root: str = '.'


@dataclass(frozen=True)
class Finished:
    """A run that came to its end: its name, its folder, and what one would look at."""

    name: str
    folder: Path
    option_file: Path
    pictures: list[Path]


def run(is_train: bool, request: Request) -> Finished:
    """Train or test below `request.root`, where relative paths of the option file start too. Plugins are loaded.

    Raises a UserError for whatever a user can mend.
    """
    option_file, opt = _read(request)

    from ggkm_plugin.basicsr_patches import seams
    from ggkm_plugin.training import check_config
    from ggkm_plugin.utils.checkpoint import network_options

    with ExitStack() as stack:
        root = stack.enter_context(working_folder(request.root))
        paths = opt.get('path')
        weights = paths.get('pretrain_network_g') if isinstance(paths, dict) else None
        if not is_train and not opt.get('network_g') and isinstance(weights, str):
            opt['network_g'] = network_options(weights)
        check_config.check_options(opt, is_train)
        for doubt in check_config.doubts(opt) if is_train and first_process() else ():
            print(f'basicsr train: warning: {doubt}', file=sys.stderr)
        path = stack.enter_context(_resolved(option_file, opt))
        stack.enter_context(seams.installed())
        flags = ['-opt', str(path), '--launcher', request.launcher]
        flags += ['--auto_resume'] * (request.auto_resume or restarted()) + ['--debug'] * request.debug
        name = f'debug_{opt["name"]}' if request.debug and not opt['name'].startswith('debug') else opt['name']
        folder = root / ('experiments' if is_train else 'results') / name
        if is_train and first_process():
            stack.enter_context(_alone(folder))
        with _host_arguments(flags):
            if is_train:
                from basicsr.train import train_pipeline as pipeline
            else:
                from basicsr.test import test_pipeline as pipeline
            pipeline(str(root))
        return Finished(name, folder, option_file, sorted(folder.glob('comparison_*.png')))


def check(request: Request, rehearsed: bool = True) -> str:
    """All that can be said of a training before it starts, with a few of its steps measured if `rehearsed`.

    Nothing is written. Raises OptionError with all faults; what `train` only warns of is a fault here.
    """
    option_file, opt = _read(request)

    from ggkm_plugin.basicsr_patches import seams
    from ggkm_plugin.training import check_config, dry_run

    with ExitStack() as stack:
        root = stack.enter_context(working_folder(request.root))
        check_config.check_options(opt, is_train=True, strict=True)
        if not rehearsed:
            return ''
        path = stack.enter_context(_resolved(option_file, opt))
        stack.enter_context(seams.installed())
        stack.enter_context(_host_arguments(['-opt', str(path)]))
        from basicsr.utils.options import parse_options

        with redirect_stdout(io.StringIO()):
            completed, _ = parse_options(str(root), is_train=True)
        return dry_run.table(dry_run.rehearse(completed), opt['train']['total_iter'])


def _read(request: Request) -> tuple[Path, config.Options]:
    """The option file and what it says with variant, overrides and its plugins applied."""
    option_file = config.find_option_file(request.opt)
    opt = config.load_options(option_file, request.variant, request.force_yml)
    plugins.load_local(opt.get('plugins') or [])
    return option_file, opt


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run's folder: the later one would put it aside under the earlier one's hands."""
    lock = folder.parent / f'.{folder.name}.lock'
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open('w')
    except OSError as error:
        raise OptionError(f'{lock}: cannot be written ({error.strerror or error}); see --root') from error
    with file:
        try:
            # The system lets go of it however the process ends; flock's would be the loading processes' too, which
            # outlive a killed one by seconds.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise OptionError(f'{folder}: a training is running there; wait for it, or change `name`') from error
        except OSError:
            pass  # a file system without locks
        yield


@contextmanager
def _resolved(option_file: Path, opt: config.Options) -> Iterator[Path]:
    """The file the host reads and keeps with the experiment: the original, or what variant and overrides made of it."""
    if yaml.safe_load(option_file.read_text(encoding='utf-8')) == opt:
        yield option_file
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / option_file.name
        header = f'# {option_file} with its overrides applied\n'
        path.write_text(header + yaml.safe_dump(opt, sort_keys=False), encoding='utf-8')
        yield path


@contextmanager
def _host_arguments(flags: list[str]) -> Iterator[None]:
    """The host parses sys.argv itself."""
    before = sys.argv
    sys.argv = [before[0], *flags]
    try:
        yield
    finally:
        sys.argv = before
