"""Arguments that several commands share, and the loading of their plugins."""

import argparse
from typing import Any

from ggkm_plugin.cli.output import warn


def add_option_file(parser: argparse.ArgumentParser) -> None:
    """Add -opt, --force_yml, --variant and --root."""
    parser.add_argument(
        '-opt', required=True, metavar='FILE', help='option file: a path, or the name of a packaged one'
    )
    add_overrides(parser, 'override keys of the option file')
    parser.add_argument('--variant', metavar='NAME', help='named override from `variants:` in the option file')
    parser.add_argument(
        '--root',
        default='.',
        metavar='DIR',
        help='folder of experiments/, results/ and relative paths of the option file (default: current folder)',
    )


def add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument('--force_yml', nargs='+', default=[], metavar='KEY:KEY=VALUE', help=text)


def option_file(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of `add_option_file` under the names that the requests of all commands give them."""
    return {key: getattr(arguments, key) for key in ('opt', 'force_yml', 'variant', 'root')}


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add --launcher, and the --local-rank that torch.distributed.launch passes."""
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm'),
        help='launcher of several processes (default: detected from the environment of torchrun or srun)',
    )
    add_local_rank(parser)


def add_local_rank(parser: argparse.ArgumentParser) -> None:
    """Accept --local-rank. The rank itself comes from the environment."""
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


def add_image_check(parser: argparse.ArgumentParser) -> None:
    """Add --skip-image-check."""
    parser.add_argument(
        '--skip-image-check', action='store_true', help='do not read the headers of all images before the start'
    )


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Add --plugin."""
    parser.add_argument(
        '--plugin',
        action='append',
        default=[],
        metavar='MODULE',
        help='also import this local module, which registers archs, losses, data sets ...; may be repeated',
    )


def add_arch(parser: argparse.ArgumentParser, more: str = '') -> None:
    """Add --arch."""
    parser.add_argument(
        '--arch',
        metavar='NAME[,KEY=VALUE]',
        help='network of a checkpoint that does not describe it, such as GGKMNet,width=8' + more,
    )


def load_plugins(arguments: argparse.Namespace, on_demand: bool = False) -> None:
    """Import all installed plugins and those of --plugin.

    With `on_demand` installed plugins are left to `registry.find`, which imports them for an unknown name. That saves
    seconds.
    """
    if on_demand and not arguments.plugin:
        return
    from ggkm_plugin.utils import plugins

    for problem in plugins.load_installed():
        warn(arguments, problem)
    plugins.load_local(arguments.plugin)
