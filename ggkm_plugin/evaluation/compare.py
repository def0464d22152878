"""`basicsr compare`: run models on data sets, reuse earlier results, and write results/NAME/."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ggkm_plugin import __version__, classical
from ggkm_plugin.basicsr_patches import distributed
from ggkm_plugin.basicsr_patches.launch import first_process
from ggkm_plugin.data.layouts import mask_of
from ggkm_plugin.evaluation import results
from ggkm_plugin.evaluation.cache import Cache, ResultsError, check_writable, write_picture
from ggkm_plugin.evaluation.compare_config import (
    BLUR_MAP,
    BLUR_MASK,
    PACKAGED,
    UNTRAINED,
    Comparison,
    Entry,
    MethodEntry,
    parse,
)
from ggkm_plugin.evaluation.complexity import PAPER_SIZE, count_parameters, profile
from ggkm_plugin.evaluation.evaluator import INPUT, DatasetRecord, Evaluator, Sample, Scores, worded
from ggkm_plugin.evaluation.sizing import shown
from ggkm_plugin.metrics.selection import files_of
from ggkm_plugin.ops.boundary import padded_size
from ggkm_plugin.restoration.classical import MethodRestorer
from ggkm_plugin.restoration.load import build_network, load
from ggkm_plugin.restoration.restorer import ImageRestorer, Restorer
from ggkm_plugin.utils import plugins, registry
from ggkm_plugin.utils.config import Options
from ggkm_plugin.utils.devices import device_name
from ggkm_plugin.utils.errors import DataError, OptionError, UserError
from ggkm_plugin.utils.files import locked, working_folder
from ggkm_plugin.utils.hashing import code_digest, file_digest, tensor_digest
from ggkm_plugin.utils.image_decoding import decode_image, read_bytes
from ggkm_plugin.utils.memory import bounded_memory, memory_advice
from ggkm_plugin.utils.registry import METRIC_REGISTRY
from ggkm_plugin.weights import DEFAULT

Tell = Callable[[str], None]

# Timed runs of a network at 1280x720, which takes a minute on some processors.
_REPEATS = {'cuda': 5, 'cpu': 1}


class ComparisonError(UserError):
    """Some models or images could not be compared; the rest is in the tables."""

    everywhere = True


@dataclass(frozen=True)
class Compared:
    """The folder with all files, the content of its results.json, and the HTML report if there is one."""

    folder: Path
    results: dict[str, Any]
    report: Path | None


def compare(
    opt: Options, tell: Tell, root: str = '.', launcher: str = 'none', noise: bool = False, report: bool = True
) -> Compared:
    """Compare by options, and write results/NAME/ below `root`; the first process writes. Plugins are loaded.

    `tell` is called with lines about the progress; `noise` and `report` as in the command. Raises OptionError for
    options that cannot be compared at all. A model or data set that fails is in `results['failures']`.
    """
    plugins.load_local(opt.get('plugins') or [])
    with ExitStack() as stack:
        place = stack.enter_context(working_folder(root))
        plan = parse(opt, noise)
        folder = place / 'results' / plan.file.name
        if first_process():
            stack.enter_context(locked(folder))
        stack.enter_context(distributed.group_left())
        if launcher != 'none':
            distributed.init_dist(launcher)
        for line in plan.skipped if first_process() else ():
            tell(line)
        packaged = [entry.name for entry in plan.models if isinstance(entry, Entry) and entry.weights == PACKAGED]
        if packaged and first_process():
            tell(f'{", ".join(packaged)}: with the packaged weights, {DEFAULT}')
        compared = distributed.from_first(_run(plan, folder, tell))
        page = None
        if first_process():
            results.write_comparison(folder, compared)
            if report:
                from ggkm_plugin.report import comparison_page

                page = comparison_page.write_report(folder, results.with_infinities(compared))
    return Compared(folder, compared, page)


def check(compared: Compared) -> None:
    """Raise ComparisonError that lists what failed, if anything did."""
    failures = compared.results['failures']
    if failures:
        raise ComparisonError(
            '\n  '.join([f'{len(failures)} of what was to be compared failed; the rest is in the tables:', *failures])
        )


def _run(plan: Comparison, folder: Path, tell: Tell) -> results.Results:
    """Evaluate and return the content of results.json, equal on all processes. Raises OptionError, ResultsError."""
    device = chosen_device(plan.file.num_gpu)
    cache = Cache(folder / 'cache')
    check_writable(folder, cache.folder, *([folder / 'images'] if plan.file.save_images else []))
    models: dict[str, ComparedModel] = {}
    facts: dict[str, results.Results] = {}
    for entry in plan.models:
        weights = {'weights': entry.weights} if isinstance(entry, Entry) else {}
        try:
            models[entry.name] = _ready(entry, device, tell)
            facts[entry.name] = {**weights, **models[entry.name].facts}
        except Exception as error:  # an arch from elsewhere may raise anything
            facts[entry.name] = {**weights, 'error': worded(error)}
    evaluator = CachedEvaluator(plan, models, device, folder, cache, tell)
    records: list[DatasetRecord] = []
    dataset_faults: dict[str, str] = {}
    for images in plan.datasets:
        try:
            dataset = registry.build(f'datasets.{images.name}', 'datasets', images.options)
        except UserError as error:
            dataset_faults[images.name] = str(error)
            continue
        records.append(evaluator.evaluate(dataset, images.name, images.clean or images.name))
    costs, cost_faults = distributed.from_first(
        _costs(models, device, cache, tell) if plan.file.complexity and first_process() else ({}, {})
    )
    known = {name: {**fact, **costs.get(name, {})} for name, fact in facts.items()}
    return results.comparison_results(plan, device, records, known, dataset_faults, cost_faults)


# --- models


@dataclass(frozen=True)
class ComparedModel:
    """A model that is ready to run.

    facts: its part of results.json. depends: plain values that its results depend on besides the image. network: as it
    was before it was prepared for inference, for its operations to be counted.
    """

    restorer: ImageRestorer
    facts: dict[str, Any]
    depends: dict[str, Any]
    network: nn.Module | None = None


def _ready(entry: Entry | MethodEntry, device: torch.device, tell: Tell) -> ComparedModel:
    """Build a model. Raises CheckpointError for missing, damaged or wrong weights, or OptionError."""
    if isinstance(entry, MethodEntry):
        method = MethodRestorer(entry.method, tell, entry.name)
        facts = {'arch': entry.method.name, 'parameters': 0, 'settings': method.settings}
        depends = {'method': entry.method.name, **method.settings, 'source': _source_digests()}
        return ComparedModel(method, facts, depends)
    where, sha256, param_key = f'{entry.name}: network_g', None, None
    if entry.weights == UNTRAINED:
        assert entry.network is not None
        options, named = entry.network, 'none: untrained'
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = build_network(options, where)
    else:
        loaded = load(None if entry.weights == PACKAGED else entry.weights, entry.network, entry.param_key, where)
        net, options, param_key, sha256 = loaded.net, loaded.options, loaded.param_key, file_digest(loaded.path)
        named = f'{loaded.packaged}, packaged' if loaded.packaged else ''
    restorer = Restorer(
        net,
        device,
        tell=tell,
        size_multiple=entry.size_multiple,
        channel_order=entry.color,
        value_range=entry.range,
    )
    facts = {
        'arch': str(options['type']),
        'parameters': count_parameters(net)[1],
        'sha256': sha256,
        'settings': {'weights': named} if named else None,
    }
    code = code_digest(Restorer, *{kind for module in net.modules() for kind in type(module).__mro__})
    weights = {'weights': sha256 or UNTRAINED, 'param_key': param_key}
    return ComparedModel(restorer, facts, {'network': options, 'code': code, **restorer.settings, **weights}, net)


def _source_digests() -> list[str]:
    """Return the digests of the classical methods and their dictionary."""
    files = sorted(Path(classical.__file__).parent.iterdir())
    return [file_digest(str(file)) for file in files if file.suffix in ('.py', '.npz')]


def chosen_device(num_gpu: str | int) -> torch.device:
    """Choose a GPU for this process, or the CPU. Raises OptionError if there are fewer GPUs than `num_gpu`."""
    count = torch.cuda.device_count()
    if isinstance(num_gpu, int) and num_gpu > count:
        raise OptionError(f'num_gpu: {num_gpu} but this machine has {count}; set num_gpu: auto')
    return torch.device('cuda', torch.cuda.current_device()) if count and num_gpu != 0 else torch.device('cpu')


def _costs(
    models: dict[str, ComparedModel], device: torch.device, cache: Cache, tell: Tell
) -> tuple[dict[str, results.Results], dict[str, str]]:
    """Measure MACs, time and memory of the networks; return also the reasons for missing ones."""
    costs: dict[str, results.Results] = {}
    faults: dict[str, str] = {}
    for name, model in models.items():
        if model.network is None or not isinstance(model.restorer, Restorer):
            continue
        place, depends = ('costs', name), [results.FORMAT, model.depends, device_name(device), *_versions()]
        try:
            kept = cache.read(place, depends)
            if kept is None:
                tell(f'{name}: costs of an image of {PAPER_SIZE[1]}x{PAPER_SIZE[0]}')
                kept = _measured(name, model.network, model.restorer, device)
                cache.write(place, depends, kept)
            costs[name] = kept
        except ResultsError:
            raise
        except Exception as error:  # a network from elsewhere may raise anything
            faults[name] = worded(error)
    return costs, faults


def _measured(name: str, net: nn.Module, restorer: Restorer, device: torch.device) -> results.Results:
    height, width = padded_size(*PAPER_SIZE, restorer.settings['size_multiple'])
    with memory_advice(f'on an image of {height}x{width}', 'leave out complexity'), bounded_memory(device):
        found = profile(net, (height, width), str(device), _REPEATS[device.type], name, restorer)
    macs = {'macs_true': found.macs, 'macs_paper': found.paper_macs}
    return {**macs, 'seconds': found.seconds, 'memory_bytes': found.memory}


def _versions() -> list[str]:
    return [__version__, version('basicsr'), str(torch.__version__)]


# --- images


class CachedEvaluator(Evaluator):
    """Evaluator that writes pictures and caches each score until something that it depends on changes."""

    def __init__(
        self,
        plan: Comparison,
        models: dict[str, ComparedModel],
        device: torch.device,
        folder: Path,
        cache: Cache,
        tell: Tell,
    ) -> None:
        restorers = {name: model.restorer for name, model in models.items()}
        metrics = {metric.name: metric.as_option(plan.file.protocol) for metric in plan.metrics}
        super().__init__(restorers, metrics, device, plan.file.protocol, save=self._save, tell=tell)
        self.models, self.folder, self.cache, self.save_images = models, folder, cache, plan.file.save_images
        weights = [
            file_digest(str(path))
            for name, metric in metrics.items()
            if name not in self.missing
            for path in files_of(metric)
        ]
        self._depends = {
            'format': results.FORMAT,
            'protocol': plan.file.protocol,
            'metrics': [metrics, weights],
            'code': code_digest(Evaluator, *(METRIC_REGISTRY.get(metric.type) for metric in plan.metrics)),
            'versions': _versions(),
            'device': torch.cuda.get_device_name(device) if device.type == 'cuda' else 'cpu',
        }
        self._of_image: dict[str, Any] = {}

    def evaluate(self, dataset: Any, name: str, benchmark: str = '', with_input: bool = True) -> DatasetRecord:
        record = super().evaluate(dataset, name, benchmark, with_input)
        record.faults += [image.faults[BLUR_MASK] for image in record.images if BLUR_MASK in image.faults]
        return record

    def evaluate_image(self, sample: Sample, with_input: bool) -> None:
        self._of_image = {
            'images': [tensor_digest(sample.lq), sample.record.scene, sample.record.bits],
            'scored_as': sample.benchmark,
            'photograph': list(sample.photograph),
        }
        super().evaluate_image(sample, with_input)
        if sample.gt is None and self.save_images:
            self._copy_mask(sample)

    def evaluate_one(self, sample: Sample, name: str) -> Scores:
        place = ('scores', sample.dataset, sample.record.name, name)
        model = self.models[name].depends if name != INPUT else None
        depends = {**self._depends, **self._of_image, 'model': model}
        pictures = self._pictures(sample, name)
        kept: Scores | None = self.cache.read(place, depends)
        if kept is None or not all((self.folder / file).is_file() for file in pictures.values()):
            self.cache.forget(place)
            kept = super().evaluate_one(sample, name)
            self.cache.write(place, depends, kept)
        sample.record.files.update(pictures)
        return kept

    def _pictures(self, sample: Sample, name: str) -> dict[str, str]:
        """Return the picture files of a result, relative to the folder, by their content."""
        if not self.save_images:
            return {}
        inside = f'{sample.dataset}/{sample.record.name}'
        pictures = {name: f'images/{inside}/{name}.png'}
        if name == INPUT and sample.gt is not None:
            pictures['gt'] = f'images/{inside}/gt.png'
        if name != INPUT and sample.gt is None and self.restorers[name].has_blur_map:
            pictures[f'{name}{BLUR_MAP}'] = f'maps/{inside}/{name}.png'
        return pictures

    def _save(self, sample: Sample, name: str, result: Tensor) -> None:
        images = {name: result, 'gt': sample.gt}
        for kind, file in self._pictures(sample, name).items():
            image = images.get(kind)
            if image is None:
                write_picture(self.folder / file, self.restorers[name].blur_map(sample.lq))
            else:
                write_picture(self.folder / file, shown(image, sample.record.size), sample.record.bits)

    def _copy_mask(self, sample: Sample) -> None:
        record = sample.record
        mask = mask_of(record.path, sample.benchmark)
        if mask is None:
            return
        try:
            drawn = decode_image(read_bytes(str(mask)), str(mask))[: record.size[0], : record.size[1]]
        except DataError as error:
            record.faults[BLUR_MASK] = str(error)
            return
        record.files[BLUR_MASK] = f'maps/{sample.dataset}/{record.name}/{BLUR_MASK}.png'
        write_picture(self.folder / record.files[BLUR_MASK], drawn)
