"""`basicsr deblur`: results, exit codes, and one line for each mistake."""

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from restoration.conftest import OPTIONS, make_network, pixels, save

from ggkm_plugin.classical.methods import method
from ggkm_plugin.inference import Restorer
from ggkm_plugin.restoration import deblur as deblur_module
from ggkm_plugin.restoration import tiling


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty current folder with weights in it."""
    monkeypatch.chdir(tmp_path)
    save('w.pth')
    return tmp_path


@pytest.fixture
def deblur(place, capsys):
    """The command with weights, in this process: exit code, stdout, stderr."""
    from ggkm_plugin.cli.main import main

    def run(*words, weights=('--weights', 'w.pth')):
        try:
            code = main(['deblur', *words, *weights])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert 'Traceback' not in err
        return code, out, err

    return run


def photo(name, size=(21, 30), **options):
    os.makedirs(os.path.dirname(name) or '.', exist_ok=True)
    Image.fromarray(pixels(*size)).save(name, **options)
    return name


def files(folder='.'):
    return sorted(name for name in os.listdir(folder) if name != 'w.pth')


def test_a_photograph_beside_itself(deblur):
    photo('sea.png')
    before = hashlib.sha256(Path('sea.png').read_bytes()).digest()
    code, out, err = deblur('sea.png')
    assert (code, err) == (0, '')
    assert out.startswith('sea_deblurred.png (30x21, ')
    assert files() == ['sea.png', 'sea_deblurred.png']
    assert np.array_equal(np.asarray(Image.open('sea_deblurred.png')), Restorer('w.pth')(pixels(21, 30)))
    assert hashlib.sha256(Path('sea.png').read_bytes()).digest() == before


def test_a_folder_and_one_bad_file_in_it(deblur):
    photo('photos/a.jpg')
    photo('photos/b/c.tif')
    with open('photos/bad.png', 'w') as file:
        file.write('text')
    os.symlink('nowhere', 'photos/gone.png')
    code, out, err = deblur('photos', '-r', '-o', 'new')
    assert code == 1
    assert '2 done, 0 skipped, 2 failed' in err
    assert [line.partition(':')[0].strip() for line in err.splitlines()[-2:]] == ['photos/bad.png', 'photos/gone.png']
    assert [line.partition(' (')[0] for line in out.splitlines()] == [
        '1 of 4: new/a_deblurred.jpg',
        '2 of 4: new/b/c_deblurred.tif',
    ]
    assert files('new') == ['a_deblurred.jpg', 'b']


def test_the_same_command_again_does_the_rest(deblur):
    photo('photos/a.png')
    assert deblur('photos')[0] == 0
    first = os.stat('photos/a_deblurred.png').st_mtime_ns
    photo('photos/b.png')
    code, out, err = deblur('photos')
    assert code == 1
    assert 'a_deblurred.png: ' in err
    assert 'b_deblurred.png' in out
    assert os.stat('photos/a_deblurred.png').st_mtime_ns == first
    os.remove('photos/b_deblurred.png')
    os.symlink('nowhere', 'photos/b_deblurred.png')
    assert deblur('photos')[0] == 1
    assert deblur('photos', '--overwrite')[0] == 0
    assert os.stat('photos/a_deblurred.png').st_mtime_ns != first
    assert not os.path.islink('photos/b_deblurred.png')
    assert files('photos') == ['a.png', 'a_deblurred.png', 'b.png', 'b_deblurred.png']


def test_existing_results_are_skipped(deblur):
    for name in ('a', 'b'):
        photo(f'photos/{name}.png')
    Path('photos/a_deblurred.png').write_bytes(b'earlier')
    code, out, err = deblur('photos', '--skip-existing')
    assert code == 0
    assert '1 done, 2 skipped, 0 failed' in err  # a.png, and a_deblurred.png by its name
    assert [line.partition(' (')[0] for line in out.splitlines()] == ['photos/b_deblurred.png']
    assert Path('photos/a_deblurred.png').read_bytes() == b'earlier'
    code, out, err = deblur('photos', '--skip-existing')
    assert (code, out) == (0, '')
    assert '0 done, 4 skipped, 0 failed' in err
    assert deblur('photos', '--skip-existing', '--overwrite')[0] == 2


def test_a_missing_blur_map_or_result_is_added_to_the_existing_one(deblur):
    photo('a.png')
    command = ('a.png', '--blur-map', '--skip-existing')
    assert deblur(*command)[0] == 0
    for missing, existing in (('a_deblurred_blur.png', 'a_deblurred.png'), ('a_deblurred.png', 'a_deblurred_blur.png')):
        content = Path(missing).read_bytes()
        Path(missing).unlink()
        Path(existing).write_bytes(b'earlier')
        assert deblur(*command)[0] == 0
        assert Path(missing).read_bytes() == content
        assert Path(existing).read_bytes() == b'earlier'
        Path(existing).unlink()
        assert deblur(*command)[0] == 0
    assert deblur(*command)[1] == ''


def test_what_is_left_out_of_a_folder_is_no_failure(deblur, monkeypatch):
    monkeypatch.setitem(sys.modules, 'rawpy', None)
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)
    photo('mixed/a.jpg')
    photo('mixed/b.jpe', format='JPEG')
    photo('mixed/c.jfif', format='JPEG')
    photo('mixed/d.avif')
    photo('mixed/e.gif', save_all=True, append_images=[Image.fromarray(255 - pixels(21, 30))])
    Path('mixed/f.heic').write_bytes(b'\0\0\0\x18ftypheic\0\0\0\0mif1heic')
    Path('mixed/g.dng').write_bytes(b'II*\0')
    Path('mixed/h.txt').write_text('text')
    code, _, err = deblur('mixed', '-o', 'out')
    assert code == 0
    assert files('out') == ['a_deblurred.jpg', 'b_deblurred.jpe', 'c_deblurred.jfif', 'd_deblurred.avif']
    assert '4 done, 4 skipped, 0 failed' in err
    summary = err.partition('4 done')[2]
    assert all(
        name in summary for name in ('e.gif', 'f.heic', 'ggkm_plugin[heic]', 'g.dng', 'ggkm_plugin[raw]', 'h.txt')
    )
    assert deblur('mixed/g.dng')[0] == 1


@pytest.mark.parametrize('size', [(1, 1), (3, 10_000), (2, 3)])
def test_extreme_sizes(deblur, size):
    photo('a.png', size)
    assert deblur('a.png')[0] == 0
    assert Image.open('a_deblurred.png').size == size[::-1]


@pytest.mark.parametrize('options', [['--tile', '64'], ['--tile', 'none'], ['--device', 'cpu'], ['--half']])
def test_options_that_change_rounding_only(deblur, options):
    photo('a.png', (150, 170))
    assert deblur('a.png')[0] == 0
    assert deblur('a.png', '-o', 'b.png', *options)[0] == 0
    one, two = (np.asarray(Image.open(name)).astype(int) for name in ('a_deblurred.png', 'b.png'))
    assert np.abs(one - two).max() <= (8 if options == ['--half'] else 1)


def test_lost_metadata_is_reported(deblur):
    photo('a.jpg', comment=b'Sea')
    code, _, err = deblur('a.jpg', '-o', 'a.webp')
    assert code == 0
    assert err.startswith('a.webp: ')
    assert len(err.splitlines()) == 1


def test_packaged_weights_go_by_their_names(deblur):
    photo('a.png')
    code, _, err = deblur('a.png', '-o', 'default.png', weights=())
    assert code == 0
    assert err.startswith('basicsr deblur: with the packaged weights, GGKMNet')
    for name in ('GGKMNet', 'GGKMNet_light'):
        assert deblur('a.png', '-o', f'{name}.png', weights=('--weights', name))[0] == 0
    default, whole, light = (Path(f'{name}.png').read_bytes() for name in ('default', 'GGKMNet', 'GGKMNet_light'))
    assert default == whole != light


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        (['gone.png'], 'gone.png: no such file'),
        (['a.png', '-o', 'a.png'], 'would replace the photograph a.png'),
        (['a.png', '--tile', '7'], '--tile 7'),
        (['a.png', '--tile', 'all'], '--tile all'),
        (['a.png', '--jobs', '0'], '--jobs 0'),
        (['a.png', '--device', 'gpu'], 'device gpu'),
        (['a.png', '--device', 'cuda:77'], 'device cuda:77'),
        (['a.png', '--plugin', 'no_such_module'], 'no_such_module'),
        (['a.png', '--strength', '2.5'], '--strength'),
        (['a.png', '--strength', 'nan'], '--strength'),
        (['a.png', '-o', ''], 'empty'),
        ([''], 'empty'),
        ([], 'IN'),
    ],
)
def test_wrong_usage_is_2_and_writes_nothing(deblur, words, named):
    photo('a.png')
    code, _, err = deblur(*words)
    assert code == 2
    assert named in err
    assert files() == ['a.png']


@pytest.mark.parametrize(
    ('description', 'exit_code', 'named'),
    [
        (None, 1, '--arch'),
        ({'arch': 'NoSuchNet', 'options': {}}, 2, 'NoSuchNet'),
        ({'arch': 'GGKMNet', 'options': OPTIONS | {'width': 8}}, 1, 'GGKMNet'),
    ],
)
def test_weights_that_do_not_fit(deblur, description, exit_code, named):
    photo('a.png')
    photo('b.png')
    torch.save({'params': make_network().state_dict(), 'description': description}, 'w.pth')
    code, _, err = deblur('a.png', 'b.png', '--jobs', '2')
    assert code == exit_code
    assert named in err
    assert err.startswith('basicsr deblur: w.pth: ')
    assert err.count('w.pth: ') == 1
    assert files() == ['a.png', 'b.png']


@pytest.mark.parametrize('weights', ['v.pth', 'folder', 'GGKMNet.pth', '', 'text.pth', 'three.pth'])
def test_weights_that_are_not_there(deblur, weights):
    photo('a.png')
    os.mkdir('folder')
    Path('text.pth').write_text('hello')
    torch.save({'params': 3, 'description': {'arch': 'GGKMNet', 'options': OPTIONS}}, 'three.pth')
    code, _, err = deblur('a.png', weights=('--weights', weights))
    assert code == 1
    assert err.startswith(f'basicsr deblur: {weights}')
    assert err.count('\n') == 1


@pytest.mark.parametrize('out', ['a.png/b.png', 'closed/b.png', 'closed/new/b.png'])
def test_a_read_only_folder_is_refused_before_the_work(deblur, monkeypatch, out):
    photo('a.png')
    os.mkdir('closed')
    monkeypatch.setattr('os.access', lambda path, mode: Path(path).name != 'closed')  # root may write everywhere
    monkeypatch.setattr(Restorer, '__call__', lambda *_: pytest.fail('it was restored'))
    code, _, err = deblur('a.png', '-o', out)
    assert code == 1
    where = 'a.png: ' if out.startswith('a.png') else 'closed: '
    assert where in err
    assert files() == ['a.png', 'closed']
    assert files('closed') == []


def test_a_network_of_a_local_plugin(deblur, place):
    (place / 'deblur_archs.py').write_text(
        'from torch import nn\nfrom basicsr.utils.registry import ARCH_REGISTRY\n'
        '@ARCH_REGISTRY.register()\nclass DeblurTestNegative(nn.Module):\n'
        '    def forward(self, y):\n        return 1 - y\n'
    )
    torch.save({'params': {}, 'description': {'arch': 'DeblurTestNegative', 'options': {}}}, 'w.pth')
    photo('a.png')
    assert deblur('a.png', '--plugin', 'deblur_archs')[0] == 0
    assert np.array_equal(np.asarray(Image.open('a_deblurred.png')), 255 - pixels(21, 30))


def test_a_full_disk(deblur, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    photo('a.png')
    monkeypatch.setattr(os, 'fsync', full)
    code, _, err = deblur('a.png')
    assert (code, err) == (1, 'basicsr deblur: a_deblurred.png: No space left on device\n')
    assert files() == ['a.png']


def test_a_full_memory(deblur, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError('no room')

    photo('a.png', (200, 200))
    monkeypatch.setattr(tiling, '_tiled', full)
    code, _, err = deblur('a.png', '--tile', '128')
    assert code == 1
    assert 'basicsr deblur: out of memory on 200x200 in tiles of 128: trying tiles of 64' in err
    assert 'a.png: out of memory on an image of 200x200' in err.splitlines()[-1]
    assert files() == ['a.png']


def test_compare_makes_a_page(deblur):
    photo('photos/a.png')
    photo('photos/sea/a.png')
    photo('photos/z.png')
    with open('photos/bad.png', 'w') as file:
        file.write('text')
    code, out, _ = deblur('photos', '-r', '--compare')
    assert code == 1
    assert out.splitlines()[-1].startswith('Slider: file:///')
    assert out.splitlines()[-1].endswith('photos/before_after/index.html')
    assert files('photos/before_after') == ['images', 'index.html', 'thumbs']
    page = Path('photos/before_after/index.html').read_text(encoding='utf-8')
    assert all(f'"name":"{name}"' in page for name in ('a.png', 'sea/a.png', 'z.png'))
    assert 'photos/bad.png: ' in page
    code, _, err = deblur('photos', '-r', '--compare')
    assert code == 2
    assert 'photos/before_after: ' in err
    assert deblur('photos/a.png', 'photos/z.png', '-o', 'new', '--compare')[0] == 0
    assert files('new') == ['a_deblurred.png', 'before_after', 'z_deblurred.png']
    assert deblur('photos/z.png', '-o', 'z2.png', '--compare')[0] == 0
    assert files('z2_before_after') == ['images', 'index.html', 'thumbs']
    code, out, _ = deblur('photos/bad.png', '--compare', '-o', 'bad2.png')  # nothing to show
    assert (code, out, os.path.exists('bad2_before_after')) == (1, '', False)


def devices(monkeypatch, jobs=None, device='auto', photographs=10, threads=8, gpus=0, free=64 << 30):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
    monkeypatch.setattr(deblur_module, 'free_bytes', lambda device: free)
    return deblur_module._devices(deblur_module.DeblurRequest([], device=device, jobs=jobs), photographs)


def test_how_many_processes(monkeypatch):
    assert devices(monkeypatch) == ['cpu'] * 2
    assert devices(monkeypatch, threads=2) == ['cpu']
    assert devices(monkeypatch, threads=64) == ['cpu'] * 10  # photographs
    assert devices(monkeypatch, threads=64, free=20 << 30) == ['cpu'] * 3
    assert devices(monkeypatch, free=1 << 30) == ['cpu']
    assert devices(monkeypatch, jobs=5) == ['cpu'] * 5
    assert devices(monkeypatch, gpus=3) == ['cuda:0', 'cuda:1', 'cuda:2']
    assert devices(monkeypatch, gpus=3, photographs=1) == ['cuda:0']
    assert devices(monkeypatch, gpus=3, device='cuda:1') == ['cuda:1']
    assert devices(monkeypatch, gpus=2, jobs=3) == ['cuda:0', 'cuda:1', 'cuda:0']
    assert devices(monkeypatch, gpus=3, device='cpu') == ['cpu'] * 2


def processes_of(process):
    return Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()


@pytest.mark.slow
@pytest.mark.parametrize('starting', [False, True])
def test_ctrl_c_leaves_what_is_finished(place, starting):
    """Two processes that are just starting, or one of which is in the middle of a photograph that takes long."""
    (place / 'slow_archs.py').write_text(
        'import time\nfrom torch import nn\nfrom basicsr.utils.registry import ARCH_REGISTRY\n'
        '@ARCH_REGISTRY.register()\nclass Sleeping(nn.Module):\n'
        '    def forward(self, y):\n        time.sleep(0 if y.shape[-1] < 99 else 60)\n        return y\n'
    )
    torch.save({'params': {}, 'description': {'arch': 'Sleeping', 'options': {}}}, 'w.pth')
    photo('photos/a.png')
    photo('photos/b.png', (30, 120))
    words = ['deblur', 'photos', '--weights', 'w.pth', '--plugin', 'slow_archs', '--jobs', '2']
    with subprocess.Popen(
        [sys.executable, '-m', 'ggkm_plugin.cli.main', *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    ) as process:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (
            len(processes_of(process)) > 1 if starting else os.path.exists('photos/a_deblurred.png')
        ):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith('basicsr deblur: interrupted')
    assert 'Traceback' not in err
    assert files('photos') == ['a.png', *([] if starting else ['a_deblurred.png']), 'b.png']


@pytest.mark.parametrize(
    ('mode', 'dtype'),
    [('RGB', np.uint8), ('L', np.uint8), ('I;16', np.uint16)],
)
def test_a_classical_method(deblur, mode, dtype):
    values = pixels(40, 50) if mode == 'RGB' else pixels(40, 50)[..., 0].astype(dtype) * (257 if mode == 'I;16' else 1)
    Image.fromarray(values).save('sea.png')
    code, _, err = deblur('sea.png', '--method', 'EBDB,fidelity=420,bins=4', weights=())
    assert code == 0
    assert 'EBDB: ' in err
    assert 'weights' not in err
    with Image.open('sea_deblurred.png') as image:
        assert (image.mode, image.size) == (mode, (50, 40))
        got = np.asarray(image).astype(float)
    white = np.iinfo(dtype).max
    floats = (values if mode == 'RGB' else np.repeat(values[..., None], 3, 2)).astype(np.float32) / white
    want = method('EBDB', {'fidelity': 420, 'bins': 4})(floats).clip(0, 1) * white
    assert np.abs(got - (want if mode == 'RGB' else want.mean(2))).max() <= 0.51
    assert np.abs(got - values).max() > 1
    if mode == 'RGB':
        photo('b.png')
        assert deblur('sea.png', 'b.png', '-o', 'again', '--method', 'JNB', '--jobs', '2', weights=())[0] == 0


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        (['ebdb'], 'Did you mean EBDB'),
        (['EBDB,fidelty=3'], 'Did you mean fidelity'),
        (['EBDB,fidelity'], 'NAME,KEY=VALUE'),
        (['EBDB,bins=2,bins=3'], 'set twice'),
        (['EBDB', '--tile', '512'], '--tile'),
        (['EBDB', '--weights', 'w.pth'], '--weights'),
        (['EBDB', '--blur-map'], '--blur-map'),
    ],
)
def test_wrong_methods(deblur, words, named):
    photo('sea.png')
    code, _, err = deblur('sea.png', '--method', *words, weights=())
    assert code in (1, 2)
    assert named in err
    assert len(err.splitlines()) == 1
    assert files() == ['sea.png']


def test_pictures_for_compare_replace_no_photograph(deblur):
    for name in ('x', 'y'):
        photo(f'{name}.png')
    assert deblur('x.png', 'y.png', '-o', 'out', '--compare')[0] == 0
    inputs = [f'out/before_after/images/000{number}_before.jpg' for number in (2, 1)]
    before = [Path(name).read_bytes() for name in inputs]
    code, _, err = deblur(*inputs, '-o', 'out', '--compare', '--overwrite')
    assert code == 2
    assert f'{inputs[0]}: lies in out/before_after' in err
    assert [Path(name).read_bytes() for name in inputs] == before


def test_pictures_of_an_interrupted_run_are_replaced(deblur):
    photo('x.png')
    os.makedirs('x_deblurred_before_after/images')
    assert deblur('x.png', '--compare')[0] == 0
    assert deblur('x.png', '--compare', '--suffix', '2')[0] == 0


def read16(name):
    from ggkm_plugin.restoration.image_io import read_photograph

    return read_photograph(name).colors


def test_strength_and_blur_map_beside_the_result(deblur):
    photo('a.png')
    assert deblur('a.png', '--strength', '0', '--blur-map')[0] == 0
    assert np.array_equal(read16('a_deblurred.png'), pixels(21, 30))
    result = Restorer('w.pth').adjustable(pixels(21, 30))
    assert np.array_equal(read16('a_deblurred_blur.png'), result.estimate.encoded())
    assert deblur('a.png', '--strength', '1.5', '-o', 'b.png')[0] == 0
    assert np.array_equal(read16('b.png'), result.at(1.5))
    code, _, err = deblur('.', '--blur-map')
    assert code == 1
    assert 'a_deblurred.png: ' in err  # neither result nor map is taken for a photograph, and none is replaced
    assert '1 done' in err  # b.png
    assert deblur('.', '--blur-map', '--overwrite')[0] == 0


def test_masks(deblur):
    photo('in/a.png')
    photo('in/b.png', (10, 12))
    for name, shape in [('a', (21, 30)), ('b', (10, 12))]:
        mask = np.zeros(shape, np.uint8)
        mask[:5] = 255
        os.makedirs('masks', exist_ok=True)
        Image.fromarray(mask).save(f'masks/{name}.png')
    assert deblur('in', '--mask', 'masks', '-o', 'out')[0] == 0
    for name, shape in [('a', (21, 30)), ('b', (10, 12))]:
        result, whole = read16(f'out/{name}_deblurred.png'), Restorer('w.pth')(pixels(*shape))
        assert np.array_equal(result[5:], pixels(*shape)[5:])
        assert np.array_equal(result[:5], whole[:5])
    code, _, err = deblur('in', '--mask', 'masks/a.png', '-o', 'one')  # one for all
    assert code == 1
    assert 'masks/a.png' in err
    assert files('one') == ['a_deblurred.png']
    Image.new('RGB', (30, 21), 'red').save('colored.png')
    code, _, err = deblur('in/a.png', '--mask', 'colored.png', '-o', 'red.png')
    assert code == 1
    assert 'colored.png' in err
    os.remove('masks/b.png')
    for missing in ('masks', 'gone.png'):
        assert deblur('in', '--mask', missing, '-o', 'none')[0] == 2
    assert not os.path.exists('none')


def test_without_an_estimate_the_strength_goes_by_the_difference(deblur):
    from ggkm_plugin.archs.ggkmnet_ablations_arch import MCPNet

    photo('a.png')
    torch.save({'params': MCPNet().state_dict()}, 'other.pth')
    words = ['a.png', '--arch', 'MCPNet']
    assert deblur(*words, '--blur-map', weights=('--weights', 'other.pth'))[0] == 2
    assert deblur(*words, weights=('--weights', 'other.pth'))[2] == ''
    code, _, err = deblur(*words, '--strength', '0.5', '-o', 'b.png', weights=('--weights', 'other.pth'))
    assert code == 0
    assert len(err.splitlines()) == 1
    assert 'MCPNet' in err
    before, half, whole = (read16(name).astype(int) for name in ('a.png', 'b.png', 'a_deblurred.png'))
    assert 0 < np.abs(half - before).sum() < np.abs(whole - before).sum()


def test_progress_of_a_large_photograph_is_a_line_a_minute(deblur, monkeypatch):
    photo('a.png', (150, 170))
    assert deblur('a.png', '--tile', '64')[2] == ''
    monkeypatch.setattr(deblur_module, '_LINE_SECONDS', 0)
    code, _, err = deblur('a.png', '--tile', '64', '--overwrite')
    assert code == 0
    lines = err.splitlines()
    assert len(lines) > 4
    assert all('a.png: ' in line for line in lines)


@pytest.mark.slow
def test_progress_is_a_bar_on_a_terminal(place):
    import fcntl
    import pty
    import struct
    import termios

    photo('a.png', (700, 700))
    own_end, other_end = pty.openpty()
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    words = [sys.executable, '-m', 'ggkm_plugin.cli', 'deblur', 'a.png', '--weights', 'w.pth', '--tile', '64']
    process = subprocess.Popen(words, stderr=other_end, stdout=subprocess.PIPE)
    os.close(other_end)
    shown = b''
    with contextlib.suppress(OSError):
        while part := os.read(own_end, 1000):
            shown += part
    assert process.wait() == 0
    os.close(own_end)
    assert b'a.png, tile ' in shown
