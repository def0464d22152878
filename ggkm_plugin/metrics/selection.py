"""Selection of metrics: those that need a missing file are skipped, and those without a reference need no ground truth.

A metric is a registered function. It may declare `better` (higher or lower), `takes_float`, `check(**options)`, which
raises OptionError for wrong options, and `missing(**options)`, which returns why it cannot be computed here, or None.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from ggkm_plugin.utils.registry import registered

# Of BasicSR, which declares nothing.
_LOWER_IS_BETTER = ('calculate_niqe',)


def missing_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return why metrics cannot be computed on this machine, by their names in `val.metrics`."""
    found = {}
    for name, metric in metrics.items():
        reason_of = getattr(_function(metric), 'missing', None)
        options = {key: value for key, value in metric.items() if key not in ('type', 'better')}
        if reason_of is not None and (reason := reason_of(**options)):
            found[name] = reason
    return found


def needs_reference(metric: Mapping[str, Any]) -> bool:
    """Whether a metric compares with a ground truth."""
    return 'img2' in inspect.signature(_function(metric)).parameters


def better_of(metric: Mapping[str, Any]) -> str:
    """Return higher or lower: the option, else what the metric declares."""
    default = 'lower' if metric['type'] in _LOWER_IS_BETTER else 'higher'
    return str(metric.get('better') or getattr(_function(metric), 'better', default))


def _function(metric: Mapping[str, Any]) -> Any:
    return registered('val.metrics', 'metrics', metric)
