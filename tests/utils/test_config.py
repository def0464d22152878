"""Option files: finding, reading, overriding, checking."""

import re
from pathlib import Path

import pytest

from ggkm_plugin.utils import config
from ggkm_plugin.utils.errors import OptionError


def _written(tmp_path, text):
    path = tmp_path / 'file.yml'
    path.write_text(text)
    return path


def test_finds_a_path_then_a_packaged_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('train_GGKMNet_demo.yml').write_text('name: mine')
    assert config.find_option_file('train_GGKMNet_demo.yml') == tmp_path / 'train_GGKMNet_demo.yml'
    for name in ('train_GGKMNet_DPDD', 'train_GGKMNet_DPDD.yml', 'options/train_GGKMNet_DPDD.yml'):
        assert config.find_option_file(name) == config.packaged_folder() / 'train_GGKMNet_DPDD.yml'


@pytest.mark.parametrize('name', ['TRAIN_ggkmnet_dpd', 'elsewhere/train_GGKMNet_DPDD.yml'])
def test_a_missing_file_suggests_the_nearest(name):
    with pytest.raises(OptionError, match=r'\btrain_GGKMNet_DPDD\.yml'):
        config.find_option_file(name)


def test_numbers_are_numbers(tmp_path):
    opt = config.load_options(_written(tmp_path, 'a: 1e-4\nb: 5E3\nc: 2\nd: 1e-4x\ne: 0.5'))
    assert opt == {'a': 1e-4, 'b': 5000.0, 'c': 2, 'd': '1e-4x', 'e': 0.5}
    assert isinstance(opt['c'], int)


@pytest.mark.parametrize('text', ['a: [1', '- 1', '', 'variants: [1]', 'variants: {x: 3}'])
def test_other_files_are_refused(tmp_path, text):
    with pytest.raises(OptionError, match=r'file\.yml'):
        config.load_options(_written(tmp_path, text), 'x')


@pytest.mark.parametrize('text', ['twice: 1\nb: 2\ntwice: 3', 'a: {twice: 1, twice: 1}', 'l: [{twice: 1, "twice": 2}]'])
def test_a_duplicate_key_is_refused(tmp_path, text):
    """PyYAML would keep the last one, so one of two data sets of the same name."""
    with pytest.raises(OptionError, match=r'file\.yml.*\btwice\b'):
        config.load_options(_written(tmp_path, text))


def test_merged_keys_are_not_duplicates(tmp_path):
    text = 'anchor: &a {a: 1, b: 2}\nfirst: {<<: *a, b: 3}\nsecond: {<<: *a}\n[1, 2]: x'
    opt = config.load_options(_written(tmp_path, text.replace('[1, 2]: x', 'y: x')))
    assert opt == {'anchor': {'a': 1, 'b': 2}, 'first': {'a': 1, 'b': 3}, 'second': {'a': 1, 'b': 2}, 'y': 'x'}
    with pytest.raises(OptionError, match=r'file\.yml'):
        config.load_options(_written(tmp_path, text))


def test_overrides_are_typed_and_known(tmp_path):
    path = _written(tmp_path, 'train: {lr: 1, steps: [1]}\nname: x')
    opt = config.load_options(path, overrides=['train:lr=1e-4', 'train:steps=[2, 3]', 'name=~'])
    assert opt == {'train': {'lr': 1e-4, 'steps': [2, 3]}, 'name': None}
    with pytest.raises(OptionError, match=r'train:stpes.*\bsteps\b'):
        config.load_options(path, overrides=['train:stpes=1'])
    with pytest.raises(OptionError, match='name'):
        config.load_options(path, overrides=['name:first=1'])
    for word in ('train', '=1', 'name=!!bool x', 'name=!!int x', 'name=[1'):
        with pytest.raises(OptionError, match=f'--force_yml {re.escape(word)}'):
            config.load_options(path, overrides=[word])


