"""The schema of training and test option files."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ggkm_plugin.data.options import LoaderOptions
from ggkm_plugin.models.jdrl_model import JDRLOptions
from ggkm_plugin.models.step_options import StepOptions
from ggkm_plugin.utils.schema import Count, FolderName, Iterations, Natural, NonNegative, NumGpu, Section, Spec, Whole


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
    warmup_iter: Annotated[Whole, Field(ge=-1)] = -1
    pixel_opt: Spec | None = None
    perceptual_opt: Spec | None = None


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
    metrics: dict[FolderName, Spec] | None = None  # the best weights are named after the metric
    pbar: bool = False


class TrainValidation(Validation):
    val_freq: Iterations


class Wandb(Section):
    model_config = ConfigDict(extra='allow')
    project: str | None = None


class Logger(Section):
    print_freq: Iterations
    save_checkpoint_freq: Iterations
    use_tb_logger: bool
    wandb: Wandb | None = None


class DefocusLogger(Logger):
    keep_checkpoints: Count | None = None


class File(Section):
    """Keys of both training and test option files."""

    name: FolderName
    model_type: str
    scale: Any = None
    num_gpu: NumGpu
    manual_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    datasets: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    network_g: Spec
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
