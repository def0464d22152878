"""The complexity figures that the GGKMNet paper prints, beside what our networks cost in its own unit.

Of the methods that it compares with, also beside what was counted on the originals.

The unit: 1280x720, half of thop's count (`complexity`). With S = 3 scales the paper counts the IGGCM, whose chain of
blur kernels it must have counted as separable passes; with S = 1 and 2, for the dagger and without LSTM it leaves the
chain out: only so do its figures and ours agree. T, S and R are `num_scales` and `num_iters`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ggkm_plugin.evaluation.complexity import PAPER_SIZE, Count, count_macs, count_parameters
from ggkm_plugin.report.tables import aligned
from ggkm_plugin.utils import registry

_LEFT_OUT = 'the paper leaves the IGGCM out of this row'
_HEAD = 'its parameters are those of alpha_head: lstm_fc with the SRM'
_HEADS = 'its parameters are those with the heads that only train'
_UNEXPLAINED = 'neither half of thop nor the true count'
_UNIT = 'fuse: none and beta_path2: c3 with beta_norm: bn give'


@dataclass(frozen=True)
class Row:
    """A row of the paper's tables and the network of ours that answers to it.

    `counts_kernels`: the paper counts the blur kernels here. `expected`: our GMACs in the paper's unit, or None where
    no single model explains the figure. `note`: why the two differ. `recorded`: parameters, training-only ones
    included, and true GMACs of the original, counted on it or on an independent rewrite; None where they were not.
    """

    label: str
    source: str
    paper_parameters: float  # millions
    paper_gmacs: float
    arch: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    counts_kernels: bool = True
    expected: float | None = None
    note: str = ''
    recorded: tuple[int, float | None] | None = None

    @property
    def configuration(self) -> str:
        return f'{self.arch}({", ".join(f"{key}={value}" for key, value in self.arguments.items())})'


ROWS: tuple[Row, ...] = (
    Row('GGKMNet', 'Tables 2, 8, 10, 11', 1.68, 158.4, 'GGKMNet', {}, True, 158.7, f'{_HEAD}; {_UNIT} 158.5'),
    Row(
        'GGKMNet-dagger',
        'Tables 2, 3',
        5.93,
        518.9,
        'GGKMNet',
        {'enc_blocks': (12, 12, 12)},
        False,
        519.4,
        f'{_LEFT_OUT}; {_HEAD}',
    ),
    Row(
        'standard convolutions',
        'Sec. 5.2',
        1.68,
        171.4,
        'GGKMNet',
        {'iterative': False},
        True,
        None,
        'the paper says +13 G without telling how; separable passes cost the same in a chain or apart, dense kernels '
        'would add 18.6 G',
    ),
    Row(
        'w/o Group (21)',
        'Table 8',
        1.68,
        152.3,
        'GGKMNetNoGroup',
        {'num_kernels': 21},
        True,
        152.4,
        'no alpha-APU: its 1.68M are not explained',
    ),
    Row(
        'w/o Group (84)',
        'Table 8',
        4.60,
        673.4,
        'GGKMNetNoGroup',
        {'num_kernels': 84},
        True,
        None,
        'no single model explains both figures',
    ),
    Row(
        'w/o LSTM (N)',
        'Table 8',
        4.72,
        136.1,
        'GGKMNetNoLSTM',
        {'shared': False},
        False,
        136.3,
        f'{_LEFT_OUT}; the whole step has its own weights per scale, only so its 4.72M are near',
    ),
    Row('w/o LSTM (S)', 'Table 8', 1.55, 136.1, 'GGKMNetNoLSTM', {'shared': True}, False, 136.3, _LEFT_OUT),
    Row('GGKMNet(1)', 'Table 8', 1.68, 115.3, 'GGKMNet', {'num_scales': 1}, False, 115.5, _LEFT_OUT),
    Row('MCP-Net', 'Table 8', 1.55, 136.0, 'MCPNet', {}, False, 136.2, 'has no IGGCM'),
    *(
        Row(
            f'Fully-Learned ({label})',
            'Table 8',
            1.68,
            158.7,
            'GGKMNetFullyLearned',
            {'kernel_init': start},
            True,
            158.7,
            'the kernels of the chain counted as separable passes',
        )
        for label, start in (('R', 'random'), ('G', 'gaussian'))
    ),
    Row(
        'w/o one of the losses',
        'Table 8',
        1.68,
        158.4,
        'GGKMNet',
        {},
        True,
        158.7,
        'the network of the first row; without l_SR there is no SRM to train',
    ),
    Row(
        'P=10, Q=1',
        'Table 10',
        1.65,
        151.3,
        'GGKMNet',
        {'num_groups': 10, 'kernels_per_group': 1},
        True,
        None,
        'P=10 has 11 coefficient maps; the figure needs 22',
    ),
    Row(
        'P=21, Q=1',
        'Table 10',
        1.68,
        152.2,
        'GGKMNet',
        {'num_groups': 21, 'kernels_per_group': 1},
        True,
        153.4,
        'the paper repeats its model w/o Group (21), whose kernels are smaller; ours is a chain of 3x3 to 43x43',
    ),
    Row(
        'P=84, Q=1',
        'Table 10',
        4.60,
        673.4,
        'GGKMNet',
        {'num_groups': 84, 'kernels_per_group': 1},
        True,
        None,
        'no single model explains both figures',
    ),
    *(
        Row(
            f'S={scales}, R={iterations}',
            'Table 11',
            parameters,
            gmacs,
            'GGKMNet',
            {'num_scales': scales, 'num_iters': iterations},
            scales == 3,
            expected,
            _HEAD if scales == 3 else f'{_LEFT_OUT}; {_HEAD}',
        )
        for scales, iterations, parameters, gmacs, expected in (
            (1, 3, 5.02, 345.8, 346.4),
            (2, 1, 1.68, 144.1, 144.3),
            (2, 2, 3.35, 288.2, 288.7),
            (2, 3, 5.02, 432.2, 433.0),
            (3, 2, 3.35, 317.2, 317.4),
        )
    ),
    Row('NRKNet', 'Table 2', 6.09, 552.8, 'NRKNet', {}, False, 552.8, 'thop does not see its recursive kernels'),
    Row(
        'GKMNet',
        'Table 2',
        1.47,
        147.8,
        'GKMNet',
        {},
        False,
        148.1,
        'thop does not see its Gaussian convolutions; 147.8 without the triplet attention; Table 11 has 1.41M',
    ),
    Row(
        'DPDNet-S',
        'Table 2',
        35.25,
        484.8,
        'DPDNetS',
        counts_kernels=False,
        note="the paper's figures are of another implementation",
        recorded=(31_033_423, 769.5),
    ),
    Row(
        'AIFNet',
        'Table 2',
        41.56,
        984.7,
        'AIFNet',
        counts_kernels=False,
        note=f'{_UNEXPLAINED}; {_HEADS}',
        recorded=(41_557_358, 1706.8),
    ),
    Row('MDP', 'Table 2', 46.86, 1080.8, 'MDP', counts_kernels=False, note=_UNEXPLAINED, recorded=(46_860_397, 1897.6)),
    Row(
        'KPAC',
        'Table 2',
        2.06,
        98.5,
        'KPAC',
        counts_kernels=False,
        note='neither half of thop, which does not see its shared kernels, nor the true count',
        recorded=(2_057_893, 113.0),
    ),
    Row(
        'IFANet',
        'Table 2',
        10.48,
        362.9,
        'IFAN',
        counts_kernels=False,
        note='the paper has the true count, nearly',
        recorded=(10_476_996, 361.7),
    ),
    Row(
        'DRBNet',
        'Table 2',
        11.7,
        346.6,
        'DRBNet',
        counts_kernels=False,
        expected=345.6,
        note='thop does not see its per-pixel kernels',
        recorded=(11_689_616, 623.5),
    ),
    Row('SRN', 'Table 2', 10.25, 763.0, 'SRN', counts_kernels=False, expected=763.0, recorded=(10_250_723, 1433.1)),
    Row(
        'AttSRN',
        'Table 2',
        10.28,
        763.8,
        'AttSRN',
        counts_kernels=False,
        expected=763.7,
        note='where the attention is counted is not known',
        recorded=(10_276_529, None),
    ),
)


@dataclass(frozen=True)
class Result:
    """A row beside our figures: parameters in millions without and with what only training uses, GMACs at 1280x720.

    `gmacs` is in the paper's unit, the blur kernels counted as the paper does in that row; `true_gmacs` has them.
    `difference` is that of `gmacs` from the paper, in percent. The recorded ones are as `Row` has them, None elsewhere.
    """

    row: str
    source: str
    configuration: str
    paper_parameters: float
    inference_parameters: float
    parameters: float
    paper_gmacs: float
    gmacs: float
    difference: float
    counts_kernels: bool
    expected: float | None
    true_gmacs: float
    recorded_parameters: float | None
    recorded_gmacs: float | None
    note: str


def calibrate(rows: Sequence[Row] = ROWS, done: Callable[[Result], object] = lambda result: None) -> list[Result]:
    """Count every row's network; `done` is told each result as it comes. A second or two a row, a GPU is not used.

    Raises OptionError if an arch is not registered.
    """
    counts: dict[str, tuple[int, int, Count]] = {}
    results = []
    for row in rows:
        if row.configuration not in counts:
            counts[row.configuration] = _count(row)
        inference, parameters, count = counts[row.configuration]
        gmacs = (count.paper_macs if row.counts_kernels else count.paper_macs_without_kernels) / 1e9
        recorded, recorded_gmacs = row.recorded or (None, None)
        results.append(
            Result(
                row.label,
                row.source,
                row.configuration,
                row.paper_parameters,
                inference / 1e6,
                parameters / 1e6,
                row.paper_gmacs,
                gmacs,
                100 * (gmacs / row.paper_gmacs - 1),
                row.counts_kernels,
                row.expected,
                count.macs / 1e9,
                None if recorded is None else recorded / 1e6,
                recorded_gmacs,
                row.note,
            )
        )
        done(results[-1])
    return results


def _count(row: Row) -> tuple[int, int, Count]:
    net = registry.build(row.label, 'archs', {'type': row.arch, **row.arguments})
    parameters, inference = count_parameters(net)
    return inference, parameters, count_macs(net, (1, 3, *PAPER_SIZE), row.configuration)


def table(results: Sequence[Result]) -> str:
    """A table for people: the paper's figures, ours, and below it the reason of each difference."""
    header = (
        'row', 'paper M', 'ours M', 'in training', 'recorded M', 'paper G', 'ours G', 'differ', 'IGGCM', 'true G',
        'recorded G', 'note',
    )  # fmt: skip
    notes: dict[str, int] = {}
    lines = [
        (
            result.row,
            f'{result.paper_parameters:.2f}',
            f'{result.inference_parameters:.3f}',
            f'{result.parameters:.3f}',
            '-' if result.recorded_parameters is None else f'{result.recorded_parameters:.3f}',
            f'{result.paper_gmacs:.1f}',
            f'{result.gmacs:.1f}',
            f'{result.difference:+.1f} %',
            'counted' if result.counts_kernels else 'left out',
            f'{result.true_gmacs:.1f}',
            '-' if result.recorded_gmacs is None else f'{result.recorded_gmacs:.1f}',
            f'[{notes.setdefault(result.note, len(notes) + 1)}]' if result.note else '',
        )
        for result in results
    ]
    return '\n'.join(
        [
            aligned(header, lines),
            '',
            "M: million parameters, ours without and with what only training uses. G: GMACs at 1280x720 in the paper's "
            'convention (thop / 2), IGGCM: whether the row counts it; true G: torch.utils.flop_counter / 2, all of it. '
            'recorded: counted on the original network, or on a rewrite that is not ours: in training, and true.',
            *(f'[{number}] {note}' for note, number in notes.items()),
        ]
    )
