"""Comparison reports: data and files, and the page in a browser, if one is installed."""

import copy
import io
import json
import math
import os
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
from conftest import until
from PIL import Image

from ggkm_plugin.report import comparison_page
from ggkm_plugin.report.comparison_page import write_report
from ggkm_plugin.report.pictures import color_stops

HEIGHT, WIDTH = 64, 96
SHIFTS = {'input': (60, 0, 30), 'alpha': (12, 0, 6), 'beta': (24, 0, 12)}  # added to R, G, B: mean error 30, 6, 12
HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">\'&@DATA@'


def shifted(name, index):
    image = np.full((HEIGHT, WIDTH, 3), 100 + 10 * index, np.uint8)
    return image + np.array(SHIFTS.get(name, (0, 0, 0)), np.uint8)


def save(folder, path, pixels):
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / path)
    return path


def model(name, arch, parameters, seconds, **more):
    values = {'name': name, 'arch': arch, 'parameters': parameters, 'seconds': seconds, 'status': 'ok', 'error': None}
    return {**values, **more}


def sample(folder, images=4):
    """Results of four images, two models and a failed one. alpha is best in PSNR on most images, beta in LPIPS."""
    shown = []
    for index in range(images):
        files = {
            name: save(folder, f'images/set/{name} {index}#%.png', shifted(name, index)) for name in (*SHIFTS, 'gt')
        }
        scores = {
            'input': {'psnr': 20.0 + index, 'lpips': 0.5},
            'alpha': {'psnr': 30.0 - index, 'lpips': 0.3},
            'beta': {'psnr': 25.0 + index, 'lpips': 0.2},
        }
        shown.append({'name': f'picture_{index}', 'size': [HEIGHT, WIDTH], 'files': files, 'scores': scores})
    return {
        'name': 'Sample',
        'protocol': 'restormer',
        'machine': {'cpu': '2 cores', 'torch': '2.9'},
        'difference_to': 'alpha',
        'metrics': [
            {'name': 'psnr', 'label': 'PSNR', 'better': 'higher', 'digits': 2},
            {'name': 'lpips', 'label': 'LPIPS-alex', 'better': 'lower', 'digits': 3},
        ],
        'models': [
            model('alpha', 'GGKMNet', 1_680_000, 0.1, settings={'lens': 'a', 'fidelity': 16.8}),
            model('beta', 'GKMNet', 1_470_000, 0.2),
            model('gamma', 'NRKNet', None, None, status='failed', error='no weights there'),
        ],
        'datasets': [
            {
                'name': 'DPDD',
                'has_gt': True,
                'images': shown,
                'means': {
                    'input': {'psnr': 21.5, 'lpips': 0.5},
                    'alpha': {'psnr': 28.5, 'lpips': 0.3},
                    'beta': {'psnr': 26.5, 'lpips': 0.2},
                },
                'differences': {'beta': {'psnr': {'mean': -2.0, 'low': -2.5, 'high': -1.5}}},
            },
            {
                'name': 'CUHK',
                'has_gt': False,
                'note': 'What a blur map is.',
                'images': [
                    {
                        'name': 'street',
                        'files': {
                            'input': save(folder, 'images/cuhk/in.png', shifted('input', 0)),
                            'alpha': save(folder, 'images/cuhk/out.png', shifted('alpha', 0)),
                            'alpha blur map': save(folder, 'images/cuhk/map.png', shifted('beta', 0)),
                        },
                        'scores': None,
                    }
                ],
                'means': None,
                'differences': None,
            },
        ],
        'published': [
            {
                'method': 'NRKNet', 'dataset': 'dpdd', 'psnr': 26.109, 'ssim': 0.81, 'lpips': 0.21, 'source': 'Table 2',
                'remark': 'its remark', 'footnote': 'its footnote', 'parameters': 6.09e6,
            },
            {'method': 'Restormer', 'dataset': 'DPDD', 'psnr': 25.98, 'source': 'its own paper'},
            {'method': 'NRKNet', 'dataset': 'LFDOF', 'psnr': 30.481, 'ssim': 0.884, 'lpips': 0.147, 'source': 'x'},
        ],
    }  # fmt: skip


