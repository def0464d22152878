"""How a training step is made: the keys of `train:` that the host does not know, checked."""

from dataclasses import dataclass, fields
from typing import Any

import torch

from ggkm_plugin.utils.errors import OptionError

_COMPILE_MODES = ('default', 'reduce-overhead', 'max-autotune', 'max-autotune-no-cudagraphs')
_AMP_TYPES = {'none': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}


@dataclass(frozen=True)
class StepOptions:
    """The keys of `train:`, with what they are when left out. Raises OptionError for a value of another kind."""

    amp: str | None = 'none'  # none, bf16 or fp16 (with a gradient scaler); weights and loss stay float32
    accumulate: int = 1  # parts of a batch that go through the network one after the other
    grad_clip: float | None = None  # largest norm of all gradients together
    channels_last: bool = False  # memory format of network and images
    compile: bool | str = False  # torch.compile the network; a string is its mode
    nonfinite: str = 'stop'  # what a loss or gradient that is not finite does: stop the run, or skip the step
    nonfinite_limit: int = 20  # skipped steps in a row that end the run all the same

    @classmethod
    def of(cls, train: dict[str, Any]) -> 'StepOptions':
        given = {field.name: train[field.name] for field in fields(cls) if train.get(field.name) is not None}
        return cls(**given)

    def __post_init__(self) -> None:
        rules = {
            'amp': (self.amp in tuple(_AMP_TYPES), f'one of {", ".join(_AMP_TYPES)}'),
            'accumulate': (_whole(self.accumulate), 'a whole number of at least 1'),
            'grad_clip': (self.grad_clip is None or _positive(self.grad_clip), 'a number above 0'),
            'channels_last': (isinstance(self.channels_last, bool), 'true or false'),
            'compile': (
                isinstance(self.compile, bool) or self.compile in _COMPILE_MODES,
                f'true, false or one of {", ".join(_COMPILE_MODES)}',
            ),
            'nonfinite': (self.nonfinite in ('stop', 'skip'), 'stop or skip'),
            'nonfinite_limit': (_whole(self.nonfinite_limit), 'a whole number of at least 1'),
        }
        for key, (holds, wanted) in rules.items():
            if not holds:
                raise OptionError(f'train.{key} is {wanted}, not {getattr(self, key)!r}')

    @property
    def amp_type(self) -> torch.dtype | None:
        """What the network computes in, or None for float32."""
        return _AMP_TYPES[self.amp or 'none']


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float('inf')
