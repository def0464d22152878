"""The command that makes JNB's dictionary: the file it writes, and what it refuses."""

import numpy as np
import pytest

from ggkm_plugin.classical.jnb_map import Dictionary
from ggkm_plugin.datasets_prep import learn_jnb


@pytest.fixture
def quick(monkeypatch):
    """Learning itself takes a minute, and is tested where it is written."""

    def learned(progress):
        progress('dictionary', 1, 2)
        return Dictionary(np.ones((128, 64), np.float32), np.array([9.0, 4.0]), np.array([0.0, 4.0]))

    monkeypatch.setattr(learn_jnb, 'learned', learned)


def test_what_it_writes(tmp_path, quick, capsys):
    path = tmp_path / 'new.npz'
    assert learn_jnb.main([str(path)]) == 0
    assert '128 atoms; sigma in pixels: atoms needed 0: 9.0, 4: 4.0' in capsys.readouterr().out
    with np.load(path) as content:
        assert {name: content[name].shape for name in content} == {'atoms': (128, 64), 'counts': (2,), 'sigmas': (2,)}


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    assert learn_jnb.main([str(tmp_path / 'new.npz'), '--dry-run']) == 0
    assert 'new.npz' in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['there.npz', 'no/folder/new.npz'])
def test_what_it_refuses(tmp_path, capsys, name):
    (tmp_path / 'there.npz').write_text('mine')
    assert learn_jnb.main([str(tmp_path / name)]) == 1
    assert name in capsys.readouterr().err
    assert (tmp_path / 'there.npz').read_text() == 'mine'
