"""GGKMNet on whole images: its plain form, the form of this package, its convolutions alone, and GKMNet.

Peak memory is the resident memory of a separate process, torch included, or that of the CUDA allocator on a GPU.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ggkm_plugin.archs.ggkmnet_arch import FixedPointStep, GGKMNet
from ggkm_plugin.archs.ggkmnet_state import Memory
from ggkm_plugin.archs.gkmnet_arch import GKMNet
from ggkm_plugin.benchmarks.forms import ComputeSettings, TimingReport, compared, plain, table
from ggkm_plugin.benchmarks.processes import Failed, check_proc, in_new_process, peak_bytes
from ggkm_plugin.ops.pyramid import pyramid
from ggkm_plugin.restoration.tiling import Tile, restored
from ggkm_plugin.utils import allocator
from ggkm_plugin.utils.devices import device_name
from ggkm_plugin.utils.errors import OptionError

__all__ = ['run', 'table']

IMAGES = ((360, 640), (720, 1280), (1120, 1680))


class _Convolutions(nn.Module):
    """Feature extractor and predictors of alpha and beta on all scales, without the blur."""

    def __init__(self, net: GGKMNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, y: Tensor) -> Tensor:
        memory = Memory()
        step = cast(FixedPointStep, self.net.steps[0])
        for y_t in pyramid(self.net.padded(y), self.net.num_scales):
            memory = memory.doubled()
            f1, f2 = step.bfe(y_t)
            _, alpha_states = step.alpha_apu(f1, memory.alpha)
            beta, beta_state = step.beta_apu(f2, memory.beta)
            memory = Memory(alpha_states, beta_state)
        return beta


def _network(iterative: bool = True) -> GGKMNet:
    torch.manual_seed(0)
    return GGKMNet(init='identity', iterative=iterative).eval()


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    'plain': lambda: plain(_network()),
    'plain, standard convolutions': lambda: plain(_network(iterative=False)),  # Sec. 5.2 of the paper
    'ggkm_plugin': lambda: _network().prepare_inference(),
    'ggkm_plugin, convolutions alone': lambda: _Convolutions(_network().prepare_inference()),
    'GKMNet as released': lambda: GKMNet(kernel_order='released', bn_mode='batch').eval(),
}


def run(settings: ComputeSettings, progress: bool = False) -> TimingReport:
    device = settings.where
    if device.type == 'cpu':
        check_proc()
    nets = {name: build().to(device) for name, build in BUILDERS.items()}
    rows = []
    for height, width in IMAGES:
        y = image(height, width).to(device)
        memory = {name: peak(name, height, width, None, settings) for name in nets}
        forms = {name: partial(_evaluated, net, y) for name, net in nets.items()}
        rows += compared(f'{width}x{height}', forms, settings, ['ggkm_plugin'], memory)
    if device.type == 'cuda':
        y, net = image(*IMAGES[1]).to(device), nets['ggkm_plugin']
        forms = {
            'ggkm_plugin, float32': partial(_evaluated, net, y),
            'ggkm_plugin, bfloat16': partial(_evaluated, net, y, True),
        }
        rows += compared(f'{IMAGES[1][1]}x{IMAGES[1][0]}, precision', forms, settings, ['ggkm_plugin, bfloat16'])
    return TimingReport(device_name(device), rows)


def image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def _evaluated(net: nn.Module, y: Tensor, half: bool = False) -> Tensor:
    with torch.inference_mode(), torch.autocast(y.device.type, torch.bfloat16, enabled=half):
        return net(y)


def peak(name: str, height: int, width: int, tile: Tile, settings: ComputeSettings) -> int | None:
    """Return the peak memory in bytes; None if it runs out of memory."""
    try:
        return in_new_process(_once, name, height, width, tile, settings.device, torch.get_num_threads())
    except Failed as error:
        if 'memory' in str(error).lower():
            return None
        raise OptionError(f'{name} on {width}x{height}: {error}') from error


def _once(name: str, height: int, width: int, tile: Tile, device: str, threads: int) -> int:
    torch.set_num_threads(threads)
    allocator.keep_freed_memory()  # as the command does
    net, y = BUILDERS[name]().to(device), image(height, width).to(device)
    with torch.inference_mode():
        if tile is None:
            net(y)
        else:
            restored(net, y, tile)
    return torch.cuda.max_memory_allocated(device) if torch.device(device).type == 'cuda' else peak_bytes()
