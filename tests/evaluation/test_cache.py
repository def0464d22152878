"""Kept results: given back for what they depend on, and for nothing else."""

from ggkm_plugin.evaluation.cache import Cache


def test_what_is_kept_is_given_back_for_the_same_only(tmp_path):
    cache = Cache(tmp_path)
    place = ('set', 'image', 'model')
    assert cache.read(place, 1) is None
    cache.write(place, 1, {'psnr': float('inf')})
    assert cache.read(place, 1) == {'psnr': float('inf')}
    assert cache.read(place, 2) is None
    cache.forget(place)
    cache.forget(place)
    assert cache.read(place, 1) is None
