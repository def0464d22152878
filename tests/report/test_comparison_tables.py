"""Tables of a comparison in four formats."""

import csv
import io

import pytest

from ggkm_plugin.report import comparison_tables

NAMES = ('first_net', 'second', 'third|pipe')


@pytest.fixture
def results():
    means = {
        'input': {'psnr': 40.0, 'lpips': 0.01},  # best of all, but never marked
        'first_net': {'psnr': 25.0, 'lpips': 0.30},
        'second': {'psnr': 26.0, 'lpips': 0.20},
        'third|pipe': {'psnr': 24.0, 'lpips': 0.10},
    }
    noisy = {name: {'psnr': scores['psnr'] - 1, 'lpips': scores['lpips'] + 0.05} for name, scores in means.items()}
    drops = {name: {'psnr': 1.0, 'lpips': 0.05} for name in means}
    interval = {'mean': 1.0, 'low': 0.5, 'high': 1.5}
    image = {'name': 'x', 'size': [1, 1], 'files': {}, 'scores': {}}
    return {
        'name': 'x',
        'protocol': 'nrknet',
        'protocol_words': 'protocol nrknet: words',
        'machine': {'device': 'a_processor'},
        'metrics': [
            {'name': 'psnr', 'label': 'PSNR', 'better': 'higher', 'digits': 3},
            {'name': 'lpips', 'label': 'LPIPS-alex', 'better': 'lower', 'digits': 4},
        ],
        'difference_to': 'first_net',
        'drop_from': {},
        'measured_at': '1280x720',
        'memory_source': 'live tensors',
        'bootstrap': {'samples': 2000, 'seed': 0},
        'models': [
            {
                'name': name, 'arch': 'GGKMNet', 'parameters': 1_680_000, 'macs_true': 158_400_000_000,
                'macs_paper': None, 'seconds': 0.5, 'memory_bytes': 2**30, 'sha256': 'abcdef0123456', 'status': 'ok',
                'error': None,
            }
            for name in NAMES
        ],
        'datasets': [
            {
                'name': 'DPDD', 'benchmark': 'DPDD', 'images': [image] * 76, 'scenes': 76, 'means': means,
                'differences': {'second': {'psnr': interval, 'lpips': None}},
            },
            {
                'name': 'DPDD_noise3', 'benchmark': 'DPDD', 'clean': 'DPDD', 'noise_std': 3.0, 'images': [image] * 76,
                'scenes': 76, 'means': noisy, 'differences': {}, 'drops': drops,
            },
        ],
        'published': [
            {
                'method': 'GKMNet*', 'dataset': 'DPDD', 'psnr': 99.0, 'ssim': 0.9, 'lpips': None, 'source': 'a paper',
                'parameters': 1.47e6, 'macs_paper': 147.8e9, 'remark': '',
            },
            {
                'method': 'NRKNet', 'dataset': 'DPDD', 'psnr': 98.25, 'ssim': 0.9, 'lpips': 0.1, 'source': 'a paper',
                'parameters': None, 'macs_paper': None, 'remark': 'trained on LFDOF',
            },
        ],
        'published_drops': [
            {
                'method': 'NRKNet', 'dataset': 'DPDD', 'std': 3, 'psnr': 0.962, 'ssim': 0.03, 'lpips': 0.086,
                'source': 'another paper',
            }
        ],
    }  # fmt: skip


def line_of(text, start, after=''):
    """The first line of `text` below `after` that starts with `start`, with single spaces."""
    lines = [' '.join(line.split()) for line in text[text.index(after) :].splitlines()]
    return next(line for line in lines if line.startswith(start))


def test_scores_ranks_and_published_rows(results):
    text = comparison_tables.render(results, 'markdown')
    assert line_of(text, '| second') == '| second | **26.000** | <u>0.2000</u> |'
    assert line_of(text, '| third') == '| third\\|pipe | 24.000 | **0.1000** |'
    assert line_of(text, '| Input') == '| Input | 40.000 | 0.0100 |'
    assert line_of(text, '| GKMNet') == '| GKMNet\\* | 99.00 | - |'  # the digits of its source
    assert text.count('GKMNet\\*') == 2  # among the scores and the models, not under the noisy images
    assert text.index('third') < text.index('GKMNet')
    assert line_of(text, '| second', 'difference from').startswith('| second | +1.000 [+0.500, +1.500] | - |')
    titles = [line for line in text.splitlines() if line.startswith('### ')]
    assert len(titles) == 5
    assert all('nrknet' in title for title in titles if title != '### Models')
    assert 'protocol nrknet: words; 76 images' in text


