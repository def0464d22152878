"""The function that users call: types, shapes, any network, any weights, and each mistake named."""

import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from restoration.conftest import pixels, save
from torch import nn

from ggkm_plugin.archs import ggkmnet_arch
from ggkm_plugin.classical.methods import method
from ggkm_plugin.inference import Restorer
from ggkm_plugin.ops.ggkm import chosen_form
from ggkm_plugin.restoration import restorer
from ggkm_plugin.restoration.classical import MethodRestorer
from ggkm_plugin.restoration.restorer import ImageRestorer, RestorationError
from ggkm_plugin.utils.errors import DataError, OptionError


def test_tensors_and_arrays_become_what_the_network_gives(network):
    images = torch.from_numpy(np.stack([pixels(37, 50), pixels(37, 50, seed=1)])).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = network(images.float() / 255)
    restorer = Restorer(network, 'cpu')
    torch.testing.assert_close(restorer(images.float() / 255), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(restorer(images[0].float() / 255), expected[0], atol=1e-5, rtol=0)
    rounded = expected[0].clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
    assert np.abs(restorer(pixels(37, 50)).astype(float) - rounded).max() <= 0.5 + 1e-3


@pytest.mark.parametrize('dtype', ['uint8', 'uint16', '>u2', 'float16', 'float32', 'float64'])
@pytest.mark.parametrize('shape', [(1, 1, 3), (1, 1), (13, 9), (13, 9, 1), (16, 24, 3)])
def test_same_type_and_shape_back(network, shape, dtype):
    dtype = np.dtype(dtype)
    white = np.iinfo(dtype).max if dtype.kind == 'u' else 1
    image = (np.random.default_rng(0).random(shape) * white).astype(dtype)
    before = image.copy()
    image.flags.writeable = False
    result = Restorer(network)(image)
    assert (result.shape, result.dtype) == (shape, dtype)
    assert np.abs(result.astype(float) - image).max() < 0.3 * white  # near the identity
    assert np.array_equal(image, before)


@pytest.mark.parametrize('dtype', [torch.uint16, torch.bfloat16])
def test_tensors_of_other_types(network, dtype):
    image = (torch.rand(3, 8, 9) * (1 if dtype.is_floating_point else 255)).int().to(dtype)
    result = Restorer(network)(image)
    assert (result.shape, result.dtype) == (image.shape, dtype)


@pytest.mark.parametrize('form', ['dct', 'fft', 'separable', 'reference'])
def test_the_form_of_the_blur_changes_nothing_but_the_computation(network, form, monkeypatch):
    used = []
    blur = ggkmnet_arch.ggkm_blur
    monkeypatch.setattr(ggkmnet_arch, 'ggkm_blur', lambda *args, **options: used.append(chosen_form()) or blur(*args))
    image = torch.rand(3, 33, 40)
    want = Restorer(network, 'cpu')(image)
    got = Restorer(network, 'cpu', blur_form=form)(image)
    assert set(used) == {'auto', form}
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
    assert chosen_form() == 'auto'


def test_a_form_of_the_blur_that_cannot_run_is_an_error(network, monkeypatch):
    for form in ('fast', 'fused'):  # unknown; without a GPU
        with pytest.raises(OptionError, match=form):
            Restorer(network, 'cpu', blur_form=form)
    monkeypatch.setenv('BASICSR_BLUR_FORM', 'fast')
    with pytest.raises(OptionError, match='BASICSR_BLUR_FORM'):
        Restorer(network, 'cpu')


def test_gray_is_the_mean_of_three_equal_colors(network):
    gray = np.random.default_rng(0).random((24, 20)).astype(np.float32)
    restorer = Restorer(network)
    np.testing.assert_allclose(restorer(gray), restorer(np.dstack([gray] * 3)).mean(2), atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_near(network, dtype):
    image = torch.rand(3, 40, 48)
    result = Restorer(network, dtype=dtype)(image)
    assert result.dtype == torch.float32
    error = (result - Restorer(network)(image)).abs().max()
    assert 0 < error < 0.05


def test_the_callers_network_is_left_alone(network):
    network.train()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    Restorer(network)(torch.rand(3, 16, 16))
    assert network.training
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())


class Doubled(nn.Module):
    def forward(self, y):
        return torch.cat([y, y], dim=-1)


class NotANumber(nn.Module):
    def forward(self, y):
        return y / (y - y)


class Lost(nn.Module):
    def forward(self, y):
        return {'scales': [y]}


class Inverted(nn.Conv2d):
    """Somebody's network: no form for inference, no tiles."""

    def __init__(self):
        super().__init__(3, 3, 1, bias=False)
        with torch.no_grad():
            self.weight.copy_(-torch.eye(3)[..., None, None])


def test_any_registered_network(tmp_path, monkeypatch):
    image = torch.rand(3, 9, 7)
    torch.testing.assert_close(Restorer(Inverted())(image), -image)
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Inverted', Inverted)
    path = save(tmp_path / 'w.pth', Inverted(), description={'arch': 'Inverted', 'options': {}})
    torch.testing.assert_close(Restorer(path)(image), -image)


@pytest.mark.parametrize(('net', 'words'), [(Doubled(), 'shape'), (NotANumber(), 'NaN'), (Lost(), 'Lost gives a dict')])
def test_networks_that_give_no_image(net, words):
    with pytest.raises(RestorationError, match=words):
        Restorer(net)(torch.rand(3, 4, 5))


@pytest.mark.parametrize(
    ('image', 'words'),
    [
        (np.zeros((4, 4, 4), np.uint8), r'\(4, 4, 4\)'),
        (np.zeros((0, 4, 3), np.uint8), 'shape'),
        (np.zeros((4, 4, 3), np.int32), 'int32'),
        (np.full((4, 4, 3), np.nan), 'NaN'),
        (np.full((4, 4, 3), 200.0), '200'),
        (torch.full((3, 4, 4), 2.5), '2.5'),
        (torch.zeros(4, 4, 3), r'\(4, 4, 3\)'),
        (torch.zeros(3, 4, 4, dtype=torch.int64), 'int64'),
        ([[1, 2], [3, 4]], 'list'),
    ],
)
def test_what_is_no_image(network, image, words):
    with pytest.raises(DataError, match=words):
        Restorer(network)(image)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'device': 'gpu'}, 'device gpu'),
        ({'device': 'cuda:99'}, 'this machine has'),
        ({'device': 'mps:7'}, 'device mps:7'),
        ({'device': 'xpu:7'}, 'device xpu:7'),
        ({'tile': 3}, 'tile'),
        ({'tile': 'all'}, 'tile'),
        ({'dtype': torch.int8}, 'dtype'),
        ({'channel_order': 'gbr'}, 'gbr'),
        ({'value_range': (1, 0)}, 'value_range'),
        ({'size_multiple': 0}, 'size_multiple'),
    ],
)
def test_arguments_that_cannot_be(network, options, words):
    with pytest.raises(OptionError, match=words):
        Restorer(network, **options)


