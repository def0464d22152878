"""Fig. 6: the kernels of a Fully-Learned network beside the Gaussians that GGKMNet fixes."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ggkm_plugin.archs.ggkmnet_ablations_arch import GGKMNetFullyLearned, LearnedIGGCM
from ggkm_plugin.inspection.network import Subject
from ggkm_plugin.inspection.psf import effective_radius
from ggkm_plugin.report import drawing, tables
from ggkm_plugin.utils import registry
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.files import write_whole, writing_into

PAPER = ((0, 0), (5, 0), (10, 0), (13, 1), (20, 3))  # groups and kernels, counted from 0
_SIDE, _GAP, _LEFT, _TOP = 200, 16, 130, 96


def kernels(net: GGKMNetFullyLearned) -> list[Tensor]:
    """(Q,2p-1,2p-1) float64 for p = 2 .. P+1, of the first iteration."""
    blur = cast(LearnedIGGCM, next(iter(net.steps)).blur)
    return [group.detach().double() for group in blur.kernels]


def predefined(subject: Subject) -> list[Tensor]:
    """The Gaussians at the same places: those that its options start it from."""
    options = {**subject.options, 'type': 'GGKMNetFullyLearned', 'kernel_init': 'gaussian'}
    return kernels(registry.build('network', 'archs', options))


def draw(subject: Subject, folder: Path, names: Sequence[str] | None = None) -> tuple[str, list[Path]]:
    """Write kernels.png and kernels.csv; also the table of the kernels shown, for people: GROUP,Q, or the paper's.

    Raises OptionError for a network of fixed kernels and for a kernel that is not there, DataError if it cannot write.
    """
    if not isinstance(subject.net, GGKMNetFullyLearned):
        raise OptionError(f'{subject.name} has fixed kernels; name a checkpoint of GGKMNetFullyLearned with --weights')
    before, after = predefined(subject), kernels(subject.net)
    paper = [place for place in PAPER if place[0] < len(after) and place[1] < len(after[0])]
    places = paper if names is None else [_place(name, after) for name in names]
    header = ['kernel', 'size', 'radius, predefined', 'radius, learned', 'sum, learned', 'change', 'asymmetry']
    figures = {
        (group, q): _figures(before[group][q], after[group][q])
        for group in range(len(after))
        for q in range(len(after[group]))
    }
    shown = [
        [f'g_{{{group},{q}}}', str(len(after[group][q])), *(f'{value:.3f}' for value in figures[group, q])]
        for group, q in places
    ]
    full = [[*place, len(after[place[0]][place[1]]), *values] for place, values in figures.items()]
    with writing_into(folder, '-o'):
        drawing.write_png(_picture(subject, before, after, places), folder / 'kernels.png')
        write_whole(
            folder / 'kernels.csv',
            tables.csv_text(
                ['group', 'q', 'size', 'radius_predefined', 'radius_learned', 'sum_learned', 'change', 'asymmetry'],
                full,
            ),
        )
    note = (
        'radius: sqrt(sum r^2 |g| / sum |g|), pixels; change: |learned - predefined| / |predefined|; asymmetry: '
        '|learned - its mirror images\' mean| / |learned|'
    )  # fmt: skip
    return '\n'.join([tables.text(header, shown), note]), [folder / 'kernels.png', folder / 'kernels.csv']


def _place(name: str, known: list[Tensor]) -> tuple[int, int]:
    try:
        group, q = (int(part) for part in name.split(','))
    except ValueError as error:
        raise OptionError(f'--kernels {name}: write GROUP,Q, two whole numbers from 0') from error
    if not (0 <= group < len(known) and 0 <= q < len(known[group])):
        raise OptionError(f'--kernels {name}: there are groups 0 to {len(known) - 1} of {len(known[0])} kernels')
    return group, q


def _figures(before: Tensor, after: Tensor) -> list[float]:
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
) -> Image.Image:
    """Three rows: predefined, learned, their difference; each column on one scale."""
    rows = ['predefined', 'learned', 'difference']
    width = _LEFT + len(places) * (_SIDE + _GAP) + _GAP
    sheet = Image.new('RGB', (width, _TOP + 3 * (_SIDE + _GAP) + 40), drawing.PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, 12), f'{subject.name}: {subject.source}', drawing.INK, drawing.font(18))
    if not subject.trained:
        pen.text((_GAP, 38), 'UNTRAINED: nothing has been learned', drawing.WARM, drawing.font(18))
    for row, name in enumerate(rows):
        pen.text((_GAP, _TOP + row * (_SIDE + _GAP) + _SIDE / 2), name, drawing.INK, drawing.font(16), anchor='lm')
    for column, (group, q) in enumerate(places):
        left = _LEFT + column * (_SIDE + _GAP)
        fixed, learned = before[group][q].numpy(), after[group][q].numpy()
        most = float(np.abs(np.stack([fixed, learned])).max())
        title = f'g_{{{group},{q}}}, {len(fixed)}x{len(fixed)}'
        pen.text((left + _SIDE / 2, _TOP - 8), title, drawing.INK, drawing.font(15), anchor='ms')
        for row, kernel in enumerate((fixed, learned, learned - fixed)):
            top = _TOP + row * (_SIDE + _GAP)
            sheet.paste(drawing.resized(drawing.diverging(kernel, most), _SIDE, _SIDE), (left, top))
            pen.rectangle((left, top, left + _SIDE - 1, top + _SIDE - 1), outline=drawing.RULE)
    words = 'White is 0, vermilion positive, blue negative; one scale a column, its largest value full.'
    pen.text((_GAP, sheet.height - 32), words, drawing.FAINT, drawing.font(14))
    return sheet
