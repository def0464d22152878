"""Import hook for basicsr: defects without it, imports with it; nothing of basicsr is replaced."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from ggkm_plugin.utils import basicsr_imports
from ggkm_plugin.utils.errors import BasicSRError

_BREAK_TORCHVISION = """
import torch
def fail(path):
    raise OSError('built for another torch')
torch.ops.load_library = fail
"""


def _old(package, minimum):
    return tuple(int(part) for part in version(package).split('+')[0].split('.')[:2]) < minimum


@pytest.mark.skipif(_old('torchvision', (0, 17)), reason='this torchvision still has functional_tensor')
def test_basicsr_cannot_be_imported_without_the_shims(python):
    assert python('import basicsr').returncode != 0


def test_a_torchvision_whose_operators_do_not_load(python):
    """Simulates a CPU-only torch with a torchvision built for CUDA."""
    broken = python(_BREAK_TORCHVISION + 'import torchvision')
    assert 'operator torchvision::' in broken.stderr
    mended = python(_BREAK_TORCHVISION + 'import ggkm_plugin\nggkm_plugin.register()\nimport torchvision, basicsr')
    assert mended.returncode == 0, mended.stderr


def test_basicsr_is_imported_and_register_replaces_nothing_of_it(python):
    """All functions and classes of basicsr are the same objects before and after; registries only grow."""
    result = python("""
import sys
from ggkm_plugin.utils import basicsr_imports
basicsr_imports.install()
import basicsr
from ggkm_plugin.utils.registry import REGISTRIES

def inventory():
    found = {}
    for module_name, module in sorted(sys.modules.items()):
        if module_name.split('.')[0] == 'basicsr':
            for name, value in vars(module).items():
                if callable(value):
                    found[module_name, name] = value
                if isinstance(value, type):
                    found.update({(module_name, name, key): member for key, member in vars(value).items()})
    return found

before, names = inventory(), {kind: set(registry.keys()) for kind, registry in REGISTRIES.items()}
import ggkm_plugin
ggkm_plugin.register()
after = inventory()
assert len(before) > 1000
import torch
from torchvision.transforms.functional_tensor import rgb_to_grayscale
assert rgb_to_grayscale(torch.ones(1, 3, 2, 2)).shape == (1, 1, 2, 2)
assert [key for key in before if after.get(key) is not before[key]] == []
grown = {kind: set(registry.keys()) - names[kind] for kind, registry in REGISTRIES.items()}
assert all(names[kind] <= set(registry.keys()) for kind, registry in REGISTRIES.items())
assert grown == {
    'archs': {
        'GGKMNet', 'GGKMNetNoLSTM', 'MCPNet', 'GGKMNetNoGroup', 'GGKMNetFullyLearned', 'GKMNet', 'NRKNet',
        'KPAC', 'IFAN', 'DRBNet', 'DPDNetS', 'MDP', 'SRN', 'AttSRN', 'AIFNet',
        'NAFNet', 'Uformer', 'FFTformer', 'GRL', 'KBNet', 'Restormer', 'MPRNet',
    },
    'losses': {'GGKMLoss', 'GKMLoss', 'NRKLoss', 'SRNLoss', 'IFANLoss'}, 'models': {'DefocusModel', 'JDRLModel'},
    'datasets': {
        'MixedDefocusDataset', 'PairedDefocusDataset', 'SingleDefocusDataset', 'SyntheticDefocusDataset',
    },
    'metrics': {
        'defocus_psnr', 'defocus_ssim', 'defocus_mae', 'defocus_lpips', 'defocus_niqe', 'defocus_arniqa',
    },
}, grown
""")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize('dataset', ['PairedImageDataset', 'PairedDefocusDataset'])
def test_spawned_workers_can_import_basicsr(python, workplace, dataset):
    result = python(f"""
import ggkm_plugin
ggkm_plugin.register()
from basicsr.data import build_dataset
from torch.utils.data import DataLoader

if __name__ == '__main__':
    opt = dict(name='x', type='{dataset}', phase='val', scale=1, dataroot_lq='pairs/input',
               dataroot_gt='pairs/ground_truth', io_backend=dict(type='disk'))
    loader = DataLoader(build_dataset(opt), num_workers=1, multiprocessing_context='spawn')
    assert len([sample['lq'] for sample in loader]) == 4
""")
    assert result.returncode == 0, result.stderr


def test_the_command_line_is_light(python):
    """--help and --version need neither torch nor numpy nor yaml."""
    result = python(
        'import sys\nimport ggkm_plugin, ggkm_plugin.cli.main\nggkm_plugin.cli.main.build_parser().format_help()\n'
        'heavy = {"torch", "basicsr", "numpy", "cv2", "yaml"} & set(sys.modules)\nassert not heavy, heavy'
    )
    assert result.returncode == 0, result.stderr


def fake_basicsr(folder, version):
    (folder / 'basicsr').mkdir(parents=True)
    (folder / 'basicsr/__init__.py').write_text('')
    if version:
        (folder / 'basicsr/version.py').write_text(f"__version__ = '{version}'\n")
    return folder


@pytest.mark.parametrize(('found', 'words'), [('1.3.5', ('list', 'archs')), (None, ('train', '-opt', 'x.yml'))])
def test_another_basicsr_on_the_path(tmp_path, found, words):
    """Commands print one line that names the folder that was found and the version that is needed."""
    other = fake_basicsr(tmp_path / 'other', found)
    path = os.pathsep.join([str(other), *filter(None, [os.environ.get('PYTHONPATH')])])
    result = subprocess.run(
        [sys.executable, '-m', 'ggkm_plugin.cli', *words],
        cwd=tmp_path, env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert all(word in result.stderr for word in (str(other / 'basicsr'), basicsr_imports.VERSION, found or 'unknown'))


def test_no_basicsr(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [basicsr_imports._ImportHook()])
    with pytest.raises(BasicSRError, match='basicsr'):
        basicsr_imports.basicsr_folder()
