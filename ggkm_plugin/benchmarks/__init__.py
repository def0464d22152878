"""The benchmark suite behind `basicsr bench`. Light: the benchmarks themselves are imported by who runs them."""

NAMES = ('reader', 'synthesis')
