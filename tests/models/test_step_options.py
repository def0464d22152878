"""Keys of `train:` for how a training step is computed."""

import re

import pytest
import torch

from ggkm_plugin.models.step_options import StepOptions
from ggkm_plugin.utils import devices
from ggkm_plugin.utils.errors import OptionError

CPU = torch.device('cpu')


def test_defaults():
    options = StepOptions.of({'total_iter': 10, 'optim_g': {'type': 'Adam'}, 'amp': None})
    assert options == StepOptions()
    assert options.amp_type(CPU) is None


def test_given_values():
    given = {
        'amp': 'bf16', 'accumulate': 4, 'grad_clip': 0.5, 'channels_last': True, 'compile': 'max-autotune',
        'nonfinite': 'skip', 'nonfinite_limit': 3,
    }  # fmt: skip
    options = StepOptions.of(given)
    assert {key: getattr(options, key) for key in given} == given
    assert options.amp_type(CPU) is torch.bfloat16
    assert StepOptions.of({'amp': 'fp16'}).amp_type(CPU) is torch.float16
    assert StepOptions.of({'grad_clip': 1}).grad_clip == 1


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        *(('amp', value) for value in ('bfloat16', True, ['bf16'])),
        *(('accumulate', value) for value in (0, 1.5, True)),
        *(('grad_clip', value) for value in (0, float('nan'), float('inf'), 'norm')),
        *(('compile', value) for value in (1, 'fastest')),
        ('channels_last', 'yes'),
        ('nonfinite', 'ignore'),
        ('nonfinite_limit', -1),
    ],
)
def test_values_of_another_type(key, value):
    with pytest.raises(OptionError, match=rf'train\.{key}.*{re.escape(repr(value))}'):
        StepOptions.of({key: value}, 'train')


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
