"""Keys of `train:` for how a training step is computed."""

import pytest
import torch

from ggkm_plugin.models.step_options import StepOptions
from ggkm_plugin.utils import devices

CPU = torch.device('cpu')


@pytest.mark.parametrize(
    ('flags', 'dtype'),
    [({'avx512_bf16'}, torch.bfloat16), ({'amx_bf16'}, torch.bfloat16), ({'bf16'}, torch.bfloat16), ({'avx2'}, None)],
)
def test_auto_is_what_the_processor_has(monkeypatch, flags, dtype):
    monkeypatch.setattr(devices, '_cpu_flags', lambda: flags)
    assert StepOptions.of({'amp': 'auto'}).amp_type(CPU) is dtype
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: dtype is not None)
    assert StepOptions.of({'amp': 'auto'}).amp_type(torch.device('cuda')) is dtype


def test_flags_are_those_of_the_system(monkeypatch):
    """Without torch's own list they come from /proc/cpuinfo, under the same names."""
    torch_flags = devices._cpu_flags()
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    known = set().union(*devices._NATIVE.values())
    assert devices._cpu_flags() & known == torch_flags & known
