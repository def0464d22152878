"""Typed options of the data sets."""

import pytest

from ggkm_plugin.data.options import PairedOptions, SyntheticOptions
from ggkm_plugin.utils.errors import OptionError

GOOD = {'phase': 'train', 'gt_size': 16}


@pytest.mark.parametrize(
    'good',
    [
        {'noise_std': 5, 'layout': 'DPDD', 'bit_depth': 16, 'io_backend': {'type': 'lmdb'}},
        {'noise_std': [0, 17.85], 'seed': 10, 'rescale_range': [0.5, 0.5]},
        {'noise_std': (3, 3), 'batch_size_per_gpu': 'of the loader'},
        {'noise_std': None, 'gt_size': None, 'phase': 'val'},
    ],
    ids=str,
)
def test_good_options_pass(good):
    PairedOptions.of({**GOOD, **good})


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        *(('gt_size', value) for value in (None, 0, 1.5, '16')),
        *(('noise_std', value) for value in (-1, [5, 1], [1], 'loud', float('nan'), [0, float('nan')])),
        *(('seed', value) for value in (-1, None)),
        *(('use_hflip', value) for value in ('false', 1)),
        *(('gray_prob', value) for value in (1.1, True)),
        *(('rescale_range', value) for value in ([0, 1], [0.5, 1.5], 0.7)),
        ('layout', 'DPD'),
        ('pairing', 'order'),
        ('bit_depth', 10),
        ('io_backend', {'type': 'memcached'}),
    ],
)
def test_bad_options_are_named(key, value):
    with pytest.raises(OptionError, match=key):
        PairedOptions.of({**GOOD, key: value}, 'datasets.train')


def test_all_bad_options_are_named_at_once():
    with pytest.raises(OptionError, match=r'(?s)datasets\.val\.scenes.*datasets\.val\.max_blur_radius'):
        SyntheticOptions.of({'phase': 'val', 'scenes': 'wild', 'max_blur_radius': 0.1}, 'datasets.val')
