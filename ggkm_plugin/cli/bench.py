"""`basicsr bench`: benchmarks of speed and memory."""

import argparse
import importlib
from typing import Any

from ggkm_plugin import benchmarks
from ggkm_plugin.cli.output import check_json, write_json
from ggkm_plugin.utils.errors import OptionError

HELP = 'benchmarks of speed and memory: tables, and JSON'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'names', nargs='*', metavar='BENCHMARK', help=f'any of {", ".join(benchmarks.NAMES)} (default: all)'
    )
    parser.add_argument('--json', metavar='FILE', help='also write the numbers and the description of the machine')
    parser.add_argument('--seconds', type=float, default=10, metavar='S', help='per measurement (default: 10)')
    parser.add_argument(
        '--device',
        default='cpu',
        metavar='D',
        help='operator, network, scaling, training: cpu, cuda[:N], mps or xpu (default: cpu)',
    )
    parser.add_argument('--pairs', type=int, default=16, metavar='N', help='reader: photographs (default: 16)')
    parser.add_argument(
        '--size', default='1120x1680', metavar='HxW', help="reader: of the photographs (default: DPDD's, 1120x1680)"
    )
    parser.add_argument(
        '--megapixels', type=float, nargs='+', default=[0.25, 1, 4, 24], metavar='M', help='scaling: sizes of images'
    )
    parser.add_argument(
        '--tiles',
        nargs='+',
        default=['auto'],
        metavar='N',
        help='scaling: sides of tiles, none, or auto (default: auto)',
    )
    parser.add_argument(
        '--work', metavar='DIR', help="folder of temporary photographs (default: the system's temporary folder)"
    )


def run(arguments: argparse.Namespace) -> None:
    names = list(dict.fromkeys(arguments.names)) or list(benchmarks.NAMES)
    unknown = [name for name in names if name not in benchmarks.NAMES]
    if unknown:
        raise OptionError(f'"{unknown[0]}": no such benchmark. Benchmarks: {", ".join(benchmarks.NAMES)}')
    check_json(arguments.json)
    from ggkm_plugin.benchmarks import forms, reader
    from ggkm_plugin.evaluation import complexity
    from ggkm_plugin.restoration.tiling import parse_tile
    from ggkm_plugin.utils.devices import machine

    record: dict[str, Any] = {'machine': machine()}
    data = reader.ReaderSettings(
        pairs=arguments.pairs,
        size=complexity.parse_size(arguments.size),
        seconds=arguments.seconds,
        work=arguments.work,
    )
    compute = forms.ComputeSettings(
        device=arguments.device,
        seconds=arguments.seconds,
        megapixels=tuple(arguments.megapixels),
        tiles=tuple(parse_tile(tile) for tile in arguments.tiles),
    )
    for name in names:
        benchmark = importlib.import_module(f'ggkm_plugin.benchmarks.{name}')
        report = benchmark.run(data if name in benchmarks.OF_DATA else compute, progress=True)
        record[name] = report.record()
        print(name, benchmark.table(report), '', sep='\n')
    print(_machine_line(record['machine']))
    write_json(arguments.json, record)


def _machine_line(facts: dict[str, Any]) -> str:
    versions = ', '.join(f'{name} {facts[name]}' for name in ('python', 'torch', 'opencv', 'lmdb', 'numpy'))
    return (
        f'machine: {facts["processor"]}, {facts["cores"]} cores, {facts["memory_bytes"] / 2**30:.0f} GiB, '
        f'{facts["system"]}; load before: {facts["load_average"]}. {versions}, ggkm_plugin {facts["ggkm_plugin"]}.'
    )
