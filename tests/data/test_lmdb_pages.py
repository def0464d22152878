"""Every value lies where the walk through the tree says: as LMDB itself gives it."""

from pathlib import Path

import lmdb
import numpy as np
import pytest

from ggkm_plugin.data.lmdb_pages import ValueMap


def write(path, values, commits=1):
    with lmdb.open(str(path), map_size=2**26, lock=False) as environment:
        for k in range(commits):
            with environment.begin(write=True) as transaction:
                for key, value in list(values.items())[k::commits]:
                    transaction.put(key, value)
    return str(path / 'data.mdb')


@pytest.mark.parametrize('commits', [1, 7])
@pytest.mark.parametrize('length', [0, 1, 100, 2000, 2100, 5000, 100_000])
@pytest.mark.parametrize('count', [1, 2, 300])
def test_values_of_every_size_are_found(tmp_path, count, length, commits):
    rng = np.random.default_rng(length)
    values = {f'{k:05d}'.encode() * int(rng.integers(1, 100)): rng.bytes(length + k % 3) for k in range(count)}
    found = ValueMap(write(tmp_path / 'a', values, commits))
    for key, value in values.items():
        assert found.value(key) == value
    assert found.value(b'none') is None


def test_the_newest_transaction_counts_and_what_was_deleted_is_gone(tmp_path):
    for length in (10, 10_000, 20_000, 5):
        path = write(tmp_path / 'a', {b'a': bytes([length % 251]) * length, b'b': b'x'})
        assert ValueMap(path).value(b'a') == bytes([length % 251]) * length
    with lmdb.open(str(tmp_path / 'a'), lock=False) as environment, environment.begin(write=True) as transaction:
        transaction.delete(b'b')
    assert ValueMap(path).value(b'b') is None


def test_an_empty_database_has_no_values(tmp_path):
    assert ValueMap(write(tmp_path / 'a', {})).value(b'a') is None


def test_a_view_is_read_only_and_outlives_the_map(tmp_path):
    value = ValueMap(write(tmp_path / 'a', {b'a': b'x' * 9000})).value(b'a')
    assert value.readonly
    assert bytes(value) == b'x' * 9000


def test_any_stretch_of_a_value_can_be_asked_for(tmp_path):
    found = ValueMap(write(tmp_path / 'a', {b'a': b'x' * 9000, b'b': b'y'}))
    for start, length in ((0, 9000), (1, 1), (4090, 20), (8999, 1)):
        found.read_ahead(b'a', start, length)
    found.read_ahead(b'b', 0, 1)


@pytest.mark.parametrize('content', [b'x' * 100, b'x' * 20_000])
def test_another_format_is_told(tmp_path, content):
    (tmp_path / 'data.mdb').write_bytes(content)
    with pytest.raises(ValueError, match=r'format \d+|bytes'):
        ValueMap(str(tmp_path / 'data.mdb'))


def test_the_next_format_of_lmdb_is_told(tmp_path):
    path = write(tmp_path / 'a', {b'a': b'x'})
    content = bytearray(Path(path).read_bytes())
    for page in (0, 4096):
        content[page + 20] += 1
    Path(path).write_bytes(content)
    with pytest.raises(ValueError, match='format 2'):
        ValueMap(path)
