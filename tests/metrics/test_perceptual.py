"""LPIPS: the known answers of its authors, the protocols' inputs, and the message for a missing backbone."""

import cv2
import numpy as np
import pytest
import torch

from ggkm_plugin.metrics.perceptual import TRUNKS, defocus_lpips, find_trunk
from ggkm_plugin.training import check_config
from ggkm_plugin.utils.errors import OptionError


@pytest.fixture
def example(shared_data):
    """The example images of LPIPS as BGR arrays, and the trunk."""
    folder = shared_data / 'lpips_squeeze'
    images = {name: cv2.imread(str(folder / f'ex_{name}.png')) for name in ('ref', 'p0', 'p1')}
    return images, {'net': 'squeeze', 'trunk': str(folder / 'squeeze.backbone.pth')}


def random_trunk(folder, net: str, prefix: str = 'features.') -> str:
    """A file in torchvision's form with weights of no meaning."""
    import torchvision

    torch.manual_seed(1)
    builders = {'alex': 'alexnet', 'vgg': 'vgg16', 'squeeze': 'squeezenet1_1'}
    features = getattr(torchvision.models, builders[net])().features.state_dict()
    path = folder / TRUNKS[net]
    torch.save({f'{prefix}{key}': value for key, value in features.items()}, path)
    return str(path)


def test_the_known_answers(example):
    images, options = example
    assert defocus_lpips(images['ref'], images['p0'], **options) == pytest.approx(0.71105, abs=2e-5)
    assert defocus_lpips(images['ref'], images['p1'], **options) == pytest.approx(0.14790, abs=2e-5)
    assert defocus_lpips(images['ref'], images['ref'], **options) == 0
    tensors = [torch.from_numpy(images[name][..., ::-1].copy()).permute(2, 0, 1) / 255 for name in ('ref', 'p1')]
    assert defocus_lpips(*tensors, **options) == pytest.approx(0.14790, abs=2e-5)


def test_each_protocol_s_input(example):
    """[-1, 1] RGB, BGR, or [0, 1] as it is: what lpips itself gives for these."""
    import lpips

    images, options = example
    model = lpips.LPIPS(net='squeeze', pnet_rand=True, verbose=False)
    trunk = torch.load(options['trunk'])
    model.net.load_state_dict({key: trunk[key.partition('.')[2]] for key in model.net.state_dict()})
    rgb = [torch.from_numpy(images[name][..., ::-1].copy()).permute(2, 0, 1)[None] / 255 for name in ('ref', 'p1')]
    for protocol, prepared in (
        ('dpdnet', [2 * x - 1 for x in rgb]),
        ('nrknet', [(2 * x - 1).flip(1) for x in rgb]),
        ('gkmnet', rgb),
    ):
        expected = model(*prepared).item()
        assert defocus_lpips(images['ref'], images['p1'], protocol, **options) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(('net', 'prefix'), [('alex', 'features.'), ('vgg', ''), ('squeeze', 'features.')])
def test_every_trunk_loads_from_a_file_or_its_folder(tmp_path, monkeypatch, net, prefix):
    path = random_trunk(tmp_path, net, prefix)
    one, other = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    by_file = defocus_lpips(one, other, net=net, trunk=path)
    monkeypatch.setenv('LPIPS_TRUNK', str(tmp_path))
    assert defocus_lpips(one, other, net=net) == by_file > 0


def test_where_to_put_a_missing_trunk(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.delenv('LPIPS_TRUNK', raising=False)
    with pytest.raises(OptionError, match=rf'alexnet-owt-7be5be79\.pth into {tmp_path}/checkpoints.*LPIPS_TRUNK'):
        find_trunk('alex')
    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints' / TRUNKS['alex']).touch()
    assert find_trunk('alex').parent == tmp_path / 'checkpoints'
    with pytest.raises(OptionError, match=r'gone\.pth: no such file'):
        find_trunk('alex', 'gone.pth')


def test_a_file_that_is_no_trunk(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    wrong = random_trunk(tmp_path, 'squeeze')
    (tmp_path / 'text.pth').write_text('no weights')
    for path in (wrong, str(tmp_path / 'text.pth')):
        with pytest.raises(OptionError, match='not the weights of alexnet'):
            defocus_lpips(image, image, trunk=path)


@pytest.mark.parametrize(
    ('options', 'message'), [({'protocol': 'basicsr'}, 'has no LPIPS'), ({'net': 'resnet'}, 'net of LPIPS')]
)
def test_wrong_options_are_found_before_a_run(workplace, tiny, options, message):
    tiny['val']['metrics'] = {'lpips': {'type': 'defocus_lpips', **options}}
    with pytest.raises(OptionError, match=f'val.metrics.lpips: .*{message}'):
        check_config.check_options(tiny, is_train=True)


def test_an_image_smaller_than_the_trunk_can_see(tmp_path):
    image = np.zeros((16, 64, 3), np.uint8)
    with pytest.raises(ValueError, match='at least 32'):
        defocus_lpips(image, image, trunk=random_trunk(tmp_path, 'alex'))
