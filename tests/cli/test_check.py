"""`basicsr check`."""

import yaml

from ggkm_plugin.utils import config


def test_show_prints_the_merged_options(command, workplace, write_options, tiny):
    write_options(tiny, 'base.yml')
    derived = {'base': 'base.yml', 'name': 'mine', 'variants': {'wide': {'network_g.width': 8}}}
    path = write_options(derived, 'derived.yml')
    code, out, _ = command('check', '--show', '-opt', path, '--variant', 'wide', '--force_yml', 'manual_seed=5')
    assert code == 0
    assert yaml.safe_load(out) == {
        **tiny, 'name': 'mine_wide', 'network_g': {**tiny['network_g'], 'width': 8}, 'manual_seed': 5,
    }  # fmt: skip


def test_kinds_of_files(command, workplace, write_options, tiny):
    """Test and comparison files are checked as what they are."""
    test = {key: tiny[key] for key in ('name', 'model_type', 'num_gpu', 'network_g', 'path', 'val')}
    test['datasets'] = {'test': tiny['datasets']['val']}
    code, _, err = command('check', '-opt', write_options(test, 'test.yml'))
    assert code == 2
    assert 'path.pretrain_network_g' in err
    compare = config.load_options(config.packaged_folder() / 'compare_demo.yml')
    assert command('check', '-opt', write_options(compare, 'compare.yml'))[0] == 0
    code, _, err = command('check', '-opt', write_options({**compare, 'modles': []}, 'compare.yml'))
    assert code == 2
    assert 'modles' in err


def test_images_are_checked_unless_skipped(command, workplace, write_options, tiny):
    (workplace / 'pairs/input/00.png').write_bytes(b'')
    path = write_options(tiny)
    for name in ('check', 'train'):
        code, _, err = command(name, '-opt', path)
        assert code == 1
        assert 'pairs/input/00.png' in err
    assert command('check', '-opt', path, '--skip-image-check', '--no-steps')[0] == 0
