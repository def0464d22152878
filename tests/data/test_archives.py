"""What may come out of an archive, what may not, and that a refused one has written nothing."""

import io
import os
import stat
import tarfile
import warnings
import zipfile

import pytest

from ggkm_plugin.data.archives import open_archive, size_text
from ggkm_plugin.utils.errors import DataError

FILES = {'a/1.png': b'one', 'a/2.PNG': b'two' * 1000, 'Bücher/IMG.1 ü.png': b'dotted', 'empty.png': b''}
KINDS = ['zip', 'tar', 'tar.gz', 'tar.bz2', 'tar.xz', 'folder']


def pack(path, files, kind):
    """An archive of the kind at `path`, or a folder, of names and contents."""
    if kind == 'folder':
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == 'zip':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of duplicate names
            for name, content in files.items():
                archive.writestr(str(name), content)
    else:
        with tarfile.open(path, f'w:{kind[4:]}') as archive:
            for name, content in files.items():
                add(archive, str(name), content)
    return path


def add(archive, name, content=b'', **fields):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    for key, value in fields.items():
        setattr(entry, key, value)
    archive.addfile(entry, io.BytesIO(content))


def extract(path, out, names=None, **limits):
    archive = open_archive(path)
    list(archive.extract({name: out / name for name in names or archive.members}, **limits))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize('kind', KINDS)
def test_files_come_out_as_they_went_in(tmp_path, kind):
    path = pack(tmp_path / 'in', FILES, kind)  # the name says nothing of the kind
    archive = open_archive(path)
    assert {name: member.size for name, member in archive.members.items()} == {n: len(c) for n, c in FILES.items()}
    extract(path, tmp_path / 'out')
    assert contents(tmp_path / 'out') == FILES


@pytest.mark.parametrize('kind', KINDS)
def test_only_what_was_chosen_comes_out(tmp_path, kind):
    extract(pack(tmp_path / 'in', FILES, kind), tmp_path / 'out', ['a/2.PNG'])
    assert contents(tmp_path / 'out') == {'a/2.PNG': FILES['a/2.PNG']}


@pytest.mark.parametrize('kind', KINDS)
def test_leftovers_of_systems_are_listed_apart(tmp_path, kind):
    junk = ['__MACOSX/a/1.png', '__MACOSX/a/._1.png', 'a/.DS_Store', 'a/Thumbs.db', '.hidden/b.png']
    archive = open_archive(pack(tmp_path / 'in', {**FILES, **dict.fromkeys(junk, b'x')}, kind))
    assert sorted(archive.ignored) == sorted(junk)
    assert sorted(archive.members) == sorted(FILES)


def test_windows_separators_are_read_as_folders(tmp_path):
    extract(pack(tmp_path / 'in', {'a\\b\\c.png': b'x', './d.png': b'y'}, 'tar'), tmp_path / 'out')
    assert contents(tmp_path / 'out') == {'a/b/c.png': b'x', 'd.png': b'y'}


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_that_is_there_is_not_written_again(tmp_path, kind):
    path, out = pack(tmp_path / 'in', FILES, kind), tmp_path / 'out'
    extract(path, out, ['a/1.png'])
    (out / 'a/2.PNG').write_bytes(b'cut off')
    before = (out / 'a/1.png').stat().st_ino
    extract(path, out)
    assert (out / 'a/1.png').stat().st_ino == before
    assert contents(out) == FILES


def test_a_file_of_the_right_size_and_wrong_content_is_written_again_from_a_zip(tmp_path):
    path, out = pack(tmp_path / 'in.zip', FILES, 'zip'), tmp_path / 'out'
    (out / 'a').mkdir(parents=True)
    (out / 'a/1.png').write_bytes(b'eno')
    extract(path, out)
    assert contents(out) == FILES


@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz'])
@pytest.mark.parametrize(
    ('bad', 'says'),
    [
        ('../evil.png', 'leads out'),
        ('a/../../evil.png', 'leads out'),
        ('a\\..\\..\\evil.png', 'leads out'),
        ('/tmp/evil.png', 'absolute'),
        ('C:\\evil.png', 'absolute'),
        ('\\\\host\\evil.png', 'absolute'),
        ('a/line\nbreak.png', 'control characters'),
        ('A/1.PNG', 'a second file of the name a/1.png'),
        ('Bu\u0308cher/IMG.1 ü.png', 'a second file of the name'),
        ('a/1.png/b.png', 'below a/1.png, which is a file'),
        ('x' * 250 + '.png', 'too long'),
        ('/'.join(['folder'] * 200) + '.png', 'too long'),
    ],
)
def test_an_entry_that_would_do_harm_refuses_the_whole_archive(tmp_path, kind, bad, says):
    path = pack(tmp_path / f'x.{kind}', {**FILES, bad: b'evil'}, kind)
    with pytest.raises(DataError, match=says) as error:
        open_archive(path)
    assert str(error.value).startswith(f'{path}: refused, its entry ')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_two_entries_of_one_name_refuse_the_archive(tmp_path, kind):
    class Twin(str):
        """Equal when written, different as a key."""

        __slots__ = ()
        __hash__ = object.__hash__

        def __eq__(self, other):
            return self is other

    path = pack(tmp_path / 'x', {Twin('a.png'): b'1', Twin('a.png'): b'2'}, kind)
    with pytest.raises(DataError, match=r'entry a\.png is a second file of the name a\.png'):
        open_archive(path)


