"""Fig. 9: t-SNE of the coefficients that a network predicts for the images of several data sets.

The alpha feature of an image is all its alpha vectors, of every scale and iteration; the beta feature is the
coefficient maps of the last step, for a central crop of fixed size. t-SNE is scikit-learn's, exact, from distances, and
depends on a seed. A number that does not: how often an image's nearest neighbor belongs to the same set.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ggkm_plugin.data.layouts import Pair
from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.data.sources import FolderSource, Source, open_source
from ggkm_plugin.inspection.network import Subject
from ggkm_plugin.report import figures
from ggkm_plugin.report.tables import csv_text
from ggkm_plugin.studies.psf_pairs import central
from ggkm_plugin.utils.errors import DataError, OptionError
from ggkm_plugin.utils.files import write_whole, writing_into
from ggkm_plugin.utils.image_decoding import image_files, to_float

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TsneSettings:
    """Settings of t-SNE; the defaults are the paper's.

    per_set: images of a set, None for the size of the smallest set (the paper draws as many of the largest set as the
    others have together).
    """

    perplexity: float = 15
    iterations: int = 5000
    size: int = 360
    per_set: int | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points (N,2) of a feature, and the share of images whose nearest neighbor belongs to the same set."""

    points: np.ndarray
    own_neighbors: float


@dataclass(frozen=True, eq=False)
class Embedding:
    """Data set and name of N images, and their points by alpha and beta. by_chance: expected share of neighbors."""

    datasets: list[str]
    images: list[str]
    alpha: Cloud
    beta: Cloud
    by_chance: float


def open_sets(words: Sequence[str]) -> dict[str, Source]:
    """Open NAME=DIR, folders of images or benchmarks (test split). Raises OptionError or DataError."""
    sets: dict[str, Source] = {}
    for word in words:
        name, equals, folder = word.partition('=')
        if not equals or not name or not folder or name in sets:
            raise OptionError(f'--data {word}: write NAME=DIR, each name once')
        try:
            sets[name] = FolderSource([Pair(path, None) for path in image_files(folder)])
        except DataError:
            sets[name] = open_source({'dataroot': folder, 'phase': 'test'}, needs_gt=False)
    return sets


def check_installed() -> None:
    """Raise OptionError if scikit-learn is missing."""
    if find_spec('sklearn') is None:
        raise OptionError("figure tsne needs scikit-learn: `pip install 'ggkm_plugin[figures]'`")


def embed(
    subject: Subject, sets: dict[str, Source], settings: TsneSettings, tell: Callable[[str], object]
) -> Embedding:
    """Run the network on the images and t-SNE on its coefficients.

    Raises DataError for an image smaller than the crop, OptionError for too few images for the perplexity.
    """
    count = settings.per_set or min(len(source.pairs) for source in sets.values())
    drawn = random.Random(settings.seed)
    chosen = [
        (name, source, pair.lq)
        for name, source in sets.items()
        for pair in sorted(drawn.sample(source.pairs, min(count, len(source.pairs))))
    ]
    if len(chosen) <= settings.perplexity + 1:
        raise OptionError(f'{len(chosen)} images are too few for a perplexity of {settings.perplexity:g}; lower it')
    features = []
    for number, (name, source, path) in enumerate(chosen):
        tell(f'{number + 1} of {len(chosen)}: {name}, {Path(path).stem}')
        features.append(_coefficients(subject, source, path, settings.size))
    labels = np.array([name for name, _, _ in chosen])
    alpha, beta = (_cloud(np.stack(feature), labels, settings) for feature in zip(*features, strict=True))
    shares = [(labels == name).sum() for name in sets]
    chance = sum(share * (share - 1) for share in shares) / (len(labels) * (len(labels) - 1))
    names = [Path(path).stem for _, _, path in chosen]
    return Embedding(labels.tolist(), names, alpha, beta, float(chance))


