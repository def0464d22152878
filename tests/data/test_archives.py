"""Archives: extraction is exact, links are not followed, and damaged archives are refused."""

import io
import os
import stat
import tarfile
import zipfile

import pytest

from ggkm_plugin.data.archives import open_archive
from ggkm_plugin.utils.errors import DataError

FILES = {'a/1.png': b'one', 'a/2.PNG': b'two' * 1000, 'Bücher/IMG.1 ü.png': b'dotted', 'empty.png': b''}
KINDS = ['zip', 'tar', 'tar.gz', 'tar.bz2', 'tar.xz', 'folder']


def pack(path, files, kind):
    """Create an archive or folder at `path` from names and contents."""
    if kind == 'folder':
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == 'zip':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, f'w:{kind[4:]}') as archive:
            for name, content in files.items():
                add(archive, name, content)
    return path


def add(archive, name, content=b'', **fields):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    for key, value in fields.items():
        setattr(entry, key, value)
    archive.addfile(entry, io.BytesIO(content))


def extract(path, out, names=None):
    archive = open_archive(path)
    return list(archive.extract({name: out / name for name in names or reversed(archive.sizes)}))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('kind', KINDS)
def test_files_come_out_as_they_went_in(tmp_path, kind):
    path = pack(tmp_path / 'in', FILES, kind)  # the name does not show the kind
    assert open_archive(path).sizes == {name: len(content) for name, content in FILES.items()}
    extract(path, tmp_path / 'out')
    assert contents(tmp_path / 'out') == FILES
    assert extract(path, tmp_path / 'some', ['a/2.PNG']) == ['a/2.PNG']
    assert contents(tmp_path / 'some') == {'a/2.PNG': FILES['a/2.PNG']}


@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_windows_separators_are_read_as_folders(tmp_path, kind):
    extract(pack(tmp_path / 'in', {'a\\b\\c.png': b'x', './d.png': b'y'}, kind), tmp_path / 'out')
    assert contents(tmp_path / 'out') == {'a/b/c.png': b'x', 'd.png': b'y'}


def test_links_in_an_archive_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / 'x.tar', 'w') as archive:
        add(archive, 'a.png', b'x')
        add(archive, 'b.png', type=tarfile.SYMTYPE, linkname='/etc/passwd')
    assert open_archive(tmp_path / 'x.tar').sizes == {'a.png': 1}
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
        link = zipfile.ZipInfo('b.png')
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, '/etc/passwd')
    extract(tmp_path / 'x.zip', tmp_path / 'out')
    assert contents(tmp_path / 'out') == {'b.png': b'/etc/passwd'}  # a file with the name of its target
    assert not (tmp_path / 'out/b.png').is_symlink()


def test_links_in_a_folder_are_followed_except_to_a_folder_above(tmp_path):
    pack(tmp_path / 'real', {'a.png': b'x'}, 'folder')
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/c.png').symlink_to(tmp_path / 'real/a.png')
    for number in range(30):  # without an end, or 2^30 folders
        (tmp_path / f'real/above{number}').symlink_to(tmp_path / ('real', 'in')[number % 2])
    (tmp_path / 'in/one').symlink_to(tmp_path / 'real')
    extract(tmp_path / 'in', tmp_path / 'out')
    assert contents(tmp_path / 'out') == dict.fromkeys(['c.png', 'one/a.png'], b'x')
    assert not (tmp_path / 'out/c.png').is_symlink()


def test_an_encrypted_zip_is_refused(tmp_path):
    content = bytearray(pack(tmp_path / 'x.zip', {'a.png': b'x'}, 'zip').read_bytes())
    for signature, flags in ((b'PK\3\4', 6), (b'PK\1\2', 8)):
        content[content.index(signature) + flags] |= 1
    (tmp_path / 'x.zip').write_bytes(content)
    with pytest.raises(DataError, match=r'x\.zip.*a\.png'):
        extract(tmp_path / 'x.zip', tmp_path / 'out')


@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz', 'tar.bz2', 'tar.xz'])
def test_a_truncated_archive_is_refused(tmp_path, kind):
    path = pack(tmp_path / 'x', {f'{k}.png': os.urandom(5000) for k in range(4)}, kind)
    content = path.read_bytes()
    for share in (0.03, 0.7):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=str(path)):
            open_archive(path)


@pytest.mark.parametrize('kind', ['zip', 'tar.bz2', 'tar.xz'])  # others have no checksums, but images do
def test_damaged_content_is_refused(tmp_path, kind):
    path = pack(tmp_path / 'x', {'a.png': os.urandom(300_000), 'b.png': b'x'}, kind)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1000] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        extract(path, tmp_path / 'out')


@pytest.mark.parametrize('content', [b'', b'<!DOCTYPE html><title>Quota exceeded</title>', b'Rar!\x1a\x07'])
def test_other_files_than_archives_are_refused(tmp_path, content):
    (tmp_path / 'x.zip').write_bytes(content)
    os.mkfifo(tmp_path / 'pipe')
    for name in ('x.zip', 'pipe', 'gone.zip'):
        with pytest.raises(DataError, match=name):
            open_archive(tmp_path / name)
