"""Option files: finding, reading, overriding, checking."""

import copy
from pathlib import Path

import pytest

from ggkm_plugin import options
from ggkm_plugin.errors import OptionError


def _written(tmp_path, text):
    path = tmp_path / 'file.yml'
    path.write_text(text)
    return path


def test_finds_a_path_then_a_packaged_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('train_GGKMNet_demo.yml').write_text('name: mine')
    assert options.find_option_file('train_GGKMNet_demo.yml') == tmp_path / 'train_GGKMNet_demo.yml'
    for name in ('train_GGKMNet_DPDD', 'train_GGKMNet_DPDD.yml', 'options/train_GGKMNet_DPDD.yml'):
        assert options.find_option_file(name) == options.packaged_folder() / 'train_GGKMNet_DPDD.yml'


@pytest.mark.parametrize('name', ['train_GGKMNet_DPD.yml', 'elsewhere/train_GGKMNet_DPDD.yml'])
def test_a_missing_file_suggests_the_nearest(name):
    with pytest.raises(OptionError, match=r'no such option file\. Did you mean train_GGKMNet_DPDD\.yml'):
        options.find_option_file(name)


def test_numbers_are_numbers(tmp_path):
    opt = options.load_options(_written(tmp_path, 'a: 1e-4\nb: 5E3\nc: 2\nd: 1e-4x\ne: 0.5'))
    assert opt == {'a': 1e-4, 'b': 5000.0, 'c': 2, 'd': '1e-4x', 'e': 0.5}
    assert isinstance(opt['c'], int)


@pytest.mark.parametrize(('text', 'message'), [('a: [1', 'YAML'), ('- 1', 'mapping'), ('', 'mapping')])
def test_what_is_no_option_file(tmp_path, text, message):
    with pytest.raises(OptionError, match=message):
        options.load_options(_written(tmp_path, text))


def test_overrides_are_typed_and_known(tmp_path):
    path = _written(tmp_path, 'train: {lr: 1, steps: [1]}\nname: x')
    opt = options.load_options(path, overrides=['train:lr=1e-4', 'train:steps=[2, 3]', 'name=~'])
    assert opt == {'train': {'lr': 1e-4, 'steps': [2, 3]}, 'name': None}
    with pytest.raises(OptionError, match=r'train:stpes.*Did you mean steps'):
        options.load_options(path, overrides=['train:stpes=1'])
    with pytest.raises(OptionError, match='key:subkey=value'):
        options.load_options(path, overrides=['train'])
    with pytest.raises(OptionError, match='no keys below'):
        options.load_options(path, overrides=['name:first=1'])


def test_variants(tmp_path):
    path = _written(tmp_path, 'name: x\nnet: {p: 21}\nvariants: {small: {net.p: 4, net.q: 2}}')
    assert options.load_options(path) == {'name': 'x', 'net': {'p': 21}}
    assert options.load_options(path, 'small', ['net:q=3']) == {'name': 'x_small', 'net': {'p': 4, 'q': 3}}
    with pytest.raises(OptionError, match='Did you mean small'):
        options.load_options(path, 'smal')


def test_a_sound_file_passes(workplace, tiny):
    before = copy.deepcopy(tiny)
    options.check_options(tiny, is_train=True)
    assert tiny == before


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'network_g.type': 'GGKMnet'}, 'network_g.*Did you mean GGKMNet'),
        ({'network_g.num_group': 3}, 'no option num_group.*Did you mean num_groups'),
        ({'network_g.boundary': 'circular'}, 'boundary is one of'),
        ({'network_g.type': None}, 'network_g.type is missing'),
        ({'model_type': 'SrModel'}, 'Did you mean SRModel'),
        ({'train.pixel_opt.type': 'GKMLos'}, 'Did you mean GGKMLoss'),
        ({'train.pixel_opt.omega': 'backwards'}, 'omega is literal or reversed'),
        ({'train.total_iter': None}, 'train.total_iter is missing'),
        ({'train.total_iter': '4'}, 'whole number'),
        ({'train.pixel_opt': None}, 'no loss'),
        ({'val.metrics.psnr.type': 'defocus_pnsr'}, 'Did you mean defocus_psnr'),
        ({'path.pretrain_network_g': 'gone.pth'}, 'gone.pth: no such file'),
        ({'num_gpu': 99}, 'num_gpu: auto'),
        ({'datasets.train.dataroot_lq': 'nowhere'}, 'nowhere: no such folder'),
        ({'datasets.train.dataroot_lq': None}, 'dataroot_lq and dataroot_gt'),
        ({'datasets.train.batch_size_per_gpu': 'four'}, 'batch_size_per_gpu'),
        ({'datasets.train.gt_size': None}, 'gt_size'),
        ({'datasets.train.batch_size_per_gpu': 9}, 'batch_size_per_gpu, or set dataset_enlarge_ratio to 3'),
        ({'datasets.train.name': None}, None),
        ({'datasets.validate': {'name': 'x'}}, 'datasets.validate'),
    ],
)
def test_one_fault(workplace, tiny, change, message):
    for key, value in change.items():
        options._set(tiny, key.split('.'), value, new_keys=True)
    if message is None:
        options.check_options(tiny, is_train=True)
    else:
        with pytest.raises(OptionError, match=message):
            options.check_options(tiny, is_train=True)


def test_all_faults_in_one_list(workplace, tiny):
    tiny['network_g']['type'] = 'Nobody'
    tiny['datasets']['val']['dataroot_gt'] = 'nowhere'
    with pytest.raises(OptionError) as caught:
        options.check_options(tiny, is_train=True)
    assert 'network_g' in str(caught.value)
    assert 'datasets.val' in str(caught.value)


def test_checking_makes_no_files_and_starts_no_log(workplace, tiny):
    import logging

    handlers = logging.getLogger('basicsr').handlers
    before = sorted(workplace.rglob('*')), list(handlers)
    options.check_options(tiny, is_train=True)
    assert (sorted(workplace.rglob('*')), list(handlers)) == before
