"""The command `basicsr`: arguments and messages only; torch and basicsr are imported inside the commands."""

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ggkm_plugin import __version__
from ggkm_plugin.errors import Interrupted, OptionError, UserError
from ggkm_plugin.host import imports
from ggkm_plugin.host.launch import first_process

if TYPE_CHECKING:
    from ggkm_plugin.runner import Finished

# At import, not in main(): workers started by spawn re-import this module, and only this.
imports.install()

KINDS = ('archs', 'datasets', 'losses', 'models', 'metrics')


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='basicsr',
        description='BasicSR with its plugins: train, test and compare registered restoration models.',
        epilog='Exit codes: 0 done, 1 failed, 2 wrong usage.',
    )
    parser.add_argument('--version', action='version', version=f'ggkm_plugin {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)

    for name, text in (('train', 'train a model from an option file'), ('test', 'score a trained model')):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            '-opt', required=True, metavar='FILE', help='option file: a path, or the name of a packaged one'
        )
        command.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none')
        command.add_argument(
            '--auto_resume', action='store_true', help='go on from the newest state of this experiment'
        )
        command.add_argument('--debug', action='store_true', help='validate and save every 8 iterations')
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
        # torch.distributed.launch passes it; the rank comes from the environment
        command.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)
        _add_plugin_argument(command)

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

    command = commands.add_parser('list', help='what is registered, and by which distribution')
    command.add_argument('kinds', nargs='*', metavar='KIND', help=f'any of {", ".join(KINDS)} (default: all)')
    _add_plugin_argument(command)
    return parser


def _add_plugin_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        '--plugin',
        action='append',
        default=[],
        metavar='MODULE',
        help='also import this local module, which registers archs, losses, data sets ...; may be repeated',
    )


def _load_plugins(arguments: argparse.Namespace) -> None:
    from ggkm_plugin import plugins

    for problem in plugins.load_installed():
        print(f'basicsr: warning: {problem}', file=sys.stderr)
    plugins.load_local(arguments.plugin)


def _train_or_test(arguments: argparse.Namespace) -> None:
    _load_plugins(arguments)
    from ggkm_plugin import runner

    request = runner.Request(
        arguments.opt,
        arguments.launcher,
        arguments.auto_resume,
        arguments.debug,
        arguments.force_yml,
        arguments.variant,
        arguments.root,
    )
    finished = runner.run(arguments.command == 'train', request)
    if not first_process():
        return
    for picture in finished.pictures:
        print(f'\nPicture: {picture}')
    if arguments.command == 'train':
        print(f'Weights: {finished.folder / "models" / "net_g_latest.pth"}')
        _print_next(arguments, finished)


def _print_next(arguments: argparse.Namespace, finished: 'Finished') -> None:
    """The commands that one would type after this training."""
    from ggkm_plugin import options

    commands = []
    curves = finished.folder.parent.parent / 'tb_logger' / finished.name
    if curves.is_dir():
        commands.append(['tensorboard', '--logdir', str(curves)])
    named = options.load_options(finished.option_file)['name'] == finished.name  # else the test file is of another run
    test_file = finished.option_file.with_name(finished.option_file.name.replace('train_', 'test_', 1))
    if named and test_file.is_file() and test_file != finished.option_file:
        packaged = not os.path.isfile(arguments.opt)
        commands.append(['basicsr', 'test', '-opt', test_file.name if packaged else os.path.relpath(test_file)])
        commands[-1] += [] if arguments.root == '.' else ['--root', arguments.root]
    if commands:
        print('Next:', *(shlex.join(command) for command in commands), sep='\n  ')


def _profile(arguments: argparse.Namespace) -> None:
    if bool(arguments.names) == arguments.paper:
        raise OptionError('name an arch or an option file, or else give --paper')
    if arguments.repeats < 0:
        raise OptionError(f'--repeats is 0 or more, not {arguments.repeats}')
    _load_plugins(arguments)
    from ggkm_plugin import calibration, complexity

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


def _list(arguments: argparse.Namespace) -> None:
    _load_plugins(arguments)
    from ggkm_plugin import plugins

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    unknown = [kind for kind in getattr(arguments, 'kinds', []) if kind not in KINDS]
    if unknown:
        parser.error(f'list {unknown[0]}: no such kind; there are {", ".join(KINDS)}')
    # OpenCV and the host's imports talk about damaged files and old syntax on their own; errors are ours to word
    os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')
    warnings.filterwarnings('ignore', category=SyntaxWarning)
    try:
        {'train': _train_or_test, 'test': _train_or_test, 'profile': _profile, 'list': _list}[arguments.command](
            arguments
        )
    except UserError as error:
        if not isinstance(error, Interrupted) or first_process():
            print(f'basicsr {arguments.command}: {_message(error)}', file=sys.stderr)
        if isinstance(error, Interrupted) and first_process():
            words = list(sys.argv[1:] if argv is None else argv)
            words += [] if '--auto_resume' in words else ['--auto_resume']
            print(f'Go on with: {shlex.join(["basicsr", *words])}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        again = '; --auto_resume goes on from the newest checkpoint' if arguments.command == 'train' else ''
        print(f'basicsr {arguments.command}: interrupted{again}', file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output is gone, and with it the wish for more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        if os.environ.get('BASICSR_TRACEBACK'):
            raise
        print(
            f'basicsr {arguments.command}: {type(error).__name__}: {error}\n(set BASICSR_TRACEBACK=1 to see where)',
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
