"""The command `basicsr`: arguments and messages only; torch and basicsr are imported inside the commands."""

import argparse
import atexit
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ggkm_plugin import __version__
from ggkm_plugin.basicsr_patches.launch import first_of_machine, first_process, report_failure
from ggkm_plugin.cli import analysis, bench, deblur
from ggkm_plugin.cli.shared import add_plugin_argument as _add_plugin_argument
from ggkm_plugin.cli.shared import load_plugins as _load_plugins
from ggkm_plugin.utils import allocator, basicsr_imports
from ggkm_plugin.utils.errors import Interrupted, LostProcessError, OptionError, UserError

if TYPE_CHECKING:
    from ggkm_plugin.training.run import Finished

# At import, not in main(): workers started by spawn re-import this module, and only this.
basicsr_imports.install()

# Seconds in which torchrun notices that a process is gone.
_PATIENCE = 3

KINDS = ('archs', 'datasets', 'losses', 'models', 'metrics')


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='basicsr',
        description='BasicSR with its plugins: train, test and compare registered restoration models.',
        epilog='Exit codes: 0 done, 1 failed, 2 wrong usage.',
    )
    parser.add_argument('--version', action='version', version=f'ggkm_plugin {__version__}')
    _add_local_rank(parser)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)

    for name, text in (
        ('train', 'train a model from an option file'),
        ('test', 'score a trained model'),
        ('check', 'find every fault of an option file for training, and say how long it will take'),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            '-opt', required=True, metavar='FILE', help='option file: a path, or the name of a packaged one'
        )
        command.add_argument(
            '--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help='override keys of the option file'
        )
        command.add_argument('--variant', metavar='NAME', help='named override from `variants:` in the option file')
        command.add_argument(
            '--root',
            default='.',
            metavar='DIR',
            help='where experiments/, results/ and relative paths of the option file start (default: here)',
        )
        _add_plugin_argument(command)
        if name == 'check':
            command.add_argument(
                '--no-steps', action='store_true', help='leave out the training steps that it measures'
            )
            continue
        command.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none')
        command.add_argument(
            '--auto_resume', action='store_true', help='go on from the newest state of this experiment'
        )
        command.add_argument('--debug', action='store_true', help='validate and save every 8 iterations')
        _add_local_rank(command)

    text = 'parameters, MACs, time and peak memory of networks'
    command = commands.add_parser('profile', help=text, description=text)
    command.add_argument('names', nargs='*', metavar='ARCH_OR_OPT', help='registered arch, or option file')
    command.add_argument('--size', default='720x1280', metavar='HxW', help='input, height first (default: 720x1280)')
    command.add_argument('--device', default='cpu', metavar='D', help='where to time: cpu or cuda[:N] (default: cpu)')
    command.add_argument('--repeats', type=int, default=3, metavar='N', help='timed runs; 0 only counts (default: 3)')
    command.add_argument('--variant', metavar='NAME', help='named override from `variants:` in the option files')
    command.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
    command.add_argument('--paper', action='store_true', help="instead: the paper's complexity figures beside ours")
    _add_plugin_argument(command)

    text = 'networks side by side on the same images: tables, pictures and a report in results/NAME/'
    command = commands.add_parser('compare', help='several models on the same data, one protocol', description=text)
    command.add_argument(
        '-opt', required=True, metavar='FILE', help='option file: a path, or the name of a packaged one'
    )
    command.add_argument(
        '--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help='override keys of the option file'
    )
    command.add_argument('--variant', metavar='NAME', help='named override from `variants:` in the option file')
    command.add_argument(
        '--root', default='.', metavar='DIR', help='where results/ and relative paths of the option file start'
    )
    command.add_argument('--launcher', choices=('none', 'pytorch'), default='none')
    command.add_argument('--format', choices=('table', 'markdown', 'csv', 'latex'), default='table')
    command.add_argument('--noise', action='store_true', help='also with the noise levels of the option file')
    command.add_argument('--no-report', action='store_true', help='leave out the HTML report')
    _add_plugin_argument(command)
    _add_local_rank(command)

    text = "weights that a network's authors released, as a checkpoint that test and compare can use"
    command = commands.add_parser('convert', help=text, description=text)
    command.add_argument('file', metavar='FILE', help='PyTorch, Keras HDF5 (DPDNetS, MDP) or npz (KPAC), as released')
    command.add_argument('--arch', required=True, metavar='NAME', help='registered arch')
    command.add_argument(
        '--options', nargs='+', default=[], metavar='KEY=VALUE', help='of the arch, beside what such weights need'
    )
    command.add_argument('-o', '--output', required=True, metavar='FILE', help='checkpoint to write')
    command.add_argument(
        '--allow-pickle', action='store_true', help="read KPAC's npz, which can run code: if you trust who made it"
    )
    _add_plugin_argument(command)

    deblur.add_parsers(commands)
    bench.add_parsers(commands)
    analysis.add_parsers(commands)

    command = commands.add_parser('list', help='what is registered, and by which distribution')
    command.add_argument('kinds', nargs='*', metavar='KIND', help=f'any of {", ".join(KINDS)} (default: all)')
    _add_plugin_argument(command)
    return parser


