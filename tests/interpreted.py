"""Run the Triton form of the blur in Triton's interpreter, in a separate process: it must be enabled before the import.

`python interpreted.py CASES RESULTS` reads a list of `Case`s and writes a value and gradients for each.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from problems import problem, with_gradients


@dataclass(frozen=True)
class Case:
    """A problem and the settings of the launch code."""

    size: tuple[int, int]
    groups: int = 4
    kernels: int = 3
    batch: int = 1
    channels: int = 3
    out_channels: int = 3
    identity: bool = True
    mixed: bool = True
    iterative: bool = True
    beta: str = 'float32'
    channels_last: bool = False
    margin: int = 10  # four steps reach 10 pixels
    tile: tuple[int, int] = (16, 16)
    steps: int = 8  # at once, at most

    def inputs(self):
        """Return x, alpha, beta, mix (if any) and bank in float64; beta is rounded to its dtype."""
        x, alpha, beta, mix, bank = problem(
            self.size, self.groups, self.kernels, self.batch, self.channels, self.identity, self.out_channels
        )
        return [x, alpha, self.stored(beta).double(), *([mix] if self.mixed else []), bank]

    def stored(self, beta):
        """Convert maps to their dtype and layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return beta.to(getattr(torch, self.beta)).contiguous(memory_format=layout)


def run_all(cases: list[Case], folder: Path) -> list[tuple]:
    """Run the cases in another process; return value and gradients of each."""
    torch.save([{field.name: getattr(case, field.name) for field in fields(case)} for case in cases], folder / 'cases')
    command = [sys.executable, __file__, folder / 'cases', folder / 'results']
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return torch.load(folder / 'results')


def run(case: Case) -> tuple:
    from ggkm_plugin.ops import ggkm_blur, steps
    from ggkm_plugin.ops.ggkm import triton as kernels

    kernels._TILE, kernels._SUMMING_TILE, steps._MOST_STEPS = (*case.tile, 4), (*case.tile, 1), case.steps

    def blur(x, alpha, beta, mix=None):
        options = {'include_identity': case.identity, 'iterative': case.iterative, 'margin': case.margin}
        return ggkm_blur(x, alpha, case.stored(beta), bank, mix, form='fused', **options).double()

    *inputs, bank = (tensor.float() for tensor in case.inputs())
    return with_gradients(blur, inputs)


if __name__ == '__main__':
    cases = [Case(**case) for case in torch.load(sys.argv[1])]
    torch.save([run(case) for case in cases], sys.argv[2])
