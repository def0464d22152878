"""Run BasicSR's train and test pipelines on an option file, with every plugin registered."""

import io
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ggkm_plugin.basicsr_patches.launch import first_process, restarted
from ggkm_plugin.utils import config, plugins
from ggkm_plugin.utils.files import locked, working_folder


@dataclass(frozen=True, kw_only=True)
class Request:
    """Arguments of `basicsr train`, `test` and `check`."""

    opt: str
    launcher: str = 'none'
    auto_resume: bool = False
    debug: bool = False
    force_yml: list[str] = field(default_factory=list)
    variant: str | None = None
    root: str = '.'
    check_images: bool = True


@dataclass(frozen=True)
class Finished:
    """A finished run: its name, folder, option file and comparison sheets."""

    name: str
    folder: Path
    option_file: Path
    pictures: list[Path]


def train(request: Request) -> Finished:
    """Train below `request.root`, where relative paths of the option file start too. Raises UserError."""
    return _run(request, is_train=True)


def test(request: Request) -> Finished:
    """Test below `request.root`, where relative paths of the option file start too. Raises UserError."""
    return _run(request, is_train=False)


def check(request: Request, dry_run: bool = True) -> str:
    """Validate an option file, and measure a few steps of a training if `dry_run`. Returns a table of time and memory.

    Writes nothing. Raises OptionError with all faults, among them what `train` only warns of.
    """
    option_file, opt = _read(request)

    from ggkm_plugin.training import check_config
    from ggkm_plugin.training import dry_run as dry_runs

    with ExitStack() as stack:
        root = stack.enter_context(working_folder(request.root))
        if 'models' in opt:
            from ggkm_plugin.evaluation import compare_config

            _warn('check', compare_config.parse(opt).skipped)
            return ''
        _describe_network(opt)
        is_train = 'train' in opt
        _warn('check', check_config.check_options(opt, is_train, strict=True, images=request.check_images))
        if not (dry_run and is_train):
            return ''
        path = stack.enter_context(_resolved(option_file, opt))
        stack.enter_context(_patched())
        stack.enter_context(_basicsr_arguments(['-opt', str(path)]))
        from basicsr.utils.options import parse_options

        with redirect_stdout(io.StringIO()):
            completed, _ = parse_options(str(root), is_train=True)
        return dry_runs.measure(completed)


def _run(request: Request, is_train: bool) -> Finished:
    option_file, opt = _read(request)

    from ggkm_plugin.training import check_config

    with ExitStack() as stack:
        root = stack.enter_context(working_folder(request.root))
        _describe_network(opt)
        warnings = check_config.check_options(opt, is_train, images=request.check_images and first_process())
        _warn('train' if is_train else 'test', warnings)
        path = stack.enter_context(_resolved(option_file, opt))
        stack.enter_context(_patched())
        flags = ['-opt', str(path), '--launcher', request.launcher]
        flags += ['--auto_resume'] * (request.auto_resume or restarted()) + ['--debug'] * request.debug
        name = f'debug_{opt["name"]}' if request.debug and not opt['name'].startswith('debug') else opt['name']
        folder = root / ('experiments' if is_train else 'results') / name
        if first_process():
            stack.enter_context(locked(folder))
        # BasicSR prints its progress to stdout, which is for results.
        stack.enter_context(redirect_stdout(sys.stderr))
        with _basicsr_arguments(flags):
            if is_train:
                from basicsr.train import train_pipeline as pipeline
            else:
                from basicsr.test import test_pipeline as pipeline
            pipeline(str(root))
        return Finished(name, folder, option_file, sorted(folder.glob('comparison_*.png')))


def _warn(command: str, warnings: Iterable[str]) -> None:
    for warning in warnings if first_process() else ():
        print(f'basicsr {command}: warning: {warning}', file=sys.stderr)


def _read(request: Request) -> tuple[Path, config.Options]:
    """Read the option file, apply variant and overrides, and load its plugins."""
    option_file = config.find_option_file(request.opt)
    opt = config.load_options(option_file, request.variant, request.force_yml)
    plugins.load_local(opt.get('plugins') or [])
    return option_file, opt


def _describe_network(opt: config.Options) -> None:
    """Fill in `network_g` from the checkpoint that a run starts from, unless the option file has it."""
    from ggkm_plugin.utils.checkpoint import network_options
    from ggkm_plugin.weights import checkpoint_path

    paths = opt.get('path')
    weights = paths.get('pretrain_network_g') if isinstance(paths, dict) else None
    if not opt.get('network_g') and isinstance(weights, str):
        opt['network_g'] = network_options(checkpoint_path(weights))


def _patched() -> AbstractContextManager[object]:
    """Patch BasicSR's training loop, and give all its models this package's loader of checkpoints."""
    from ggkm_plugin.basicsr_patches import seams
    from ggkm_plugin.models.loading import load_network

    from basicsr.models.base_model import BaseModel  # isort: skip

    return seams.installed(((BaseModel, 'load_network', load_network),))


@contextmanager
def _resolved(option_file: Path, opt: config.Options) -> Iterator[Path]:
    """Yield the option file for BasicSR: the original, or a copy with variant and overrides applied."""
    if yaml.safe_load(option_file.read_text(encoding='utf-8')) == opt:
        yield option_file
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / option_file.name
        header = f'# {option_file} with its overrides applied\n'
        path.write_text(header + yaml.safe_dump(opt, sort_keys=False), encoding='utf-8')
        yield path


@contextmanager
def _basicsr_arguments(flags: list[str]) -> Iterator[None]:
    """Replace sys.argv, which BasicSR parses itself."""
    before = sys.argv
    sys.argv = [before[0], *flags]
    try:
        yield
    finally:
        sys.argv = before
