"""ARNIQA: what torchmetrics computes with the same files, and files that are missing or unsafe. The weights here are
random ones in the released files' form; the released ones are not in the repository."""

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from ggkm_plugin.metrics.arniqa import FILES, defocus_arniqa
from ggkm_plugin.metrics.selection import better_of, files_of, missing_metrics, needs_reference
from ggkm_plugin.utils.errors import OptionError

METRIC = {'type': 'defocus_arniqa'}


class Regressor(torch.nn.Module):
    """The released regressor: a scripted module with these two values."""

    def __init__(self):
        super().__init__()
        self.register_buffer('weights', torch.linspace(-40, 60, 4096)[None])
        self.register_buffer('biases', torch.tensor(50.0))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weights.T + self.biases


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of torch's cache, without files."""
    pytest.importorskip('torchmetrics')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    path = tmp_path / 'checkpoints'
    path.mkdir()
    return path


@pytest.fixture
def files(folder):
    torch.manual_seed(0)
    # The released encoder is resnet50 without its classifier, in a Sequential called `model`.
    encoder = torch.nn.Sequential(*list(resnet50().children())[:-1])
    torch.save({f'model.{key}': value for key, value in encoder.state_dict().items()}, folder / FILES[0])
    torch.jit.script(Regressor()).save(str(folder / FILES[1]))
    return [folder / name for name in FILES]


def test_arniqa_is_that_of_torchmetrics(files):
    from torchmetrics.functional.image.arniqa import arniqa

    image = np.random.default_rng(0).integers(0, 256, (64, 97, 3), dtype=np.uint8)
    rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1) / 255
    score = defocus_arniqa(image)
    assert score == pytest.approx(arniqa(rgb[None], 'koniq10k').item(), abs=1e-6)
    assert score == pytest.approx(defocus_arniqa(rgb), abs=1e-6)
    assert score != pytest.approx(defocus_arniqa(image // 2), abs=1e-4)
    assert missing_metrics({'arniqa': METRIC}) == {}
    assert files_of(METRIC) == files
    assert not needs_reference(METRIC)
    assert better_of(METRIC) == 'higher'


@pytest.mark.parametrize('name', FILES)
def test_without_a_file_arniqa_is_missing(files, name):
    (files[0].parent / name).unlink()
    assert name in missing_metrics({'arniqa': METRIC})['arniqa']
    with pytest.raises(OptionError, match=name):
        defocus_arniqa(np.zeros((64, 64, 3), np.uint8))


class Unsafe:
    """A pickle that would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.parametrize('index', [0, 1])
def test_files_that_could_run_code_are_refused(files, index, tmp_path):
    torch.save(Unsafe(tmp_path / 'created'), files[index])
    assert files[index].name in missing_metrics({'arniqa': METRIC})['arniqa']
    assert not (tmp_path / 'created').exists()
