"""Selection of metrics: those that need a missing file are skipped, and those without a reference need no ground truth.

A metric is a registered function. It may declare `better` (higher or lower), `takes_float`, `check(**options)`, which
raises OptionError for wrong options, `missing(**options)`, which returns why it cannot be computed here, or None, and
`files(**options)`, the files with its weights.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggkm_plugin.utils.registry import registered

# Of BasicSR, which declares nothing.
_LOWER_IS_BETTER = ('calculate_niqe',)


def missing_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return why metrics cannot be computed on this machine, by their names in `val.metrics`."""
    found = {}
    for name, metric in metrics.items():
        reason_of = getattr(_function(metric), 'missing', None)
        if reason_of is not None and (reason := reason_of(**_options(metric))):
            found[name] = reason
    return found


def files_of(metric: Mapping[str, Any]) -> list[Path]:
    """Return the files with the weights of a metric that is not missing."""
    files = getattr(_function(metric), 'files', None)
    return files(**_options(metric)) if files else []


def needs_reference(metric: Mapping[str, Any]) -> bool:
    """Whether a metric compares with a ground truth."""
    return 'img2' in inspect.signature(_function(metric)).parameters


def better_of(metric: Mapping[str, Any]) -> str:
    """Return higher or lower: the option, else what the metric declares."""
    default = 'lower' if metric['type'] in _LOWER_IS_BETTER else 'higher'
    return str(metric.get('better') or getattr(_function(metric), 'better', default))


def _options(metric: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metric.items() if key not in ('type', 'better')}


def _function(metric: Mapping[str, Any]) -> Any:
    return registered('val.metrics', 'metrics', metric)
