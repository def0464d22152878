"""The keys of `train:` that say how a step is made."""

import pytest
import torch

from ggkm_plugin.models.step_options import StepOptions
from ggkm_plugin.utils.errors import OptionError


def test_what_is_left_out():
    options = StepOptions.of({'total_iter': 10, 'optim_g': {'type': 'Adam'}, 'amp': None})
    assert options == StepOptions('none', 1, None, False, False, 'stop', 20)
    assert options.amp_type is None


def test_what_is_given():
    given = {
        'amp': 'bf16', 'accumulate': 4, 'grad_clip': 0.5, 'channels_last': True, 'compile': 'max-autotune',
        'nonfinite': 'skip', 'nonfinite_limit': 3,
    }  # fmt: skip
    options = StepOptions.of(given)
    assert {key: getattr(options, key) for key in given} == given
    assert options.amp_type is torch.bfloat16
    assert StepOptions.of({'amp': 'fp16'}).amp_type is torch.float16
    assert StepOptions.of({'grad_clip': 1}).grad_clip == 1


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('amp', 'bfloat16', 'none, bf16, fp16'),
        ('amp', True, 'none, bf16, fp16'),
        ('amp', ['bf16'], 'none, bf16, fp16'),
        ('accumulate', 0, 'at least 1'),
        ('accumulate', 1.5, 'at least 1'),
        ('accumulate', True, 'at least 1'),
        ('grad_clip', 0, 'above 0'),
        ('grad_clip', float('nan'), 'above 0'),
        ('grad_clip', float('inf'), 'above 0'),
        ('grad_clip', 'norm', 'above 0'),
        ('channels_last', 'yes', 'true or false'),
        ('compile', 1, 'true, false or one of default'),
        ('compile', 'fastest', 'max-autotune'),
        ('nonfinite', 'ignore', 'stop or skip'),
        ('nonfinite_limit', -1, 'at least 1'),
    ],
)
def test_values_of_another_kind(key, value, words):
    with pytest.raises(OptionError) as error:
        StepOptions.of({key: value})
    assert str(error.value).startswith(f'train.{key} is ')
    assert words in str(error.value)
    assert repr(value) in str(error.value)
