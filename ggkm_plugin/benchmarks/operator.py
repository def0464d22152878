"""The blur of GGKMNet: plain form against this package, forward on three scales of an image, forward and backward."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ggkm_plugin.benchmarks.forms import ComputeSettings, TimingReport, compared, plain_blur, table
from ggkm_plugin.ops import gaussian_bank, ggkm_blur
from ggkm_plugin.ops.ggkm.spectral import widest_margin
from ggkm_plugin.utils.devices import device_name

__all__ = ['run', 'table']

IMAGES = ((368, 640), (720, 1280))
BATCH = (4, 256, 256)
GROUPS, KERNELS = 21, 4

FORMS = {'ggkm_plugin': 'auto', 'ggkm_plugin, dct': 'dct', 'ggkm_plugin, fft': 'fft'}

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
Blur = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def run(settings: ComputeSettings, progress: bool = False) -> TimingReport:
    device = settings.where
    bank = gaussian_bank(GROUPS, KERNELS).float().to(device)
    margin = widest_margin(bank.cpu(), True) if device.type == 'cuda' else None

    def blurred(form: str, u: Tensor, alpha: Tensor, beta: Tensor, mix: Tensor) -> Tensor:
        return ggkm_blur(u, alpha, beta, bank, mix, form=form, margin=margin)

    kinds: dict[str, Blur] = {'plain': lambda u, alpha, beta, mix: plain_blur(u, alpha, beta, bank, mix)}
    kinds |= {name: partial(blurred, form) for name, form in FORMS.items()}
    rows = []
    for height, width in IMAGES:
        scales = [_inputs(1, height >> k, width >> k, device) for k in (2, 1, 0)]

        def forward(blur: Blur, scales: list[Inputs] = scales) -> Tensor:
            with torch.inference_mode():
                return torch.cat([blur(*inputs).flatten() for inputs in scales])

        forms = {name: partial(forward, blur) for name, blur in kinds.items()}
        rows += compared(f'three scales of {width}x{height}', forms, settings, list(FORMS))

    inputs = [each.requires_grad_() for each in _inputs(*BATCH, device)]

    def both(blur: Blur) -> Tensor:
        gradients = torch.autograd.grad(blur(*inputs).square().sum(), inputs)
        return torch.cat([(each / each.abs().max()).flatten() for each in gradients])

    batch, height, width = BATCH
    forms = {name: partial(both, blur) for name, blur in kinds.items()}
    rows += compared(f'forward and backward, {batch}x{width}x{height}', forms, settings, list(FORMS))
    return TimingReport(device_name(device), rows)


def _inputs(batch: int, height: int, width: int, device: torch.device) -> Inputs:
    """Return u, alpha, beta and mix with the sizes of the paper's network; alpha in the range of its LSTM."""
    torch.manual_seed(0)
    alpha = torch.randn(batch, GROUPS, KERNELS).tanh().softmax(-1)
    beta = torch.randn(batch, GROUPS + 1, height, width).tanh()
    mix = torch.randn(3, 3 * (GROUPS + 1), 1, 1) / 8
    u, alpha, beta, mix = (each.to(device) for each in (torch.rand(batch, 3, height, width), alpha, beta, mix))
    return u, alpha, beta, mix
