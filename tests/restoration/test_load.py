"""One loader for every command: formats, the choice of weights, names, and each mistake named."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from restoration.conftest import OPTIONS, make_network, pixels, save
from safetensors import safe_open
from safetensors.torch import save_file

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.cli.main import main
from ggkm_plugin.inference import Restorer
from ggkm_plugin.models.defocus_model import DefocusModel
from ggkm_plugin.restoration.load import load, parse_network, pretrained_file
from ggkm_plugin.utils.checkpoint import read_checkpoint
from ggkm_plugin.utils.errors import CheckpointError, OptionError
from ggkm_plugin.weights import LIGHT, NAMES, packaged_weights

NETWORK = {'type': 'GGKMNet', **OPTIONS}
ARCH = 'GGKMNet,' + ','.join(f'{key}={value}' for key, value in OPTIONS.items())


def shifted(net, by):
    """Weights that give another image."""
    state = {key: value.clone() for key, value in net.state_dict().items()}
    state['steps.0.blur.mix.bias'] += by
    return state


@pytest.fixture
def command(workplace, capsys):
    """Run a command in a folder with pairs: exit code, stdout, stderr."""

    def run(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert 'Traceback' not in err
        return code, out, err

    return run


FORMATS = {
    'bare': lambda state: state,
    'state_dict': lambda state: {'state_dict': state, 'epoch': 3},
    'ema_only': lambda state: {'params_ema': state},
    'module': lambda state: {'params': {f'module.{key}': value for key, value in state.items()}},
    'compiled': lambda state: {'params': {f'_orig_mod.{key}': value for key, value in state.items()}},
    'averaged': lambda state: {'n_averaged': torch.tensor(2), **{f'module.{key}': state[key] for key in state}},
}


@pytest.fixture(params=[*FORMATS, 'safetensors'])
def file(request, workplace, network):
    """A file that does not describe its network."""
    if request.param == 'safetensors':
        save_file(network.state_dict(), 'given.safetensors')
        return 'given.safetensors'
    torch.save(FORMATS[request.param](network.state_dict()), 'given.pth')
    return 'given.pth'


def test_every_format_loads_in_every_command(command, file, network):
    def same(path):
        state = load(path).state_dict()
        return all(torch.equal(value, network.state_dict()[key]) for key, value in state.items())

    assert load(file, NETWORK).net.training
    arch = ['--options', *(f'{key}={value}' for key, value in OPTIONS.items())]
    assert command('convert', file, '--arch', 'GGKMNet', *arch, '-o', 'converted.safetensors')[0] == 0
    assert same('converted.safetensors')
    assert load('converted.safetensors').options == NETWORK
    assert command('export', file, '--arch', ARCH, '-o', 'exported.safetensors')[0] == 0
    assert same('exported.safetensors')
    Image.fromarray(pixels(20, 24)).save('p.png')
    for weights, words in ((file, ['--arch', ARCH]), ('converted.safetensors', []), ('exported.safetensors', [])):
        out = f'{weights}.png'
        assert command('deblur', 'p.png', '--weights', weights, *words, '-o', out)[0] == 0
        assert np.array_equal(np.asarray(Image.open(out)), Restorer(network, 'cpu')(pixels(20, 24)))


def test_a_file_that_describes_nothing_says_how_to(command, workplace, network):
    """As BasicSR's own models save."""
    torch.save({'params': network.state_dict()}, 'stock.pth')
    Image.fromarray(pixels(20, 24)).save('p.png')
    for words in (['deblur', 'p.png', '--weights', 'stock.pth'], ['export', 'stock.pth', '-o', 'x.pth']):
        code, _, err = command(*words)
        assert code == 1
        assert 'stock.pth' in err
        assert '--arch' in err
        assert 'basicsr convert' in err


def test_convert_takes_weights_under_another_key(command, workplace, network):
    torch.save({'generator': network.state_dict(), 'epoch': 3}, 'gan.pth')
    words = ['convert', 'gan.pth', '--arch', 'GGKMNet', '-o', 'x.pth']
    options = ['--options', *ARCH.split(',')[1:]]
    code, _, err = command(*words, *options)
    assert code == 1
    assert 'generator' in err
    assert command(*words, '--param-key', 'generator', *options)[0] == 0
    assert load('x.pth').state_dict().keys() == network.state_dict().keys()