class Scripts(HTMLParser):
    """The script elements of a page, as a browser finds them."""

    def __init__(self, page):
        super().__init__()
        self.found, self.inside, self.tags = [], False, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag == 'script'
        if self.inside:
            self.found.append('')

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.found[-1] += data


def embedded(path):
    scripts = Scripts(path.read_text(encoding='utf-8'))
    assert len(scripts.found) == 2
    return json.loads(scripts.found[0])


def by_key(data, values):
    return dict(zip((source['key'] for source in data['sources']), values, strict=True))


def test_the_page_holds_the_results_and_its_links_exist(tmp_path):
    for name in ('table.tex', 'results.json', 'other.json'):
        (tmp_path / name).touch()
    page = write_report(tmp_path, sample(tmp_path))
    assert page == tmp_path / 'index.html'
    data = embedded(page)
    assert data['files'] == ['results.json', 'table.tex']
    assert [model['settings'] for model in data['models']] == ['lens a, fidelity 16.8', None, None]
    assert [source['kind'] for source in data['sources']] == ['input', 'model', 'model', 'model', 'extra', 'gt']
    assert data['datasets'][0]['images'][2]['scores'][1] == [28.0, 0.3]
    links = [
        url for dataset in data['datasets'] for image in dataset['images'] for url in [*image['files'], image['thumb']]
    ]
    found = [url for url in links if url]
    assert len(found) == 4 * 5 + 4
    for url in found:
        assert (tmp_path / unquote(url)).is_file()
        assert not re.search('[#? ]', url)
    assert by_key(data, data['datasets'][0]['images'][0]['files'])['gamma'] is None
    assert data['datasets'][1]['images'][0]['size'] == [HEIGHT, WIDTH]  # from the picture itself
    first, second, _ = data['published']
    assert first == {
        'method': 'NRKNet', 'dataset': 'dpdd', 'std': 0, 'scores': [26.109, 0.21], 'source': 'Table 2',
        'remark': 'its remark; its footnote', 'parameters': 6.09e6, 'macs_paper': None,
    }  # fmt: skip
    assert (second['scores'], second['remark'], second['parameters']) == ([25.98, None], '', None)


def test_the_page_needs_no_network(tmp_path):
    page = write_report(tmp_path, sample(tmp_path)).read_text(encoding='utf-8')
    assert set(re.findall(r'\w+://[^\s"\'<]*', page)) == {'http://www.w3.org/2000/svg'}  # a namespace, never fetched
    assert not [attrs for tag, attrs in Scripts(page).tags if tag in ('script', 'link') and attrs.get('src')]
    assert "default-src 'none'" in page


def test_hostile_names_stay_text(tmp_path):
    results = sample(tmp_path)
    names = [HOSTILE, '__proto__', '模型 \u2028 é', 'half \udcff']
    results['name'] = HOSTILE + '\udcff'
    results['models'] += [{'name': name, 'status': 'ok'} for name in names]
    results['models'][2]['error'] = HOSTILE
    results['datasets'][0].update(name=HOSTILE)
    results['datasets'][0]['images'][0].update(name=HOSTILE, scores={name: {'psnr': 1.5} for name in names})
    data = embedded(write_report(tmp_path, results))
    assert [source['key'] for source in data['sources']][4:8] == names
    assert data['datasets'][0]['images'][0]['name'] == HOSTILE
    assert by_key(data, data['datasets'][0]['images'][0]['scores'])['__proto__'] == [1.5, None]
    assert data['name'] == results['name']


