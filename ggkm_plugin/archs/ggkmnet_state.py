"""Values that GGKMNet's iterations pass on: coefficients, memory and outputs."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ggkm_plugin.archs.blocks import State, doubled


class Coefficients(NamedTuple):
    """Coefficients of one iteration: alpha (B,P,Q) and beta (B,M,H_t,W_t)."""

    alpha: Tensor
    beta: Tensor


class Memory(NamedTuple):
    """States that an iteration keeps from the coarser scales: of the alpha-APU's two LSTMs and of the ConvLSTM."""

    alpha: Sequence[State | None] = (None, None)
    beta: State | None = None

    def doubled(self) -> 'Memory':
        """Upscale the ConvLSTM's maps for the next scale."""
        return self._replace(beta=doubled(self.beta))


class StepOutput(NamedTuple):
    """Result of one iteration: x (B,3,H_t,W_t), its coefficients, and F1."""

    x: Tensor
    coefficients: Coefficients
    f1: Tensor
