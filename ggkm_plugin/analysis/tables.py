"""One table in the forms that the studies write: for terminals, Markdown and CSV."""

import csv
import io
from collections.abc import Sequence

from ggkm_plugin.complexity import aligned

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
