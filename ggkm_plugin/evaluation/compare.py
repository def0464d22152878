"""What `basicsr compare` does, from the option file to the files in results/NAME/."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ggkm_plugin.basicsr_patches.launch import first_process
from ggkm_plugin.utils import config, plugins
from ggkm_plugin.utils.errors import UserError
from ggkm_plugin.utils.files import locked, working_folder


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
    option_file = config.find_option_file(request.opt)
    opt = config.load_options(option_file, request.variant, request.force_yml)
    plugins.load_local(opt.get('plugins') or [])

    from ggkm_plugin.basicsr_patches import distributed
    from ggkm_plugin.evaluation import results
    from ggkm_plugin.evaluation.compare_config import PACKAGED, Entry, parse
    from ggkm_plugin.evaluation.evaluator import Engine
    from ggkm_plugin.weights import DEFAULT

    with ExitStack() as stack:
        root = stack.enter_context(working_folder(request.root))
        plan = parse(opt, request.noise)
        folder = root / 'results' / plan.name
        if first_process():
            stack.enter_context(locked(folder))
        stack.enter_context(distributed.group_left())
        if request.launcher != 'none':
            distributed.init_dist(request.launcher)
        engine = Engine(plan, folder, tell)
        packaged = [entry.name for entry in plan.models if isinstance(entry, Entry) and entry.weights == PACKAGED]
        if packaged and first_process():
            tell(f'{", ".join(packaged)}: with the packaged weights, {DEFAULT}')
        compared = distributed.from_first(results.record(plan, engine, engine.run()))
        report = None
        if first_process():
            results.write(folder, compared)
            if request.report:
                from ggkm_plugin.report import comparison_page

                report = comparison_page.write_report(folder, results.with_infinities(compared))
    return Compared(folder, compared, report)


def check(compared: Compared) -> None:
    """Raises ComparisonError that lists what failed, if anything did."""
    failures = compared.results['failures']
    if failures:
        raise ComparisonError(
            '\n  '.join([f'{len(failures)} of what was to be compared failed; the rest is in the tables:', *failures])
        )
