"""A file is the old one or the whole new one."""

import errno
import os

import pytest

from ggkm_plugin.utils.files import write_whole


@pytest.mark.parametrize('content', [b'\x00bytes', 'text, é'])
def test_the_content_and_nothing_else(tmp_path, content):
    (tmp_path / 'file').write_text('old')
    write_whole(tmp_path / 'file', content)
    expected = content if isinstance(content, bytes) else content.encode()
    assert (tmp_path / 'file').read_bytes() == expected
    assert os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('error', [OSError(errno.ENOSPC, 'No space left on device'), KeyboardInterrupt()])
@pytest.mark.parametrize('function', ['fsync', 'replace'])
def test_a_failure_leaves_the_old_one(tmp_path, monkeypatch, function, error):
    (tmp_path / 'file').write_text('old')

    def fail(*_):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        write_whole(tmp_path / 'file', 'new')
    assert (tmp_path / 'file').read_text() == 'old'
    assert os.listdir(tmp_path) == ['file']


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / 'gone/file', 'new')


def test_a_name_of_no_known_encoding(tmp_path):
    write_whole(tmp_path / 'file', 'caf\udce9')
    assert (tmp_path / 'file').read_bytes() == b'caf\\udce9'
