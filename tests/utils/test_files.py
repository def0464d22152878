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


@pytest.mark.parametrize('content', [b'\x00bytes', 'text, é'])
def test_the_content_and_nothing_else(tmp_path, content):
    (tmp_path / 'file').write_text('old')
    write_whole(tmp_path / 'file', content)
    expected = content if isinstance(content, bytes) else content.encode()
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


def test_a_name_of_no_known_encoding(tmp_path):
    write_whole(tmp_path / 'file', 'caf\udce9')
    assert (tmp_path / 'file').read_bytes() == b'caf\\udce9'


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


@pytest.mark.parametrize(('pid', 'host', 'refused'), [
    (os.getpid(), socket.gethostname(), True),
    (os.getpid(), 'another', True),
    (2**22 + 1, socket.gethostname(), False),  # above the largest process id
    (None, None, False),
], ids=['this process', 'another machine', 'ended process', 'damaged lock file'])  # fmt: skip
def test_a_file_system_without_locks(tmp_path, monkeypatch, pid, host, refused):
    def fail(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr('ggkm_plugin.utils.files.fcntl.lockf', fail)
    (tmp_path / '.run.lock').write_text(json.dumps({'pid': pid, 'host': host}) if pid else '{')
    if refused:
        with pytest.raises(LockError, match=str(pid)), locked(tmp_path / 'run'):
            pass
        assert os.listdir(tmp_path) == ['.run.lock']
    else:
        with locked(tmp_path / 'run'), pytest.raises(LockError), locked(tmp_path / 'run'):
            pass
        assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_locked(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='file/run'), locked(tmp_path / 'file/run'):
        pass


@pytest.mark.parametrize('exists', [False, True])
def test_a_new_folder_appears_when_it_is_complete(tmp_path, exists):
    target = tmp_path / 'above' / 'new'
    if exists:
        target.mkdir(parents=True)
    with new_folder(target) as folder:
        (folder / 'file').write_text('content')
        assert not (target / 'file').exists()
    assert (target / 'file').read_text() == 'content'
    assert os.listdir(target.parent) == ['new']
    (tmp_path / 'usual').mkdir()
    assert target.stat().st_mode == (tmp_path / 'usual').stat().st_mode


@pytest.mark.parametrize('error', [ValueError(), KeyboardInterrupt()])
def test_a_new_folder_that_fails_leaves_nothing(tmp_path, error):
    def fail():
        with new_folder(tmp_path / 'new') as folder:
            (folder / 'file').write_text('content')
            raise error

    with pytest.raises(type(error)):
        fail()
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


def test_sizes():
    assert [size_text(size) for size in (0, 999, 1500, 2.5e6, 3e9, 2e12)] == [
        '0 bytes', '999 bytes', '1.5 kB', '2.5 MB', '3.0 GB', '2000.0 GB'
    ]  # fmt: skip


def test_too_little_space(tmp_path):
    check_space(tmp_path, 1, '')
    with pytest.raises(DataError, match=str(tmp_path)):
        check_space(tmp_path, 10**20, '')
