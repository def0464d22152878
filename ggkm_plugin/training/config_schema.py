"""The schema of training and test option files."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema, create_model

from ggkm_plugin.data.options import LoaderOptions
from ggkm_plugin.models.jdrl_model import JDRLOptions
from ggkm_plugin.models.step_options import StepOptions
from ggkm_plugin.utils.registry import REGISTRIES, argument_section
from ggkm_plugin.utils.schema import (
    INTEGRAL,
    Count,
    FolderName,
    Iterations,
    Natural,
    NonNegative,
    NumGpu,
    Section,
    Spec,
)

# Arguments are checked by the registered class or function of `type`. In the JSON schema each kind is a definition.
Arch = Annotated[Spec, WithJsonSchema({'kind': 'archs'})]
Loss = Annotated[Spec, WithJsonSchema({'kind': 'losses'})]
Metric = Annotated[Spec, WithJsonSchema({'kind': 'metrics'})]
AnyDataSet = Annotated[dict[str, Any], WithJsonSchema({'kind': 'datasets'})]


class Optimizer(Spec):
    lr: NonNegative


class Scheduler(Spec):
    milestones: list[int] | None = None
    periods: list[Count] | None = None


class Train(Section):
    """Keys of `train:` that SRModel reads."""

    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0
    optim_g: Optimizer
    scheduler: Scheduler
    total_iter: Iterations
    warmup_iter: Annotated[int, Field(ge=-1), INTEGRAL] = -1
    pixel_opt: Loss | None = None
    perceptual_opt: Loss | None = None


class DefocusTrain(Train, StepOptions):
    """Keys of `train:` that DefocusModel reads."""


class JDRLTrain(DefocusTrain):
    """Keys of `train:` that JDRLModel reads."""

    jdrl: JDRLOptions
    perceptual_opt: None = None


class Paths(Section):
    pretrain_network_g: str | None = None
    param_key_g: str | None = None
    strict_load_g: bool = True
    resume_state: str | None = None
    ignore_resume_networks: Any = None


class TestPaths(Paths):
    pretrain_network_g: str


class Validation(Section):
    save_img: bool
    val_freq: Any = None
    suffix: str | None = None
    metrics: dict[FolderName, Metric] | None = None  # the best weights are named after the metric
    pbar: bool = False


class TrainValidation(Validation):
    val_freq: Iterations


class Logger(Section):
    print_freq: Iterations
    save_checkpoint_freq: Iterations
    use_tb_logger: bool
    wandb: Any = None


class DefocusLogger(Logger):
    keep_checkpoints: Count | None = None
    save_format: Literal['pth', 'safetensors'] = 'pth'


class File(Section):
    """Keys of both training and test option files."""

    name: FolderName
    model_type: str
    scale: Any = None
    num_gpu: NumGpu
    manual_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    datasets: Annotated[dict[str, AnyDataSet], Field(min_length=1)]
    network_g: Arch
    dist_params: Any = None
    find_unused_parameters: bool = False
    plugins: list[str] | None = None


class TestFile(File):
    """A test option file."""

    path: TestPaths
    val: Validation
    sync_bn: bool = False
    train: Any = None
    logger: Any = None


class TrainFile(File):
    """A training option file for SRModel."""

    path: Paths
    train: Train
    val: TrainValidation | None = None
    logger: Logger


class DefocusTrainFile(TrainFile):
    sync_bn: bool = False
    train: DefocusTrain
    logger: DefocusLogger


class JDRLTrainFile(DefocusTrainFile):
    train: JDRLTrain


class DataSet(LoaderOptions):
    """Keys of a data set for validation and testing."""

    name: FolderName


class TrainDataSet(DataSet):
    batch_size_per_gpu: Count
    num_worker_per_gpu: Natural


# ---- JSON schema, for editors


def json_schema() -> str:
    """Return the JSON schema of option files as text.

    It has no required keys, since a file may inherit them. It describes what this package and BasicSR register.
    Plugins must be loaded.
    """
    from ggkm_plugin.evaluation.compare_config import CompareFile

    definitions: dict[str, Any] = {}
    for kind in ('archs', 'datasets', 'losses', 'metrics'):
        definitions[kind] = _spec_definition(kind, definitions)
    keys: dict[str, Any] = {
        'base': {'type': 'string', 'description': 'option file to inherit from'},
        'without': {'type': 'array', 'items': {'type': 'string'}, 'description': 'dotted keys to drop from the base'},
        'variants': {'type': 'object', 'additionalProperties': {'type': 'object'}},
    }
    for file in (CompareFile, TestFile, DefocusTrainFile):
        keys |= _definition(file, definitions)['properties']
    definitions['DefocusTrain']['properties']['jdrl'] = _definition(JDRLOptions, definitions)
    content = {
        '$schema': 'http://json-schema.org/draft-07/schema#',
        'title': 'option file of basicsr',
        'type': 'object',
        'properties': {key: {} for key in keys},
        # models of other authors may read other keys
        'if': {'properties': {'model_type': {'enum': ['DefocusModel', 'JDRLModel', 'SRModel']}}},
        'then': {'properties': keys, 'additionalProperties': False},
        '$defs': dict(sorted(definitions.items())),
    }
    return json.dumps(content, indent=1) + '\n'


def _spec_definition(kind: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Describe the arguments of each registered type of a kind."""
    names: dict[str, Any] = {
        name.removesuffix('_basicsr'): target
        for name, target in sorted(REGISTRIES[kind])
        if target.__module__.split('.')[0] in ('ggkm_plugin', 'basicsr')
    }
    rules = []
    for name, target in names.items():
        optional = target.__module__ == 'ggkm_plugin.archs.external_arch'  # the arguments are those of another package
        section = None if optional else argument_section(kind, target)
        if section is None:
            continue
        if kind == 'datasets':
            section = create_model(name, __base__=(section, DataSet))
        arguments = _definition(section, definitions)
        arguments['properties']['type'] = {}
        if kind == 'metrics':
            arguments['properties']['better'] = {'enum': ['higher', 'lower']}
        rules.append({'if': {'properties': {'type': {'const': name}}, 'required': ['type']}, 'then': arguments})
    known = {'anyOf': [{'enum': list(names)}, {'type': 'string'}]}
    return {'type': 'object', 'properties': {'type': known}, 'allOf': rules}


def _definition(section: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a section; sections in it are added to `definitions`."""
    found = _cleaned(section.model_json_schema(ref_template='#/$defs/{model}'))
    definitions |= found.pop('$defs', {})
    return found


def _cleaned(node: Any) -> Any:
    """Leave out titles and required keys, and refer to the definitions of registered kinds."""
    if isinstance(node, list):
        return [_cleaned(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get('kind'), str):
        return {'$ref': f'#/$defs/{node["kind"]}'}
    cleaned = {key: _cleaned(value) for key, value in node.items() if key not in ('required', 'default')}
    return {key: value for key, value in cleaned.items() if key != 'title' or isinstance(value, dict)}
