"""Fig. 6: kernels of a Fully-Learned network beside the fixed Gaussians of GGKMNet."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from ggkm_plugin.archs.ggkmnet_ablations_arch import GGKMNetFullyLearned, LearnedIGGCM
from ggkm_plugin.inspection.network import Subject
from ggkm_plugin.report import figures
from ggkm_plugin.report.tables import Table, csv_text, write
from ggkm_plugin.restoration.psf import effective_radius
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.files import write_whole, writing_into

PAPER = ((0, 0), (5, 0), (10, 0), (13, 1), (20, 3))  # groups and kernels, counted from 0

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def kernels(net: GGKMNetFullyLearned) -> list[Tensor]:
    """Return (Q,2p-1,2p-1) float64 for p = 2 .. P+1, of the first iteration."""
    blur = cast(LearnedIGGCM, next(iter(net.steps)).blur)
    return [group.detach().double() for group in blur.kernels]


def predefined(subject: Subject) -> list[Tensor]:
    """Return the Gaussians that its options initialize it with."""
    options = {**subject.options, 'type': 'GGKMNetFullyLearned', 'kernel_init': 'gaussian'}
    return kernels(registry.build('network', 'archs', options))


def draw(subject: Subject, folder: Path, names: Sequence[str] | None = None) -> tuple[str, list[Path]]:
    """Write kernels.png and kernels.csv; return the table of the kernels shown and the files.

    names: GROUP,Q of the kernels to show, by default the paper's. Raises OptionError for a network with fixed kernels
    or an unknown kernel, DataError if the files cannot be written.
    """
    if not isinstance(subject.net, GGKMNetFullyLearned):
        raise OptionError(f'{subject.name} has fixed kernels; name a checkpoint of GGKMNetFullyLearned with --weights')
    before, after = predefined(subject), kernels(subject.net)
    paper = [place for place in PAPER if place[0] < len(after) and place[1] < len(after[0])]
    places = paper if names is None else [_place(name, after) for name in names]
    measured = {
        (group, q): _measures(before[group][q], after[group][q])
        for group in range(len(after))
        for q in range(len(after[group]))
    }
    rows = [
        [f'g_{{{group},{q}}}', str(len(after[group][q])), *(f'{value:.3f}' for value in measured[group, q])]
        for group, q in places
    ]
    with writing_into(folder, '-o'):
        figures.write_png(_picture(subject, before, after, places), folder / 'kernels.png')
        write_whole(
            folder / 'kernels.csv',
            csv_text(
                ['group', 'q', 'size', 'radius_predefined', 'radius_learned', 'sum_learned', 'change', 'asymmetry'],
                [[*place, len(after[place[0]][place[1]]), *values] for place, values in measured.items()],
            ),
        )
    header = ['kernel', 'size', 'radius, predefined', 'radius, learned', 'sum, learned', 'change', 'asymmetry']
    note = (
        'radius: sqrt(sum r^2 |g| / sum |g|), pixels; change: |learned - predefined| / |predefined|; asymmetry: '
        "|learned - mean of its mirror images| / |learned|"
    )  # fmt: skip
    return write(Table(header, rows, notes=[note])), [folder / 'kernels.png', folder / 'kernels.csv']


def _place(name: str, known: list[Tensor]) -> tuple[int, int]:
    try:
        group, q = (int(part) for part in name.split(','))
    except ValueError as error:
        raise OptionError(f'--kernels {name}: write GROUP,Q, two whole numbers from 0') from error
    if not (0 <= group < len(known) and 0 <= q < len(known[group])):
        raise OptionError(f'--kernels {name}: there are groups 0 to {len(known) - 1} of {len(known[0])} kernels')
    return group, q


def _measures(before: Tensor, after: Tensor) -> list[float]:
    mirrored = torch.stack([kernel for turned in (after, after.mT) for kernel in _mirrors(turned)]).mean(dim=0)
    return [
        effective_radius(before).item(),
        effective_radius(after).item(),
        after.sum().item(),
        ((after - before).norm() / before.norm()).item(),
        ((after - mirrored).norm() / after.norm()).item(),
    ]


def _mirrors(kernel: Tensor) -> list[Tensor]:
    return [kernel, kernel.flip(0), kernel.flip(1), kernel.flip(0, 1)]


def _picture(
    subject: Subject, before: list[Tensor], after: list[Tensor], places: Sequence[tuple[int, int]]
) -> 'Figure':
    """Draw predefined kernels, learned ones and their difference in rows; each column has one color scale."""
    warning = '' if subject.trained else 'UNTRAINED: nothing has been learned'
    drawn = figures.figure(130 + 216 * len(places), 760, f'{subject.name}: {subject.source}', warning)
    grid = drawn.subplots(3, len(places), squeeze=False)
    for column, (group, q) in enumerate(places):
        fixed, learned = before[group][q].numpy(), after[group][q].numpy()
        most = float(np.abs(np.stack([fixed, learned])).max())
        for axes, kernel in zip(grid[:, column], (fixed, learned, learned - fixed), strict=True):
            figures.show_signed(axes, kernel, most)
        grid[0, column].set_title(f'$g_{{{group},{q}}}$, {len(fixed)}x{len(fixed)}', fontsize=11)
    for axes, name in zip(grid[:, 0], ('predefined', 'learned', 'difference'), strict=True):
        axes.set_ylabel(name, fontsize=11)
    drawn.supxlabel('white 0, vermilion positive, blue negative; one scale per column', fontsize=9, color=figures.FAINT)
    return drawn
