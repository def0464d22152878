"""Options of the data sets of this package, as typed sections."""

import warnings
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, create_model, model_validator
from typing_extensions import Self

from ggkm_plugin.data.layouts import LAYOUTS, PAIRINGS
from ggkm_plugin.utils.registry import argument_section, registered
from ggkm_plugin.utils.schema import Count, Faults, Natural, NonNegative, Positive, Section, Share, section_faults


def _rising(bounds: Sequence[float]) -> Sequence[float]:
    if bounds[0] > bounds[1]:
        raise ValueError('must be [low, high]')
    return bounds


Range = Annotated[Sequence[NonNegative], Field(min_length=2, max_length=2), AfterValidator(_rising)]
SCENES = ('plain', 'varied', 'real')
_LAYOUTS, _PAIRINGS = ('auto', *LAYOUTS), ('sorted', *PAIRINGS)


class IoBackend(Section):
    model_config = ConfigDict(extra='allow')
    type: Literal['disk', 'lmdb']


class SourceOptions(Section):
    """Source of the images; see `sources.open_source`."""

    dataroot: str | None = None
    layout: Literal[_LAYOUTS] | None = None  # type: ignore[valid-type]
    split: str | None = None
    dataroot_lq: str | None = None
    io_backend: IoBackend | None = None
    bit_depth: Literal['auto', 8, 16] = 'auto'


class PairedSourceOptions(SourceOptions):
    dataroot_gt: str | None = None
    pairing: Literal[_PAIRINGS] = 'name'  # type: ignore[valid-type]


class CropOptions(Section):
    """Random crops, flips and noise."""

    phase: str = 'train'
    gt_size: Count | None = None  # side of the training crop
    use_hflip: bool = False
    use_vflip: bool = False
    use_rot: bool = False
    noise_std: NonNegative | Range | None = None  # 8-bit steps, or [low, high] drawn for each image
    noise_clip: bool = False
    seed: Natural = 0

    @model_validator(mode='after')
    def _crop(self) -> Self:
        if self.phase == 'train' and self.gt_size is None:
            raise ValueError('gt_size is missing, the side of the training crop')
        return self


class AugmentationOptions(CropOptions):
    """Augmentations of paired data sets."""

    noise_prob: Share = 1
    gray_prob: Share = 0
    grey_prob: Share | None = None  # deprecated name of gray_prob
    rescale_prob: Share = 0
    rescale_range: Annotated[
        Sequence[Annotated[Positive, Field(le=1)]], Field(min_length=2, max_length=2), AfterValidator(_rising)
    ] = (0.7, 1.0)


def gray_share(opt: dict[str, Any]) -> float:
    """Return `gray_prob`, also under its deprecated name, `grey_prob`, which is warned of."""
    if opt.get('grey_prob') is None:
        return opt.get('gray_prob', 0)
    warnings.warn('datasets.train.grey_prob is deprecated. Use gray_prob', FutureWarning, stacklevel=2)
    return opt['grey_prob']


class PairedOptions(PairedSourceOptions, AugmentationOptions):
    """Options of PairedDefocusDataset."""


class MixedSource(PairedSourceOptions):
    ratio: Positive  # share of the epoch, relative to the other sources


class MixedOptions(AugmentationOptions):
    """Options of MixedDefocusDataset."""

    sources: Annotated[list[MixedSource], Field(min_length=1)]
    io_backend: IoBackend | None = None


class SingleOptions(SourceOptions):
    """Options of SingleDefocusDataset."""


class SyntheticOptions(CropOptions):
    """Options of SyntheticDefocusDataset."""

    dataroot_gt: str | Sequence[str] | None = None
    builtin: bool = False
    photographs: Sequence[str] | None = None
    leave_out: Sequence[str] | None = None
    scenes: Literal[SCENES] = 'plain'  # type: ignore[valid-type]
    optics: str | dict[str, Any] | None = None
    max_blur_radius: Annotated[float, Field(ge=0.5, allow_inf_nan=False)] = 4


class LoaderOptions(Section):
    """Keys of a data set that BasicSR's loader reads."""

    name: Any = None
    type: str
    phase: str = 'train'
    scale: Any = None
    seed: Any = None
    io_backend: Any = None
    dataset_enlarge_ratio: Positive = 1
    batch_size_per_gpu: Count | None = None
    num_worker_per_gpu: Natural | None = None
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_mode: Literal['cpu', 'cuda'] | None = None
    num_prefetch_queue: Count = 1


def dataset_faults(where: str, dataset: dict[str, Any], base: type[LoaderOptions] = LoaderOptions) -> Faults:
    """Return the faults of a data set's options, {dotted key: message}. Raises OptionError for an unknown type.

    `base` has the keys that are not the data set's own. Unknown keys of data sets of other authors are accepted.
    """
    section = argument_section('datasets', registered(where, 'datasets', dataset))
    if section is None:
        return section_faults(base, dataset, where, allow_unknown=True)
    return section_faults(create_model(section.__name__, __base__=(section, base)), dataset, where)
