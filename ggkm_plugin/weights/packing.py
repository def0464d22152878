"""A training's checkpoint as it is packaged: the averaged weights alone, in half precision.

python -m ggkm_plugin.weights.packing experiments/NAME/models/net_g_10000.pth -o NAME.pth
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ggkm_plugin.checkpoints import described_network, read_checkpoint, save_atomically
from ggkm_plugin.errors import CheckpointError, OptionError, UserError


def pack(source: str | Path, target: str | Path) -> None:
    """Write `source`'s averaged weights, else its weights, as float16 beside its description.

    Raises CheckpointError for a file that does not describe its network, and for numbers that float16 cannot hold;
    OptionError if `target` is there.
    """
    path = str(source)
    content = read_checkpoint(path)
    described_network(content, path, 'name a checkpoint that `basicsr train` saved')
    if Path(target).exists():
        raise OptionError(f'{target} is there already; name another file')
    packed = {}
    for key, value in content.get('params_ema', content['params']).items():
        packed[key] = _halved(value)
        if not packed[key].isfinite().all():
            raise CheckpointError(f'{path}: {key} holds numbers that half precision cannot; train on, or keep the file')
    save_atomically({'params': packed, 'description': content['description']}, str(target))


def _halved(value: Tensor) -> Tensor:
    return value.detach().to(torch.float16) if value.is_floating_point() else value


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
    return 0


if __name__ == '__main__':
    sys.exit(main())
