"""`basicsr figure`: kernels that were learned beside those they started from, and t-SNE of coefficients."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from ggkm_plugin.archs.ggkmnet_ablations_arch import GGKMNetFullyLearned
from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.archs.gkmnet_arch import GKMNet
from ggkm_plugin.studies.psf_figure import gkmnet_psfs
from ggkm_plugin.utils.image_decoding import write_image

SMALL = {'width': 4, 'num_groups': 3, 'kernels_per_group': 2, 'num_scales': 2}


@pytest.fixture
def learned(workplace):
    """A checkpoint whose kernel g_{1,0} was moved by one pixel, and all else left as it starts."""
    net = GGKMNetFullyLearned(**SMALL)
    with torch.no_grad():
        net.steps[0].blur.kernels[1][0] = net.steps[0].blur.kernels[1][0].roll(1, 0)
    description = {'arch': 'GGKMNetFullyLearned', 'options': SMALL, 'iteration': 9}
    torch.save({'params': net.state_dict(), 'description': description}, 'learned.pth')
    return 'learned.pth'


def test_kernels(command, workplace, learned):
    code, out, _ = command('figure', 'kernels', '--weights', learned, '--kernels', '0,0', '1,0', '-o', 'out')
    assert code == 0
    assert 'g_{1,0}' in out
    with open('out/kernels.csv') as file:
        rows = {(int(row['group']), int(row['q'])): row for row in csv.DictReader(file)}
    assert len(rows) == 6
    for place, row in rows.items():
        moved = place == (1, 0)
        assert (float(row['change']) > 0.5) == moved
        assert (float(row['asymmetry']) > 0.3) == moved
        assert float(row['sum_learned']) == pytest.approx(1, abs=1e-6)
        assert row['size'] == str(2 * place[0] + 3)
    with Image.open('out/kernels.png') as picture:
        assert picture.size[0] > 500


def test_the_paper_s_kernels_that_there_are(command, workplace, learned):
    code, out, _ = command('figure', 'kernels', '--weights', learned, '-o', 'out')
    assert code == 0
    assert 'g_{0,0}' in out
    assert 'g_{5,0}' not in out
    code, out, err = command('figure', 'kernels', '-o', 'out')
    assert code == 0
    assert 'g_{5,0}' in out
    assert 'GGKMNetFullyLearned is untrained' in err


def test_fixed_kernels_and_wrong_places(command, workplace, learned):
    torch.save(
        {'params': GGKMNet(**SMALL).state_dict(), 'description': {'arch': 'GGKMNet', 'options': SMALL, 'iteration': 1}},
        'fixed.pth',
    )
    code, _, err = command('figure', 'kernels', '--weights', 'fixed.pth')
    assert code == 2
    assert 'GGKMNet has fixed kernels' in err
    for wrong in ('3,0', '0,2', '1', 'a,b', '-1,0'):
        code, _, err = command('figure', 'kernels', '--weights', learned, f'--kernels={wrong}')
        assert code == 2
        assert '--kernels' in err


def test_tsne_tells_sets_apart(command, workplace, monkeypatch):
    """Two kinds of images: their alphas differ, and the picture's clusters with them."""
    pytest.importorskip('sklearn', reason='scikit-learn is not installed: pip install scikit-learn')
    rng = np.random.default_rng(0)
    for name, low, high in (('dark', 0, 60), ('bright', 190, 256)):
        for i in range(8):
            write_image(f'{name}/{i}.png', rng.integers(low, high, (40, 50, 3)).astype(np.uint8))
    torch.save(
        {'params': GGKMNet(**SMALL).state_dict(), 'description': {'arch': 'GGKMNet', 'options': SMALL, 'iteration': 1}},
        'weights.pth',
    )
    arguments = ['figure', 'tsne', '--weights', 'weights.pth', '--data', 'dark=dark', 'bright=bright', '--size', '32']
    arguments += ['--perplexity', '4', '--iterations', '300', '-o', 'out']
    code, out, _ = command(*arguments)
    assert code == 0
    assert 'alpha 100%' in out
    assert 'by chance 47%' in out
    content = (workplace / 'out/tsne.csv').read_text()
    assert content.count('weights.pth, after 1 iterations') == 16
    rows = list(csv.DictReader(content.splitlines()))
    assert [row['dataset'] for row in rows] == ['dark'] * 8 + ['bright'] * 8
    points = np.array([[float(row['alpha_x']), float(row['alpha_y'])] for row in rows])
    apart = np.linalg.norm(points[:8].mean(0) - points[8:].mean(0))
    assert apart > 2 * np.linalg.norm(points[:8] - points[:8].mean(0), axis=1).mean()
    assert command(*arguments)[0] == 0
    assert (workplace / 'out/tsne.csv').read_text() == content  # a seed decides it


