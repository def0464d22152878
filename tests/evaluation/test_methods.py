"""Classical methods in a comparison: beside networks, with their settings, and as carefully reused."""

import csv

import numpy as np
import pytest

from ggkm_plugin.classical.methods import METHODS, Method, method
from ggkm_plugin.utils.image_decoding import read_image


@pytest.fixture
def calls(monkeypatch):
    """The names of the methods that are run."""
    names, run = [], Method.__call__

    def counted(self, *arguments):
        names.append(self.name)
        return run(self, *arguments)

    monkeypatch.setattr(Method, '__call__', counted)
    return names


@pytest.mark.parametrize('name', METHODS)
def test_it_is_run_and_scored_as_a_network_is(bench, name):
    settings = {'fidelity': 420, 'bins': 4}
    bench.opt.update(complexity=True, models=[{'name': 'classic', 'method': name, 'settings': settings}])
    bench.add('bright', 1.02)
    results, out, err = bench.run()
    classic, bright = results['models']
    assert (classic['arch'], classic['parameters'], classic['status']) == (name, 0, 'ok')
    assert classic['settings'] == {'deconvolution': 'hyper_laplacian', **settings}
    assert (bright['settings'], bright['parameters']) == (None, 1)
    assert [classic[key] for key in ('weights', 'sha256', 'seconds', 'macs_true')] == [None] * 4
    assert bright['seconds'] > 0
    (dataset,) = results['datasets']
    image = dataset['images'][2]
    lq, gt = (read_image(str(bench.folder / 'pairs' / side / '02.png')) for side in ('input', 'ground_truth'))
    restored = method(name, settings)(lq)
    psnr = -10 * np.log10(np.mean((restored.astype(np.float64) - gt) ** 2))
    assert image['scores']['classic']['psnr'] == pytest.approx(psnr, abs=1e-5)
    picture = read_image(str(bench.folder / 'results/three' / image['files']['classic']))
    assert np.abs(picture - restored).max() <= 0.5 / 255 + 1e-6
    words = 'deconvolution hyper_laplacian, fidelity 420, bins 4'
    assert f'classic: {words}' in out
    with (bench.folder / 'results/three/scores.csv').open() as file:
        assert {row['model']: row['settings'] for row in csv.DictReader(file)} == {
            'input': '', 'classic': words, 'bright': ''
        }  # fmt: skip
    assert 'classic: deconvolution, 100 %' in err


def test_what_was_done_is_not_done_again(bench, calls, monkeypatch):
    bench.opt['models'] = [{'name': 'classic', 'method': 'EBDB'}]
    bench.run()
    first = bench.numbers()
    assert calls == ['EBDB'] * 4
    bench.run()
    assert len(calls) == 4
    assert bench.numbers() == first
    bench.opt['models'][0]['settings'] = {'fidelity': 420}
    bench.run()
    assert len(calls) == 8
    bench.opt['models'][0]['settings'] = {'fidelity': 420, 'bins': 32}  # what it has by itself
    bench.run()
    assert len(calls) == 8
    monkeypatch.setattr('ggkm_plugin.evaluation.compare.file_digest', lambda path: 'other code')
    bench.run()
    assert len(calls) == 12


def test_blur_maps_where_there_is_no_truth(bench):
    bench.opt['models'] = [{'name': 'classic', 'method': 'EBDB'}]
    bench.opt['datasets'] = {'photographs': {'type': 'SingleDefocusDataset', 'dataroot_lq': 'pairs/input'}}
    results, _, _ = bench.run()
    for image in results['datasets'][0]['images']:
        assert set(image['files']) == {'input', 'classic', 'classic blur map'}
        drawn = read_image(str(bench.folder / 'results/three' / image['files']['classic blur map']))
        assert drawn.shape == (48, 64, 3)


def test_faults_of_its_options(bench):
    bench.opt['models'] = [
        {'name': 'a', 'method': 'EDBB'},
        {'name': 'b', 'method': 'JNB', 'settings': {'fidelty': 1}},
        {'name': 'c', 'method': 'JNB', 'settings': {'bins': 0}},
        {'name': 'd', 'method': 'JNB', 'settings': 420},
        {'name': 'e', 'method': 'JNB', 'weights': 'x.pth'},
        {'name': 'f', 'weights': 'x.pth', 'settings': {'bins': 8}},
    ]
    _, _, err = bench.run(code=2)
    for words in (
        ['models[0]', 'EDBB', 'EBDB'], ['models[1]', 'fidelty', 'fidelity'], ['models[2]', 'bins'],
        ['models[3].settings'], ['models[4].weights'], ['models[5].settings'],
    ):  # fmt: skip
        assert any(all(word in line for word in words) for line in err.splitlines()), (words, err)
