"""A training's checkpoint as it is packaged: the averaged weights alone, in half precision.

python -m ggkm_plugin.restoration.export experiments/NAME/models/net_g_10000.pth -o NAME.pth
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ggkm_plugin.restoration.restorer import network_of
from ggkm_plugin.utils.checkpoint import read_checkpoint, save_atomically
from ggkm_plugin.utils.errors import CheckpointError, OptionError, UserError


def pack(source: str | Path, target: str | Path) -> None:
    """Write `source`'s averaged weights, else its weights, as float16 beside its description.

    Raises CheckpointError or OptionError for a file that does not describe its network or holds other weights than
    this network's, and for numbers that float16 cannot hold; OptionError if `target` is there.
    """
    path = str(source)
    if not str(target):
        raise OptionError('-o is empty; name the file to write')
    if os.path.lexists(target):
        raise OptionError(f'{target} is there already; name another file')
    content = read_checkpoint(path)
    net, _ = network_of(content, path)
    packed = {key: _halved(value) for key, value in net.state_dict().items()}
    for key, value in packed.items():
        if not value.isfinite().all():
            raise CheckpointError(f'{path}: {key} holds numbers that half precision cannot; train on, or keep the file')
    save_atomically({'params': packed, 'description': content['description']}, str(target))


def _halved(value: Tensor) -> Tensor:
    return value.to(torch.float16) if value.is_floating_point() else value


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='packing', description=__doc__.split('\n')[0])
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='as `basicsr train` saved it')
    parser.add_argument('-o', '--output', required=True, metavar='FILE', help='to write')
    arguments = parser.parse_args(argv)
    try:
        pack(arguments.checkpoint, arguments.output)
    except UserError as error:
        print(f'packing: {error}', file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print('packing: interrupted; nothing is written', file=sys.stderr)
        return 1
    print(f'{arguments.output}: {os.path.getsize(arguments.output) / 1e6:.1f} MB')
    return 0


if __name__ == '__main__':
    sys.exit(main())