def test_a_gpu_gives_the_same(network):
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    image = torch.rand(3, 64, 80)
    result = Restorer(network, 'cuda')(image)
    assert result.device.type == 'cpu'
    torch.testing.assert_close(result, Restorer(network, 'cpu')(image), atol=1e-3, rtol=0)


class Dim(nn.Module):
    """Dims the first channel, and notes the range and the size of its input."""

    def forward(self, y):
        self.seen = (y.min().item(), y.max().item(), tuple(y.shape[-2:]))
        return torch.cat([y[:, :1] * 0.5, y[:, 1:]], dim=1)


def test_images_as_other_networks_take_them():
    image = torch.rand(3, 10, 13)
    torch.testing.assert_close(
        Restorer(Dim(), channel_order='bgr')(image), image * torch.tensor([1, 1, 0.5])[:, None, None]
    )
    restorer = Restorer(Dim(), size_multiple=8, value_range=(-1, 1))
    result = restorer(image)
    assert restorer.network.seen[2] == (16, 16)
    assert restorer.network.seen[0] < 0 < restorer.network.seen[1] <= 1
    torch.testing.assert_close(result[1:], image[1:])
    torch.testing.assert_close(result[0], ((image[0] * 2 - 1) * 0.5 + 1) / 2)


def test_a_classical_method_is_a_restorer_too():
    image = pixels(20, 30)
    chosen = method('EBDB', {'bins': 2})
    restorer = MethodRestorer(chosen)
    assert isinstance(restorer, ImageRestorer)
    assert restorer.settings == chosen.description
    want = chosen(image.astype(np.float32) / 255).clip(0, 1) * 255
    assert np.abs(restorer(image) - want).max() <= 0.5 + 1e-3
    batch = torch.from_numpy(image).permute(2, 0, 1).float()[None].repeat(2, 1, 1, 1) / 255
    torch.testing.assert_close(restorer(batch)[0], restorer(batch[1]))
    assert restorer.blur_map(batch[0]).dtype == np.uint8


@pytest.mark.parametrize('fault', [None, 'wrong', 'raises'])
def test_an_untested_device_is_used_if_its_result_is_that_of_the_cpu(monkeypatch, fault):
    """The CPU, by another name, in the place of such a device."""

    class Network(nn.Module):
        calls = 0

        def forward(self, image):
            self.calls += 1
            if fault == 'raises' and self.calls == 2:
                raise NotImplementedError('no such operator')
            return image * (1.01 if fault and self.calls == 2 else 1)

    monkeypatch.setattr(restorer, 'UNTESTED', ('cpu',))
    lines: list[str] = []
    device = torch.device('cpu', 0)
    found = restorer.checked_device(Network(), device, lines.append)
    assert found == (torch.device('cpu') if fault else device)
    assert len(lines) == 1
    assert 'cpu:0' in lines[0]