@pytest.mark.parametrize(('arguments', 'words'), [
    (['--data', 'a=pairs/input'], 'two or more'),
    (['--data', 'a=pairs/input', 'b=pairs/input', '--perplexity', 'nan'], '--perplexity'),
    (['--data', 'a=pairs/input', 'b=pairs/input', '-o', 'pairs/input/00.png'], 'cannot be written'),
    (['--data', 'a=pairs/input', 'pairs/input'], 'NAME=DIR'),
    (['--data', 'a=pairs/input', 'b=pairs/input'], 'too few'),
    (['--data', 'a=pairs/input', 'b=pairs/input', '--perplexity', '2'], 'lower --size'),
    (['--data', 'a=pairs/input', 'b=nowhere'], 'nowhere'),
])  # fmt: skip
def test_wrong_arguments_of_tsne(command, monkeypatch, arguments, words):
    monkeypatch.setattr('ggkm_plugin.studies.tsne_figure.find_spec', lambda name: True)
    code, _, err = command('figure', 'tsne', *arguments)
    assert code in (1, 2)
    assert words in err, err
    assert 'untrained' not in err


def test_without_scikit_learn_it_says_what_to_install(command, monkeypatch):
    monkeypatch.setattr('ggkm_plugin.studies.tsne_figure.find_spec', lambda name: None)
    code, _, err = command('figure', 'tsne', '--data', 'a=pairs/input', 'b=pairs/input')
    assert code == 2
    assert 'pip install' in err
    assert 'ggkm_plugin[figures]' in err


@pytest.mark.parametrize('order', ['paper', 'released'])
@pytest.mark.parametrize('num_iters', [1, 2])
def test_gkmnet_s_psf_is_its_response_to_an_impulse_of_the_estimate(order, num_iters):
    net = GKMNet(kernel_order=order, num_scales=1, num_iters=num_iters).double().eval()
    y = torch.rand(3, 32, 40, dtype=torch.float64)
    m, n = 15, 18
    (psf,) = gkmnet_psfs(net, y, [(n, m)]).psfs
    step, (level,) = net.steps[-1] if num_iters > 1 else net, net.pyramid(y[None])  # of 8 bits in the released order
    x = torch.rand(1, 3, 32, 40, dtype=torch.float64)
    with torch.no_grad():
        # With one scale the last iteration's state is none.
        before, _ = step.step(level, x, None)
        for color, i, j in ((0, 0, 0), (1, 2, -3), (2, -9, 10)):
            impulse = x.clone()
            impulse[0, color, m - i, n - j] += 1
            after, _ = step.step(level, impulse, None)
            got = (after.x - before.x)[0, color, m, n].item()
            assert got == pytest.approx(psf[color, 10 + i, 10 + j].item(), abs=1e-12)


def test_psfs_of_two_networks(command, workplace):
    checkpoint = {'arch': 'GKMNet', 'options': {}, 'iteration': 9}
    torch.save({'params': GKMNet().state_dict(), 'description': checkpoint}, 'gkm.pth')
    torch.save({'params': GGKMNet(**SMALL).state_dict(), 'description': {'arch': 'GGKMNet', 'options': SMALL}}, 'g.pth')
    words = ['--photo', 'pairs/input/00.png', '--points', '3,4', '60,40', '-o', 'out']
    code, _, err = command('figure', 'psfs', '--weights', 'g.pth', '--gkmnet', 'gkm.pth', *words)
    assert code == 0, err
    assert Image.open('out/psfs.png').size[0] == 1100
    with open('out/psfs.csv') as file:
        rows = list(csv.DictReader(file))
    assert [(row['x'], row['y'], row['network']) for row in rows] == [
        (x, y, name) for x, y in (('3', '4'), ('60', '40')) for name in ('GKMNet', 'GGKMNet')
    ]
    code, _, err = command('figure', 'psfs', '--weights', 'g.pth', '--gkmnet', 'g.pth', *words)
    assert code == 2
    assert 'g.pth' in err
    assert command('figure', 'psfs')[0] == 2
