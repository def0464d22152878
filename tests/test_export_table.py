"""The table arch x format in docs/export.md: every arch is in it, and two rows are made anew."""

import inspect

import pytest
from export_table import NETWORKS, PAGE, row

from ggkm_plugin.archs import external_arch
from ggkm_plugin.utils.registry import ARCH_REGISTRY


def test_every_arch_of_this_package_is_in_the_table():
    classes = {
        name for name, kind in ARCH_REGISTRY if inspect.isclass(kind) and 'ggkm_plugin.archs.' in kind.__module__
    }
    assert NETWORKS.keys() == classes | {arch.__name__ for arch in external_arch.ARCHS}
    lines = PAGE.read_text(encoding='utf-8').splitlines()
    assert {line.split()[1] for line in lines if line.endswith('| yes | yes |')} == {*NETWORKS}


@pytest.mark.slow
@pytest.mark.parametrize('arch', ['GGKMNetFullyLearned', 'NAFNet'])  # tests/export_table.py makes all
def test_a_row_of_the_table(arch):
    for package in ('onnx', 'onnxscript', 'onnxruntime', 'spandrel', 'spandrel_extra_arches'):
        pytest.importorskip(package)
    assert row(arch) in PAGE.read_text(encoding='utf-8').splitlines()
