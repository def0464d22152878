"""`basicsr study`: rows as the paper prints them, equal budgets, verdicts, and continued runs."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from ggkm_plugin.models.defocus_model import DefocusModel
from ggkm_plugin.studies import runs
from ggkm_plugin.studies.catalog import STUDIES
from ggkm_plugin.studies.plan import StudySettings, plan
from ggkm_plugin.studies.runs import StudyOutcome, run
from ggkm_plugin.studies.summary import cell, report, scores_csv, table
from ggkm_plugin.training import check_config
from ggkm_plugin.utils import config
from ggkm_plugin.utils.errors import OptionError

JOBS = {(job.row.name, name): job for name in STUDIES for job in plan(StudySettings(name, seeds=(0,))).jobs}

# Equal trainings of several studies once; those of `mixed` need the benchmarks.
TRAININGS = {job.name: job for (_, study), job in JOBS.items() if study != 'mixed'}


def rows_of(name):
    return {row.name: row for row in STUDIES[name].rows}


# The rows


def test_the_tables_are_whole():
    assert [row.label for row in STUDIES['ablations'].rows] == [
        'w/o Group (21)', 'w/o Group (84)', 'w/o LSTM (N)', 'w/o LSTM (S)', 'GGKMNet(1)', 'MCP-Net',
        'Fully-Learned (R)', 'Fully-Learned (G)', 'w/o l_FR', 'w/o l_SSIM', 'w/o l_SR', 'GGKMNet',
    ]  # fmt: skip
    variants, own = (
        set(yaml.safe_load((config.packaged_folder() / f'train_GGKMNet_{name}.yml').read_text())['variants'])
        for name in ('DPDD', 'study')
    )
    used = {row.variant for study in STUDIES.values() for row in study.rows if row.variant}
    # The first is w/o Group (84) again, the others are in no study.
    assert variants - used == {'p84_q1', 'dagger', 'standard_convolutions', 'literal_sizes'}
    assert used == own | variants & used


# The plan


@pytest.mark.parametrize('job', TRAININGS.values(), ids=TRAININGS)
def test_every_row_is_a_training_without_faults(job, tmp_path, monkeypatch):
    train = yaml.safe_load(yaml.safe_dump(job.train))  # as the training reads it
    if job.row.name not in rows_of('methods'):
        train['network_g']['width'] = 4
    train['datasets']['train']['gt_size'] = 48
    monkeypatch.chdir(tmp_path)
    check_config.check_options(train, is_train=True)


def test_each_part_of_a_mixture_is_a_training_of_pairs():
    one, two, both = (JOBS[name, 'mixed'].train['datasets']['train'] for name in ('only_1', 'only_2', 'full'))
    assert [source['layout'] for source in both['sources']] == [one['layout'], two['layout']] == ['DPDD', 'LFDOF']
    assert one['type'] == two['type'] == 'PairedDefocusDataset'
    assert one['gt_size'] == two['gt_size'] == both['gt_size']


def test_rows_differ_by_what_the_row_says_and_nothing_else():
    found = plan(StudySettings('ablations', seeds=(0, 5)))
    full = next(job for job in found.jobs if job.row.name == 'full' and job.seed == 5)
    changes = yaml.safe_load((config.packaged_folder() / 'train_GGKMNet_DPDD.yml').read_text())['variants']
    for job in (job for job in found.jobs if job.seed == 5):
        want = yaml.safe_load(yaml.safe_dump(full.train))
        config.change(want, changes[job.row.variant] if job.row.variant else {})
        assert {**job.train, 'name': ''} == {**want, 'name': ''}
        assert job.train['manual_seed'] == 5
        assert job.test['manual_seed'] == 0  # the same test images for all
        assert 'init' not in job.train['network_g']  # MCP-Net cannot start near the identity
    for study in ('losses', 'lstm'):
        assert plan(StudySettings(study, seeds=(0,))).base['network_g']['init'] == 'identity'


def test_names_are_of_the_training():
    def names(**settings):
        return {job.name for job in plan(StudySettings('losses', seeds=(0,), **settings)).jobs}

    assert len(names()) == 4
    assert names() == names()
    assert not names() & names(iterations=10)
    assert not names() & names(force_yml=['train:optim_g:lr=0.5'])
    noisy = plan(StudySettings('noise', seeds=(0,))).jobs
    assert len({job.name for job in noisy}) == 2  # one network is tested under three noises
    assert len({job.test_name for job in noisy}) == 4
    assert [job.test['datasets']['val'].get('noise_std') for job in noisy] == [3, 5, 15, None]


def test_another_budget_keeps_the_schedule_s_form(tiny, write_options):
    tiny['train'].update(total_iter=1000, scheduler={'type': 'MultiStepLR', 'milestones': [400, 800], 'gamma': 0.5})
    found = plan(StudySettings('losses', write_options(tiny), iterations=50, seeds=(0,))).base
    assert found['train']['scheduler']['milestones'] == [20, 40]
    assert found['val']['val_freq'] == 50
    tiny['train'].update(
        total_iter=100,
        warmup_iter=10,
        scheduler={'type': 'CosineAnnealingRestartLR', 'periods': [33, 33, 34], 'restart_weights': [1, 1, 1]},
    )
    found = plan(StudySettings('losses', write_options(tiny), iterations=10, seeds=(0,))).base
    assert sum(found['train']['scheduler']['periods']) >= 10
    assert found['train']['warmup_iter'] == 1


def test_what_cannot_be_planned(tiny, write_options, command):
    for settings, words in (
        (StudySettings('losses', rows=('wo_ssmi',)), 'Did you mean wo_ssim'),
        (StudySettings('mixed', write_options(tiny)), 'MixedDefocusDataset'),
        (StudySettings('losses', 'gone.yml'), 'no such option file'),
    ):
        with pytest.raises(OptionError, match=words):
            plan(settings)
    for section, value in (('train', None), ('logger', None), ('network_g', {'type': 'GKMNet'})):
        path = write_options({**tiny, section: value}, 'wrong.yml')
        with pytest.raises(
            OptionError, match=r'wrong\.yml: (train is missing|logger is missing|its network is GKMNet)'
        ):
            plan(StudySettings('losses', path))
    del tiny['datasets']['val']
    with pytest.raises(OptionError, match='nothing to score'):
        plan(StudySettings('losses', write_options(tiny)))
    for arguments in (['nothing'], ['losses', '--iterations', '0'], ['losses', '--seeds', '1', '1'], []):
        assert command('study', *arguments)[0] == 2
    code, out, _ = command('study', 'noise', '--dry-run', '--seeds', '4')
    assert code == 0
    assert out.count('\n') == 4


# The table


def one_spaced(text):
    return '\n'.join(' '.join(line.split()) for line in text.splitlines())


def outcome(differences):
    """GGKMNet at 30, 31, 32 dB under seeds 0, 1, 2; rows by their differences from it."""
    found = StudyOutcome()
    for name, values in {'full': (0, 0, 0), **differences}.items():
        for seed, value in enumerate(values):
            scores = {'psnr': 30 + seed + value, 'ssim': 0.9}
            found.means[name, seed] = {'held_out': {'result': scores, 'input': {'psnr': 28.0, 'ssim': 0.8}}}
    return found


def test_differences_are_taken_seed_by_seed_and_orders_judged():
    losses = plan(StudySettings('losses'))
    found = outcome({'wo_fr': (-0.1, -0.2, -0.3), 'wo_ssim': (0.1, 0.2, 0.3), 'wo_sr': (-0.1, 0.1, 0.1)})
    rows = rows_of('losses')
    one = cell(losses, found, rows['wo_fr'], 'held_out', 'psnr')
    assert one.differences == pytest.approx([-0.1, -0.2, -0.3])
    assert one.paper_difference == pytest.approx(25.857 - 26.039)
    verdicts = {name: cell(losses, found, row, 'held_out', 'psnr').verdict for name, row in rows.items()}
    assert verdicts == {'wo_fr': 'confirmed', 'wo_ssim': 'contradicted', 'wo_sr': 'open', 'full': ''}
    found_table = table(losses, found, 'held_out')
    assert all(len(row) == len(found_table.header) for row in found_table.rows)
    by_label = {row[0]: row for row in found_table.rows}
    assert by_label['w/o l_FR'][2] == '30.800 ± 0.900'
    assert by_label['w/o l_FR'][4] == '-0.200 ± 0.100'
    assert by_label['blurred input'][2] == '28.000'


def test_one_seed_and_failures_are_said():
    losses = plan(StudySettings('losses', seeds=(0,), rows=('wo_fr', 'wo_sr')))
    found = outcome({'wo_fr': (-0.1,)})
    found.failures['wo_sr', 0] = 'train: basicsr train: no memory'
    assert [job.row.name for job in losses.jobs] == ['wo_fr', 'wo_sr', 'full']
    text = one_spaced(report(losses, found, StudySettings('losses', seeds=(0,)), form='markdown'))
    assert '| confirmed (one seed) |' in text
    assert '| w/o l\\_SR | 25.864 | failed |' in text
    assert '- failed: w/o l_SR, seed 0: train: basicsr train: no memory' in text
    lines = list(csv.DictReader(scores_csv(losses, found).splitlines()))
    assert {line['row'] for line in lines} == {'wo_fr', 'full'}
    assert lines[0]['experiment'] == losses.jobs[0].name


def test_methods_under_the_paper_s_recipe():
    """Networks of the built-in file, with the optimizer and the length of the option file."""
    recipe = config.load_options(config.find_option_file('train_GGKMNet_DPDD'))
    for job in plan(StudySettings('methods', 'train_GGKMNet_DPDD', seeds=(0,))).jobs:
        assert job.train['network_g'] == JOBS[job.row.name, 'methods'].train['network_g']
        assert job.train['train'] == recipe['train']


def test_overrides_go_to_the_files_that_have_the_key():
    words = ['datasets:test:dataroot=elsewhere', 'datasets:train:dataroot=here', 'num_gpu=0']
    settings = StudySettings('losses', 'train_GGKMNet_DPDD', 'test_GGKMNet_DPDD', seeds=(0,), force_yml=words)
    job = plan(settings).jobs[0]
    assert job.test['datasets']['test']['dataroot'] == 'elsewhere'
    assert job.train['datasets']['train']['dataroot'] == 'here'
    assert job.train['num_gpu'] == job.test['num_gpu'] == 0
    with pytest.raises(OptionError, match='nonsense'):
        plan(StudySettings('losses', 'train_GGKMNet_DPDD', 'test_GGKMNet_DPDD', force_yml=['nonsense=1']))


def test_a_metric_that_was_skipped_is_missing():
    """LPIPS without its backbone has no score, and its row is not failed."""
    losses, found = plan(StudySettings('losses', seeds=(0,))), outcome({'wo_sr': (0.0,)})
    for means in found.means.values():
        del means['held_out']['result']['psnr']
    text = one_spaced(report(losses, found, StudySettings('losses', seeds=(0,)), form='markdown'))
    assert '| w/o l\\_SR | 25.864 | - |' in text


def test_notes_say_what_is_ablated():
    settings = StudySettings('losses', seeds=(0,))
    notes = report(plan(settings), StudyOutcome(), settings)
    for word in ('fr_weight 0.01', 'omega reversed', 'init: identity'):
        assert word in notes


# Runs


def test_what_is_scored_is_looked_for_before_any_training(tmp_path, tiny, write_options):
    tiny['datasets']['val']['dataroot_lq'] = 'nowhere'
    with pytest.raises(OptionError, match='nowhere'):
        run(plan(StudySettings('losses', write_options(tiny), seeds=(0,))), tmp_path, print)
    assert not (tmp_path / 'results').exists()


def test_a_study_from_end_to_end(command, workplace, tiny, write_options):
    """One row cannot be built and fails, the other is in the table; the same command again repeats nothing."""
    tiny['variants'] = {'wo_ssim': {'network_g.beta_norm': 'nonsense'}}
    words = ['study', 'losses', '-opt', write_options(tiny), '--rows', 'wo_ssim', '--seeds', '7']
    code, _, err = command(*words)
    assert code == 1
    assert '1 of the rows and seeds failed' in err.splitlines()[-1]
    text = (workplace / 'results/study/losses.md').read_text()
    assert '| w/o l\\_SSIM | 25.944 | failed |' in one_spaced(text)
    assert 'network_g.beta_norm' in text
    with open(workplace / 'results/study/losses.csv') as file:
        lines = list(csv.DictReader(file))
    assert [(line['row'], line['seed']) for line in lines] == [('full', '7')]
    (log,) = (workplace / 'results/study/logs').glob('study_full_s7_*_train.log')
    assert 'iter:       4' in log.read_text()
    changed = log.stat().st_mtime_ns
    assert command(*words)[2].count('done before') == 1
    assert log.stat().st_mtime_ns == changed
    assert (workplace / 'results/study/losses.md').read_text() == text


def test_a_signal_saves_and_the_same_command_goes_on(command, workplace, tiny, write_options):
    """The plugin sends it once, in the second of four iterations."""
    (workplace / 'interrupting.py').write_text(
        'import os, signal\nfrom ggkm_plugin.models.defocus_model import DefocusModel\n'
        'step, sent = DefocusModel.optimize_parameters, []\n'
        'def interrupted(self, iteration):\n'
        '    if iteration == 2 and not sent:\n'
        '        sent.append(os.kill(os.getpid(), signal.SIGINT))\n'
        '    step(self, iteration)\n'
        'DefocusModel.optimize_parameters = interrupted\n'
    )
    words = [
        'study',
        'losses',
        '-opt',
        write_options(tiny),
        '--rows',
        'full',
        '--seeds',
        '0',
        '--plugin',
        'interrupting',
    ]
    step = DefocusModel.optimize_parameters
    try:
        code, _, err = command(*words)
        assert code == 1
        assert 'stopped by a signal after iteration 2' in err
        assert 'basicsr study losses' in err
        assert '--auto_resume' not in err
        assert not (workplace / 'results/study/scores').exists()
        code, _, err = command(*words)
        assert code == 0, err
    finally:
        DefocusModel.optimize_parameters = step
    (log,) = (workplace / 'results/study/logs').glob('*_train.log')
    assert 'Resuming training from epoch: 0, iter: 2' in log.read_text()


def test_a_training_that_fails_is_tried_once(tmp_path, monkeypatch):
    """Three rows of `noise` are tests of one network; the row without noise is another, and comes to its end."""
    noise, started = plan(StudySettings('noise', seeds=(0,))), []

    def train(request):
        started.append('train')
        if 'noise' in Path(request.opt).name:
            raise RuntimeError('no memory')

    def test(request):
        started.append('test')
        options = yaml.safe_load(Path(request.opt).read_text())
        for dataset in options['datasets'].values():
            scores = {'datasets': [{'means': {'result': {'psnr': 30.0}, 'input': {'psnr': 28.0}}}]}
            path = tmp_path / 'results' / options['name'] / f'scores_{dataset["name"]}.json'
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(scores))

    monkeypatch.setattr(runs, 'train', train)
    monkeypatch.setattr(runs, 'test', test)
    found = run(noise, tmp_path, print)
    assert set(found.failures) == {('noise3', 0), ('noise5', 0), ('noise15', 0)}
    assert set(found.means) == {('full', 0)}
    assert started == ['train', 'train', 'test']
    again = run(noise, tmp_path, print)
    assert again.means == found.means
    assert started[3:] == ['train']  # another day the failed one is tried again