def test_models(results):
    results['published'][0]['footnote'] = 'misprinted'
    text = comparison_tables.render(results, 'table')
    assert line_of(text, 'GKMNet') == 'GKMNet* [1] 99.00 -'
    assert '[1] misprinted' in text
    assert line_of(text, 'second', '\nModels').split() == [
        'second', 'GGKMNet', '1.680', '158.4', '-', '0.500', '1024', 'abcdef01', 'ok',
    ]  # fmt: skip
    assert line_of(text, 'GKMNet', '\nModels').split()[:5] == ['GKMNet*', '-', '1.47', '-', '147.8']


def test_losses_by_noise_are_positive_for_both_directions(results):
    results['drop_from'] = {'second': 'first_net'}
    text = comparison_tables.render(results, 'table')
    assert line_of(text, 'second', 'loss by noise').split() == ['second', '3', '1.000', '0.0500']
    assert line_of(text, 'NRKNet', 'loss by noise').split() == ['NRKNet', '3', '0.962', '0.086']
    assert 'another paper' in text
    assert 'second: from first_net' in text


def test_losses_stand_beside_the_scores_of_noisy_images(results):
    results['datasets'][1]['drops']['second']['psnr'] = None
    text = comparison_tables.render(results, 'markdown')
    assert line_of(text, '| method', 'noise 3') == '| method | PSNR ↑ | loss | LPIPS-alex ↓ | loss |'
    assert line_of(text, '| first', 'noise 3') == '| first\\_net | <u>24.000</u> | 1.000 | 0.3500 | 0.0500 |'
    assert line_of(text, '| second', 'noise 3').startswith('| second | **25.000** | - |')


def test_scenes_are_counted_where_images_share_one(results):
    text = comparison_tables.render(results, 'table')
    assert '76 images' in text
    assert 'scenes' not in text
    results['datasets'][0]['scenes'] = 20
    text = comparison_tables.render(results, 'table')
    assert text.count('76 images of 20 scenes') == 2
    assert '2000' in text


@pytest.mark.parametrize('form', comparison_tables.FORMATS)
def test_settings_stand_beside_every_score(results, form):
    results['models'][1]['settings'] = {'lens': 'a', 'fidelity': 16.8}
    text = comparison_tables.render(results, form)
    assert text.count('lens a, fidelity 16.8') == 2  # on the clean and on the noisy images
    if form == 'csv':
        rows = list(csv.DictReader(io.StringIO(text)))
        assert rows[2] == {
            'dataset': 'DPDD', 'method': 'second', 'source': 'measured', 'protocol': 'nrknet', 'psnr': '26.0',
            'lpips': '0.2', 'settings': 'lens a, fidelity 16.8',
        }  # fmt: skip
        assert not any(row['settings'] for row in rows if row['method'] != 'second')
        published = [
            (row['method'], row['protocol'], row['lpips']) for row in rows if row['source'] == 'published: a paper'
        ]
        assert published == [('GKMNet*', '', ''), ('NRKNet (trained on LFDOF)', '', '0.1')]
    else:
        assert text.count('DPDD, protocol nrknet') >= 3


@pytest.mark.parametrize('form', comparison_tables.FORMATS)
def test_a_failed_model_an_infinite_score_and_no_scores(results, form):
    del results['datasets'][0]['means']['second']
    results['datasets'][0]['means']['third|pipe']['psnr'] = None
    text = comparison_tables.render(results, form)
    assert 'inf' in text
    if form != 'csv':
        assert 'failed' in line_of(text, {'markdown': '| second'}.get(form, 'second'))
    for dataset in results['datasets']:
        dataset.update(means={}, differences={}, images=[])
    assert '24.000' not in comparison_tables.render(results, form)