def test_variants(tmp_path):
    path = _written(tmp_path, 'name: x\nnet: {p: 21}\nvariants: {small: {net.p: 4, net.q: 2}}')
    assert config.load_options(path) == {'name': 'x', 'net': {'p': 21}}
    assert config.load_options(path, 'small', ['net:q=3']) == {'name': 'x_small', 'net': {'p': 4, 'q': 3}}
    with pytest.raises(OptionError, match=r'\bsmall\b'):
        config.load_options(path, 'smal')


def test_home_is_expanded_in_data_roots(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', '/mine')
    opt = config.load_options(_written(tmp_path, 'datasets: {train: {dataroot: ~/DPDD, dataroot_gt: null}}'))
    assert opt['datasets']['train'] == {'dataroot': '/mine/DPDD', 'dataroot_gt': None}


# base files

BASE = """
name: base
net: {type: A, p: 21, heads: true}
loss: {type: L1, weight: 2}
sizes: [1, 2]
variants: {small: {net.p: 4}, large: {net.p: 99}}
"""


@pytest.fixture
def derive(tmp_path):
    """Write base.yml and a file derived from it; return the derived one's path."""
    (tmp_path / 'base.yml').write_text(BASE)

    def write(text, name='derived.yml'):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_derived_file_states_differences(derive):
    text = 'base: base.yml\nname: mine\nnet: {p: 3, q: ~}\nsizes: [5]\nvariants: {small: {net.q: 2}}'
    opt, variants = config.read_options(derive(text))
    assert opt == {
        'name': 'mine', 'net': {'type': 'A', 'p': 3, 'heads': True, 'q': None}, 'loss': {'type': 'L1', 'weight': 2},
        'sizes': [5],
    }  # fmt: skip
    assert variants == {'small': {'net.p': 4, 'net.q': 2}, 'large': {'net.p': 99}}


def test_another_type_inherits_no_arguments(derive):
    opt, _ = config.read_options(derive('base: base.yml\nnet: {type: B, p: 1}\nloss: {type: L1}'))
    assert opt['net'] == {'type': 'B', 'p': 1}
    assert opt['loss'] == {'type': 'L1', 'weight': 2}


def test_the_name_is_not_inherited(derive):
    assert 'name' not in config.load_options(derive('base: base.yml'), 'small')


def test_keys_of_the_base_are_dropped(derive):
    opt, variants = config.read_options(derive('base: base.yml\nwithout: [net.heads, variants.large, sizes]'))
    assert (opt['net'], list(variants)) == ({'type': 'A', 'p': 21}, ['small'])
    assert 'sizes' not in opt
    for key in ('net.head', 'nets', 'sizes.0'):
        with pytest.raises(OptionError, match=key):
            config.read_options(derive(f'base: base.yml\nwithout: [{key}]'))


def test_chains_and_packaged_bases(derive, tmp_path, monkeypatch):
    """A base is looked for beside the file that names it, not in the current folder."""
    derive('base: base.yml\nsizes: [3]', 'middle.yml')
    monkeypatch.chdir(Path(__file__).parent)
    assert config.read_options(derive('base: middle.yml'))[0]['sizes'] == [3]
    packaged, _ = config.read_options(derive('base: train_GGKMNet_DPDD\nname: mine'))
    whole, _ = config.read_options(config.packaged_folder() / 'train_GGKMNet_DPDD.yml')
    assert packaged == {**whole, 'name': 'mine'}


def test_a_cycle_is_refused(derive):
    derive('base: derived.yml', 'other.yml')
    for base in ('other.yml', 'derived.yml'):
        with pytest.raises(OptionError, match=base):
            config.read_options(derive(f'base: {base}'))


@pytest.mark.parametrize('text', ['base: 3', 'base: nowhere.yml', 'without: [a]', 'base: base.yml\nwithout: a'])
def test_wrong_bases_are_refused(derive, text):
    with pytest.raises(OptionError, match=r'derived|nowhere'):
        config.read_options(derive(text))
