"""The documented commands that check, train, test and compare: all run, on stand-ins of the benchmarks.

Networks, crops and numbers of iterations are made small behind the commands, which are run as the pages have them. The
other commands are run by the tests of their folders, with arguments that need seconds.
"""

import shlex
from pathlib import Path

import numpy as np
import pytest
from test_docs import PAGES, commands

from ggkm_plugin.cli.main import main
from ggkm_plugin.data.layouts import LAYOUTS
from ggkm_plugin.utils import config
from ggkm_plugin.utils.image_decoding import write_image

ORDER = ('check', 'train', 'test', 'compare', 'reproduce', 'verify')
SPLITS, SIDES = ('train', 'val', 'test'), ('source', 'target')
FILES = [
    *(f'DPDD/{split}_c/{side}/{i}.png' for split in SPLITS for side in SIDES for i in '12'),
    *(f'pairs/{split}/{side}/{i}.png' for split in SPLITS[:2] for side in ('input', 'ground_truth') for i in '12'),
    *(f'pairs/{side}/{i}.png' for side in ('input', 'ground_truth') for i in '12'),
    *(f'LFDOF/test_data/{name}.png' for name in ('input/IMG_1/IMG_1_ap1_1', 'ground_truth/IMG_1')),
    *(f'RealDOF/{side}/01.png' for side in SIDES),
    *(f'RTF/{name}.png' for name in ('image/0/image_01', 'GT/sharp_01')),
]


def documented():
    """Arguments of the commands of ORDER, each once: those of `check` first, then of `train`, and so on."""
    found = {}
    for page in PAGES:
        for words in commands(page):
            if words and words[0] in ORDER and not {'--dry-run', '--show'} & {*words}:
                found.setdefault(tuple(Path(word).stem for word in words), words)
    return sorted(found.values(), key=lambda words: ORDER.index(words[0]))


def made_small(opt):
    """Change options in place so that they take seconds. Of a comparison, the networks that are there remain."""
    if 'models' in opt:
        known = ('packaged', 'untrained')
        opt['models'] = [
            model
            for model in opt['models']
            if model.get('weights') in known or Path(model.get('weights', '')).is_file()
        ][:5]
        opt.update(complexity=False, bootstrap={'samples': 10, 'seed': 0})
        if len(opt['datasets']) > 1:
            opt['datasets'].pop('held_out', None)  # whole photographs
    for section in (opt, *opt.get('models', [])):
        network = section.get('network_g') or {}
        if str(network.get('type')).startswith('GGKMNet'):
            network['width'] = 4
    opt['num_gpu'] = 0
    if 'train' in opt:
        opt['datasets']['train'].update(gt_size=48, batch_size_per_gpu=2, num_worker_per_gpu=0)
        opt['datasets']['train'].pop('persistent_workers', None)
        opt['path']['pretrain_network_g'] = None
        opt['train'].update(total_iter=2, warmup_iter=-1, scheduler={'type': 'MultiStepLR', 'milestones': [1]})
        opt['val']['val_freq'] = opt['logger']['save_checkpoint_freq'] = 2
    return opt


@pytest.mark.slow
def test_documented_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in FILES:
        write_image(f'datasets/{name}', rng.integers(0, 256, (64, 80, 3), np.uint8))
    for split in SPLITS:  # `check` compares them with the published numbers
        monkeypatch.setitem(LAYOUTS['DPDD'].counts, split, 2)
    Path('checkpoints').mkdir()
    load_options = config.load_options
    monkeypatch.setattr(config, 'load_options', lambda *arguments: made_small(load_options(*arguments)))
    runs = documented()
    failed = [shlex.join(words) for words in runs if main(words) != 0]
    assert {words[0] for words in runs} == {*ORDER}
    assert failed == []