def _add_local_rank(parser: argparse.ArgumentParser) -> None:
    """torch.distributed.launch passes it, before the command's name; the rank comes from the environment."""
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


def _train_or_test(arguments: argparse.Namespace) -> None:
    _load_plugins(arguments)
    from ggkm_plugin.training import run

    request = run.Request(
        arguments.opt,
        arguments.launcher,
        arguments.auto_resume,
        arguments.debug,
        arguments.force_yml,
        arguments.variant,
        arguments.root,
    )
    finished = run.run(arguments.command == 'train', request)
    if not first_process():
        return
    for picture in finished.pictures:
        print(f'\nPicture: {picture}')
    if arguments.command == 'train':
        print(f'Weights: {finished.folder / "models" / "net_g_latest.pth"}')
        _print_next(arguments, finished)


def _check(arguments: argparse.Namespace) -> None:
    _load_plugins(arguments)
    from ggkm_plugin.training import run

    request = run.Request(arguments.opt, force_yml=arguments.force_yml, variant=arguments.variant, root=arguments.root)
    report = run.check(request, rehearsed=not arguments.no_steps)
    print('no fault found', *([report] if report else []), sep='\n')


def _print_next(arguments: argparse.Namespace, finished: 'Finished') -> None:
    """The commands that one would type after this training."""
    from ggkm_plugin.utils import config

    commands = []
    curves = finished.folder.parent.parent / 'tb_logger' / finished.name
    if curves.is_dir():
        commands.append(['tensorboard', '--logdir', str(curves)])
    named = config.load_options(finished.option_file)['name'] == finished.name  # else the test file is of another run
    test_file = finished.option_file.with_name(finished.option_file.name.replace('train_', 'test_', 1))
    if named and test_file.is_file() and test_file != finished.option_file:
        packaged = not os.path.isfile(arguments.opt)
        commands.append(['basicsr', 'test', '-opt', test_file.name if packaged else os.path.relpath(test_file)])
        commands[-1] += [] if arguments.root == '.' else ['--root', arguments.root]
    if commands:
        print('Next:', *(shlex.join(command) for command in commands), sep='\n  ')


def _compare(arguments: argparse.Namespace) -> None:
    _load_plugins(arguments)
    from ggkm_plugin.evaluation import compare
    from ggkm_plugin.report import comparison_tables

    request = compare.Request(
        arguments.opt,
        arguments.launcher,
        arguments.force_yml,
        arguments.variant,
        arguments.root,
        arguments.noise,
        not arguments.no_report,
    )
    compared = compare.compare(request, lambda line: print(line, file=sys.stderr))
    if first_process():
        print(comparison_tables.render(compared.results, arguments.format), end='')
        print(f'\nResults: {compared.folder}', file=sys.stderr)
        if compared.report:
            print(f'Report: {compared.report}', file=sys.stderr)
    compare.check(compared)


def _profile(arguments: argparse.Namespace) -> None:
    if bool(arguments.names) == arguments.paper:
        raise OptionError('name an arch or an option file, or else give --paper')
    if arguments.repeats < 0:
        raise OptionError(f'--repeats is 0 or more, not {arguments.repeats}')
    _load_plugins(arguments)
    from ggkm_plugin.evaluation import calibration, complexity

    rows: Sequence[Any]
    table: Callable[..., str]
    if arguments.paper:
        rows, table = calibration.calibrate(), calibration.table
    else:
        size, where = complexity.parse_size(arguments.size), (arguments.device, arguments.repeats)
        rows = [complexity.profile_named(name, arguments.variant, size, *where) for name in arguments.names]
        table = complexity.table
    show: Callable[..., str] = {'table': table, 'csv': complexity.to_csv, 'json': complexity.to_json}[arguments.format]
    print(show(rows).rstrip('\n'))


