"""Shared parts of the timing benchmarks: the plain form, interleaved timing, and a table of ratios.

The plain form is the obvious implementation: torch's default memory layout, every Gaussian of the chain as two
one-dimensional convolutions, all blurred images kept, then the weighted sum as a 1x1 convolution.
"""

import copy
import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from ggkm_plugin.archs.ggkmnet_arch import IGGCM, FixedPointStep, GGKMNet
from ggkm_plugin.ops import iterative_group_conv
from ggkm_plugin.report.tables import MISSING, Table, fixed, write
from ggkm_plugin.restoration.tiling import Tile
from ggkm_plugin.utils.devices import find_device
from ggkm_plugin.utils.errors import OptionError

_TURNS = 3


@dataclass(frozen=True)
class ComputeSettings:
    """Arguments: seconds for each comparison; for scaling the megapixels of the images and their tiles."""

    device: str
    seconds: float
    megapixels: tuple[float, ...] = ()
    tiles: tuple[Tile, ...] = ('auto',)

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise OptionError(f'--seconds {self.seconds:g}: above 0')
        if not all(0 < each <= 200 for each in self.megapixels):
            raise OptionError(f'--megapixels: numbers in (0, 200], not {" ".join(map(str, self.megapixels))}')

    @property
    def where(self) -> torch.device:
        """Return the device. Raises OptionError if it is missing."""
        return find_device(self.device)


@dataclass(frozen=True)
class Timing:
    """One form of a task; None where not measured.

    seconds: median. ratio: speed relative to the first form of the task. difference: largest, relative to the first
    form's largest value. memory: peak in bytes.
    """

    task: str
    form: str
    seconds: float
    ratio: float | None = None
    difference: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class TimingReport:
    device: str
    rows: list[Timing]

    def record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def table(report: TimingReport) -> str:
    """Return the terminal table, a group per task."""
    tasks: dict[str, list[list[str]]] = {}
    for row in report.rows:
        tasks.setdefault(row.task, []).append(
            [
                row.form,
                fixed(row.seconds, 1, 1e-3),
                fixed(row.ratio, 2),
                MISSING if row.difference is None else f'{row.difference:.1e}',
                fixed(row.memory, 0, 2**20),
            ]
        )
    return write(Table(['', 'ms', 'times faster', 'difference', 'peak, MiB'], groups=list(tasks.items())))


def in_turns(forms: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Return the median seconds of each form. Forms are timed in turns, so that other load affects all alike."""
    for form in forms.values():
        form()
    threads = torch.get_num_threads()  # Timer's own default is one
    timers = {name: Timer('form()', globals={'form': form}, num_threads=threads) for name, form in forms.items()}
    share = seconds / _TURNS / len(forms)
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(_TURNS):
        for name, timer in timers.items():
            times[name] += timer.blocked_autorange(min_run_time=share).times
    return {name: statistics.median(values) for name, values in times.items()}


def compared(
    task: str,
    forms: Mapping[str, Callable[[], Any]],
    settings: ComputeSettings,
    same: Sequence[str] = (),
    memory: Mapping[str, int | None] | None = None,
) -> list[Timing]:
    """Time the forms of a task. same: forms whose results (tensors) must equal that of the first one."""
    base, *_ = forms
    reference = forms[base]() if same else None
    differences = {name: difference(forms[name](), cast(Tensor, reference)) for name in same}
    seconds = in_turns(forms, settings.seconds)
    return [
        Timing(task, name, taken, seconds[base] / taken, differences.get(name), (memory or {}).get(name))
        for name, taken in seconds.items()
    ]


def difference(got: Tensor, want: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    return ((got.double() - want.double()).abs().max() / want.double().abs().max()).item()


def plain_blur(
    u: Tensor,
    alpha: Tensor,
    beta: Tensor,
    bank: Tensor,
    mix: Tensor,
    boundary: str = 'reflect',
    iterative: bool = True,
) -> Tensor:
    """Compute `ops.ggkm_blur` in its plain form."""
    z = iterative_group_conv(u, alpha, bank, boundary, iterative=iterative, form='separable')
    return F.conv2d((beta.unsqueeze(2) * z).flatten(1, 2), mix)


class PlainBlur(nn.Module):
    """A network's blur in its plain form."""

    def __init__(self, blur: IGGCM) -> None:
        super().__init__()
        self.bank, self.mix, self.boundary, self.iterative = blur.bank, blur.mix, blur.boundary, blur.iterative

    def forward(self, u: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        blurred = plain_blur(u, alpha, beta, self.bank, self.mix.weight, self.boundary, self.iterative)
        return blurred + cast(Tensor, self.mix.bias).view(1, -1, 1, 1)


def plain(net: GGKMNet) -> GGKMNet:
    """Return a copy of a network in its plain form."""
    net = copy.deepcopy(net)
    for step in net.steps:
        step.register_module('blur', PlainBlur(cast(IGGCM, cast(FixedPointStep, step).blur)))
    return net
