"""Alias of `basicsr verify`: python -m ggkm_plugin.datasets_prep.verify DATAROOT"""

import sys
from collections.abc import Sequence

from ggkm_plugin.cli.main import main as basicsr


def main(argv: Sequence[str] | None = None) -> int:
    return basicsr(['verify', *(sys.argv[1:] if argv is None else argv)])


if __name__ == '__main__':
    sys.exit(main())
