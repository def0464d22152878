"""Alias of `basicsr prepare`: python -m ggkm_plugin.datasets_prep.prepare SOURCE [SOURCE ...] -o OUT"""

import sys
from collections.abc import Sequence

from ggkm_plugin.cli.main import main as basicsr


def main(argv: Sequence[str] | None = None) -> int:
    return basicsr(['prepare', *(sys.argv[1:] if argv is None else argv)])


if __name__ == '__main__':
    sys.exit(main())
