"""A training step of GGKMNet as in the paper, 4 crops of 256x256 with all loss terms: plain form and this package."""

import torch
from torch import Tensor, nn

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.benchmarks.forms import ComputeSettings, TimingReport, compared, plain, table
from ggkm_plugin.losses.ggkm_loss import GGKMLoss
from ggkm_plugin.utils.devices import device_name

__all__ = ['run', 'table']

BATCH = (4, 3, 256, 256)


class _Step:
    """Forward, loss, backward and update."""

    def __init__(self, net: nn.Module, device: torch.device, channels_last: bool = False, half: bool = False) -> None:
        self.net, self.loss, self.half = net.to(device).train(), GGKMLoss().to(device), half
        if channels_last:
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-6)
        generator = torch.Generator().manual_seed(0)
        self.y, self.gt = (torch.rand(BATCH, generator=generator).to(device) for _ in range(2))

    def __call__(self) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.y.device.type, torch.bfloat16, enabled=self.half):
            output = self.net(self.y)
        total = self.loss(output, self.gt)
        total = total[0] if isinstance(total, tuple) else total
        total.backward()
        self.optimizer.step()
        return total.detach()


def _network() -> GGKMNet:
    torch.manual_seed(0)
    return GGKMNet(init='identity')


def run(settings: ComputeSettings, progress: bool = False) -> TimingReport:
    device = settings.where
    steps = {
        'plain': _Step(plain(_network()), device),
        'ggkm_plugin': _Step(_network(), device),
        'ggkm_plugin, channels_last': _Step(_network(), device, channels_last=True),
    }
    if device.type == 'cuda':
        steps['ggkm_plugin, channels_last, bfloat16'] = _Step(_network(), device, channels_last=True, half=True)
    rows = compared(f'a step of {"x".join(map(str, BATCH))}', steps, settings)
    return TimingReport(device_name(device), rows)
