"""Digests of values, tensors, files and code."""

import importlib
import sys

import pytest
import torch
from torch import nn

from ggkm_plugin.utils.hashing import code_digest, digest, file_digest, tensor_digest


def test_the_order_of_keys_has_no_effect():
    assert digest({'a': 1, 'b': [2, {'c': 3}]}) == digest({'b': [2, {'c': 3}], 'a': 1}) != digest({'a': 1, 'b': [2]})


def test_tensor_digests_depend_on_shape_type_and_values():
    x = torch.arange(12.0).view(3, 4)
    others = [x + 1, x.view(4, 3), x.double(), x.t()]
    assert tensor_digest(x) == tensor_digest(x.clone()) == tensor_digest(x.t().contiguous().t())
    assert len({tensor_digest(each) for each in (x, *others)}) == 5


def test_the_digest_of_a_changed_file(tmp_path):
    path = tmp_path / 'file'
    path.write_text('a')
    first = file_digest(str(path))
    path.write_text('ab')
    assert file_digest(str(path)) != first
    with pytest.raises(FileNotFoundError):
        file_digest(str(tmp_path / 'gone'))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with an arch that imports another of its modules: (its folder, function that computes its digest)."""
    folder = tmp_path / 'digested_package'
    folder.mkdir()
    (folder / '__init__.py').touch()
    (folder / 'arch.py').write_text('from torch import nn\nfrom .ops import double\nclass Net(nn.Module): pass\n')
    (folder / 'ops.py').write_text('from . import deeper\ndef double(x): return deeper.f(x)\n')
    (folder / 'deeper.py').write_text('def f(x): return 2 * x\n')
    (folder / 'unrelated.py').write_text('def g(): pass\n')
    monkeypatch.syspath_prepend(tmp_path)
    names = [f'digested_package.{name}' for name in ('arch', 'ops', 'deeper', 'unrelated')]
    net = importlib.import_module(names[0]).Net
    yield folder, lambda: code_digest(net, nn.Module)
    for name in [*names, 'digested_package']:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(('file', 'counts'), [('arch', 1), ('deeper', 1), ('unrelated', 0)])
def test_a_digest_includes_imports_from_the_same_package(package, file, counts):
    folder, code = package
    before = code()
    path = folder / f'{file}.py'
    path.write_text(path.read_text() + '# changed\n')
    assert (code() != before) == counts
