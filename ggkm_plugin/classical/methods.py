"""Classical methods by name, with their settings."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from ggkm_plugin.classical import deconvolution, edge_map, jnb_map
from ggkm_plugin.classical.working import Progress
from ggkm_plugin.utils.config import nearest
from ggkm_plugin.utils.errors import OptionError

_DECONVOLUTIONS = ('hyper_laplacian', 'richardson_lucy')
_MAPS: dict[str, Callable[[np.ndarray, Progress | None], np.ndarray]] = {
    'EBDB': edge_map.blur_map,
    'JNB': jnb_map.blur_map,
}


def _is_number(value: object, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


@dataclass(frozen=True)
class Settings:
    """Settings of the deconvolution. Raises OptionError for a wrong value.

    `fidelity` is lambda of Krishnan and Fergus, larger for less noise. EBDB used 16.8 (the default) on DPDD, 4.2 on
    RealDOF and 420 on CUHK. Not in the papers: 30 `iterations` of Richardson-Lucy. With noise of 0.01, more of them
    lose on blur of 1.5 pixels what they gain on 3.
    """

    deconvolution: str = 'hyper_laplacian'  # or richardson_lucy
    fidelity: float = 16.8  # of hyper_laplacian
    iterations: int = 30  # of richardson_lucy
    bins: int = 32  # of sigma, with equally many pixels each

    def __post_init__(self) -> None:
        rules = {
            'deconvolution': (self.deconvolution in _DECONVOLUTIONS, ' or '.join(_DECONVOLUTIONS)),
            'fidelity': (
                _is_number(self.fidelity, int | float) and 1e-6 <= self.fidelity <= 1e6,
                'a number above 0, from 0.000001 to 1000000',
            ),
            'iterations': (
                _is_number(self.iterations, int) and 1 <= self.iterations <= 10_000,
                'a whole number of at least 1, at most 10000',
            ),
            'bins': (
                _is_number(self.bins, int) and 1 <= self.bins <= 1024,
                'a whole number of at least 1, at most 1024',
            ),
        }
        for key, (holds, wanted) in rules.items():
            if not holds:
                raise OptionError(f'{key} is {wanted}, not {getattr(self, key)!r}')


@dataclass(frozen=True)
class Method:
    """A blur map and deconvolution by it. Deterministic, except for rounding."""

    name: str
    settings: Settings = Settings()

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
        return {key: value for key, value in asdict(self.settings).items() if key != unused}


METHODS = {name: Method(name) for name in _MAPS}


def method(name: object, settings: dict[str, Any] | None = None) -> Method:
    """Return a method with the given settings. Raises OptionError for an unknown name or setting."""
    if name not in METHODS:
        raise OptionError(f'{name!r} is not a classical method.{nearest(str(name), list(METHODS), "There are")}')
    settings = settings or {}
    known = [field.name for field in fields(Settings)]
    for key in settings:
        if key not in known:
            raise OptionError(f'{key} is not a setting of {name}.{nearest(str(key), known, "There are")}')
    return Method(str(name), Settings(**settings))
