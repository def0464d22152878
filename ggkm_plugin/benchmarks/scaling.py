"""GGKMNet on large photographs, in tiles: time per megapixel beside that of a whole 1280x720 image, and peak memory."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ggkm_plugin.benchmarks.forms import ComputeSettings, Timing, TimingReport, in_turns, table
from ggkm_plugin.benchmarks.network import BUILDERS, image, peak
from ggkm_plugin.benchmarks.processes import check_proc
from ggkm_plugin.restoration.tiling import Tile, restored
from ggkm_plugin.utils.devices import device_name

__all__ = ['run', 'table']

REFERENCE = (720, 1280)


def run(settings: ComputeSettings, progress: bool = False) -> TimingReport:
    """Measure each size in `settings.megapixels`, at 3:2, with each of `settings.tiles`."""
    device = settings.where
    if device.type == 'cpu':
        check_proc()
    net = BUILDERS['ggkm_plugin']().to(device)
    base = f'{REFERENCE[1]}x{REFERENCE[0]} at once'
    rows = []
    for megapixels in settings.megapixels:
        height = round(math.sqrt(megapixels * 2 / 3) * 1000)
        width = round(megapixels * 1e6 / height)
        y, small = image(height, width).to(device), image(*REFERENCE).to(device)
        forms: dict[str, Callable[[], Tensor]] = {base: partial(_restored, net, small, None)}
        forms |= {f'tiles: {tile}': partial(_restored, net, y, tile) for tile in settings.tiles}
        seconds = in_turns(forms, settings.seconds)
        each = {name: taken * 1e6 / ((small if name == base else y)[0, 0].numel()) for name, taken in seconds.items()}
        peaks = {f'tiles: {tile}': peak('ggkm_plugin', height, width, tile, settings) for tile in settings.tiles}
        task = f'a megapixel of {width}x{height}'
        rows += [Timing(task, name, each[name], each[base] / each[name], memory=peaks.get(name)) for name in forms]
    return TimingReport(device_name(device), rows)


def _restored(net: nn.Module, y: Tensor, tile: Tile) -> Tensor:
    with torch.inference_mode():
        return restored(net, y, tile)
