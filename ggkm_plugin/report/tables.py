"""Tables for terminals, Markdown, LaTeX (booktabs) and CSV, written with `tabulate`."""

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tabulate import SEPARATING_LINE, tabulate

FORMATS = ('table', 'markdown', 'latex')
MISSING = '-'


class Cell(NamedTuple):
    """Text of one cell. rank: 1 for the best and 2 for the second best of its column, else 0."""

    text: str
    rank: int = 0
    footnote: str = ''


TableRow = Sequence[Cell | str]


@dataclass(frozen=True)
class Table:
    """Rows under a header, the first column to the left, the others to the right.

    groups: rows by label, below `rows`; each group is set apart under its label.
    """

    header: Sequence[str]
    rows: Sequence[TableRow] = ()
    groups: Sequence[tuple[str, Sequence[TableRow]]] = ()
    title: str = ''
    notes: Sequence[str] = ()

    def cells(self) -> Iterator[tuple[str, list[list[Cell]]]]:
        """Yield label and rows of each group that has rows; the label of `rows` is empty."""
        for label, rows in (('', self.rows), *self.groups):
            if rows:
                yield label, [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]


def write(table: Table, form: str = 'table') -> str:
    """Return `table` as one of FORMATS, with title, notes and footnotes; no line break at the end."""
    return {'table': _terminal, 'markdown': _markdown, 'latex': _latex}[form](table)


