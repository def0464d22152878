"""Benchmarks of `basicsr bench`; this module imports none of them.

Each is a module with `run(settings, progress)`, which returns a report with `record()` for JSON, and `table(report)`.
"""

OF_DATA = ('reader',)
NAMES = (*OF_DATA, 'operator', 'network', 'scaling', 'training')