def test_numbers_and_pictures_that_are_infinite_missing_or_damaged(tmp_path):
    results = sample(tmp_path)
    first, second = (image['files'] for image in results['datasets'][0]['images'][:2])
    (tmp_path / first['alpha']).unlink()
    (tmp_path / second['input']).write_bytes(b'no picture')
    scores = results['datasets'][0]['images'][0]['scores']
    scores['alpha'] = {'psnr': math.inf, 'lpips': math.nan}
    scores['beta'] = {'psnr': np.float32(-math.inf), 'lpips': np.float32(0.5)}
    del scores['input']['psnr']
    data = embedded(write_report(tmp_path, results))
    scores = by_key(data, data['datasets'][0]['images'][0]['scores'])
    assert scores['alpha'] == ['inf', 'nan']
    assert scores['beta'] == ['-inf', 0.5]
    assert scores['input'] == [None, 0.5]
    images = data['datasets'][0]['images']
    assert by_key(data, images[0]['files'])['alpha'] is None
    assert images[0]['thumb']
    assert images[1]['thumb'] is None


@pytest.mark.parametrize('results', [{}, {'name': 'x', 'datasets': [{'name': 'empty'}]}, {'models': [{'name': 'a'}]}])
def test_results_may_be_empty(tmp_path, results):
    embedded(write_report(tmp_path / 'new', results))


def test_previews_are_small_and_made_once(tmp_path):
    results = sample(tmp_path)
    large = np.random.default_rng(0).integers(0, 255, (1120, 1680, 3), np.uint8)
    source = tmp_path / save(tmp_path, results['datasets'][0]['images'][0]['files']['input'], large)
    thumb = tmp_path / embedded(write_report(tmp_path, results))['datasets'][0]['images'][0]['thumb']
    assert Image.open(thumb).size == comparison_page.THUMB_SIZE
    assert thumb.stat().st_size < 32_000
    os.utime(source, (1, 1))
    os.utime(thumb, (2, 2))
    write_report(tmp_path, results)
    assert thumb.stat().st_mtime == 2
    os.utime(source, (3, 3))
    write_report(tmp_path, results)
    assert thumb.stat().st_mtime > 3
    assert not list(tmp_path.rglob('.*'))


# ---- in a browser ----


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp('report')
    return write_report(folder, sample(folder))


@pytest.fixture
def opened(browser, report):
    """Open a report as a file; fails at the end if the console has a message or the network was used."""
    pages, faults, requested = [], [], []

    def visit(address='', path=report, **settings):
        context = browser.new_context(
            **{'viewport': {'width': 1280, 'height': 800}, 'reduced_motion': 'reduce', **settings}
        )
        page = context.new_page()
        page.on('console', lambda message: faults.append(message.text))
        page.on('pageerror', lambda error: faults.append(str(error)))
        page.on('request', lambda request: requested.append(request.url))
        page.goto(path.as_uri() + address)
        page.requested = requested
        pages.append(context)
        return page

    yield visit
    for context in pages:
        context.close()
    assert faults == []
    assert [url for url in requested if not url.startswith(('file:', 'data:'))] == []


def loaded(page):
    """Wait until all panes show their picture."""
    until(
        page,
        "document.querySelector('.stage')"
        " && [...document.querySelectorAll('.stage')].every(stage => stage.dataset.state === 'ready')",
    )
    return page


def transforms(page):
    return page.eval_on_selector_all('.layer', 'layers => layers.map(layer => getComputedStyle(layer).transform)')


def zoom_and_offset(page):
    """Return zoom and offset, which all panes share."""
    numbers = [[float(word) for word in re.findall(r'-?[\d.]+(?:e-?\d+)?', found)] for found in set(transforms(page))]
    assert len(numbers) == 1
    return numbers[0][0], numbers[0][4], numbers[0][5]


def pixels(part):
    return np.asarray(Image.open(io.BytesIO(part.screenshot())).convert('RGB')).astype(int)


def rows(page, table=0):
    return (
        page.locator('.means')
        .nth(table)
        .locator('tbody')
        .first.locator('tr')
        .evaluate_all('rows => rows.map(row => row.dataset.model)')
    )


def address(page):
    page.wait_for_timeout(250)
    return unquote(page.evaluate('location.hash'))


