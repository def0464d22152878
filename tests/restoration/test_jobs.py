"""Planning a batch: which photographs become which files, what is left out, and what is refused."""

import os

import pytest

from ggkm_plugin.restoration.jobs import plan
from ggkm_plugin.utils.errors import OptionError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        'photos/b.JPG',
        'photos/a.png',
        'photos/notes.txt',
        'photos/.hidden.png',
        'photos/a_deblurred.png',
        'photos/sea/c.tif',
        'photos/before_after/images/0001_before.jpg',
        'other/a.png',
        'lone.webp',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def planned(*inputs, out=None, suffix='_deblurred', recursive=False):
    return [(job.source, job.output) for job in plan(inputs, out, suffix, recursive)[0]]


@pytest.mark.parametrize(
    ('inputs', 'options', 'expected'),
    [
        (['lone.webp'], {}, [('lone.webp', 'lone_deblurred.webp')]),
        (['lone.webp'], {'suffix': '-sharp'}, [('lone.webp', 'lone-sharp.webp')]),
        (['lone.webp'], {'out': 'x.png'}, [('lone.webp', 'x.png')]),
        (['lone.webp'], {'out': 'new/x.png'}, [('lone.webp', 'new/x.png')]),
        (['lone.webp'], {'out': 'new'}, [('lone.webp', 'new/lone_deblurred.webp')]),
        (['lone.webp'], {'out': 'v1.2/'}, [('lone.webp', 'v1.2/lone_deblurred.webp')]),
        (['lone.webp'], {'out': 'new', 'suffix': ''}, [('lone.webp', 'new/lone.webp')]),
        (
            ['photos'],
            {},
            [('photos/a.png', 'photos/a_deblurred.png'), ('photos/b.JPG', 'photos/b_deblurred.JPG')],
        ),
        (
            ['photos'],
            {'out': 'new', 'recursive': True},
            [
                ('photos/a.png', 'new/a_deblurred.png'),
                ('photos/b.JPG', 'new/b_deblurred.JPG'),
                ('photos/sea/c.tif', 'new/sea/c_deblurred.tif'),
            ],
        ),
        (['*/a*.png'], {}, [('other/a.png', 'other/a_deblurred.png'), ('photos/a.png', 'photos/a_deblurred.png')]),
        (['photos/**/*.tif'], {}, [('photos/sea/c.tif', 'photos/sea/c_deblurred.tif')]),
        (
            ['photos/b.JPG', 'photos', './photos/a.png'],
            {},
            [('photos/b.JPG', 'photos/b_deblurred.JPG'), ('photos/a.png', 'photos/a_deblurred.png')],
        ),
        # named by hand, an earlier result and a file of any name are taken
        (['photos/a_deblurred.png'], {}, [('photos/a_deblurred.png', 'photos/a_deblurred_deblurred.png')]),
        (['photos/notes.txt'], {}, [('photos/notes.txt', 'photos/notes_deblurred.txt')]),
    ],
)
def test_what_becomes_what(place, inputs, options, expected):
    assert planned(*inputs, **options) == expected


@pytest.mark.parametrize('given', ['mixed', 'mixed/*'])
def test_files_left_out_are_listed_with_a_reason(place, given):
    names = ['a.jpg', 'b.jpe', 'c.JFIF', 'd.avif', 'e.heic', 'f.gif', 'g.NEF', 'h.jxl', 'i.txt', 'j_deblurred.jpg']
    for name in names:
        (place / 'mixed' / name).parent.mkdir(exist_ok=True)
        (place / 'mixed' / name).touch()
    jobs, skipped = plan([given], 'new', '_deblurred', False)
    outputs = {job.source: job.output for job in jobs}
    assert sorted([*outputs, *(item.source for item in skipped)]) == sorted(f'mixed/{name}' for name in names)
    assert sorted(item.source for item in skipped) == ['mixed/h.jxl', 'mixed/i.txt', 'mixed/j_deblurred.jpg']
    assert len({item.reason for item in skipped}) == 2
    assert outputs['mixed/b.jpe'] == 'new/b_deblurred.jpe'
    assert outputs['mixed/g.NEF'] == 'new/g_deblurred.tif'
    assert outputs['mixed/f.gif'] == 'new/f_deblurred.png'
    assert not any(job.named for job in jobs)
    assert plan(['mixed/g.NEF'], None, '_deblurred', False)[0][0].named


def test_absolute_patterns_and_names_that_are_patterns_too(place):
    assert planned(f'{place}/*.webp') == [(f'{place}/lone.webp', f'{place}/lone_deblurred.webp')]
    (place / 'a[1].png').touch()
    assert planned('a[1].png') == [('a[1].png', 'a[1]_deblurred.png')]


@pytest.mark.parametrize(
    ('inputs', 'options', 'words'),
    [
        (['gone.jpg'], {}, 'gone.jpg: no such file or folder'),
        (['*.bmp'], {}, r'\*.bmp: '),
        (['photos/sea/..', 'other'], {'out': 'new'}, 'both would become new/a_deblurred.png'),
        (['photos'], {'out': 'x.png'}, 'more than one photograph'),
        (['photos'], {'out': 'lone.webp/'}, 'lone.webp is a file, not a folder'),
        (['photos'], {'out': 'photos/notes.txt/below'}, 'notes.txt is a file, not a folder'),
        (['lone.webp'], {'out': 'x.gif'}, 'x.gif'),
        (['lone.webp'], {'out': 'lone.webp'}, 'lone.webp: would replace the photograph'),
        (['photos'], {'out': 'photos', 'suffix': ''}, 'would replace the photograph'),
        (['photos/a.png', 'photos/a_deblurred.png'], {}, 'would replace the photograph photos/a_deblurred.png'),
        (['lone.webp'], {'suffix': '/x'}, 'suffix'),
    ],
)
def test_what_cannot_be_is_named(place, inputs, options, words):
    with pytest.raises(OptionError, match=words):
        plan(inputs, options.get('out'), options.get('suffix', '_deblurred'), False)


def test_a_folder_without_photographs_says_where_to_look(place):
    (place / 'deep/er').mkdir(parents=True)
    (place / 'deep/er/a.png').touch()
    with pytest.raises(OptionError, match='--recursive'):
        plan(['deep'], None, '_deblurred', False)


def test_a_link_to_a_photograph_is_not_replaced(place):
    os.symlink('lone.webp', place / 'link_deblurred.webp')
    (place / 'link.webp').touch()
    with pytest.raises(OptionError, match=r'would replace the photograph lone\.webp'):
        plan(['link.webp', 'lone.webp'], None, '_deblurred', False)
    # what is not among the inputs is what it would be anyway: the link is replaced, not what it points to
    assert planned('link.webp') == [('link.webp', 'link_deblurred.webp')]


def test_links_to_nothing_do_not_stop_the_rest(place):
    os.symlink('nowhere', place / 'photos/gone.png')
    assert ('photos/gone.png', 'photos/gone_deblurred.png') in planned('photos')
