"""`basicsr inspect`: maps and PSFs equal those of the network; files; the page in a browser."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ggkm_plugin.archs.ggkmnet_ablations_arch import GGKMNetFullyLearned, GGKMNetNoLSTM
from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.archs.nrknet_arch import NRKNet
from ggkm_plugin.data.optics import circle_of_confusion, render_defocus
from ggkm_plugin.data.photographs import builtin_photographs, load_photograph
from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.inspection import files
from ggkm_plugin.inspection.inspection import inspect, parse_points, reduced, spread_points
from ggkm_plugin.inspection.network import Subject, load_subject
from ggkm_plugin.inspection.page import page
from ggkm_plugin.inspection.sheet import UNTRAINED, sheet
from ggkm_plugin.restoration.psf import effective_radius
from ggkm_plugin.utils.errors import CheckpointError, OptionError
from ggkm_plugin.utils.image_decoding import write_image
from ggkm_plugin.weights import packaged_weights

SMALL = {'width': 4, 'num_groups': 4, 'kernels_per_group': 2, 'num_scales': 2}


def photograph(height=45, width=70):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 4 + 1, width // 4 + 1, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode='bilinear')[0]


def subject(arch=GGKMNet, trained=True, **options):
    torch.manual_seed(0)
    return Subject(arch(**{**SMALL, **options}).eval(), 'somewhere.pth', trained, {})


@pytest.fixture
def without_sheets(monkeypatch):
    """Skip drawing the sheets, which takes seconds."""
    monkeypatch.setattr(files, 'sheet', lambda *_: None)
    monkeypatch.setattr(files, 'write_png', lambda _, path: path.write_bytes(b'PNG'))


@pytest.fixture
def checkpoint(workplace):
    """Write a checkpoint as training does and return its file name."""

    def write(net, arch, options, **description):
        content = {'params': net.state_dict(), 'description': {'arch': arch, 'options': options, **description}}
        torch.save(content, 'weights.pth')
        return 'weights.pth'

    return write


@pytest.mark.parametrize(('arch', 'options'), [
    (GGKMNet, {}), (GGKMNet, {'num_iters': 2}), (GGKMNetFullyLearned, {}), (GGKMNetNoLSTM, {'shared': False}),
])  # fmt: skip
def test_an_inspection_has_the_values_of_the_network(arch, options):
    chosen, image = subject(arch, **options), photograph()
    seen = inspect(chosen, image)
    with torch.no_grad():
        torch.testing.assert_close(seen.result, chosen.net(image[None])[0])
        coefficients = chosen.net.coefficients(image[None])
    assert len(seen.estimates) == len(coefficients)
    for estimate, (alpha, beta) in zip(seen.estimates, coefficients, strict=True):
        assert torch.equal(estimate.alpha, alpha[0])
        assert torch.equal(estimate.beta, beta[0])
    assert [e.scale for e in seen.estimates] == sorted(e.scale for e in seen.estimates)
    assert seen.radius.shape == image.shape[1:]


@pytest.mark.parametrize('output_layer', [True, False])
def test_the_blur_map_has_the_radius_of_the_psfs(output_layer):
    seen = inspect(subject(), photograph(), output_layer)
    for x, y in ((0, 0), (69, 44), (31, 20)):
        psf = seen.psf_at((x, y))
        assert len(psf) == (3 if output_layer else 1)
        assert effective_radius(psf.abs().sum(dim=0)).item() == pytest.approx(seen.radius[y, x].item(), abs=1e-4)


def test_points_are_spread_over_radius_and_place():
    rows, columns = torch.meshgrid(torch.arange(80.0), torch.arange(120.0), indexing='ij')
    radius = columns / 20 + 0.001 * rows
    places = spread_points(radius)
    assert len(set(places)) == 6
    found = [radius[y, x].item() for x, y in places]
    assert found == sorted(found)
    assert found[0] < 1
    assert found[-1] > 5
    assert max(y for _, y in places) - min(y for _, y in places) > 50
    assert len(spread_points(torch.ones(30, 40))) == 6
    assert len(spread_points(torch.ones(1, 1), count=1)) == 1


def test_wrong_points_are_refused():
    assert parse_points(['3,4', '0,0'], 5, 6) == [(3, 4), (0, 0)]
    for word in ('3', '3,x', '5,0', '0,6', '-1,2', '1,2,3'):
        with pytest.raises(OptionError, match='--points'):
            parse_points([word], 5, 6)


def test_files_of_a_trained_network(command, workplace, checkpoint):
    weights = checkpoint(GGKMNet(**SMALL), 'GGKMNet', SMALL, iteration=1200)
    code, _, err = command(
        'inspect', 'pairs/input/02.png', '--weights', weights, '--points', '3,4', '60,40', '-o', 'out'
    )
    assert code == 0
    assert 'untrained' not in err
    found = json.loads((workplace / 'out/02.json').read_text())
    assert found['trained'] is True
    assert found['weights'] == 'weights.pth, after 1200 iterations'
    assert [(point['x'], point['y']) for point in found['points']] == [(3, 4), (60, 40)]
    assert np.shape(found['alpha'][0]['alpha']) == (4, 2)
    assert UNTRAINED not in (workplace / 'out/02.html').read_text()
    assert len(list((workplace / 'out').iterdir())) == 3
    with Image.open(workplace / 'out/02.png') as picture:
        assert picture.size[0] == 1600


def test_untrained_networks_are_marked(command, workplace, checkpoint):
    code, out, err = command('inspect', 'pairs/input/00.png', '--arch', 'GGKMNet', '-o', 'out')
    assert code == 0
    assert 'GGKMNet is untrained' in err
    assert [line.split('.')[-1] for line in out.split()] == ['png', 'html', 'json']
    assert json.loads((workplace / 'out/00.json').read_text())['trained'] is False
    assert UNTRAINED in (workplace / 'out/00.html').read_text()
    assert not load_subject(checkpoint(GGKMNet(**SMALL), 'GGKMNet', SMALL, iteration=0)).trained


@pytest.mark.parametrize(
    ('net', 'arch', 'options'),
    [(NRKNet(), 'NRKNet', {}), (GGKMNet(6, **SMALL), 'GGKMNet', {**SMALL, 'in_ch': 6})],
    ids=['without PSFs', '6 channels'],
)
def test_networks_without_psfs_of_photographs_are_refused(command, checkpoint, net, arch, options):
    weights = checkpoint(net, arch, options)
    code, _, err = command('inspect', 'pairs/input/00.png', '--weights', weights)
    assert code == 2
    assert weights in err
    with pytest.raises(OptionError, match='MCPNet'):
        load_subject(None, {'type': 'MCPNet'})


def test_wrong_files_and_arguments_are_refused(command, workplace, checkpoint):
    with pytest.raises(CheckpointError, match=r'weights\.pth'):
        load_subject(checkpoint(GGKMNet(**SMALL), 'GGKMNet', {**SMALL, 'width': 8}))
    (workplace / 'file').write_text('')
    for code, named, words in (
        (1, 'nowhere.png', ['nowhere.png']),
        (2, '--points', ['pairs/input/00.png', '--points', '999,0']),
        (2, '00', ['pairs/input', 'pairs/ground_truth']),  # equal names
        (1, 'file/below', ['pairs/input/00.png', '-o', 'file/below']),
    ):
        found, _, err = command('inspect', *words)
        assert (found, named in err) == (code, True)


@pytest.mark.parametrize(('arch', 'size'), [(GGKMNet, (1, 1)), (GGKMNetFullyLearned, (9, 300))])
def test_sheets_of_odd_sizes(arch, size):
    seen = inspect(subject(arch, num_iters=2, trained=False), photograph(*size))
    drawn = sheet(seen, 'odd', spread_points(seen.radius), 'a note')
    assert drawn.bbox.width == 1600
    assert len(page(seen, 'odd', spread_points(seen.radius))) > 1000


def test_large_and_tall_photographs_are_limited():
    image = np.random.default_rng(0).random((40, 100, 3), np.float32)
    assert reduced(image, 100) is image
    np.testing.assert_allclose(reduced(image, 50), image.reshape(20, 2, 50, 2, 3).mean((1, 3)), atol=1e-6)
    seen = inspect(subject(), photograph(900, 6))
    places = spread_points(seen.radius)
    assert sheet(seen, 'tall', places).bbox.height < 16000
    many = [(x, 10 * y) for y in range(5) for x in range(5)]
    assert sheet(seen, 'tall', many).bbox.height > sheet(seen, 'tall', places).bbox.height  # their PSFs in several rows


# Existing files


def test_a_photograph_is_never_overwritten(command, workplace):
    before = Path('pairs/input/00.png').read_bytes()
    code, _, err = command('inspect', 'pairs/input/00.png', '-o', 'pairs/input')
    assert code == 2
    assert 'pairs/input/00.png' in err
    assert Path('pairs/input/00.png').read_bytes() == before
    assert not Path('pairs/input/00.json').exists()


def test_results_of_another_photograph_are_not_overwritten(command, without_sheets, workplace, checkpoint):
    words = ['--weights', checkpoint(GGKMNet(**SMALL), 'GGKMNet', SMALL, iteration=1200), '-o', 'out']
    assert command('inspect', 'pairs/input/00.png', *words)[0] == 0
    before = Path('out/00.html').read_bytes()
    code, _, err = command('inspect', 'pairs/ground_truth/00.png', *words)
    assert code == 2
    assert 'out/00.png' in err
    assert Path('out/00.html').read_bytes() == before
    assert command('inspect', 'pairs/input/00.png', *words, '--without-output-layer')[0] == 0  # its own are replaced
    assert Path('out/00.html').read_bytes() != before
    Path('out/00.json').write_text('[')
    assert command('inspect', 'pairs/input/00.png', *words)[0] == 2


def test_photographs_are_read_as_by_deblur_and_a_bad_one_does_not_stop_the_rest(command, without_sheets, checkpoint):
    """EXIF orientation, gray images and 16 bits; CMYK is refused."""
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[274] = 6
    Path('in').mkdir()
    Image.fromarray(rng.integers(0, 256, (24, 40, 3), np.uint8)).save('in/turned.jpg', exif=turned)
    Image.fromarray(rng.integers(0, 256, (24, 40), np.uint8)).save('in/gray.png')
    write_image('in/deep.png', rng.integers(0, 65536, (24, 40, 3), np.uint16))
    Image.new('CMYK', (40, 24)).save('in/print.jpg')
    words = ['--weights', checkpoint(GGKMNet(**SMALL), 'GGKMNet', SMALL, iteration=1200), '-o', 'out']
    code, _, err = command('inspect', 'in', *words)
    assert code == 1
    assert 'in/print.jpg: ' in err
    assert err.count('.jpg') == 1
    sizes = {path.stem: json.loads(path.read_text())['size'] for path in Path('out').glob('*.json')}
    assert sizes == {'turned': [40, 24], 'gray': [24, 40], 'deep': [24, 40]}


# In a browser


@pytest.fixture
def opened(tmp_path, browser):
    """Open a page, which must neither load other files nor raise an error."""
    errors, asked, pages = [], [], []

    def open_page(content, **context):
        path = tmp_path / 'page.html'
        path.write_text(content)
        shown = browser.new_context(viewport={'width': 1200, 'height': 800}, **context).new_page()
        shown.on('pageerror', lambda error: errors.append(error))
        shown.on('request', lambda request: asked.append(request.url))
        shown.goto(path.as_uri())
        shown.wait_for_selector('body[data-state=ready]')
        pages.append(shown)
        return shown

    yield open_page
    for shown in pages:
        shown.context.close()
    assert errors == []
    assert [url for url in asked if not url.startswith(('file:', 'data:'))] == []


@pytest.mark.parametrize('output_layer', [True, False])
def test_hovering_shows_the_psf_of_the_pixel(opened, output_layer):
    seen = inspect(subject(), photograph(), output_layer)
    shown = opened(page(seen, 'photo', [(5, 6), (60, 40)]))
    box = shown.locator('#stage').bounding_box()
    for x, y in ((12, 30), (69, 0), (0, 44)):
        shown.mouse.move(box['x'] + (x + 0.5) * box['width'] / 70, box['y'] + (y + 0.5) * box['height'] / 45)
        facts = shown.locator('#facts').inner_text()
        assert facts.startswith(f'({x}, {y}): effective radius ')
        drawn = torch.tensor(shown.evaluate(f'psfs({x}, {y}).map(b => [...b])'))
        want = seen.psf_at((x, y)).flatten(1)
        weight = seen.kernels.new_ones(1, 5) if seen.weight is None else seen.weight
        bound = (weight.abs() * seen.estimates[-1].beta.abs().amax((1, 2))).sum(dim=1).max().item() / 254
        assert (drawn - want).abs().max() <= bound + 1e-6
        radius = effective_radius(drawn.abs().sum(dim=0).view(seen.kernels.shape[1:])).item()
        assert float(facts.split('radius ')[1].split(' px')[0]) == pytest.approx(radius, abs=0.006)
        assert radius == pytest.approx(seen.radius[y, x].item(), rel=0.1)


def test_keys_click_and_layers(opened):
    seen = inspect(subject(), photograph())
    shown = opened(page(seen, 'photo', [(5, 6)]))
    facts = shown.locator('#facts')
    assert facts.inner_text().startswith('(5, 6)')
    shown.locator('#stage').focus()
    shown.keyboard.press('ArrowRight')
    shown.keyboard.press('Shift+ArrowDown')
    assert facts.inner_text().startswith('(6, 16)')
    box = shown.locator('#stage').bounding_box()
    shown.mouse.click(box['x'] + 40.5 * box['width'] / 70, box['y'] + 20.5 * box['height'] / 45)
    assert facts.inner_text().startswith('(40, 20)')
    shown.mouse.move(box['x'] + 5, box['y'] + 5)
    assert facts.inner_text().startswith('(40, 20)')  # kept
    shown.select_option('#coefficient', '2')
    pixels = shown.evaluate("[...document.querySelector('#map').getContext('2d').getImageData(0, 0, 70, 45).data]")
    beta = seen.estimates[-1].beta[2]
    sign = np.sign(np.array(pixels).reshape(45, 70, 4) @ [1, 0, -1, 0])  # vermilion has more red, blue more blue
    certain = beta.abs() > 0.05 * beta.abs().max()
    assert (sign[certain.numpy()] == beta.sign()[certain].numpy()).all()
    shown.get_by_role('button', name='Blur map').click()
    assert shown.locator('#map').is_hidden()
    assert 'effective radius, pixels' in shown.locator('#scale').inner_text()


def test_zoom_drag_and_address(opened):
    """The pixel under the pointer stays there, a drag selects no pixel, and the address restores the view."""
    seen = inspect(subject(), photograph())
    shown = opened(page(seen, 'photo', [(5, 6)]))
    facts, box = shown.locator('#facts'), shown.locator('#stage').bounding_box()
    at = box['x'] + 40.5 * box['width'] / 70, box['y'] + 20.5 * box['height'] / 45
    shown.mouse.move(*at)
    shown.mouse.wheel(0, -300)
    zoom = shown.evaluate('current().zoom')
    assert zoom > 1.5 * box['width'] / 70
    shown.mouse.move(at[0] + 1, at[1])
    assert facts.inner_text().startswith('(40, 20)')
    mark = shown.locator('#cross').bounding_box()
    assert mark['x'] + mark['width'] / 2 == pytest.approx(at[0], abs=1)
    assert mark['y'] + mark['height'] / 2 == pytest.approx(at[1], abs=1)

    shown.mouse.down()
    shown.mouse.move(at[0] + 1 - 5 * zoom, at[1], steps=4)
    shown.mouse.up()
    shown.mouse.move(at[0], at[1] + 1)
    assert facts.inner_text().startswith('(45, 20)')
    shown.mouse.click(*at)
    shown.get_by_role('button', name='Blur map').click()
    shown.wait_for_timeout(300)
    assert 'layer=2&pixel=45%2C20&at=' in shown.url
    shown.reload()
    shown.wait_for_selector('body[data-state=ready]')
    assert shown.evaluate('current().zoom') == pytest.approx(zoom, rel=1e-3)
    assert facts.inner_text().startswith('(45, 20)')
    shown.mouse.move(at[0] + 50, at[1] + 50)
    assert facts.inner_text().startswith('(45, 20)')  # kept
    shown.locator('#fit').click()
    assert shown.evaluate('current().zoom') == pytest.approx(box['width'] / 70, rel=1e-3)

    shown.locator('#actual').click()  # smaller than the stage: in the middle
    assert shown.evaluate('current()') == {'x': 0.5, 'y': 0.5, 'zoom': 1}
    left, top = box['x'] + box['width'] / 2 - 35, box['y'] + box['height'] / 2 - 22.5
    shown.mouse.click(int(left) + 45, int(top) + 27)  # pointers are at whole pixels
    assert facts.inner_text().startswith(f'({int(int(left) + 45 - left)}, {int(int(top) + 27 - top)})')
    shown.keyboard.press('-')
    assert shown.evaluate('current().zoom') == 1


@pytest.mark.parametrize(
    'address', ['#layer=99&pixel=70,3&at=2,0,1', '#layer=x&pixel=a&at=0.5,0.5,99', '#pixel=3,-1&layer=-1']
)
def test_wrong_addresses_are_ignored(opened, tmp_path, address):
    seen = inspect(subject(), photograph())
    shown = opened(page(seen, 'photo', [(5, 6)]))
    shown.goto((tmp_path / 'page.html').as_uri() + address)
    shown.reload()
    shown.wait_for_selector('body[data-state=ready]')
    assert shown.locator('#facts').inner_text().startswith('(5, 6)')
    assert shown.evaluate('[view.layer, view.window, view.pinned]') == [0, None, False]


def test_the_page_follows_its_address_and_keys(opened, tmp_path):
    seen = inspect(subject(), photograph())
    shown = opened(page(seen, 'photo', [(5, 6)]))
    shown.evaluate("location.hash = '#layer=3&color=1&reach=2&scale=value&pixel=60,40'")
    shown.wait_for_timeout(100)
    assert shown.locator('#facts').inner_text().startswith('(60, 40)')
    assert shown.locator('#reach-text').inner_text() == '2 px'
    assert shown.locator('#color').input_value() == '1'
    assert shown.locator('#scaling').input_value() == '0'
    assert shown.get_by_role('button', name='Strength').get_attribute('aria-pressed') == 'true'
    shown.locator('#stage').focus()
    shown.keyboard.press('Enter')  # releases the pixel
    for _ in range(30):
        shown.keyboard.press('+')
    shown.keyboard.press('Shift+ArrowLeft')
    stage, mark = shown.locator('#stage').bounding_box(), shown.locator('#cross').bounding_box()
    assert stage['x'] < mark['x'] < stage['x'] + stage['width']  # the magnified part follows
    shown.keyboard.press('Enter')
    shown.wait_for_timeout(300)
    assert 'pixel=50%2C40' in shown.url
    assert 'color=1&reach=2&scale=value' in shown.url


def test_a_pressed_button_is_readable_under_the_pointer(opened):
    shown = opened(page(inspect(subject(), photograph()), 'photo', [(5, 6)]))
    button = shown.get_by_role('button', name='Blur map')
    button.click()
    colors = button.evaluate('e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]')
    assert colors == ['rgb(255, 255, 255)', 'rgb(10, 92, 173)']


def test_text_is_escaped_and_untrained_is_shown(opened):
    hostile = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">&@DATA@'
    seen = inspect(subject(trained=False), photograph())
    shown = opened(page(seen, hostile, [(5, 6)]), color_scheme='dark')
    assert shown.locator('h1').inner_text() == hostile
    assert shown.evaluate('window.hacked') is None
    strip = opened(page(inspect(subject(), photograph(9, 300)), 'strip', [(5, 6)]))
    assert strip.locator('#stage').bounding_box()['height'] >= 160
    assert shown.locator('#warning').inner_text() == UNTRAINED
    assert shown.evaluate('document.documentElement.scrollWidth') <= 1200


@pytest.mark.slow
def test_the_blur_map_follows_depth():
    """With the packaged weights radius and strength grow with the circle of confusion.

    Areas without texture do not show their blur, so means over 31x31 pixels are compared.
    """
    from scipy.stats import spearmanr

    network = load_subject(packaged_weights())
    sharp, disparity = load_photograph(next(p for p in builtin_photographs('val') if p.disparity_path))
    for focus in (0.1, 0.9):  # on the far wall, and on the motorcycle
        seen = inspect(network, to_tensor(render_defocus(sharp, disparity, focus, 4)))
        truth = circle_of_confusion(disparity, focus, 4).flatten()
        for values in (seen.radius, seen.strength):
            found = cv2.blur(values.numpy(), (31, 31)).flatten()
            assert spearmanr(found, truth).statistic > 0.4
