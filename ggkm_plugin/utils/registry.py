"""BasicSR's registries, the names of this package in them, and objects built from specs in option files.

Importing this module imports nothing of basicsr but its registries. A name is imported when it is looked up.
"""

import copy
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ggkm_plugin.utils import basicsr_imports
from ggkm_plugin.utils.config import Options, nearest
from ggkm_plugin.utils.errors import OptionError, UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

basicsr_imports.install()
_basicsr: Any = basicsr_imports.basicsr_registry()

Registry: Any = _basicsr.Registry
ARCH_REGISTRY: Any = _basicsr.ARCH_REGISTRY
DATASET_REGISTRY: Any = _basicsr.DATASET_REGISTRY
LOSS_REGISTRY: Any = _basicsr.LOSS_REGISTRY
METRIC_REGISTRY: Any = _basicsr.METRIC_REGISTRY
MODEL_REGISTRY: Any = _basicsr.MODEL_REGISTRY

REGISTRIES: dict[str, Any] = {
    'archs': ARCH_REGISTRY,
    'datasets': DATASET_REGISTRY,
    'losses': LOSS_REGISTRY,
    'models': MODEL_REGISTRY,
    'metrics': METRIC_REGISTRY,
}

# Names registered by this package, {subpackage: {module: names}}. Add a new arch, data set, loss, model or metric here.
OWN_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    'archs': {
        'aifnet_arch': ('AIFNet',),
        'attsrn_arch': ('AttSRN',),
        'dpdnets_arch': ('DPDNetS',),
        'drbnet_arch': ('DRBNet',),
        'external_arch': ('NAFNet', 'Uformer', 'FFTformer', 'GRL', 'KBNet', 'Restormer', 'MPRNet'),
        'ggkmnet_ablations_arch': ('GGKMNetNoLSTM', 'MCPNet', 'GGKMNetNoGroup', 'GGKMNetFullyLearned'),
        'ggkmnet_arch': ('GGKMNet',),
        'gkmnet_arch': ('GKMNet',),
        'ifan_arch': ('IFAN',),
        'kpac_arch': ('KPAC',),
        'mdp_arch': ('MDP',),
        'nrknet_arch': ('NRKNet',),
        'srn_arch': ('SRN',),
    },
    'data': {
        'mixed_defocus_dataset': ('MixedDefocusDataset',),
        'paired_defocus_dataset': ('PairedDefocusDataset',),
        'single_defocus_dataset': ('SingleDefocusDataset',),
        'synthetic_defocus_dataset': ('SyntheticDefocusDataset',),
    },
    'losses': {
        'ggkm_loss': ('GGKMLoss',),
        'gkm_loss': ('GKMLoss',),
        'ifan_loss': ('IFANLoss',),
        'nrk_loss': ('NRKLoss',),
        'srn_loss': ('SRNLoss',),
    },
    'metrics': {
        'defocus_metrics': ('defocus_psnr', 'defocus_ssim', 'defocus_mae'),
        'arniqa': ('defocus_arniqa',),
        'perceptual': ('defocus_lpips', 'defocus_niqe'),
    },
    'models': {'defocus_model': ('DefocusModel',), 'jdrl_model': ('JDRLModel',)},
}
# (kind, name) -> module
OWN_MODULES = {
    ('datasets' if folder == 'data' else folder, name): f'ggkm_plugin.{folder}.{module}'
    for folder, modules in OWN_NAMES.items()
    for module, names in modules.items()
    for name in names
}

CONSTRUCTOR_ERRORS = (
    TypeError, ValueError, LookupError, AttributeError, AssertionError, OSError, RuntimeError, ArithmeticError,
)  # fmt: skip


def find(kind: str, name: str) -> Callable[..., Any] | None:
    """Look up a registered name, and import what registers it if needed: this package, then every installed plugin."""
    registry = REGISTRIES[kind]
    if name not in registry and (kind, name) in OWN_MODULES:
        importlib.import_module(OWN_MODULES[kind, name])
    elif name not in registry:
        from ggkm_plugin.utils import plugins

        plugins.load_installed()
    # BasicSR's registry also looks for the name with this suffix.
    return registry.get(name) if name in registry or f'{name}_basicsr' in registry else None


def registered(where: str, kind: str, spec: Any) -> Callable[..., Any]:
    """Look up the class or function that `spec` names. Raises OptionError with the nearest names."""
    where = where if where == 'model_type' else f'{where}.type'
    if not isinstance(spec, dict) or not isinstance(spec.get('type'), str):
        raise OptionError(f'{where}: missing, or not a name')
    name = spec['type']
    found = find(kind, name)
    if found is None:
        known = nearest(name, list(REGISTRIES[kind].keys()), 'Registered are')
        raise OptionError(f'{where}: {name!r} is not registered among the {kind}.{known}')
    return found


def argument_section(kind: str, target: Callable[..., Any]) -> 'type[BaseModel] | None':
    """Return the arguments of a registered class or function as a section, None if it does not tell them."""
    from ggkm_plugin.utils.schema import signature_section  # imports pydantic, which takes time

    if kind == 'datasets':
        return getattr(target, 'options', None)
    if kind == 'metrics':
        ignores_others = target.__module__.split('.')[0] in ('ggkm_plugin', 'basicsr')  # their **kwargs are unused
        return signature_section(target, ('img', 'img2'), strict=ignores_others)
    return signature_section(target)


def argument_faults(where: str, kind: str, spec: Options) -> dict[str, str]:
    """Return the faults of the arguments of a spec, {dotted key: message}. Raises OptionError for an unknown type."""
    from ggkm_plugin.utils.schema import section_faults

    section = argument_section(kind, registered(where, kind, spec))
    own = ('type', 'better') if kind == 'metrics' else ('type',)
    given = {key: value for key, value in spec.items() if key not in own}
    return section_faults(section, given, where, from_json=True) if section else {}


def build(where: str, kind: str, spec: Any) -> Any:
    """Build the network, loss or data set that a spec describes. Raises OptionError with all faults of it."""
    target = registered(where, kind, spec)
    spec = copy.deepcopy(spec)
    name = spec['type']
    try:
        if kind == 'datasets':
            return target(spec)
        faults = argument_faults(where, kind, spec)
        if faults:
            raise OptionError('\n  '.join(faults.values()))
        del spec['type']
        return target(**spec)
    except KeyError as error:
        raise OptionError(f'{where}: {name} needs the option {error}') from error
    except UserError as error:
        raise OptionError(str(error) if str(error).startswith(where) else f'{where}: {error}') from error
    except CONSTRUCTOR_ERRORS as error:
        raise OptionError(f'{where}: {name}: {error}') from error