def test_tables_sort_and_mark(opened):
    page = opened()
    assert rows(page) == ['Input', 'alpha', 'beta', 'gamma']
    assert 'lens a' in page.locator('[data-model=alpha]').first.inner_text()
    psnr = page.get_by_role('button', name='PSNR').first
    psnr.click()
    assert rows(page) == ['alpha', 'beta', 'Input', 'gamma']  # the best first, the failed last
    psnr.click()
    assert rows(page) == ['Input', 'beta', 'alpha', 'gamma']
    assert page.locator('th[aria-sort]').get_attribute('aria-sort') == 'ascending'
    page.get_by_role('button', name='LPIPS').first.click()
    assert rows(page) == ['beta', 'alpha', 'Input', 'gamma']
    table = page.locator('.means').first
    assert sorted(found.split()[0] for found in table.locator('.best').all_text_contents()) == ['0.200', '28.50']
    assert sorted(found.split()[0] for found in table.locator('.second').all_text_contents()) == ['0.300', '26.50']
    assert '−2.00 [−2.50, −1.50]' in table.inner_text()
    assert 'no weights there' in table.inner_text()
    assert table.locator('.detail.down').first.inner_text() == '−2.00 [−2.50, −1.50]'  # the whole interval is worse
    paper, own = table.locator('tbody.published').all_inner_texts()  # one body per source
    assert 'Table 2' in paper
    assert 'its own paper' in own
    assert paper.splitlines()[-1].split() == ['NRKNet', 'its', 'remark;', 'its', 'footnote', '26.109', '0.21', '6.09']
    assert own.splitlines()[-1].split() == ['Restormer', '25.98']
    assert '30.481' not in paper + own  # of another data set


def test_noisy_data_sets_show_losses_beside_the_scores(opened, tmp_path):
    results = sample(tmp_path)
    clean, _ = results['datasets']
    clean.update(name='views', benchmark='DPDD', scenes=2)
    clean['differences']['beta'].update(
        psnr={'mean': -1, 'low': -2, 'high': 0.5}, lpips={'mean': -0.1, 'low': -0.2, 'high': -0.05}
    )
    drops = {'input': {'psnr': 1.5, 'lpips': -0.01}, 'alpha': {'psnr': None, 'lpips': 0.02}}
    noisy = {**clean, 'name': 'views_noise5', 'benchmark': 'DPDD', 'noise_std': 5, 'drops': drops}
    results['datasets'] = [clean, noisy]
    results['published_drops'] = [
        {'method': f'MDP{std}', 'dataset': 'DPDD', 'std': std, 'psnr': 0.5, 'lpips': 0.02, 'source': 'Table 6'}
        for std in (3, 5)
    ]
    results.update(failures=['model gamma: no weights there'], protocol_words='protocol restormer: 8-bit input')
    results.update(drop_from={'beta': 'alpha'}, machine={'memory_bytes': 3 * 2**29, 'threads': 2})
    page = opened(path=write_report(tmp_path, results))
    tables = page.locator('.means')
    cells = tables.nth(0).locator('[data-model=beta] td .detail')  # colored unless the interval holds 0
    assert cells.evaluate_all('all => all.map(cell => cell.className)') == ['detail', 'detail up']  # lower is better
    assert '2 scenes' in tables.nth(0).locator('h3').inner_text()
    assert 'MDP' not in tables.nth(0).inner_text()
    assert tables.nth(0).locator('thead th').all_inner_texts()[3:] == ['Params (M)', 'Time (ms)']
    assert tables.nth(1).locator('thead th').all_inner_texts() == ['Model', 'PSNR ↑', 'loss', 'LPIPS-alex ↓', 'loss']
    lines = tables.nth(1).locator('tbody').first.locator('tr').all_inner_texts()
    assert lines[0].split() == ['Input', '21.50', '1.50', '0.500', '−0.010']
    assert lines[1].split()[-6:] == ['28.50', '(best)', '–', '0.300', '(second)', '0.020']
    title, line = tables.nth(1).locator('tbody.published tr').all_inner_texts()
    assert 'Table 6' in title
    assert line.split() == ['MDP5', '0.5', '0.02']
    tables.nth(1).get_by_role('button', name='loss').first.click()
    assert rows(page, 1)[0] == 'Input'  # the only row with a number
    header = page.locator('header').inner_text()
    assert '8-bit input' in header
    assert header.count('protocol') == 1
    assert 'memory: 1.5 GiB, threads: 2' in header
    assert 'model gamma: no weights there' in page.locator('#failures').inner_text()
    assert re.search('beta.*alpha', page.locator('#legend').inner_text())


