"""Learn the dictionary and the curve of JNB that are packaged.

python -m ggkm_plugin.datasets_prep.learn_jnb FILE
"""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ggkm_plugin.classical.jnb_learning import learned
from ggkm_plugin.datasets_prep.running import run_script
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.files import write_whole


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='learn_jnb', description=__doc__.split('\n')[0])
    parser.add_argument('out', metavar='FILE', help='new .npz file')
    parser.add_argument('--dry-run', action='store_true', help='print what would be written')
    return parser


def learn(arguments: argparse.Namespace) -> None:
    """Learn and write FILE. Raises DataError if it exists or cannot be written."""
    out = Path(arguments.out)
    if out.exists() or not out.parent.is_dir():
        raise DataError(f'{out}: the file exists or its folder does not. Name a new file in an existing folder')
    if arguments.dry_run:
        print(f'a dictionary would be learned from the photographs of scikit-image and written to {out}')
        return
    with tqdm(leave=False) as bar:

        def progress(what: str, done: int, total: int) -> None:
            bar.set_description(what)
            bar.n, bar.total = done, total
            bar.refresh()

        found = learned(progress)
    content = io.BytesIO()
    np.savez(content, atoms=found.atoms, counts=found.counts, sigmas=found.sigmas)
    try:
        write_whole(out, content.getvalue())
    except OSError as error:
        raise DataError(f'{out}: {error.strerror or error}') from error
    curve = ', '.join(f'{sigma:g}: {count:.1f}' for sigma, count in zip(found.sigmas, found.counts, strict=True))
    print(f'{out}: {len(found.atoms)} atoms; sigma in pixels: atoms needed {curve}')


def main(argv: Sequence[str] | None = None) -> int:
    return run_script(build_parser(), learn, argv)


if __name__ == '__main__':
    sys.exit(main())
