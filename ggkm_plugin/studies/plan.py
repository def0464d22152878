"""Plan of a study: options of a training and a test for every row and seed, equal but for the change of the row."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggkm_plugin.studies.catalog import BASE, STUDIES, Study, StudyRow
from ggkm_plugin.utils import config
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.hashing import digest

PAPER_VARIANTS = 'train_GGKMNet_DPDD'


@dataclass(frozen=True)
class StudySettings:
    """Arguments of `basicsr study`.

    opt: option file of the training. test: option file with the data sets to score, None for the validation sets of
    `opt`. iterations: None for those of `opt`. rows: None for all.
    """

    study: str
    opt: str | None = None
    test: str | None = None
    iterations: int | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    rows: tuple[str, ...] | None = None
    force_yml: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StudyJob:
    """A row with a seed: options of its training and its test. Equal trainings and tests run once.

    `name` ends in a digest of the training's options, so that every budget has its own folder.
    """

    row: StudyRow
    seed: int
    train: Options
    test: Options

    @property
    def name(self) -> str:
        return str(self.train['name'])

    @property
    def test_name(self) -> str:
        return str(self.test['name'])


@dataclass(frozen=True)
class StudyPlan:
    """A study, its jobs row by row, and the options shared by all rows."""

    name: str
    study: Study
    jobs: list[StudyJob]
    base: Options


def plan(settings: StudySettings) -> StudyPlan:
    """Return the jobs of a study. Raises OptionError for an unknown row, variant or option."""
    study = STUDIES[settings.study]
    names = [row.name for row in study.rows]
    wanted = settings.rows or tuple(names)
    for name in wanted:
        if name not in names:
            raise OptionError(
                f'--rows {name}: no such row of {settings.study}.{config.nearest(name, names, "There are")}'
            )
    opt_file = config.find_option_file(settings.opt or study.opt)
    test_file = None if settings.test is None else config.find_option_file(settings.test)
    of_training, of_test = _overrides(settings.force_yml, opt_file, test_file)
    base = config.load_options(opt_file, None, of_training)
    _check_base(base, study, opt_file)
    variants = _known_variants(study, opt_file)
    _shorten(base, settings.iterations)
    if study.plain_start:
        base['network_g'].pop('init', None)
    scored = _scored(base, base if test_file is None else config.load_options(test_file, None, of_test))
    jobs = []
    for row in study.rows:
        if row.name in wanted or row.name == study.reference:
            for seed in settings.seeds:
                jobs.append(_job(row, seed, base, variants, scored))
    return StudyPlan(settings.study, study, jobs, base)


def _overrides(overrides: list[str], opt_file: Path, test_file: Path | None) -> tuple[list[str], list[str]]:
    """Split overrides into those of the training file and of the test file, by the keys that they have."""
    if test_file is None:
        return overrides, []
    training, test = config.read_options(opt_file)[0], config.read_options(test_file)[0]
    of_test = [override for override in overrides if _has(test, override)]
    return [override for override in overrides if _has(training, override) or override not in of_test], of_test


def _has(options: Any, override: str) -> bool:
    for key in override.partition('=')[0].split(':'):
        if not isinstance(options, dict) or key not in options:
            return False
        options = options[key]
    return True


def _known_variants(study: Study, opt_file: Path) -> dict[str, Options]:
    """Return the variants of the option file and the paper's. Networks of the built-in file keep this recipe."""
    known = {**config.read_options(config.find_option_file(PAPER_VARIANTS))[1], **config.read_options(opt_file)[1]}
    if study.own_networks:
        for name, changes in config.read_options(config.find_option_file(BASE))[1].items():
            network = {key: value for key, value in changes.items() if key.startswith('network_g')}
            known.setdefault(name, network)
    return known


def _check_base(base: Options, study: Study, opt_file: Path) -> None:
    """Raise OptionError if an option file is not that of a training of GGKMNet, or lacks a section."""
    for section in ('datasets', 'network_g', 'train', 'logger', 'train.scheduler'):
        value: Any = base
        for key in section.split('.'):
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            raise OptionError(f'{opt_file}: {section} is missing; name the option file of a training, with -opt')
    network = base['network_g'].get('type')
    if network != 'GGKMNet' and not study.own_networks:
        raise OptionError(f'{opt_file}: its network is {network}, and the rows of this study change GGKMNet')


def _shorten(opt: Options, iterations: int | None) -> None:
    """Set the number of iterations and scale the schedule; validate at the end only."""
    train = opt['train']
    before, total = int(train['total_iter']), iterations or int(train['total_iter'])
    schedule = train['scheduler']
    for key in ('milestones', 'periods'):
        if key in schedule:
            schedule[key] = [max(1, round(value * total / before)) for value in schedule[key]]
    if 'periods' in schedule:  # rounded periods must cover all iterations
        schedule['periods'][-1] += max(0, total - sum(schedule['periods']))
    if (train.get('warmup_iter') or 0) > 0:
        train['warmup_iter'] = max(1, round(train['warmup_iter'] * total / before))
    train['total_iter'] = total
    if opt.get('val'):
        opt['val']['val_freq'] = total
    opt['logger']['save_checkpoint_freq'] = min(int(opt['logger']['save_checkpoint_freq']), total)


def _scored(base: Options, source: Options) -> Options:
    """Return the options of a test without its network: data sets and metrics. Raises OptionError without any."""
    datasets = {key: dataset for key, dataset in source['datasets'].items() if not key.startswith('train')}
    metrics = (source.get('val') or {}).get('metrics')
    if not datasets or not metrics:
        raise OptionError(
            'nothing to score: the option file needs a validation set and val.metrics, or name --test FILE'
        )
    return {
        'model_type': base['model_type'],
        'scale': base.get('scale', 1),
        'num_gpu': base['num_gpu'],
        'manual_seed': 0,
        'datasets': copy.deepcopy(datasets),
        'val': {'save_img': False, 'metrics': metrics},
        **({'plugins': base['plugins']} if base.get('plugins') else {}),
    }


def _job(row: StudyRow, seed: int, base: Options, variants: dict[str, Options], scored: Options) -> StudyJob:
    train = copy.deepcopy(base)
    train['manual_seed'] = seed
    if row.variant is not None:
        if row.variant not in variants:
            raise OptionError(f'no variant {row.variant!r} for the row {row.label}')
        config.change(train, variants[row.variant])
    if row.source is not None:
        _take_alone(train, row.source)
    train.pop('name')
    # Named by the variant, not the row: rows that only differ in scoring share a training.
    what = row.variant or (row.name if row.source is not None else 'full')
    train = {'name': f'study_{what}_s{seed}_{digest(train)[:8]}', **train}
    test = copy.deepcopy(scored)
    for dataset in test['datasets'].values() if row.noise else ():
        dataset.update(noise_std=row.noise, seed=0)
    weights = f'experiments/{train["name"]}/models/net_g_latest.pth'
    test = {'name': f'{train["name"]}_{digest(test)[:8]}', **test, 'path': {'pretrain_network_g': weights}}
    return StudyJob(row, seed, train, test)


def _take_alone(train: Options, number: int) -> None:
    """Train on one source of the mixture only."""
    mixture = train['datasets']['train']
    sources = mixture.get('sources')
    if not isinstance(sources, list) or len(sources) != 2:
        raise OptionError('study mixed needs datasets.train.type: MixedDefocusDataset with two sources')
    shared = {key: value for key, value in mixture.items() if key != 'sources'}
    alone = {key: value for key, value in sources[number].items() if key != 'ratio'}
    train['datasets']['train'] = {**shared, **alone, 'type': 'PairedDefocusDataset'}