def test_only_the_pictures_shown_are_loaded(opened):
    page = loaded(opened())
    assert page.locator('#name').inner_text() == 'picture_3'  # the worst of alpha
    pictures = {unquote(url).rsplit('/', 1)[1] for url in page.requested if '/images/' in url}
    assert pictures == {f'{name} 3#%.png' for name in (*SHIFTS, 'gt')}
    page.locator('#list button', has_text='picture_1').click()
    loaded(page)
    assert page.locator('.pane img').evaluate_all('all => all.map(img => img.naturalWidth)') == [WIDTH] * 4
    assert 'image=picture_1' in address(page)
    caption = page.locator('.pane[data-source="1"] figcaption').inner_text()
    assert '29.00' in caption
    assert '8.00' in caption  # gain over the input


def test_the_list_follows_filter_order_and_difference(opened):
    page = opened()

    def names():
        return page.locator('#list b').all_text_contents()

    assert names() == [f'picture_{index}' for index in (3, 2, 1, 0)]
    page.select_option('#order', 'best')
    assert names() == [f'picture_{index}' for index in (0, 1, 2, 3)]
    words = page.locator('#list li').all_text_contents()
    assert [re.search('best|median|worst|$', line)[0] for line in words] == ['best', '', 'median', 'worst']
    for word, name in (('Median', 'picture_2'), ('Best', 'picture_0'), ('Worst', 'picture_3')):
        page.get_by_role('button', name=word, exact=True).click()
        assert page.locator('#name').inner_text() == name
        assert page.locator('[data-jump][aria-pressed=true]').inner_text() == word
    page.select_option('#minus', label='beta')
    page.select_option('#order', 'worst')
    assert names()[0] == 'picture_3'
    page.select_option('#of', label='Input')  # minus beta: -5 for all images, so by name
    assert page.get_by_title('of the images by PSNR Input − beta').count() == 3
    page.select_option('#of', label='alpha')
    assert 'PSNR −1.00' in page.locator('#list small').first.text_content()
    page.fill('#filter', 'TURE_2')
    assert names() == ['picture_2']
    page.fill('#filter', 'nothing')
    assert names() == []


def test_keys_and_the_plot_choose_images(opened):
    page = opened()
    page.keyboard.press('ArrowRight')
    assert page.locator('#name').inner_text() == 'picture_2'
    page.keyboard.press('ArrowLeft')
    assert page.locator('#name').inner_text() == 'picture_3'
    assert page.locator('#plot [data-series]').count() == 3
    page.locator('#plot').scroll_into_view_if_needed()
    box = page.locator('#plot svg').bounding_box()
    page.mouse.move(box['x'] + box['width'] - 30, box['y'] + 60)
    assert 'picture_0' in page.locator('#tip').inner_text()
    page.mouse.click(box['x'] + box['width'] - 30, box['y'] + 60)
    assert page.locator('#name').inner_text() == 'picture_0'
    page.get_by_role('button', name='One against another').click()
    assert page.locator('#plot .dot').count() == 4 + 1  # the chosen one has a second, larger dot
    page.locator('[data-plot=sorted]').click()
    page.locator('[data-curve="2"]').click()
    assert page.locator('#plot [data-series]').count() == 2


def test_many_models_start_with_few_distinct_curves(opened, tmp_path):
    results = sample(tmp_path, images=2)
    for number in range(12):
        results['models'].append({'name': f'net{number}', 'status': 'ok'})
        for image in results['datasets'][0]['images']:
            image['scores'][f'net{number}'] = {'psnr': 20 + number, 'lpips': 0.1}
    page = opened(path=write_report(tmp_path, results))
    assert page.locator('#plot [data-series]').count() == 1 + 4  # the input, and four of the first five; one failed
    assert page.locator('[data-curve]').count() == 1 + 14
    page.locator('[data-curve="10"]').click()
    assert page.locator('#plot [data-series]').count() == 1 + 5
    signs = page.locator('[data-curve]').evaluate_all(
        "all => all.map(each => each.style.getPropertyValue('--c') + each.querySelector('path').getAttribute('d'))"
    )
    assert len(set(signs)) == len(signs)


