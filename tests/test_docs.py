"""Commands, option files and links in README and the documentation exist."""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.cli.main import COMMANDS, build_parser, main

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', ROOT / 'ggkm_plugin/weights/README.md', *ROOT.glob('docs/**/*.md')]
)
PLACEHOLDERS = {'FILE'}


FENCED = re.compile(r'^```(\w*)\n(.*?)^```', re.DOTALL | re.MULTILINE)


def commands(page):
    """The arguments of each `basicsr` command in the fenced blocks of a page."""
    for language, block in FENCED.findall(page.read_text(encoding='utf-8')):
        for line in block.replace('\\\n', ' ').splitlines() if language in ('', 'bash') else ():
            for part in re.split(r'&&|\|\|?|;', line.split(' #')[0]):
                yield from arguments_of(part)


def inline_commands(page):
    """The arguments of each `basicsr` command in the text of a page, names of commands alone left out."""
    for code in re.findall(r'`([^`]+)`', FENCED.sub('', page.read_text(encoding='utf-8'))):
        yield from (arguments for arguments in arguments_of(code) if len(arguments) > 1)


def arguments_of(line):
    words = shlex.split(line.replace('$(which basicsr)', 'basicsr'), comments=True) if 'basicsr ' in line else []
    if 'basicsr' in words:
        arguments = words[words.index('basicsr') + 1 :]
        end = next((i for i, word in enumerate(arguments) if word in ('>', '2>&1')), None)
        yield arguments[:end]


def name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_commands_of_a_page_parse_and_name_existing_option_files(page, capsys):
    parser = build_parser()
    for arguments in (*commands(page), *inline_commands(page)):
        if not arguments or arguments[0] not in COMMANDS:
            assert arguments[:1] in (['--version'], ['-h']), arguments
            continue
        try:
            options = parser.parse_args(arguments)
        except SystemExit as end:
            if end.code != 0:  # 0: an option that prints and exits
                pytest.fail(f'{shlex.join(arguments)}\n{capsys.readouterr().err}')
            continue
        file = getattr(options, 'opt', None)
        if file and file not in PLACEHOLDERS and Path(file).stem not in page.read_text().replace(f'-opt {file}', ''):
            assert (ROOT / 'options' / f'{Path(file).stem}.yml').is_file(), file


def test_commands_of_scripts_parse():
    """`python -m ggkm_plugin.datasets_prep.NAME ...` in pages and option files."""
    found = set()
    for file in (*PAGES, *ROOT.glob('options/*.yml')):
        text = re.sub(r'\\\n', ' ', file.read_text(encoding='utf-8'))
        for script, words in re.findall(r'python -m ggkm_plugin\.datasets_prep\.(\w+) ([^`\n]+)', text):
            import_module(f'ggkm_plugin.datasets_prep.{script}').build_parser().parse_args(shlex.split(words))
            found.add(script)
    assert found == {'blur_evenly', 'make_synthetic'}


@pytest.mark.parametrize('page', PAGES, ids=name)
def test_links_of_a_page_lead_somewhere(page):
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    links = re.findall(r'\]\(([^)\s]+)\)', text)
    files = [link.split('#')[0] for link in links if not re.match(r'https?://|#|mailto:', link)]
    assert [file for file in files if not (page.parent / file).exists()] == []


def write_images(*names, size=(48, 64), bits=8):
    for seed, name in enumerate(names):
        image = cv2.GaussianBlur(np.random.default_rng(seed).random((*size, 3)), (0, 0), 2)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(name, (image * (2**bits - 1)).astype(f'uint{bits}'))


def takes_seconds(words):
    quick = words[0] in ('convert', 'deblur', 'list', 'prepare') or {'--dry-run', '--show'} & {*words}
    return (quick and 'onnx' not in words) or (words[0] == 'export' and '.safetensors' in ' '.join(words))


@pytest.mark.slow
def test_documented_commands_that_take_seconds_run(tmp_path, monkeypatch):
    """Every such command once, in the order of the pages, in a folder with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    write_images('photo.jpg', 'photos/a.png')
    cv2.imwrite('mask.png', np.full((48, 64), 128, np.uint8))
    for split in ('train', 'val', 'test'):
        write_images(*(f'dd_dp_dataset_canon/{split}_c/{side}/{split}.png' for side in ('source', 'target')), bits=16)
        write_images(*(f'my/{split}/{side}/1.png' for side in ('inputC', 'target')))
    shutil.make_archive('DPDD', 'zip', base_dir='dd_dp_dataset_canon')
    shutil.copy(ROOT / 'examples/plugin/my_plugin.py', 'my_module.py')
    monkeypatch.syspath_prepend(tmp_path)
    for name, options in ('other', {'width': 16}), ('net_g_latest', {'width': 4}):
        network = GGKMNet(**options)
        description = {'arch': 'GGKMNet', 'options': options} if name != 'other' else None
        torch.save({'params': network.state_dict(), 'description': description}, f'{name}.pth')
    best = Path('experiments/finetune_GGKMNet/models/net_g_best_psnr.pth')
    best.parent.mkdir(parents=True)
    shutil.copy('net_g_latest.pth', best)
    documented = {tuple(words): words for page in PAGES for words in commands(page) if words and takes_seconds(words)}
    failed = []
    for words in documented.values():
        shutil.rmtree('photo_deblurred_before_after', ignore_errors=True)
        Path('photo_deblurred.jpg').unlink(missing_ok=True)  # an earlier result is refused
        if main(words) != 0:
            failed.append(shlex.join(words))
    assert len(documented) > 15
    assert failed == []


def test_every_command_is_documented():
    used = {arguments[0] for page in PAGES for arguments in commands(page) if arguments}
    assert set(COMMANDS) - used == set()
