"""Import hook for basicsr 1.4.2 with current torch and torchvision. Imports none of them itself.

=================================================  ==============================================================
defect                                             what `install` does
=================================================  ==============================================================
basicsr ``data/degradations.py:8`` imports          provides a module with the one function that basicsr takes
``torchvision.transforms.functional_tensor``,       from it, `rgb_to_grayscale`
which torchvision 0.17 removed
a CPU-only torch beside a torchvision built for     declares the two schemas just before torchvision needs them;
CUDA: "operator torchvision::nms does not exist"    the operators themselves stay unavailable
another repository's ``basicsr`` folder is first    raises BasicSRError with its version and folder
on the path
=================================================  ==============================================================

Each acts when its module is imported, and does nothing on an intact installation. A hook also works in spawned workers,
which only import the module of the command.
"""

import re
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location, spec_from_loader
from pathlib import Path
from types import ModuleType

from ggkm_plugin.utils.errors import BasicSRError

VERSION = '1.4.2'

_REGISTRY = 'basicsr.utils.registry'
_ALIAS = 'torchvision.transforms.functional_tensor'
_DECLARATIONS = 'torchvision._meta_registrations'
_SCHEMAS = {
    'nms': 'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
    'qnms': 'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
}


class _FunctionalTensorLoader(Loader):
    """Loader of the alias module with the function that moved to `torchvision.transforms.functional`."""

    def exec_module(self, module: ModuleType) -> None:
        from torchvision.transforms.functional import rgb_to_grayscale

        module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]


class _ImportHook(MetaPathFinder):
    """The import hook. It keeps the declared operators alive."""

    def __init__(self) -> None:
        self._declared: list[object] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == 'basicsr':
            basicsr_folder()
        elif fullname.startswith('basicsr.utils.') and _REGISTRY in sys.modules:
            # `basicsr_registry` imported it without its package, so the package lacks this attribute.
            sys.modules['basicsr.utils'].registry = sys.modules[_REGISTRY]  # type: ignore[attr-defined]
        elif fullname == _ALIAS and PathFinder.find_spec(fullname, path) is None:
            return spec_from_loader(fullname, _FunctionalTensorLoader())
        elif fullname == _DECLARATIONS:
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
    """Install the import hook, once. Call it before the first import of basicsr or torchvision."""
    if not any(type(finder).__name__ == _ImportHook.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, _ImportHook())


def basicsr_folder() -> Path:
    """Find the folder of basicsr without importing it. Raises BasicSRError unless it is of the needed version."""
    finders = (finder for finder in sys.meta_path if type(finder).__name__ != _ImportHook.__name__)
    found = (finder.find_spec('basicsr', None) for finder in finders if hasattr(finder, 'find_spec'))
    spec = next((each for each in found if each is not None), None)
    if spec is None:
        raise BasicSRError(f'basicsr: not installed. Run: pip install basicsr=={VERSION}')
    folder = Path(spec.origin).parent if spec.origin else Path(next(iter(spec.submodule_search_locations or '.')))
    version = _version(folder)
    if version != VERSION:
        raise BasicSRError(
            f'basicsr: version {version or "unknown"} found in {folder}, but {VERSION} is needed. Remove '
            f'{folder.parent} from PYTHONPATH, work in another folder, or run: pip install basicsr=={VERSION}'
        )
    return folder


def _version(folder: Path) -> str | None:
    try:
        found = re.search(r"__version__ = '(.+?)'", (folder / 'version.py').read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError):
        return None
    return found[1] if found else None


def basicsr_registry() -> ModuleType:
    """Import `basicsr.utils.registry` alone. The packages around it import all of basicsr, which takes seconds."""
    if _REGISTRY not in sys.modules:
        spec = spec_from_file_location(_REGISTRY, basicsr_folder() / 'utils' / 'registry.py')
        if spec is None or spec.loader is None:
            raise BasicSRError(f'basicsr: {basicsr_folder()} has no registry. Run: pip install basicsr=={VERSION}')
        module = module_from_spec(spec)
        sys.modules[_REGISTRY] = module
        spec.loader.exec_module(module)
    return sys.modules[_REGISTRY]
