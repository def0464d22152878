"""GGKMNet for BasicSR: single-image defocus deblurring with grouped Gaussian kernel mixtures.

Importing this package is light (no torch). `register()` puts everything it has into BasicSR's registries.
"""

from pathlib import Path

__version__ = '0.2.0'

if not Path(__file__).with_name('datasets_prep').exists():  # in a checkout the scripts lie beside the package
    __path__.append(str(Path(__file__).parents[1]))


def register() -> None:
    """Make `import basicsr` work with current torch, and register every arch, loss, data set, model and metric.

    Put it at the top of your own ``train.py``, before any basicsr import. Idempotent. Nothing of basicsr is replaced:
    two import shims (see `ggkm_plugin.utils.basicsr_imports`) and the registrations, that is all.
    """
    import ggkm_plugin.training.registrations  # noqa: F401  (importing it registers)
