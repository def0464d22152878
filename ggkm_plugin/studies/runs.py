"""Run a study: each training and each test is a process of `basicsr train` or `basicsr test`.

results/study/ holds options/, logs/ and, for every finished test, a file in scores/. The same command continues a
study: trainings resume from their newest state, finished tests are not repeated.
"""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ggkm_plugin import __version__
from ggkm_plugin.basicsr_patches.graceful_shutdown import StopRequest
from ggkm_plugin.evaluation.evaluator import INPUT, RESULT
from ggkm_plugin.studies.plan import StudyJob, StudyPlan, make_mixture
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.errors import Interrupted, UserError
from ggkm_plugin.utils.files import write_whole, writing_into
from ggkm_plugin.utils.hashing import digest

_POLL = 0.2  # seconds between two polls of a process
_STOPPED = 'stopped by {}; the same command continues from here'
_LAST_LINE = 400  # characters of a failed process's last line

Means = dict[str, dict[str, dict[str, float]]]  # {data set: {result or input: {metric: mean}}}


class RunError(UserError):
    """A training or a test failed; the study continues with the others."""


@dataclass
class StudyOutcome:
    """Means by (row, seed), and the failures."""

    means: dict[tuple[str, int], Means] = field(default_factory=dict)
    failures: dict[tuple[str, int], str] = field(default_factory=dict)


def run(plan: StudyPlan, root: Path, plugins: list[str], tell: Callable[[str], object]) -> StudyOutcome:
    """Run every job of the plan below `root`. Raises Interrupted on a signal, DataError for a read-only folder."""
    outcome = StudyOutcome()
    runner = _StudyRunner(root, plugins, tell)
    if plan.builtin_mixture:
        make_mixture(root / 'datasets')
    _check_scored(plan, root)
    with StopRequest(announce=False) as stop:
        for number, job in enumerate(plan.jobs, start=1):
            key = (job.row.name, job.seed)
            tell(f'[{number}/{len(plan.jobs)}] {job.row.label}, seed {job.seed}')
            try:
                outcome.means[key] = runner.finish(job, stop)
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


class _StudyRunner:
    def __init__(self, root: Path, plugins: list[str], tell: Callable[[str], object]) -> None:
        self.root, self.folder, self.tell = root, root / 'results' / 'study', tell
        self.failed: dict[str, str] = {}  # reasons by training
        self.flags = ['--root', str(root), *(word for plugin in plugins for word in ('--plugin', plugin))]

    def finish(self, job: StudyJob, stop: StopRequest) -> Means:
        """Train and score a job unless its scores exist. Raises RunError, Interrupted."""
        kept = self._kept(job)
        if kept is not None:
            self.tell('  done before')
            return kept
        weights = self.root / job.test['path']['pretrain_network_g']
        if not weights.is_file():
            self._train(job, stop)
        self._process('test', job.test_name, job.test, [], stop)
        means = {
            dataset['name']: _scores(self.root / 'results' / job.test_name / f'scores_{dataset["name"]}.json')
            for dataset in job.test['datasets'].values()
        }
        self._write(self._scores_file(job), json.dumps({'digest': self._depends(job), 'means': means}, indent=1) + '\n')
        return means

    def _train(self, job: StudyJob, stop: StopRequest) -> None:
        """Train once per study: several rows may score one training."""
        if job.name in self.failed:
            raise RunError(self.failed[job.name])
        try:
            self._process('train', job.name, job.train, ['--auto_resume'], stop)
        except RunError as error:
            self.failed[job.name] = str(error)
            raise

    def _scores_file(self, job: StudyJob) -> Path:
        return self.folder / 'scores' / f'{job.test_name}.json'

    def _depends(self, job: StudyJob) -> str:
        return digest([job.train, job.test, __version__])

    def _kept(self, job: StudyJob) -> Means | None:
        try:
            content = json.loads(self._scores_file(job).read_text(encoding='utf-8'))
            return content['means'] if content['digest'] == self._depends(job) else None
        except (OSError, ValueError, LookupError, TypeError):  # missing or damaged
            return None

    def _process(self, kind: str, name: str, options: dict[str, Any], flags: list[str], stop: StopRequest) -> None:
        """Run a process. Raises RunError with its last line if it fails, Interrupted once it has saved its state."""
        if stop.signal:
            raise Interrupted(_STOPPED.format(stop.signal))
        file, log = self.folder / 'options' / f'{name}.yml', self.folder / 'logs' / f'{name}_{kind}.log'
        self._write(file, yaml.safe_dump(options, sort_keys=False))
        log.parent.mkdir(parents=True, exist_ok=True)
        self.tell(f'  {kind}: {log}')
        command = [sys.executable, '-m', 'ggkm_plugin.cli.main', kind, '-opt', str(file), *self.flags, *flags]
        started = time.monotonic()
        with log.open('a') as output:
            # A new session keeps Ctrl-C away from it; it gets one SIGTERM from here and saves.
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )
            asked = False
            while process.poll() is None:
                if stop.signal and not asked:
                    process.send_signal(signal.SIGTERM)
                    asked = True
                time.sleep(_POLL)
        if stop.signal:
            raise Interrupted(_STOPPED.format(stop.signal))
        if process.returncode:
            raise RunError(f'{kind}: {_last_line(log) or f"exit code {process.returncode}"} ({log})')
        self.tell(f'  {kind}: done in {time.monotonic() - started:.0f} s')

    def _write(self, path: Path, text: str) -> None:
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


def _last_line(log: Path) -> str:
    """Return the command's error message, or its last line."""
    lines = [line for line in log.read_text(errors='replace').splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith('basicsr ')]
    words = (errors or lines or [''])[-1]
    return words if len(words) <= _LAST_LINE else f'{words[:_LAST_LINE]}...'
