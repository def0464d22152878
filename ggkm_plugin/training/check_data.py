"""Check the headers of all images of data sets before a run starts."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from tqdm import tqdm

from ggkm_plugin.data.mixed_defocus_dataset import MixedDefocusDataset
from ggkm_plugin.data.paired_defocus_dataset import PairedDefocusDataset
from ggkm_plugin.data.sampling import check_crop
from ggkm_plugin.data.single_defocus_dataset import SingleDefocusDataset
from ggkm_plugin.data.sources import check_bit_depth
from ggkm_plugin.data.synthetic_defocus_dataset import SyntheticDefocusDataset
from ggkm_plugin.utils.errors import DataError
from ggkm_plugin.utils.image_header import Header, read_header

# Reading headers waits for the disk, so more threads than cores.
_THREADS = 16
# Faults of one data set that are listed.
_MOST = 100

_Read = Callable[[str], Header]
# Names of images, and what their headers must satisfy.
_Item = tuple[tuple[str, ...], Callable[..., None]]


def image_faults(datasets: dict[str, Any]) -> list[str]:
    """Return the faults of all images of built data sets, {key in the option file: data set}.

    Checked are: readable and complete files, sizes and bit depths of pairs, and the size of training crops. Data sets
    of BasicSR and of other authors are not checked. Shows progress on stderr.
    """
    items = [
        (where, read, names, check) for where, dataset in datasets.items() for read, (names, check) in _items(dataset)
    ]
    jobs = {(read, name): None for _, read, names, _ in items for name in names}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(_tried, *zip(*jobs, strict=True)) if jobs else ()
        headers = dict(zip(jobs, tqdm(found, 'checking images', len(jobs), leave=False, disable=None), strict=True))
    faults: dict[str, dict[str, None]] = {}
    for where, read, names, check in items:
        of_images = [headers[read, name] for name in names]
        messages = [header for header in of_images if isinstance(header, str)]
        if not messages:
            try:
                check(*of_images)
            except DataError as error:
                messages = [str(error)]
        faults.setdefault(where, {}).update(dict.fromkeys(f'{where}: {message}' for message in messages))
    listed = []
    for where, of_dataset in faults.items():
        listed += list(of_dataset)[:_MOST]
        if len(of_dataset) > _MOST:
            listed.append(f'{where}: {len(of_dataset) - _MOST} more images are wrong')
    return listed


def _tried(read: _Read, name: str) -> Header | str:
    try:
        return read(name)
    except DataError as error:
        return str(error)


def _items(dataset: Any) -> Iterator[tuple[_Read, _Item]]:
    """Yield (header reader, item) for each image or pair of a data set."""
    if isinstance(dataset, MixedDefocusDataset):
        for source in dataset.datasets:
            yield from _items(source)
    elif isinstance(dataset, PairedDefocusDataset):
        for lq, gt in dataset.pairs:
            yield dataset.source.header, ((lq, str(gt)), partial(_check_pair, dataset, lq, str(gt)))
    elif isinstance(dataset, SingleDefocusDataset):
        for path in dataset.paths:
            yield dataset.source.header, ((path,), partial(_check_single, dataset, path))
    elif isinstance(dataset, SyntheticDefocusDataset):
        for photograph in dataset.photographs:
            yield read_header, ((photograph.path,), partial(dataset.check_size, photograph))


def _check_pair(dataset: PairedDefocusDataset, lq_path: str, gt_path: str, lq: Header, gt: Header) -> None:
    dataset.check_pair(lq, gt, lq_path, gt_path)
    if dataset.training:
        check_crop(gt.shape[0], gt.shape[1], dataset.opt['gt_size'], lq_path)


def _check_single(dataset: SingleDefocusDataset, path: str, header: Header) -> None:
    check_bit_depth(dataset.opt, header, path)