def csv_text(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return CSV with numbers in full and empty fields for None; ends in a line break."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator='\n')
    writer.writerow(header)
    writer.writerows(rows)
    return content.getvalue()


def to_csv(records: Sequence[Any]) -> str:
    """Return flat dataclasses of one type as CSV, their field names as header."""
    rows = _records(records)
    return csv_text(list(rows[0]) if rows else [], [list(row.values()) for row in rows])


def to_json(records: Sequence[Any]) -> str:
    """Return dataclasses as a JSON list of objects."""
    return json.dumps(_records(records), indent=2, ensure_ascii=False) + '\n'


def _records(records: Sequence[Any]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(record) for record in records]


def fixed(value: float | None, digits: int, unit: float = 1, sign: str = '') -> str:
    """Return `value` in units of `unit` with so many decimals; MISSING for None. sign: '+' adds a plus sign."""
    return MISSING if value is None else f'{value / unit:{sign}.{digits}f}'


def ranked(means: Mapping[str, float], better: str, digits: int) -> dict[str, int]:
    """Return 1 for the best and 2 for the second best, by name. Equal when rounded is equal; NaN has no rank.

    better: higher or lower.
    """
    shown = {name: round(value, digits) for name, value in means.items() if not math.isnan(value)}
    steps = sorted(set(shown.values()), reverse=better == 'higher')[:2]
    return {name: steps.index(value) + 1 for name, value in shown.items() if value in steps}


@dataclass(frozen=True)
class _Style:
    """Patterns of a format for cells by rank, labels of groups and numbers of footnotes."""

    tablefmt: str
    escapes: Mapping[str, str]
    ranks: tuple[str, str, str]
    label: str
    footnote: str
    rules: bool  # a rule between groups

    def escaped(self, text: str) -> str:
        return ''.join(self.escapes.get(char, char) for char in text)


_TERMINAL = _Style('simple', {}, ('{}', '{} **', '{} * '), '({})', ' [{}]', rules=True)
_MARKDOWN = _Style(
    'pipe', {char: f'\\{char}' for char in '\\|*_`<>#'}, ('{}', '**{}**', '<u>{}</u>'), '*{}*', ' [{}]', rules=False
)
_LATEX = _Style(
    'latex_raw',  # tabulate's own booktabs format would escape the marks
    {
        **{char: f'\\{char}' for char in '&%$#_{}'},
        '\\': r'\textbackslash{}',
        '~': r'\textasciitilde{}',
        '^': r'\textasciicircum{}',
        '↑': r'$\uparrow$',
        '↓': r'$\downarrow$',
        '±': r'$\pm$',
    },
    ('{}', r'\textbf{{{}}}', r'\underline{{{}}}'),
    r'\rlap{{\emph{{{}}}}}',
    '$^{{{}}}$',
    rules=True,
)


def _tabulated(table: Table, style: _Style) -> tuple[str, list[str]]:
    """Return the table and its numbered footnotes; equal footnotes share a number."""
    footnotes: dict[str, int] = {}

    def shown(cell: Cell) -> str:
        text = style.ranks[cell.rank].format(style.escaped(cell.text))
        if cell.footnote:
            text += style.footnote.format(footnotes.setdefault(cell.footnote, len(footnotes) + 1))
        return text

    lines: list[Any] = []
    for label, rows in table.cells():
        lines += [SEPARATING_LINE] if lines and style.rules else []
        lines += [[style.label.format(style.escaped(label)), *[''] * (len(table.header) - 1)]] if label else []
        lines += [[shown(cell) for cell in row] for row in rows]
    text = tabulate(
        lines,
        [style.escaped(name) for name in table.header],
        style.tablefmt,
        disable_numparse=True,
        preserve_whitespace=True,
        colalign=(align := ('left', *['right'] * (len(table.header) - 1))),
        headersalign=align,
    )
    return text, [
        f'{style.footnote.format(number).strip()} {style.escaped(text)}' for text, number in footnotes.items()
    ]


def _terminal(table: Table) -> str:
    """Format for a terminal: two stars for the best, one for the second best, aligned decimal points."""
    groups = list(table.cells())
    marked = any(cell.rank for _, rows in groups for row in rows for cell in row)
    columns = zip(*(row for _, rows in groups for row in rows), strict=True)
    decimals = [max(_decimals(cell.text) for cell in column) for column in columns]

    def padded(cell: Cell, column: int) -> Cell:
        own = _decimals(cell.text)
        padding = decimals[column] - own if own else 0
        return cell._replace(text=cell.text + ' ' * (padding + 3 * (marked and column > 0 and not cell.rank)))

    aligned = Table(
        [name + '   ' * (marked and column > 0) for column, name in enumerate(table.header)],
        groups=[(label, [[padded(cell, at) for at, cell in enumerate(row)] for row in rows]) for label, rows in groups],
    )
    text, footnotes = _tabulated(aligned, _TERMINAL)
    marks = ['** best, * second best'] if marked else []
    title = [table.title] if table.title else []
    return '\n'.join([*title, *map(str.rstrip, text.splitlines()), *table.notes, *marks, *footnotes])


def _decimals(text: str) -> int:
    """Return the number of decimals of a number, else 0."""
    whole, _, fraction = text.partition('.')
    return len(fraction) if fraction.isdecimal() and whole.lstrip('-+').isdecimal() else 0


def _markdown(table: Table) -> str:
    text, footnotes = _tabulated(table, _MARKDOWN)
    notes = [f'- {note}' for note in (*map(_MARKDOWN.escaped, table.notes), *footnotes)]
    title = [f'### {_MARKDOWN.escaped(table.title)}', ''] if table.title else []
    return '\n'.join([*title, text, *(['', *notes] if notes else [])])


def _latex(table: Table) -> str:
    """Format as a booktabs tabular; notes are comments, footnotes follow it."""
    text, footnotes = _tabulated(table, _LATEX)
    top, *middle, bottom = text.split(r'\hline')
    return '\n'.join(
        [
            *(f'% {line}' for line in (table.title, *table.notes) if line),
            r'\begin{table}',
            r'\centering',
            *([rf'\caption{{{_LATEX.escaped(table.title)}}}'] if table.title else []),
            rf'{top}\toprule' + r'\midrule'.join(middle) + rf'\bottomrule{bottom}',
            *(rf'\par\footnotesize {footnote}' for footnote in footnotes),
            r'\end{table}',
        ]
    )
