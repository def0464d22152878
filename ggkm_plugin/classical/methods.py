"""Classical methods by name, with their settings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from ggkm_plugin.classical import deconvolution, edge_map, jnb_map
from ggkm_plugin.classical.working import Progress
from ggkm_plugin.utils.config import nearest
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.schema import Section, raise_faults, section_faults

_MAPS: dict[str, Callable[[np.ndarray, Progress | None], np.ndarray]] = {
    'EBDB': edge_map.blur_map,
    'JNB': jnb_map.blur_map,
}


class Settings(Section):
    """Settings of the deconvolution.

    `fidelity` is lambda of Krishnan and Fergus, larger for less noise. EBDB used 16.8 (the default) on DPDD, 4.2 on
    RealDOF and 420 on CUHK. Not in the papers: 30 `iterations` of Richardson-Lucy. With noise of 0.01, more of them
    lose on blur of 1.5 pixels what they gain on 3.
    """

    deconvolution: Literal['hyper_laplacian', 'richardson_lucy'] = 'hyper_laplacian'
    fidelity: Annotated[int | float, Field(ge=1e-6, le=1e6)] = 16.8  # of hyper_laplacian
    iterations: Annotated[int, Field(ge=1, le=10_000)] = 30  # of richardson_lucy
    bins: Annotated[int, Field(ge=1, le=1024)] = 32  # of sigma, with equally many pixels each


@dataclass(frozen=True)
class Method:
    """A blur map and deconvolution by it. Deterministic, except for rounding."""

    name: str
    settings: Settings = field(default_factory=Settings)

    def __call__(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Deblur (H,W,3) float32 RGB in [0,1]. `progress` is called with the stage, done and total."""
        sigma = self.blur_map(image, progress)
        settings = self.settings
        undo = (
            partial(deconvolution.hyper_laplacian, fidelity=settings.fidelity)
            if settings.deconvolution == 'hyper_laplacian'
            else partial(deconvolution.richardson_lucy, iterations=settings.iterations)
        )
        return deconvolution.deconvolved(image, sigma, undo, settings.bins, progress)

    def blur_map(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """Estimate sigma (H,W), float64 in pixels, of the Gaussian blur of (H,W,3) RGB in [0,1]."""
        return _MAPS[self.name](image, progress)

    @property
    def description(self) -> dict[str, Any]:
        """Return the settings in use."""
        unused = 'iterations' if self.settings.deconvolution == 'hyper_laplacian' else 'fidelity'
        return self.settings.model_dump(exclude={unused})


METHODS = {name: Method(name) for name in _MAPS}


def method(name: object, settings: dict[str, Any] | None = None) -> Method:
    """Return a method with the given settings. Raises OptionError for an unknown name or setting."""
    if name not in METHODS:
        raise OptionError(f'{name!r} is not a classical method.{nearest(str(name), list(METHODS), "There are")}')
    settings = settings or {}
    raise_faults(list(section_faults(Settings, settings).values()))
    return Method(str(name), Settings(**settings))
