"""Structure of the package: one meaning per class name, no loose modules, and a true map in CONTRIBUTING.md."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'ggkm_plugin'


def sources():
    return [path for path in PACKAGE.rglob('*.py') if 'datasets_prep' not in path.parts]


def test_a_class_name_has_one_meaning():
    places = defaultdict(list)
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}


def test_modules_are_in_subpackages():
    assert [path.name for path in PACKAGE.glob('*.py')] == ['__init__.py']


def test_the_table_of_contributing_is_the_import_contract():
    tomllib = pytest.importorskip('tomllib', reason='Python 3.10 has no TOML reader')
    contract = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['tool']['importlinter'][
        'contracts'
    ][0]
    layers = [set(re.split(r'\s*[:|]\s*', layer)) for layer in contract['layers']]
    rows = re.findall(r'^\| (\d+) \| `(\w+)` \|', (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8'), re.MULTILINE)
    assert [{name for layer, name in rows if int(layer) == n} for n in range(1, len(layers) + 1)] == layers
    folders = {path.parent.name for path in PACKAGE.glob('*/__init__.py')} - set(contract['exhaustive_ignores'])
    assert {name for _, name in rows} == folders
