"""What `basicsr compare` does, from the option file to the files in results/NAME/."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggkm_plugin import options, plugins, runner
from ggkm_plugin.errors import UserError
from ggkm_plugin.host.launch import first_process


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    opt: str
    launcher: str = 'none'
    force_yml: list[str] = field(default_factory=list)
    variant: str | None = None
    root: str = '.'
    noise: bool = False
    report: bool = True


class ComparisonError(UserError):
    """Some of what was to be compared could not be; the rest is in the tables."""

    everywhere = True


@dataclass(frozen=True)
class Compared:
    """The folder with all files, the content of its results.json, and the HTML report if there is one."""

    folder: Path
    results: dict[str, Any]
    report: Path | None


def compare(request: Request, tell: Callable[[str], None]) -> Compared:
    """Compare, and write results/NAME/ below `request.root`; the first process writes. Plugins are loaded.

    Raises OptionError for a file that cannot be compared at all. A model or data set that fails is in
    `results['failures']`. `tell` is given lines about the progress.
    """
    option_file = options.find_option_file(request.opt)
    opt = options.load_options(option_file, request.variant, request.force_yml)
    plugins.load_local(opt.get('plugins') or [])

    from ggkm_plugin.compare import record
    from ggkm_plugin.compare.engine import Engine
    from ggkm_plugin.compare.options import PACKAGED, Entry, parse
    from ggkm_plugin.host import processes
    from ggkm_plugin.weights import DEFAULT

    with ExitStack() as stack:
        root = stack.enter_context(runner.working_folder(request.root))
        plan = parse(opt, request.noise)
        folder = root / 'results' / plan.name
        stack.enter_context(processes.group_left())
        if request.launcher != 'none':
            processes.init_dist(request.launcher)
        engine = Engine(plan, folder, tell)
        packaged = [entry.name for entry in plan.models if isinstance(entry, Entry) and entry.weights == PACKAGED]
        if packaged and first_process():
            tell(f'{", ".join(packaged)}: with the packaged weights, {DEFAULT}')
        results = processes.from_first(record.record(plan, engine, engine.run()))
        report = None
        if first_process():
            record.write(folder, results)
            if request.report:
                from ggkm_plugin.compare import html_report

                report = html_report.write_report(folder, record.with_infinities(results))
    return Compared(folder, results, report)


def check(compared: Compared) -> None:
    """Raises ComparisonError that lists what failed, if anything did."""
    failures = compared.results['failures']
    if failures:
        raise ComparisonError(
            '\n  '.join([f'{len(failures)} of what was to be compared failed; the rest is in the tables:', *failures])
        )