def _convert(arguments: argparse.Namespace) -> None:
    _load_plugins(arguments)
    from pathlib import Path

    from ggkm_plugin.restoration import convert
    from ggkm_plugin.utils import config

    given = config.parse_assignments('--options', arguments.options)
    source, target = Path(arguments.file), Path(arguments.output)
    network = convert.convert(source, arguments.arch, given, target, arguments.allow_pickle)
    shown = ''.join(f', {key}: {value}' for key, value in network.items())
    print(f'{target}: network_g {{type: {arguments.arch}{shown}}}')


def _list(arguments: argparse.Namespace) -> None:
    _load_plugins(arguments)
    from ggkm_plugin.utils import plugins

    wanted = arguments.kinds or KINDS
    rows = [row for row in plugins.registered() if row[0] in wanted]
    width = max(len(name) for _, name, _ in rows)
    for kind in wanted:
        print(kind)
        for row_kind, name, source in rows:
            if row_kind == kind:
                print(f'  {name:{width}}  {source}')


def _message(error: UserError) -> str:
    """The error's own words: a loader's worker sends them inside a traceback."""
    text = str(error)
    return text.rpartition(f'{type(error).__name__}: ')[2].strip() if 'Original Traceback' in text else text


def _tell(message: str, error: UserError | None = None) -> None:
    """Print a message: once, if each process or each process of a machine has the same to say."""
    if isinstance(error, LostProcessError):
        time.sleep(_PATIENCE)  # torchrun ends this process now, and what is seen last are the lost one's words
    else:
        report_failure(message)
    if isinstance(error, OptionError):
        spoken = first_of_machine()
    else:
        spoken = first_process() or error is None or not error.everywhere
    if spoken:
        print(message, file=sys.stderr)


_AFTER_AN_INTERRUPTION = {
    'train': '; --auto_resume goes on from the newest checkpoint',
    'deblur': '; what is finished is whole, and the same command names it and does the rest',
}
_COMMANDS = {
    'train': _train_or_test,
    'test': _train_or_test,
    'check': _check,
    'compare': _compare,
    'convert': _convert,
    'profile': _profile,
    'list': _list,
    **analysis.COMMANDS,
    **bench.COMMANDS,
    **deblur.COMMANDS,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; the program of a launched process ends with it here."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    unknown = [kind for kind in getattr(arguments, 'kinds', []) if kind not in KINDS]
    if unknown:
        parser.error(f'list {unknown[0]}: no such kind; there are {", ".join(KINDS)}')
    program = argv is None
    if program:
        allocator.keep_freed_memory()
    # OpenCV and the host's imports talk about damaged files and old syntax on their own; errors are ours to word
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    warnings.filterwarnings('ignore', category=SyntaxWarning)
    warnings.filterwarnings('ignore', message='torch.meshgrid')  # of other authors' networks
    code = _run(arguments, list(sys.argv[1:] if argv is None else argv))
    if program and getattr(arguments, 'launcher', 'none') != 'none':
        _end_at_once(code)
    return code


def _run(arguments: argparse.Namespace, words: list[str]) -> int:
    """Exit code of the command that `words` were parsed into; what goes wrong is told."""
    try:
        _COMMANDS[arguments.command](arguments)
    except UserError as error:
        _tell(f'basicsr {arguments.command}: {_message(error)}', error)
        if isinstance(error, Interrupted) and first_process():
            words += ['--auto_resume'] if getattr(arguments, 'auto_resume', True) is False else []
            launcher = getattr(arguments, 'launcher', 'none')
            launched = '' if launcher == 'none' else f', launched ({launcher}) as before'
            print(f'Go on with: {shlex.join(["basicsr", *words])}{launched}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        again = _AFTER_AN_INTERRUPTION.get(arguments.command, '')
        print(f'basicsr {arguments.command}: interrupted{again}', file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output is gone, and with it the wish for more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if os.environ.get('BASICSR_TRACEBACK'):
            raise
        _tell(f'basicsr {arguments.command}: {type(error).__name__}: {error}\n(set BASICSR_TRACEBACK=1 to see where)')
        return 1
    return 0


def _end_at_once(code: int) -> None:
    """End this process of a group without taking Python down, as sys.exit would.

    A thread of gloo's that lets go of the last collective's tensors while Python is going aborts the process, and
    torchrun takes a finished run for a failed one.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == '__main__':
    sys.exit(main())
