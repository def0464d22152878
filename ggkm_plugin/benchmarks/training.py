"""A training step of GGKMNet as in the paper, 4 crops of 256x256 with all terms of the loss: plain against ours."""

from functools import partial

import torch
from torch import Tensor, nn

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.benchmarks.forms import Report, Settings, compared, plain, table
from ggkm_plugin.complexity import device_name
from ggkm_plugin.losses.ggkm_loss import GGKMLoss

__all__ = ['run', 'table']

BATCH = (4, 3, 256, 256)


class _Step:
    """Forward, loss, backward and update."""

    def __init__(self, net: nn.Module, device: torch.device, half: bool = False) -> None:
        self.net, self.loss, self.half = net.to(device).train(), GGKMLoss().to(device), half
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


def run(settings: Settings, progress: bool = False) -> Report:
    device = settings.where
    torch.manual_seed(0)
    net = GGKMNet(init='identity')
    ours = GGKMNet(init='identity')
    ours.load_state_dict(net.state_dict())
    steps = {
        'plain': _Step(plain(net), device),
        'ours': _Step(net, device),
        'ours, channels_last': _Step(ours.to(memory_format=torch.channels_last), device),
    }
    if device.type == 'cuda':
        half = GGKMNet(init='identity').to(memory_format=torch.channels_last)
        steps['ours, channels_last, bfloat16'] = _Step(half, device, half=True)
    rows = compared(
        f'a step of {"x".join(map(str, BATCH))}', {name: partial(step) for name, step in steps.items()}, settings
    )
    return Report(device_name(device), rows)