def test_averaged_weights_are_taken_by_every_command(command, workplace, network, tiny, write_options):
    """`test`, `compare`, `deblur`, `export`: of a file with two kinds of weights, the same."""
    average = make_network()
    average.load_state_dict(shifted(network, 0.2))
    save('both.pth', network, params_ema=average.state_dict())
    save('average.pth', average)
    expected = load('average.pth').state_dict()
    assert command('export', 'both.pth', '-o', 'exported.pth')[0] == 0
    for loaded in (load('both.pth'), load('exported.pth')):
        assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    assert load('both.pth').param_key == 'params_ema'
    raw = load('both.pth', param_key='params').state_dict()
    assert torch.equal(raw['steps.0.blur.mix.bias'], network.steps[0].blur.mix.bias)

    def tested(name, **path):
        opt = {**tiny, 'name': name, 'network_g': None, 'datasets': {'test': tiny['datasets']['val']}, 'path': path}
        assert command('test', '-opt', write_options(opt, 'test.yml'))[0] == 0
        results = json.loads(Path(f'results/{name}/scores_val.json').read_text())
        return results['models'][0]['param_key'], results['datasets'][0]['means']['result']

    _, of_average = tested('average', pretrain_network_g='average.pth')
    assert tested('both', pretrain_network_g='both.pth') == ('params_ema', of_average)
    key, of_raw = tested('raw', pretrain_network_g='both.pth', param_key_g='params')
    assert key == 'params'
    assert of_raw != of_average

    opt = {
        'name': 'c',
        'num_gpu': 0,
        'protocol': 'restormer',
        'metrics': ['psnr'],
        'models': [{'name': 'one', 'weights': 'average.pth'}, {'name': 'two', 'weights': 'both.pth'}],
        'datasets': {'val': {key: v for key, v in tiny['datasets']['val'].items() if key != 'name'}},
    }
    Path('compare.yml').write_text(yaml.safe_dump(opt))
    code, out, err = command('compare', '-opt', 'compare.yml', '--no-report', '--format', 'csv')
    assert code == 0, err
    rows = [line.split(',') for line in out.splitlines()]
    one, two = (next(row for row in rows if name in row) for name in ('one', 'two'))
    assert [cell for cell in one if cell != 'one'] == [cell for cell in two if cell != 'two']


def test_weights_that_are_not_finite_are_refused(command, workplace, network, tiny, write_options):
    save('nan.pth', network, params={key: value * torch.nan for key, value in network.state_dict().items()})
    Image.fromarray(pixels(20, 24)).save('p.png')
    tiny['path']['pretrain_network_g'] = 'nan.pth'
    tiny['network_g'] = NETWORK
    for words in (
        ['deblur', 'p.png', '--weights', 'nan.pth'],
        ['inspect', 'p.png', '--weights', 'nan.pth'],
        ['export', 'nan.pth', '-o', 'x.pth'],
        ['convert', 'nan.pth', '--arch', 'GGKMNet', '--options', *ARCH.split(',')[1:], '-o', 'x.pth'],
        ['train', '-opt', write_options(tiny)],
        ['check', '--no-steps', '-opt', write_options(tiny)],
    ):
        code, _, err = command(*words)
        assert code in (1, 2)
        assert 'nan.pth' in err
        assert 'NaN' in err
    assert not {'x.pth', 'p_deblurred.png', 'experiments'} & {path.name for path in workplace.iterdir()}


def test_keys_that_do_not_fit_are_named(workplace, network):
    state = shifted(network, 0)
    state['more.weight'] = torch.zeros(1)
    del state['steps.0.fuse.bias']
    state['steps.0.blur.mix.bias'] = torch.zeros(7)
    save('wrong.pth', network, params=state)
    with pytest.raises(CheckpointError) as caught:
        load('wrong.pth')
    for word in ('wrong.pth', 'more.weight', 'steps.0.fuse.bias', 'steps.0.blur.mix.bias', '(7,)'):
        assert word in str(caught.value)


def test_an_explicit_network_replaces_the_description(workplace, network):
    save('w.pth', network)
    with pytest.raises(CheckpointError, match=r'w\.pth'):
        load('w.pth', {**NETWORK, 'width': 8})
    assert load('w.pth', {**NETWORK, 'boundary': 'zeros'}).net.state_dict().keys() == network.state_dict().keys()


def test_a_network_in_one_word():
    assert parse_network(' GKMNet ') == {'type': 'GKMNet'}
    options = {'type': 'GGKMNet', 'width': 8, 'enc_blocks': [1, 2, 3], 'init': 'identity'}
    assert parse_network('GGKMNet, width = 8,enc_blocks=[1,2,3],init=identity') == options
    for wrong in ('', 'GGKMNet,width', 'GGKMNet,width=8,width=4', 'GGKM Net', 'GGKMNet,=3'):
        with pytest.raises(OptionError, match='--arch'):
            parse_network(wrong)


# Training