def test_one_zoom_for_all_panes(opened):
    page = loaded(opened())
    fit, *_ = zoom_and_offset(page)
    page.locator('#toolbar').scroll_into_view_if_needed()
    box = page.locator('.stage').nth(1).bounding_box()
    where = (
        round(box['x'] + box['width'] * 0.7),
        round(box['y'] + box['height'] * 0.4),
    )  # pointers are at whole pixels
    at = (where[0] - box['x'], where[1] - box['y'])
    before = zoom_and_offset(page)
    page.mouse.move(*where)
    page.mouse.wheel(0, -600)
    until(page, f"Number(getComputedStyle(document.querySelector('#panes')).getPropertyValue('--zoom')) > {fit} * 1.3")
    after = zoom_and_offset(page)
    for axis in (0, 1):  # the pixel under the pointer stays there
        pixel = (at[axis] - before[axis + 1]) / before[0]
        assert pixel * after[0] + after[axis + 1] == pytest.approx(at[axis], abs=0.1)
    page.mouse.down()
    page.mouse.move(where[0] - 20, where[1] - 10, steps=4)
    page.mouse.up()
    zoom, x, y = zoom_and_offset(page)
    assert (zoom, x, y) == (
        pytest.approx(after[0]),
        pytest.approx(after[1] - 20, abs=0.1),
        pytest.approx(after[2] - 10, abs=0.1),
    )
    linked = address(page)
    assert 'at=' in linked
    again = loaded(opened(page.evaluate('location.hash')))
    assert zoom_and_offset(again) == pytest.approx((zoom, x, y), abs=0.2)
    page.keyboard.press('+')
    page.keyboard.press('+')
    assert (
        page.locator('.magnified .layer').first.evaluate('layer => getComputedStyle(layer).imageRendering')
        == 'pixelated'
    )
    page.locator('.stage').nth(1).dblclick()
    assert zoom_and_offset(page)[0] == pytest.approx(fit)
    page.locator('#actual').click()
    assert zoom_and_offset(page)[0] == pytest.approx(1)


def test_the_slider_uncovers(opened):
    page = opened('#mode=slider&image=picture_0')
    loaded(page)
    page.locator('#toolbar').scroll_into_view_if_needed()
    stage = page.locator('.stage')
    box, handle = stage.bounding_box(), page.get_by_role('slider', name='Border')
    assert len(set(transforms(page))) == 1

    def color(share):
        x, y = round(box['x'] + share * box['width']), round(box['y'] + box['height'] * 0.25)
        return tuple(pixels(page)[y, x])

    left, right = tuple(shifted('input', 0)[0, 0]), tuple(shifted('alpha', 0)[0, 0])
    assert (color(0.4), color(0.6)) == (left, right)
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] * 0.25, box['y'] + box['height'] / 2, steps=3)
    page.mouse.up()
    assert color(0.4) == right
    assert abs(int(handle.get_attribute('aria-valuenow')) - 25) <= 1
    handle.focus()
    page.keyboard.press('End')
    assert color(0.6) == left
    assert page.locator('#name').inner_text() == 'picture_0'  # the slider has used the keys
    page.select_option('#right', label='Ground truth')
    loaded(page)
    page.keyboard.press('Home')
    assert 'right=gt' in address(page)


