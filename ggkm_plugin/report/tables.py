"""One table in the forms that the studies write: for terminals, Markdown and CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[str]]


def text(header: Sequence[str], rows: Rows) -> str:
    """Columns of one width, the first to the left."""
    return aligned(header, rows)


def markdown(header: Sequence[str], rows: Rows) -> str:
    """The first column to the left, numbers to the right; a bar inside a cell is escaped."""

    def line(cells: Sequence[str]) -> str:
        return f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in cells)} |'

    return '\n'.join([line(header), f'| --- |{" ---: |" * (len(header) - 1)}', *map(line, rows)])


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Numbers in full; ends in a line break."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)
    return content.getvalue()


def aligned(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns padded to one width, the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
    return '\n'.join(
        '  '.join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in (header, *lines)
    )


def ranked(means: Mapping[str, float], better: str, digits: int) -> dict[str, int]:
    """1 for the best and 2 for the second best, by name; what looks alike when shown has one rank. NaN has none.

    better: higher or lower.
    """
    shown = {name: round(value, digits) for name, value in means.items() if not math.isnan(value)}
    steps = sorted(set(shown.values()), reverse=better == 'higher')[:2]
    return {name: steps.index(value) + 1 for name, value in shown.items() if value in steps}
