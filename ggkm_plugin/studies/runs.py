"""Run a study: each row and seed is a run of `basicsr train` and one of `basicsr test`.

results/study/ holds options/, logs/ and, for every finished test, a file in scores/. The same command continues a
study: trainings resume from their newest state, finished tests are not repeated.
"""

import json
import math
import time
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ggkm_plugin import __version__
from ggkm_plugin.evaluation.evaluator import INPUT, RESULT
from ggkm_plugin.studies.plan import StudyJob, StudyPlan
from ggkm_plugin.training.run import Request, test, train
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.errors import Interrupted, UserError
from ggkm_plugin.utils.files import write_whole, writing_into
from ggkm_plugin.utils.hashing import digest

Means = dict[str, dict[str, dict[str, float]]]  # {data set: {result or input: {metric: mean}}}


class RunError(UserError):
    """A training or a test failed; the study continues with the others."""


@dataclass
class StudyOutcome:
    """Means by (row, seed), and the failures."""

    means: dict[tuple[str, int], Means] = field(default_factory=dict)
    failures: dict[tuple[str, int], str] = field(default_factory=dict)


def run(plan: StudyPlan, root: Path, tell: Callable[[str], object]) -> StudyOutcome:
    """Run every job of the plan below `root`. Raises Interrupted on a signal, DataError for a read-only folder."""
    outcome = StudyOutcome()
    failed: dict[str, str] = {}  # reasons by training: several rows may score one
    _check_scored(plan, root)
    for number, job in enumerate(plan.jobs, start=1):
        key = (job.row.name, job.seed)
        tell(f'[{number}/{len(plan.jobs)}] {job.row.label}, seed {job.seed}')
        try:
            outcome.means[key] = _finish(job, root, failed, tell)
        except RunError as error:
            outcome.failures[key] = str(error)
            tell(f'  failed: {error}')
    return outcome


def _check_scored(plan: StudyPlan, root: Path) -> None:
    """Build the data sets to score before hours of training. Raises OptionError."""
    for phase, dataset in plan.jobs[0].test['datasets'].items():
        placed = {key: str(root / value) for key, value in dataset.items() if value and key.startswith('dataroot')}
        registry.build(f'datasets.{phase}', 'datasets', {**dataset, **placed, 'phase': 'test'})


def check(outcome: StudyOutcome) -> None:
    """Raise RunError if a job failed."""
    if outcome.failures:
        raise RunError(f'{len(outcome.failures)} of the rows and seeds failed; the table lists the reasons')


def _finish(job: StudyJob, root: Path, failed: dict[str, str], tell: Callable[[str], object]) -> Means:
    """Train and score a job unless its scores exist. Raises RunError, Interrupted."""
    scores = root / 'results/study/scores' / f'{job.test_name}.json'
    depends = digest([job.train, job.test, __version__])
    try:
        content = json.loads(scores.read_text(encoding='utf-8'))
        if content['digest'] == depends:
            tell('  done before')
            return content['means']
    except (OSError, ValueError, LookupError, TypeError):  # missing or damaged
        pass
    if not (root / job.test['path']['pretrain_network_g']).is_file():
        if job.name in failed:
            raise RunError(failed[job.name])
        try:
            _run(job.train, root, tell, is_train=True)
        except RunError as error:
            failed[job.name] = str(error)
            raise
    _run(job.test, root, tell, is_train=False)
    means = {
        dataset['name']: _scores(root / 'results' / job.test_name / f'scores_{dataset["name"]}.json')
        for dataset in job.test['datasets'].values()
    }
    _write(scores, json.dumps({'digest': depends, 'means': means}, indent=1) + '\n')
    return means


def _run(options: Options, root: Path, tell: Callable[[str], object], is_train: bool) -> None:
    """Train or test, with messages into a log file. Raises RunError if it fails, Interrupted once it is saved."""
    kind, name = 'train' if is_train else 'test', options['name']
    file, log = (root / 'results/study' / path for path in (f'options/{name}.yml', f'logs/{name}_{kind}.log'))
    _write(file, yaml.safe_dump(options, sort_keys=False))
    log.parent.mkdir(parents=True, exist_ok=True)
    tell(f'  {kind}: {log}')
    started = time.monotonic()
    request = Request(opt=str(file), root=str(root), auto_resume=is_train)
    with log.open('a', encoding='utf-8') as output, redirect_stderr(output):
        try:
            train(request) if is_train else test(request)
        except Interrupted:
            raise
        except Exception as error:  # the other rows continue, whatever a network raises
            traceback.print_exc(file=output)
            reason = f'{type(error).__name__}: {error}'
            raise RunError(f'{kind}: {error if isinstance(error, UserError) else reason} ({log})') from error
    tell(f'  {kind}: done in {time.monotonic() - started:.0f} s')


def _write(path: Path, text: str) -> None:
    with writing_into(path, '--root'):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


def _scores(path: Path) -> dict[str, dict[str, float]]:
    """Read the means of results and inputs by metric. Raises RunError."""
    try:
        means = json.loads(path.read_text(encoding='utf-8'))['datasets'][0]['means']
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunError(f'test: no scores in {path} ({error})') from error
    return {
        kind: {name: math.inf if mean is None else mean for name, mean in means[kind].items()}
        for kind in (RESULT, INPUT)
    }
