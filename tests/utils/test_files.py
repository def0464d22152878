"""Atomic files and folders, locks, free space."""

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys

import pytest

from ggkm_plugin.utils.errors import DataError, LockError
from ggkm_plugin.utils.files import check_space, locked, new_folder, size_text, write_whole


def test_the_content_and_nothing_else(tmp_path):
    (tmp_path / 'file').write_text('old')
    for content, expected in (
        (b'\x00bytes', b'\x00bytes'),
        ('text, é', 'text, é'.encode()),
        ('caf\udce9', b'caf\\udce9'),
    ):
        write_whole(tmp_path / 'file', content)
        assert (tmp_path / 'file').read_bytes() == expected
        assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('error', [OSError(errno.ENOSPC, 'No space left on device'), KeyboardInterrupt()])
@pytest.mark.parametrize('function', ['fsync', 'replace'])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, function, error):
    (tmp_path / 'file').write_text('old')

    def fail(*_):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        write_whole(tmp_path / 'file', 'new')
    assert (tmp_path / 'file').read_text() == 'old'
    assert os.listdir(tmp_path) == ['file']


_LOCK = """
import sys, time
from pathlib import Path
from ggkm_plugin.utils.files import locked
with locked(Path(sys.argv[1])):
    print('locked', flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def locking(folder):
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, '-c', _LOCK, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == 'locked\n'
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_locked_folder_is_refused_and_its_owner_named(tmp_path):
    with locking(tmp_path / 'run') as process:
        with pytest.raises(LockError) as refused, locked(tmp_path / 'run'):
            pass
        assert str(process.pid) in str(refused.value)
        assert socket.gethostname() in str(refused.value)
    with locked(tmp_path / 'run'):  # its owner was killed
        assert socket.gethostname() in (tmp_path / '.run.lock').read_text()
        assert json.loads((tmp_path / '.run.lock').read_text())['pid'] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_a_lock_ends_with_its_block(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / 'new/run'):
        raise KeyError
    assert os.listdir(tmp_path / 'new') == []


def test_a_folder_that_cannot_be_locked(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='file/run'), locked(tmp_path / 'file/run'):
        pass


def test_a_new_folder_appears_when_it_is_complete(tmp_path):
    target = tmp_path / 'above' / 'new'
    target.mkdir(parents=True)  # an empty one may exist
    with new_folder(target) as folder:
        (folder / 'file').write_text('content')
        assert not (target / 'file').exists()
    assert (target / 'file').read_text() == 'content'
    assert os.listdir(target.parent) == ['new']
    assert target.stat().st_mode == target.parent.stat().st_mode


def test_a_new_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / 'new') as folder:  # noqa: PT012
        (folder / 'file').write_text('content')
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_new_folder_overwrites_nothing(tmp_path):
    def interfere():
        with new_folder(tmp_path / 'new') as folder:
            (folder / 'file').write_text('content')
            (tmp_path / 'new').mkdir()
            (tmp_path / 'new' / 'other').write_text('other')

    with pytest.raises(OSError, match='new'):
        interfere()
    assert os.listdir(tmp_path) == ['new']
    assert os.listdir(tmp_path / 'new') == ['other']


def test_too_little_space_is_named_in_units(tmp_path):
    check_space(tmp_path, 1, '')
    with pytest.raises(DataError, match=str(tmp_path)):
        check_space(tmp_path, 10**20, '')
    assert [size_text(size) for size in (999, 2.5e6, 2e12)] == ['999 bytes', '2.5 MB', '2000.0 GB']
