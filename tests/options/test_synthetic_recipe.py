"""The recipe of `train_GGKMNet_synthetic.yml`: from photographs and a seed to the same losses, every time."""

import re
import shutil

import pytest

from ggkm_plugin.data.photographs import builtin_photographs
from ggkm_plugin.data.synthesis import Job, synthesize
from ggkm_plugin.utils import config

RECIPE = config.packaged_folder() / 'train_GGKMNet_synthetic.yml'
# The first losses of the light variant on the pairs below, made by this test.
CURVE = {
    'l_pix': [0.0061963, 0.0024378, 0.0064582, 0.0061710, 0.0063828, 0.0077003],
    'l_ssim': [0.20740, 0.046241, 0.31503, 0.22703, 0.20390, 0.36343],
}
SHORT = (
    'train:total_iter=6', 'train:amp=none', 'val:val_freq=100', 'logger:print_freq=1', 'logger:use_tb_logger=false',
)  # fmt: skip


@pytest.mark.parametrize('variant', ['light', 'cpu'])
def test_variants_differ_where_they_must(variant):
    """The same data, held-out photographs, loss terms and averaging."""
    whole, smaller = config.load_options(RECIPE), config.load_options(RECIPE, variant)
    assert whole['datasets']['val'] == smaller['datasets']['val']
    for key in ('type', 'dataroot', 'split', 'use_hflip', 'use_vflip', 'use_rot'):
        assert whole['datasets']['train'][key] == smaller['datasets']['train'][key]
    weights = {key: value for key, value in whole['train']['pixel_opt'].items() if key != 'sr_weight'}
    assert weights.items() <= smaller['train']['pixel_opt'].items()
    assert whole['train']['ema_decay'] == smaller['train']['ema_decay'] > 0
    for opt in (whole, smaller):
        assert opt['train']['scheduler']['periods'] == [opt['train']['total_iter']]
        assert opt['network_g']['init'] == 'identity'


def test_the_command_in_its_first_lines_makes_what_it_reads():
    from ggkm_plugin.datasets_prep.make_synthetic import build_parser

    text = RECIPE.read_text()
    words = text[text.index('make_synthetic') :].partition('# 07, 15 and 23')[0].replace('#', '').split()[1:]
    made = build_parser().parse_args(words)
    opt = config.load_options(RECIPE)
    assert made.out == opt['datasets']['train']['dataroot'] == opt['datasets']['val']['dataroot']
    assert made.format == 'raw'
    assert made.crop >= opt['datasets']['train']['gt_size']
    assert made.hold_out == ['14', '19', '21']
    assert made.scenes == 'varied'


@pytest.mark.slow
def test_the_seed_gives_the_stored_loss_curve(basicsr, workplace):
    """To 1e-4, and a tenth of that for the smaller ones: another crop, flip or scene changes them by far more."""
    (workplace / 'photos').mkdir()
    for photo in (*builtin_photographs('train'), *builtin_photographs('val')):
        shutil.copy(photo.path, workplace / 'photos')
    job = Job(
        'datasets/synthetic', ('photos',), hold_out=('coffee',), scenes='varied', count=2, crop=112, max_blur_radius=12,
        format='raw',
    )  # fmt: skip
    synthesize(job)
    run = basicsr('train', '-opt', str(RECIPE), '--variant', 'light', '--force_yml', *SHORT)
    assert run.returncode == 0, run.stderr[-3000:]
    for name, stored in CURVE.items():
        losses = [float(value) for value in re.findall(rf' {name}: (\S+)', run.stderr)]
        assert losses == pytest.approx(stored, abs=1e-5 if name == 'l_pix' else 1e-4), name
