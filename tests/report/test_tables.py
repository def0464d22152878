"""Tables: marks, groups, footnotes and escapes in each format; CSV and JSON."""

import json
import math
import re
from dataclasses import dataclass

import pytest

from ggkm_plugin.report.tables import FORMATS, Cell, Table, csv_text, ranked, to_csv, to_json, write

TABLE = Table(
    ['method', 'PSNR ↑', 'score_%'],
    [
        ['first_net', Cell('25.000', 2), Cell('0.30', footnote='why & how')],
        ['a|b*', Cell('126.00', 1), Cell('-0.2', footnote='another')],
        ['third', '-', Cell('1.5', footnote='why & how')],
    ],
    [('others', [['GKMNet', '99', '-']]), ('nothing', [])],
    'A title',
    ['a note'],
)


def lines(form, table=TABLE):
    """Lines of a table with single spaces."""
    return [' '.join(line.split()) for line in write(table, form).splitlines()]


def test_terminal():
    text = write(TABLE)
    found = lines('table')
    assert 'first_net 25.000 * 0.30 [1]' in found
    assert 'a|b* 126.00 ** -0.2 [2]' in found
    assert 'third - 1.5 [1]' in found
    assert found[-4:] == ['a note', '** best, * second best', '[1] why & how', '[2] another']
    assert found.index('(others)') < found.index('GKMNet 99 -')
    assert 'nothing' not in text
    column = [line for line in text.splitlines() if re.match(r'first_net|a\|b', line)]
    assert len({line.index('.') for line in column}) == 1  # decimal points are aligned
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_markdown():
    found = lines('markdown')
    assert found[0] == '### A title'
    assert '| first\\_net | <u>25.000</u> | 0.30 [1] |' in found
    assert '| a\\|b\\* | **126.00** | -0.2 [2] |' in found
    assert '| *others* | | |' in found
    assert found[-3:] == ['- a note', '- [1] why & how', '- [2] another']
    rows = [line for line in found if line.startswith('|')]
    assert {len(re.findall(r'(?<!\\)\|', row)) for row in rows} == {4}  # every row has three cells


def test_latex():
    found = lines('latex')
    assert found[:2] == ['% A title', '% a note']
    assert r'method & PSNR $\uparrow$ & score\_\% \\' in found
    assert r'first\_net & \underline{25.000} & 0.30$^{1}$ \\' in found
    assert r'a|b* & \textbf{126.00} & -0.2$^{2}$ \\' in found
    assert [line for line in found if 'rule' in line] == [r'\toprule', r'\midrule', r'\midrule', r'\bottomrule']
    assert r'\par\footnotesize $^{1}$ why \& how' in found
    assert found.count(r'\begin{table}') == found.count(r'\end{table}') == 1
    assert {len(re.findall(r'(?<!\\)&', line)) for line in found if line.endswith(r'\\')} == {2}


@pytest.mark.parametrize('form', FORMATS)
def test_tables_may_be_empty(form):
    assert 'best' not in write(Table(['name'], [['x']]), form)
    assert 'name' in write(Table(['name', 'number']), form)


@dataclass
class Record:
    name: str
    value: float | None


def test_dataclasses():
    records = [Record('a', 1.5), Record('b', None)]
    assert to_csv(records) == 'name,value\na,1.5\nb,\n'
    assert (to_csv([]), to_json([])) == ('\n', '[]\n')
    assert [Record(**record) for record in json.loads(to_json(records))] == records
    assert csv_text(['x', 'y'], [['a,b', 0.1 + 0.2], ['"', math.inf]]) == 'x,y\n"a,b",0.30000000000000004\n"""",inf\n'


def test_ranks():
    means = {'a': 30.0, 'b': 31.0, 'c': 29.0}
    assert ranked(means, 'higher', 3) == {'b': 1, 'a': 2}
    assert ranked(means, 'lower', 3) == {'c': 1, 'a': 2}
    assert ranked({'a': 30.0001, 'b': 30.0002, 'c': 29.0, 'd': 28.0}, 'higher', 3) == {'a': 1, 'b': 1, 'c': 2}
    assert ranked({'a': math.inf, 'b': math.nan, 'c': 3.0}, 'higher', 3) == {'a': 1, 'c': 2}
    assert ranked({'a': 1.0}, 'higher', 3) == {'a': 1}
