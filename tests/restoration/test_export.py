"""`basicsr export` to graphs, and `basicsr deblur` with an ONNX file."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from restoration.conftest import pixels, save

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.cli.main import main
from ggkm_plugin.restoration import export as export_module
from ggkm_plugin.restoration.export import TOLERANCE, export
from ggkm_plugin.restoration.graphs import ExportError
from ggkm_plugin.restoration.onnx_restorer import OnnxRestorer
from ggkm_plugin.restoration.restorer import Restorer
from ggkm_plugin.utils.errors import CheckpointError, DataError, OptionError

OPTIONS = {'width': 4, 'num_groups': 2, 'kernels_per_group': 2, 'num_scales': 1, 'init': 'identity'}
NETWORK = {'type': 'GGKMNet', **OPTIONS}
SIZES = ((1, 37, 61), (2, 48, 32), (3, 1, 5))
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(1)
    return save(tmp_path_factory.mktemp('weights') / 'w.pth', GGKMNet(**OPTIONS), description={
        'arch': 'GGKMNet', 'options': OPTIONS,
    })  # fmt: skip


@pytest.fixture(scope='module')
def model(weights):
    pytest.importorskip('onnxruntime')
    path = Path(weights).with_name('model.onnx')
    assert export(weights, path) <= TOLERANCE
    return str(path)


def images(batch, height, width):
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height))


@pytest.mark.parametrize('size', SIZES)
def test_onnx_takes_any_batch_and_size(weights, model, size):
    y = images(*size)
    torch.testing.assert_close(OnnxRestorer(model)(y), Restorer(weights, 'cpu')(y), rtol=0, atol=TOLERANCE)


def test_onnx_describes_its_network_and_opset(model):
    import onnx

    content = onnx.load(model)
    description = json.loads({entry.key: entry.value for entry in content.metadata_props}['description'])
    assert description['options'] == OPTIONS
    assert max(entry.version for entry in content.opset_import if entry.domain in ('', 'ai.onnx')) >= 18
    assert [value.name for value in (*content.graph.input, *content.graph.output)] == ['image', 'restored']


def test_a_program_takes_any_batch_and_size(weights, tmp_path):
    path = tmp_path / 'model.pt2'
    assert export(weights, path) <= TOLERANCE
    files = {'description.json': ''}
    program = torch.export.load(path, extra_files=files).module()
    assert json.loads(files['description.json'])['options'] == OPTIONS
    for size in SIZES:
        y = images(*size)
        torch.testing.assert_close(program(y), Restorer(weights, 'cpu')(y), rtol=0, atol=TOLERANCE)


def test_a_fixed_size(weights, tmp_path):
    pytest.importorskip('onnxruntime')
    path = tmp_path / 'model.onnx'
    assert export(weights, path, size=(33, 47)) <= TOLERANCE
    restorer = OnnxRestorer(path)
    assert restorer(images(1, 33, 47)).shape == (1, 3, 33, 47)
    with pytest.raises(DataError, match=r'model\.onnx'):
        restorer(images(1, 32, 32))


def test_deblur_runs_onnx(weights, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = pixels(37, 61)
    Image.fromarray(image).save('p.png')
    expected = Restorer(weights, 'cpu')(image).astype(int)
    for number, words in enumerate((
        ['p.png', '--backend', 'onnx', model],
        ['--backend', 'onnx', model, 'p.png'],
        ['p.png', '--backend', 'onnx', '--weights', model],
        ['p.png', '--weights', model],
    )):  # fmt: skip
        assert main(['deblur', '-o', f'{number}.png', *words]) == 0
        assert np.abs(np.asarray(Image.open(f'{number}.png')).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        (['p.png', '--backend', 'onnx'], '--backend'),
        (['p.png', '--backend', 'onnx', '--weights', 'w.pth'], 'w.pth'),
        (['p.png', '--backend', 'mine'], 'mine'),
        (['p.png', '--weights', 'gone.onnx'], 'gone.onnx'),
        (['p.png', '--weights', 'text.onnx'], 'text.onnx'),
        (['p.png', '--weights', 'text.onnx', '--tile', '128'], '--tile'),
        (['p.png', '--weights', 'text.onnx', '--device', 'mps'], 'mps'),
        (['--backend', 'onnx', 'text.onnx'], 'IN'),
    ],
)
def test_deblur_refuses_what_onnx_cannot(words, named, tmp_path, monkeypatch, capsys):
    pytest.importorskip('onnxruntime')
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels(8, 8)).save('p.png')
    Path('text.onnx').write_text('not a model')
    assert main(['deblur', *words]) in (1, 2)
    err = capsys.readouterr().err
    assert named in err
    assert 'Traceback' not in err
    assert not Path('p_deblurred.png').exists()


def test_a_graph_that_differs_is_refused_and_removed(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module.graphs, 'runner', lambda path: lambda images: images + 0.01)
    path = tmp_path / 'model.pt2'
    with pytest.raises(ExportError, match='GGKMNet'):
        export(weights, path, size=(32, 32))
    assert not path.exists()


def test_an_interrupt_leaves_no_file(weights, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(export_module, '_difference', interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(weights, tmp_path / 'model.safetensors', check=True)
    assert list(tmp_path.iterdir()) == []


def test_onnx_without_its_packages(weights, model, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, 'find_spec', lambda name: None)
    with pytest.raises(OptionError, match=r'ggkm_plugin\[onnx\]'):
        export(weights, tmp_path / 'm.onnx')
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(OptionError, match=r'ggkm_plugin\[onnx\]'):
        OnnxRestorer(model)


@pytest.mark.parametrize(('name', 'options'), [('m.onnx', {'half': True}), ('m.pth', {'size': (16, 16)})])
def test_arguments_of_other_formats_are_refused(weights, tmp_path, name, options):
    with pytest.raises(OptionError, match=name):
        export(weights, tmp_path / name, **options)
    with pytest.raises(OptionError, match='gone'):
        export(weights, tmp_path / 'gone' / name)


def test_checkpoints_are_compared_on_request(weights, tmp_path):
    assert export(weights, tmp_path / 'm.safetensors', check=True) == 0
    assert export(weights, tmp_path / 'h.safetensors', half=True, check=True) > 0
    assert export(weights, tmp_path / 'm.pth') is None


def test_a_missing_onnx_file(tmp_path):
    pytest.importorskip('onnxruntime')
    with pytest.raises(CheckpointError, match=r'gone\.onnx'):
        OnnxRestorer(tmp_path / 'gone.onnx')