def _coefficients(subject: Subject, source: Source, path: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    pixels = source.image(path)
    height, width = pixels.shape[:2]
    if min(height, width) < size:
        raise DataError(f'{path}: {height}x{width} is smaller than the crop of {size}; lower --size')
    image = to_tensor(to_float(pixels[central(height, width, size)]))
    with torch.no_grad():
        found = subject.net.coefficients(image[None])
    alpha = torch.cat([coefficients.alpha.flatten() for coefficients in found])
    return alpha.numpy(), found[-1].beta.flatten().numpy()


def _cloud(features: np.ndarray, labels: np.ndarray, settings: TsneSettings) -> Cloud:
    """Embed features (N,D), and compute the share of images whose nearest other image has the same label."""
    from sklearn.manifold import TSNE
    from sklearn.metrics import pairwise_distances

    distances = pairwise_distances(features)
    others = distances + np.diag(np.full(len(distances), np.inf))
    own_neighbors = float((labels[others.argmin(axis=1)] == labels).mean())
    tsne = TSNE(
        perplexity=settings.perplexity,
        max_iter=settings.iterations,
        n_iter_without_progress=settings.iterations,
        min_grad_norm=0,
        metric='precomputed',
        init='random',
        method='exact',
        random_state=settings.seed,
    )
    return Cloud(tsne.fit_transform(distances), own_neighbors)


def _picture(found: Embedding, subject: Subject) -> 'Figure':
    warning = '' if subject.trained else 'UNTRAINED'
    drawn = figures.figure(1150, 560, f'{subject.name}: {subject.source}', warning)
    names = list(dict.fromkeys(found.datasets))
    panels = drawn.subplots(1, 2)
    for axes, title, cloud in zip(panels, ('alpha', 'beta'), (found.alpha, found.beta), strict=True):
        for index, name in enumerate(names):
            own = cloud.points[[dataset == name for dataset in found.datasets]]
            color, marker = figures.COLORS[index % len(figures.COLORS)], figures.MARKERS[index % len(figures.MARKERS)]
            axes.scatter(own[:, 0], own[:, 1], s=28, color=color, marker=marker, label=name)
        axes.set_title(f'{title}: nearest neighbor in the same set {cloud.own_neighbors:.0%}', fontsize=11)
        axes.set(xlabel='t-SNE 1', ylabel='t-SNE 2')
        axes.grid(color=figures.RULE)
        axes.set_axisbelow(True)
    drawn.legend(*panels[0].get_legend_handles_labels(), loc='outside lower center', ncols=max(1, min(6, len(names))))
    return drawn


def write(found: Embedding, subject: Subject, settings: TsneSettings, folder: Path) -> tuple[str, list[Path]]:
    """Write tsne.png and tsne.csv; return a summary and the files. Raises DataError."""
    rows = [
        [dataset, image, *alpha, *beta, subject.name, subject.source]
        for dataset, image, alpha, beta in zip(
            found.datasets, found.images, found.alpha.points, found.beta.points, strict=True
        )
    ]
    with writing_into(folder, '-o'):
        figures.write_png(_picture(found, subject), folder / 'tsne.png')
        header = ['dataset', 'image', 'alpha_x', 'alpha_y', 'beta_x', 'beta_y', 'network', 'weights']
        write_whole(folder / 'tsne.csv', csv_text(header, rows))
    summary = (
        f'{subject.name}: {subject.source}\n{len(rows)} images of {len(set(found.datasets))} sets, crops of '
        f'{settings.size}, perplexity {settings.perplexity:g}, {settings.iterations} iterations, seed {settings.seed}\n'
        f'nearest neighbor in the same set: alpha {found.alpha.own_neighbors:.0%}, '
        f'beta {found.beta.own_neighbors:.0%}, by chance {found.by_chance:.0%}'
    )
    return summary, [folder / 'tsne.png', folder / 'tsne.csv']