@pytest.mark.parametrize(
    'type_', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_refuse_a_tar(tmp_path, type_):
    with tarfile.open(tmp_path / 'x.tar', 'w') as archive:
        add(archive, 'a.png', b'x')
        add(archive, 'b.png', type=type_, linkname='/etc/passwd')
    with pytest.raises(DataError, match=r'x\.tar: refused, its entry b\.png is a link or device'):
        open_archive(tmp_path / 'x.tar')


def test_a_link_refuses_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / 'x.zip', 'w') as archive:
        entry = zipfile.ZipInfo('b.png')
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, '/etc/passwd')
    with pytest.raises(DataError, match=r'x\.zip: refused, its entry b\.png is a link or device'):
        open_archive(tmp_path / 'x.zip')


def test_links_in_a_folder_of_ones_own_are_followed(tmp_path):
    (tmp_path / 'real.png').write_bytes(b'x')
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'a.png').symlink_to(tmp_path / 'real.png')
    extract(tmp_path / 'in', tmp_path / 'out')
    assert contents(tmp_path / 'out') == {'a.png': b'x'}
    assert not (tmp_path / 'out' / 'a.png').is_symlink()


def test_a_folder_linked_twice_is_listed_twice_and_a_circle_is_left(tmp_path):
    pack(tmp_path / 'real', {'a.png': b'x'}, 'folder')
    (tmp_path / 'real' / 'circle').symlink_to(tmp_path / 'real')
    (tmp_path / 'in').mkdir()
    for name in ('one', 'two'):
        (tmp_path / 'in' / name).symlink_to(tmp_path / 'real')
    assert sorted(open_archive(tmp_path / 'in').members) == ['one/a.png', 'two/a.png']


def test_an_encrypted_zip_is_told(tmp_path):
    content = bytearray(pack(tmp_path / 'x.zip', {'a.png': b'x'}, 'zip').read_bytes())
    for signature, flags in ((b'PK\3\4', 6), (b'PK\1\2', 8)):
        content[content.index(signature) + flags] |= 1
    (tmp_path / 'x.zip').write_bytes(content)
    with pytest.raises(DataError, match=r'x\.zip: a\.png is encrypted'):
        open_archive(tmp_path / 'x.zip')


# bombs


@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz'])
def test_more_than_the_limit_in_all_is_refused_when_listed(tmp_path, kind):
    path = pack(tmp_path / 'x', {'a.png': b'0' * 600, 'b.png': b'0' * 600}, kind)
    open_archive(path, max_bytes=1200)
    with pytest.raises(DataError, match=r'with its entry b\.png it unpacks to 1\.2 kB or more .*1\.2 kB.*--max-size'):
        open_archive(path, max_bytes=1199)


def test_a_tar_bomb_is_left_before_its_content_is_unpacked(tmp_path):
    with tarfile.open(tmp_path / 'x.tar', 'w') as archive:
        entry = tarfile.TarInfo('a.png')
        entry.size = 10**15  # said, not there
        archive.addfile(entry)
    with pytest.raises(DataError, match=r'a\.png it unpacks to 1000000\.0 GB'):
        open_archive(tmp_path / 'x.tar')


def test_a_member_of_negative_size_ends_the_listing(tmp_path):
    entry = tarfile.TarInfo('a.png')
    content = bytearray(entry.tobuf())
    content[124:136] = b'\xff' * 10 + b'\xfc\x00'  # -1024: tarfile would read this header for ever
    content[148:156] = b' ' * 8
    content[148:156] = b'%06o\0 ' % sum(content[:512])
    (tmp_path / 'x.tar').write_bytes(bytes(content) + bytes(10240))
    with pytest.raises(DataError, match='negative size'):
        open_archive(tmp_path / 'x.tar')


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_larger_than_any_image_is_refused_before_anything_is_written(tmp_path, kind):
    path = pack(tmp_path / 'in', FILES, kind)
    with pytest.raises(DataError, match=r'in: a/2\.PNG unpacks to 3\.0 kB'):
        extract(path, tmp_path / 'out', max_file_bytes=2999)
    assert not (tmp_path / 'out').exists()
    extract(path, tmp_path / 'out', max_file_bytes=3000)


