"""Keys of `train:` for how a training step is computed."""

from typing import Literal

import torch

from ggkm_plugin.utils.devices import is_native
from ggkm_plugin.utils.schema import Count, Positive, Section

AMP_TYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


class StepOptions(Section):
    """The keys of `train:` that BasicSR does not know, with their defaults."""

    amp: Literal['none', 'bf16', 'fp16', 'auto'] = 'none'  # auto: bf16 where it is native; fp16 uses a gradient scaler
    accumulate: Count = 1  # parts that a batch is split into
    grad_clip: Positive | None = None  # largest gradient norm
    channels_last: bool = False
    compile: bool | Literal['default', 'reduce-overhead', 'max-autotune', 'max-autotune-no-cudagraphs'] = False
    nonfinite: Literal['stop', 'skip'] = 'stop'  # what to do about a NaN or Inf loss or gradient
    nonfinite_limit: Count = 20  # skipped steps in a row that stop the training

    def amp_type(self, device: torch.device) -> torch.dtype | None:
        """Return the data type that the network computes in, None for float32. Weights and loss stay float32."""
        if self.amp == 'auto':
            return torch.bfloat16 if is_native(torch.bfloat16, device) else None
        return AMP_TYPES.get(self.amp)
