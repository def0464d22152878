"""A comparison that takes a blink: networks of one number on three pairs of images."""

import copy
import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import write_pairs

# A local plugin: multiplies by its one weight, tells each forward, and fails in several ways.
ARCHS = """
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn


@ARCH_REGISTRY.register()
class Gain(nn.Module):
    def __init__(self, failing=None, only_below=None):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.failing, self.only_below = failing, only_below

    def forward(self, x):
        with open('forwards.txt', 'a') as file:
            print(self.gain.item(), *x.shape[-2:], file=file)
        y = x * self.gain
        if self.failing is None or (self.only_below and x.mean() >= self.only_below):
            return y
        if self.failing == 'memory':
            raise torch.OutOfMemoryError('CUDA out of memory')
        if self.failing == 'exception':
            raise ZeroDivisionError('a bug')
        if self.failing == 'hungry':
            return y + torch.zeros(2**32)[0]
        return {'nan': y * float('nan'), 'size': y[..., 1:], 'list': [y]}[self.failing]


@ARCH_REGISTRY.register()
class Picky(Gain):
    size_multiple = 16

    def forward(self, x):
        assert x.shape[-1] % 16 == x.shape[-2] % 16 == 0
        return super().forward(x)


@ARCH_REGISTRY.register()
class FirstChannel(Gain):
    def forward(self, x):
        return torch.cat([super().forward(x[:, :1]), x[:, 1:]], dim=1)
"""


class Bench:
    """A folder with pairs, weights and an option file to change."""

    def __init__(self, folder: Path, command) -> None:
        self.folder, self.command = folder, command
        self.opt = {
            'name': 'three',
            'protocol': 'dpdnet',
            'metrics': ['psnr', 'ssim', 'mae'],
            'num_gpu': 0,
            'models': [],
            'datasets': {
                'pairs': {
                    'type': 'PairedDefocusDataset',
                    'dataroot_lq': 'pairs/input',
                    'dataroot_gt': 'pairs/ground_truth',
                }
            },
            'published': False,
            'complexity': False,
            'plugins': ['compare_test_archs'],
        }
        (folder / 'compare_test_archs.py').write_text(ARCHS)

    def add(self, name: str, gain: float, arch: str = 'Gain', **keys) -> dict:
        """One more model, its weights in NAME.pth."""
        self.weights(name, gain)
        model = {'name': name, 'network_g': {'type': arch}, 'weights': f'{name}.pth', **keys}
        self.opt['models'].append(model)
        return model

    def weights(self, name: str, gain: float) -> None:
        torch.save({'params': {'gain': torch.tensor([gain])}}, self.folder / f'{name}.pth')

    def write(self) -> str:
        path = self.folder / 'compare.yml'
        path.write_text(yaml.safe_dump(self.opt))
        return str(path)

    def run(self, *arguments: str, code: int = 0) -> tuple[dict, str, str]:
        """results.json, stdout and stderr."""
        found, out, err = self.command('compare', '-opt', self.write(), '--no-report', *arguments)
        assert found == code, err
        return self.results(), out, err

    def results(self) -> dict:
        path = self.folder / 'results' / self.opt['name'] / 'results.json'
        return json.loads(path.read_text(), parse_constant=pytest.fail) if path.is_file() else {}

    def numbers(self) -> dict:
        """Values that two runs must agree on."""
        results = copy.deepcopy(self.results())
        del results['machine']
        return results

    def forwards(self) -> list[str]:
        """The lines of the forwards since the last call."""
        path = self.folder / 'forwards.txt'
        lines = path.read_text().splitlines() if path.is_file() else []
        path.write_text('')
        return lines


@pytest.fixture
def bench(workplace, command):
    write_pairs(workplace / 'pairs', 4)
    bench = Bench(workplace, command)
    bench.add('bright', 1.02)
    bench.add('dark', 0.9)
    return bench
