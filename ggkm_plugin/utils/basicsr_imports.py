"""Two shims that let basicsr 1.4.2 be imported beside current torch and torchvision. Light: imports neither.

=================================================  ==============================================================
defect                                             what `install` does
=================================================  ==============================================================
basicsr ``data/degradations.py:8`` imports          answers that import with a module that has the one function
``torchvision.transforms.functional_tensor``,       basicsr takes from it, `rgb_to_grayscale`
which torchvision 0.17 removed
a CPU-only torch beside a torchvision built for     declares the two schemas just before torchvision needs them;
CUDA: "operator torchvision::nms does not exist"    the operators themselves stay unavailable
=================================================  ==============================================================

Both act inside an import hook, at the moment the module in question is imported, and do nothing on an install
that is sound. A hook also works in spawned workers, which re-import the command's module but run none of it.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from types import ModuleType

_ALIAS = 'torchvision.transforms.functional_tensor'
_DECLARATIONS = 'torchvision._meta_registrations'
_SCHEMAS = {
    'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}


class _FunctionalTensorLoader(Loader):
    """Fills the alias module with the function that moved to `torchvision.transforms.functional`."""

    def exec_module(self, module: ModuleType) -> None:
        from torchvision.transforms.functional import rgb_to_grayscale

        module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]


class _HostImports(MetaPathFinder):
    """The import hook; keeps the declared operators alive as long as it is installed."""

    def __init__(self) -> None:
        self._declared: list[object] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _ALIAS and PathFinder.find_spec(fullname, path) is None:
            return spec_from_loader(fullname, _FunctionalTensorLoader())
        if fullname == _DECLARATIONS:
            self._declare_missing_operators()
        return None

    def _declare_missing_operators(self) -> None:
        import torch

        missing = [name for name in _SCHEMAS if not hasattr(torch.ops.torchvision, name)]
        if missing:
            library = torch.library.Library('torchvision', 'FRAGMENT')
            for name in missing:
                library.define(_SCHEMAS[name])
            self._declared.append(library)


def install() -> None:
    """Put the import hook in place, once. Call it before the first import of basicsr or torchvision."""
    if not any(type(finder).__name__ == _HostImports.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _HostImports())
