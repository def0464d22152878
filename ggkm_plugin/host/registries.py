"""basicsr's registries, importable on today's stack: whatever of ours registers something imports them here."""

from ggkm_plugin.host import imports

imports.install()

from basicsr.utils.registry import (  # noqa: E402
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    Registry,
)

__all__ = [
    'ARCH_REGISTRY',
    'DATASET_REGISTRY',
    'LOSS_REGISTRY',
    'METRIC_REGISTRY',
    'MODEL_REGISTRY',
    'REGISTRIES',
    'Registry',
]

REGISTRIES: dict[str, Registry] = {
    'archs': ARCH_REGISTRY,
    'datasets': DATASET_REGISTRY,
    'losses': LOSS_REGISTRY,
    'models': MODEL_REGISTRY,
    'metrics': METRIC_REGISTRY,
}