@pytest.mark.parametrize('said', [2, 5000])
def test_a_zip_whose_member_is_not_as_large_as_it_says_is_told(tmp_path, said):
    content = bytearray(pack(tmp_path / 'x.zip', {'a.png': b'0' * 3000}, 'zip').read_bytes())
    for signature, size in ((b'PK\3\4', 22), (b'PK\1\2', 24)):
        place = content.index(signature) + size
        content[place : place + 4] = said.to_bytes(4, 'little')
    (tmp_path / 'x.zip').write_bytes(content)
    with pytest.raises(DataError, match=r'x\.zip: damaged or cut off \(a\.png.*download it again'):
        extract(tmp_path / 'x.zip', tmp_path / 'out')
    assert contents(tmp_path / 'out') == {}


# damage


@pytest.mark.parametrize('kind', ['zip', 'tar', 'tar.gz', 'tar.bz2', 'tar.xz'])
@pytest.mark.parametrize('left', [0.03, 0.5, 0.7])
def test_a_truncated_archive_is_told(tmp_path, kind, left):
    path = pack(tmp_path / 'x', {f'{k}.png': os.urandom(5000) for k in range(4)}, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    with pytest.raises(DataError, match=r'x: damaged or cut off \(.+\); download it again') as error:
        open_archive(path)
    assert '\n' not in str(error.value)


def test_a_tar_cut_between_two_files_is_told_though_tarfile_reads_it(tmp_path):
    path = pack(tmp_path / 'x.tar', {'a.png': bytes(512), 'b.png': bytes(512)}, 'tar')
    path.write_bytes(path.read_bytes()[:1024])
    with tarfile.open(path) as archive:
        assert archive.getnames() == ['a.png']
    with pytest.raises(DataError, match='its end is missing'):
        open_archive(path)


def test_a_tar_with_a_damaged_header_in_the_middle_is_told_though_tarfile_reads_it(tmp_path):
    path = pack(tmp_path / 'x.tar', {'a.png': bytes(512), 'b.png': bytes(512)}, 'tar')
    content = bytearray(path.read_bytes())
    content[1024 + 148 : 1024 + 156] = b'xxxxxxxx'
    path.write_bytes(content)
    with pytest.raises(DataError, match='its end is missing'):
        open_archive(path)


def test_the_checksum_at_the_end_of_a_gz_is_read(tmp_path):
    path = pack(tmp_path / 'x.tar.gz', FILES, 'tar.gz')
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match='CRC check failed'):
        open_archive(path)


def test_damaged_content_of_a_zip_is_told_with_the_file_and_leaves_the_others(tmp_path):
    path = tmp_path / 'x.zip'
    with zipfile.ZipFile(path, 'w') as archive:  # stored
        archive.writestr('a.png', b'first' * 100)
        archive.writestr('b.png', b'second' * 100)
    content = bytearray(path.read_bytes())
    content[content.index(b'second')] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r'x\.zip: damaged or cut off \(b\.png: Bad CRC'):
        extract(path, tmp_path / 'out')
    assert contents(tmp_path / 'out') == {'a.png': b'first' * 100}


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'', 'the file is empty; download it again'),
        (b'<!DOCTYPE html><title>Quota exceeded</title>', 'a web page, not the archive'),
        (b'Rar!\x1a\x07', 'no zip or tar archive: unpack it, and name the folder'),
    ],
)
def test_what_is_no_archive_is_told(tmp_path, content, says):
    (tmp_path / 'x.zip').write_bytes(content)
    with pytest.raises(DataError, match=f'x.zip: {says}'):
        open_archive(tmp_path / 'x.zip')


def test_a_pipe_is_told_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'in')
    with pytest.raises(DataError, match='/in: a pipe or device, not a file'):
        open_archive(tmp_path / 'in')


def test_an_archive_that_is_missing_is_told(tmp_path):
    with pytest.raises(DataError, match=r'x\.zip: No such file'):
        open_archive(tmp_path / 'x.zip')


@pytest.mark.parametrize('kind', KINDS)
def test_a_target_that_cannot_be_written_is_told(tmp_path, kind):
    path = pack(tmp_path / 'in', FILES, kind)
    (tmp_path / 'out').write_bytes(b'a file')
    with pytest.raises(DataError, match=r'out/.*: cannot be written .*run the same command again'):
        extract(path, tmp_path / 'out')


def test_sizes_in_words():
    assert [size_text(size) for size in (0, 999, 1500, 2.5e6, 3e9, 2e12)] == [
        '0 bytes', '999 bytes', '1.5 kB', '2.5 MB', '3.0 GB', '2000.0 GB'
    ]  # fmt: skip
