"""The benchmark suite behind `basicsr bench`. Light: the benchmarks themselves are imported by who runs them.

Each is a module with `run(settings, progress)`, whose report has a `record()` for JSON, and `table(report)`.
"""

OF_DATA = ('reader', 'synthesis')
NAMES = (*OF_DATA, 'operator', 'network', 'scaling', 'training')
