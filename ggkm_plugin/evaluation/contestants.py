"""What takes part in a comparison: anything that turns an image into an image, networks and classical methods alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from ggkm_plugin.evaluation.complexity import Profile, Size

Tell = Callable[[str], None]


class Contestant(ABC):
    """A model, ready to run.

    arch: what kind of model it is. sha256: of its weights, if it has any. settings: of a method without a network,
    or which weights a network has if they are no file of the user's; they go with all its scores. structure: what its
    costs depend on; depends: all that a result depends on besides the image and the protocol; both plain values.
    """

    name: str
    arch: str
    parameters: int
    sha256: str | None = None
    settings: dict[str, Any] | None = None
    structure: dict[str, Any]
    depends: dict[str, Any]

    @abstractmethod
    def restore(self, image: Tensor, tell: Tell) -> Tensor:
        """(3,H,W) RGB in [0,1] to the same, which may exceed [0,1]; `tell` is given lines about the progress.

        Raises UserError if the result is no such image.
        """

    @property
    @abstractmethod
    def sees_blur(self) -> bool:
        """Whether there is a `blur_map`."""

    @abstractmethod
    def blur_map(self, image: Tensor) -> np.ndarray:
        """How blurred the model sees (3,H,W), dark for sharp: (H',W',3) uint8."""

    @abstractmethod
    def profile(self, size: Size, device: str, repeats: int, tell: Tell) -> Profile | None:
        """The costs of an image of `size`; None for a model whose operations are not counted."""
