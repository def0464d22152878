"""The benchmarks of operator, network and training: what they compare is the same function. No time is asserted."""

import json
from itertools import pairwise

import pytest
import torch

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.benchmarks import forms, network, operator, scaling, training
from ggkm_plugin.cli.main import main

SMALL = {'num_groups': 3, 'kernels_per_group': 2, 'width': 4}


@pytest.fixture
def small(monkeypatch):
    """Small networks on small images, in this process."""
    build = {'plain': lambda: forms.plain(GGKMNet(**SMALL).eval())}
    build['ggkm_plugin'] = lambda: GGKMNet(**SMALL).eval().prepare_inference()
    build['ggkm_plugin, convolutions alone'] = lambda: network._Convolutions(build['ggkm_plugin']())
    seeded = {name: lambda make=make: (torch.manual_seed(0), make())[1] for name, make in build.items()}
    monkeypatch.setattr(network, 'BUILDERS', seeded)
    monkeypatch.setattr(network, 'IMAGES', ((48, 80), (64, 64)))
    monkeypatch.setattr(scaling, 'peak', lambda *_: 1 << 21)
    monkeypatch.setattr(scaling, 'REFERENCE', (48, 80))
    monkeypatch.setattr(network, 'peak', lambda *_: 1 << 20)
    monkeypatch.setattr(operator, 'IMAGES', ((48, 80),))
    monkeypatch.setattr(operator, 'BATCH', (2, 16, 20))
    monkeypatch.setattr(training, 'BATCH', (1, 3, 64, 64))
    monkeypatch.setattr(training, '_network', lambda: GGKMNet(**SMALL))


def bench(name, tmp_path, *words):
    out = tmp_path / 'bench.json'
    assert main(['bench', name, '--seconds', '0.01', '--json', str(out), *words]) == 0
    return json.loads(out.read_text())[name]['rows']


def test_operator(small, tmp_path, capfd):
    rows = bench('operator', tmp_path)
    assert {row['task'] for row in rows} == {'three scales of 80x48', 'forward and backward, 2x20x16'}
    for row in rows:
        assert row['seconds'] > 0
        assert row['form'] == 'plain' or row['difference'] < 1e-5
    assert 'ggkm_plugin, dct' in capfd.readouterr().out


def test_network(small, tmp_path, capfd):
    rows = bench('network', tmp_path)
    assert [row['form'] for row in rows[:3]] == ['plain', 'ggkm_plugin', 'ggkm_plugin, convolutions alone']
    assert rows[1]['difference'] < 1e-5
    assert '80x48' in capfd.readouterr().out


def test_scaling(small, tmp_path):
    rows = bench('scaling', tmp_path, '--megapixels', '0.005', '0.03', '--tiles', 'auto', '64')
    assert [row['task'] for row in rows[::3]] == ['a megapixel of 86x58', 'a megapixel of 213x141']
    assert [row['form'] for row in rows[:3]] == ['80x48 at once', 'tiles: auto', 'tiles: 64']
    assert [row['memory'] for row in rows[:3]] == [None, 2 << 20, 2 << 20]
    for first, *others in (rows[:3], rows[3:]):
        assert first['ratio'] == 1
        assert all(row['ratio'] == pytest.approx(first['seconds'] / row['seconds']) for row in others)


def test_training(small, tmp_path):
    """The plain step is the same step."""
    rows = bench('training', tmp_path)
    assert [row['form'] for row in rows] == ['plain', 'ggkm_plugin', 'ggkm_plugin, channels_last']
    torch.manual_seed(0)
    net = GGKMNet(**SMALL)
    plain = forms.plain(net)
    where = torch.device('cpu')
    assert training._Step(net, where)().item() == pytest.approx(training._Step(plain, where)().item(), rel=1e-5)
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--device', 'cuda:99'], 'device cuda:99'),
        (['--seconds', '0'], '--seconds 0: above 0'),
        (['--megapixels', '0'], '--megapixels: numbers in'),
        (['--tiles', 'half'], "tile: auto, none, or a whole number of pixels from 64 on, not 'half'"),
    ],
)
def test_wrong_words(words, message, capfd):
    assert main(['bench', 'operator', *words]) == 2
    assert message in capfd.readouterr().err


def test_a_peak_is_of_a_process_of_its_own():
    settings = forms.ComputeSettings('cpu', 1, (1,))
    small, large = (network.peak('ggkm_plugin', side, side, 'auto', settings) for side in (64, 512))
    assert small < large < 4 << 30


def test_times_are_taken_in_turns():
    called = []
    run = {name: lambda name=name: called.append(name) for name in 'ab'}
    times = forms.in_turns(run, 1e-9)
    assert times.keys() == {'a', 'b'}
    assert ''.join(dict.fromkeys(''.join(called))) == 'ab'
    changes = sum(one != other for one, other in pairwise(called))
    assert changes >= 5