def test_error_maps_show_the_mean_error_on_one_scale(opened):
    page = loaded(opened('#mode=errors&image=picture_0&full=20'))
    page.locator('#panes').scroll_into_view_if_needed()
    ramp = np.array([[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in color_stops(cv2.COLORMAP_INFERNO)])

    def seen(source):
        picture = pixels(page.locator(f'.pane[data-source="{source}"] .stage'))
        return picture[picture.shape[0] // 2, picture.shape[1] // 2]

    def expected(error, full):
        at = min(1, error / 255 / full) * (len(ramp) - 1)
        return [np.interp(at, np.arange(len(ramp)), ramp[:, channel]) for channel in range(3)]

    for percent in (20, 5):
        page.locator('#full').fill(str(percent))
        for source, error in ((0, 30), (1, 6), (2, 12)):
            np.testing.assert_allclose(seen(source), expected(error, percent / 100), atol=3)  # 8-bit rounding, twice
    assert (seen(5) == shifted('gt', 0)[0, 0]).all()  # ground truth stays a picture


def test_the_scale_of_error_maps_follows_the_input(opened, tmp_path):
    results = sample(tmp_path)
    for psnr, percent in ((20, 30), (40, 3), (None, 10), (1, 50)):
        results['datasets'][0]['means']['input']['psnr'] = psnr
        page = opened('#mode=errors', path=write_report(tmp_path, results))
        assert page.locator('#full').input_value() == str(percent)


def test_reduced_error_maps_are_averages(opened, tmp_path):
    results = sample(tmp_path, images=1)
    stripes = np.zeros((1120, 1680, 3), np.uint8)
    stripes[:, ::4] = 80  # mean 20; a map of single pixels would show 80 or 0
    files = results['datasets'][0]['images'][0]['files']
    save(tmp_path, files['alpha'], stripes)
    save(tmp_path, files['gt'], np.zeros_like(stripes))
    results['datasets'][0]['images'][0]['size'] = [1120, 1680]
    page = loaded(opened('#mode=errors&full=16&show=alpha&show=beta&show=input', path=write_report(tmp_path, results)))
    page.locator('#panes').scroll_into_view_if_needed()
    shown = pixels(page.locator('.pane[data-source="1"] .stage'))[60:120, 60:240].reshape(-1, 3)
    at = 20 / 255 / 0.16 * (len(color_stops(cv2.COLORMAP_INFERNO)) - 1)
    middle = [int(color_stops(cv2.COLORMAP_INFERNO)[round(at)][start : start + 2], 16) for start in (1, 3, 5)]
    assert np.abs(shown.mean(axis=0) - middle).max() < 8
    assert shown.std(axis=0).max() < 4


def test_without_ground_truth(opened, tmp_path):
    results = sample(tmp_path)
    results['datasets'] = results['datasets'][1:]
    page = loaded(opened(path=write_report(tmp_path, results)))
    [line] = page.locator('.means thead').all_inner_texts()
    assert line.strip().split('\t') == ['Model', 'Params (M)', 'Time (ms)']
    page.get_by_role('button', name='Params').click()
    assert rows(page) == ['beta', 'alpha', 'gamma']
    page = loaded(opened('#data=CUHK'))
    assert page.locator('.pane figcaption b').all_text_contents() == ['Input', 'alpha', 'alpha blur map']
    assert page.locator('[data-mode=errors]').is_disabled()
    assert not page.locator('#scores').is_visible()
    assert 'What a blur map is.' in page.locator('#unscored').inner_text()
    assert page.locator('.means').count() == 1
    assert 'CUHK: 1 image' in page.locator('#results').inner_text()
    assert not page.get_by_role('button', name='Worst').is_visible()


def test_a_link_restores_the_view_and_bad_links_are_ignored(opened):
    page = opened()
    page.select_option('#metric', '1')
    page.select_option('#of', label='beta')
    page.locator('[data-source="0"][aria-pressed]').click()
    page.locator('[data-mode=errors]').click()
    other = opened('#' + page.evaluate('addressOf()').lstrip('#'))
    assert other.evaluate('view') == page.evaluate('view')
    assert other.locator('.pane').count() == 3
    bad = loaded(opened('#data=none&image=none&metric=x&at=1,NaN,9999&mode=__proto__&split=900&show=nobody'))
    assert bad.locator('.pane').count() == 4


def test_hostile_and_odd_results_are_shown_as_text(opened, tmp_path):
    results = copy.deepcopy(sample(tmp_path))
    results['models'][1]['name'] = '__proto__'
    results['models'][2]['error'] = HOSTILE
    results['name'] = results['datasets'][0]['name'] = HOSTILE
    images = results['datasets'][0]['images']
    images[3]['name'] = HOSTILE
    images[3]['scores']['alpha'] = {'psnr': math.nan, 'lpips': math.inf}
    (tmp_path / images[3]['files']['alpha']).unlink()
    (tmp_path / images[3]['files']['gt']).write_bytes(b'no picture')
    page = opened(path=write_report(tmp_path, results))
    assert page.evaluate('window.hacked') is None
    assert page.locator('h1').inner_text() == HOSTILE
    page.locator('#list button').last.click()  # last, since it has no number
    assert page.locator('#name').inner_text() == HOSTILE
    caption = page.locator('.pane[data-source="1"]')
    assert 'NaN' in caption.inner_text()
    assert 'inf' in caption.inner_text()
    until(page, "document.querySelector('.pane:last-child .stage').dataset.state === 'missing'")
    assert page.evaluate('window.hacked') is None


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('size', [(1280, 800), (390, 844)])
def test_it_fits_the_screen_in_both_themes(opened, size, scheme):
    page = loaded(opened('#mode=errors', viewport={'width': size[0], 'height': size[1]}, color_scheme=scheme))
    assert page.evaluate('document.documentElement.scrollWidth') <= size[0]
    paper, ink, soft = page.evaluate(
        '[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,'
        " getComputedStyle(document.querySelector('.soft')).color]"
    )

    def luminance(color):
        channels = np.array([int(word) for word in re.findall(r'\d+', color)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for text in (ink, soft):  # the minimum of WCAG AA
        dark, light = sorted((luminance(paper), luminance(text)))
        assert (light + 0.05) / (dark + 0.05) > 4.5
    assert (luminance(paper) > 0.5) == (scheme == 'light')


def test_the_report_of_a_comparison(opened, bench):
    """The page shows the results of `basicsr compare`, for each data set and mode."""
    bench.opt.update(noise=[5], name='of a comparison')
    bench.opt['datasets']['photographs'] = {'type': 'SingleDefocusDataset', 'dataroot_lq': 'pairs/input'}
    bench.add('lost', 1.0, drop_from='bright')
    (bench.folder / 'lost.pth').unlink()
    code, _, err = bench.command('compare', '-opt', bench.write(), '--noise')
    assert code == 1
    results = bench.results()
    folder = bench.folder / 'results/of a comparison'
    assert f'Report: {folder / "index.html"}' in err
    page = loaded(opened(path=folder / 'index.html'))
    sets = {dataset['name']: dataset for dataset in results['datasets']}
    assert rows(page) == ['Input', 'bright', 'dark', 'lost']
    for place, name in enumerate(('pairs', 'pairs_noise5')):
        table = page.locator('.means').nth(place)
        for model in ('input', 'bright', 'dark'):
            row = table.locator(f'[data-model={"Input" if model == "input" else model}]')
            cells = [cell.replace('−', '-') for cell in row.locator('td').all_text_contents()]
            for metric, digits in (('psnr', 3), ('ssim', 4), ('mae', 4)):
                assert cells.pop(0).startswith(f'{sets[name]["means"][model][metric]:.{digits}f}')
                if name == 'pairs_noise5':
                    assert cells.pop(0) == f'{sets[name]["drops"][model][metric]:.{digits}f}'
    difference = sets['pairs']['differences']['dark']['psnr']
    shown = page.locator('.means').first.locator('[data-model=dark] td .detail').first.inner_text().replace('−', '-')
    assert shown == f'{difference["mean"]:.3f} [{difference["low"]:.3f}, {difference["high"]:.3f}]'
    assert 'lost.pth' in page.locator('#failures').inner_text()
    for name in sets:
        for mode in ('errors', 'slider'):
            loaded(opened(f'#data={name}&mode={mode}', path=folder / 'index.html'))
    links = page.locator('#files a').evaluate_all('all => all.map(link => link.href)')
    assert links == [(folder / name).as_uri() for name in ('results.json', 'scores.csv', 'table.md', 'table.tex')]
