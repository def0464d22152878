"""GGKMNet for BasicSR: single-image defocus deblurring with grouped Gaussian kernel mixtures.

Importing this package is light (no torch). `register()` puts everything it has into BasicSR's registries.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

__version__ = '0.2.0'

_SCRIPTS = Path(__file__).parents[1] / 'datasets_prep/__init__.py'
if not Path(__file__).with_name('datasets_prep').exists() and _SCRIPTS.exists():  # a checkout: beside the package
    _spec: Any = spec_from_file_location(f'{__name__}.datasets_prep', _SCRIPTS)
    sys.modules[_spec.name] = datasets_prep = module_from_spec(_spec)
    _spec.loader.exec_module(datasets_prep)


def register() -> None:
    """Make `import basicsr` work with current torch, and register every arch, loss, data set, model and metric.

    Put it at the top of your own ``train.py``, before any basicsr import. Idempotent. Nothing of basicsr is replaced:
    two import shims (see `ggkm_plugin.utils.basicsr_imports`) and the registrations, that is all.
    """
    import ggkm_plugin.training.registrations  # noqa: F401  (importing it registers)