def test_fine_tuning_from_packaged_weights(command, workplace, tiny, write_options):
    """The SRM, which only training uses, is not in the file."""
    tiny['path']['pretrain_network_g'] = LIGHT
    tiny['train'] = {**tiny['train'], 'total_iter': 1, 'ema_decay': 0.5}
    tiny['train']['pixel_opt'] = {**tiny['train']['pixel_opt'], 'ssim_weight': 0}
    tiny['val'] = None
    described = read_checkpoint(packaged_weights(LIGHT))['description']['options']
    tiny['network_g'] = {**described, 'type': 'GGKMNet', 'self_reconstruction': True}
    code, _, err = command('train', '-opt', write_options(tiny))
    assert code == 0, err
    log = next(Path('experiments/tiny').glob('train_tiny_*.log')).read_text()
    assert sum('SRM' in line for line in log.splitlines()) == 1
    trained = read_checkpoint('experiments/tiny/models/net_g_latest.pth')
    given = load(LIGHT).state_dict()
    for key in ('params', 'params_ema'):
        assert all(torch.allclose(trained[key][name], value, atol=1e-2) for name, value in given.items())
        assert any(name.startswith('srm.') for name in trained[key])
    srm = [(value, trained['params_ema'][name]) for name, value in trained['params'].items() if 'srm' in name]
    assert all(torch.allclose(value, average, atol=1e-2) for value, average in srm)


@pytest.mark.slow
def test_training_saves_and_resumes_safetensors(command, workplace, tiny, write_options):
    """With the weights of a training that was not interrupted and saved .pth."""
    tiny['train']['ema_decay'] = 0.5
    tiny['val'] = None
    runs = {'pth': [4], 'safetensors': [2, 4]}
    for name, ends in runs.items():
        tiny['name'] = tiny['logger']['save_format'] = name
        for end in ends:
            tiny['train']['total_iter'] = end
            code, _, err = command('train', '-opt', write_options(tiny), '--auto_resume')
            assert code == 0, err
    folder = Path('experiments/safetensors/models')
    assert {path.suffix for path in folder.iterdir()} == {'.safetensors'}
    one, two = (read_checkpoint(f'experiments/{name}/models/net_g_latest.{name}') for name in runs)
    assert one.keys() == two.keys() == {'params', 'params_ema', 'description'}
    for kind in ('params', 'params_ema'):
        assert all(torch.equal(value, two[kind][key]) for key, value in one[kind].items())
    by_its_old_name = load(folder / 'net_g_latest.pth')
    assert by_its_old_name.param_key == 'params_ema'
    assert load(by_its_old_name.path).state_dict().keys() == one['params'].keys()


@pytest.mark.parametrize('param_key', [{}, {'param_key_g': None}, {'param_key_g': 'params_ema'}])
def test_resuming_loads_exactly_what_was_saved(workplace, tiny, network, param_key):
    """`params` into the network, `params_ema` into its EMA copy, whatever a fresh start would take."""
    average = shifted(network, 0.2)
    save('net_g_4.pth', network, params_ema=average)

    def started(**path):
        opt = {**tiny, 'is_train': True, 'dist': False, 'rank': 0, 'world_size': 1, 'network_g': dict(NETWORK)}
        opt['path'] = {'pretrain_network_g': 'net_g_4.pth', 'experiments_root': '.', **param_key, **path}
        opt['train'] = {**tiny['train'], 'ema_decay': 0.9, 'optim_g': dict(tiny['train']['optim_g'])}
        model = DefocusModel(opt)
        return [net.state_dict()['steps.0.blur.mix.bias'] for net in (model.net_g, model.net_g_ema)]

    raw, ema = network.state_dict()['steps.0.blur.mix.bias'], average['steps.0.blur.mix.bias']
    assert all(torch.equal(*pair) for pair in zip(started(resume_state='4.state'), (raw, ema), strict=True))
    assert all(torch.equal(value, ema) for value in started())
    assert all(torch.equal(value, raw) for value in started(param_key_g='params'))


def test_training_may_take_the_network_from_the_weights(command, workplace, tiny, write_options):
    save('w.pth')
    tiny['path']['pretrain_network_g'] = 'w.pth'
    tiny['network_g'] = None
    assert command('check', '--no-steps', '-opt', write_options(tiny))[0] == 0


def test_basicsrs_own_model_loads_by_the_same_rules(command, workplace, tiny, write_options):
    save('bare.pth')
    torch.save({'params_ema': make_network().state_dict()}, 'ema.pth')
    tiny.update(model_type='SRModel', network_g=NETWORK, val=None)
    tiny['train'] = {**tiny['train'], 'total_iter': 1}
    for weights in ('bare.pth', 'ema.pth'):
        tiny['path']['pretrain_network_g'] = weights
        tiny['name'] = weights[:-4]
        code, _, err = command('train', '-opt', write_options(tiny))
        assert code == 0, err


@pytest.mark.parametrize('name', ['train', 'check'])
def test_a_loss_of_one_image_with_basicsrs_own_model(command, workplace, tiny, write_options, name):
    tiny.update(model_type='SRModel', network_g=NETWORK)
    tiny['train'] = {**tiny['train'], 'pixel_opt': {'type': 'L1Loss'}}
    code, _, err = command(name, '-opt', write_options(tiny))
    assert code == 2
    assert 'train.pixel_opt' in err
    assert 'GGKMLoss' in err
    assert 'DefocusModel' in err
    assert not Path('experiments').exists()


# Export


def test_export_takes_the_averaged_weights(command, workplace):
    small = {'width': 4, 'num_groups': 3, 'self_reconstruction': False}
    description = {'arch': 'GGKMNet', 'options': small, 'iteration': 3}
    average, last = (GGKMNet(**small).state_dict() for _ in range(2))
    torch.save({'params': last, 'params_ema': average, 'description': description}, 'trained.pth')
    assert command('export', 'trained.pth', '--half', '-o', 'half.pth')[0] == 0
    assert command('export', 'trained.pth', '--half', '-o', 'half.safetensors')[0] == 0
    with safe_open('half.safetensors', 'pt') as file:
        assert json.loads(file.metadata()['description']) == description
    for path in ('half.pth', 'half.safetensors'):
        content = read_checkpoint(path)
        assert content['description'] == description
        assert content['params'].keys() == average.keys()
        for key, value in content['params'].items():
            assert value.dtype == torch.float16
            assert torch.equal(value, average[key].half())
        assert Restorer(path, 'cpu')(np.zeros((16, 16, 3), np.uint8)).shape == (16, 16, 3)


@pytest.mark.parametrize('name', NAMES)
def test_packaged_weights_export_as_they_are(command, workplace, name):
    assert command('export', name, '--half', '-o', 'x.safetensors')[0] == 0
    content, packaged = read_checkpoint('x.safetensors'), read_checkpoint(packaged_weights(name))
    assert content['description'] == packaged['description']
    assert all(torch.equal(value, packaged['params'][key]) for key, value in content['params'].items())
    assert content['params'].keys() == packaged['params'].keys()


def test_export_refuses_what_it_would_spoil(command, workplace, network):
    save('w.pth', network)
    save('large.pth', network, params=shifted(network, 1e6))
    Path('there.pth').write_bytes(b'mine')
    Path('link.pth').symlink_to('elsewhere.pth')
    for words, named, code in (
        (['large.pth', '--half', '-o', 'x.pth'], 'steps.0.blur.mix.bias', 1),
        (['w.pth', '-o', 'there.pth'], 'there.pth', 2),
        (['w.pth', '-o', 'link.pth'], 'link.pth', 2),
        (['w.pth', '-o', 'x.tar'], 'x.tar', 2),
        (['w.pth', '-o', ''], '-o', 2),
        (['gone.pth', '-o', 'x.pth'], 'gone.pth', 1),
        (['w.pth', '-o', 'gone/x.safetensors'], 'gone/x.safetensors', 2),
    ):
        result, _, err = command('export', *words)
        assert result == code
        assert named in err
    assert Path('there.pth').read_bytes() == b'mine'
    assert not Path('x.pth').exists()


# Names


def test_pretrained_takes_names_and_files(workplace, network):
    save('w.pth', network)
    image = pixels(20, 24)
    assert np.array_equal(Restorer.from_pretrained('w.pth', device='cpu')(image), Restorer(network, 'cpu')(image))
    assert Restorer.from_pretrained(LIGHT).network is not None
    with pytest.raises(CheckpointError, match=r'folder/gone\.pth'):
        Restorer.from_pretrained('folder/gone.pth')


def test_a_hub_repository_without_the_hub(workplace, monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(CheckpointError, match=r'owner/name.*huggingface_hub'):
        Restorer.from_pretrained('owner/name')


def test_a_hub_repository(workplace, network, monkeypatch):
    save('fetched.pth', network)
    hub = ModuleType('huggingface_hub')

    def fetch(repository, filename, revision=None):
        if repository != 'owner/name':
            raise OSError('no such repository')
        assert (filename, revision) == ('model.safetensors', 'v1')
        return 'fetched.pth'

    hub.hf_hub_download = fetch
    monkeypatch.setitem(sys.modules, 'huggingface_hub', hub)
    assert pretrained_file('owner/name', revision='v1') == 'fetched.pth'
    with pytest.raises(CheckpointError, match='owner/other'):
        pretrained_file('owner/other')
