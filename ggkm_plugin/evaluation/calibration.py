"""Complexity of this package's networks beside the figures of the GGKMNet paper (`paper`).

Both in the paper's unit: 1280x720, half of thop's count (`complexity`). With S = 3 scales the paper's figures include
the IGGCM, its kernels counted as separable passes. With S = 1 and 2, for GGKMNet-dagger and without LSTM they leave the
IGGCM out: only so do they agree with the counts here. T, S and R are `num_scales` and `num_iters`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ggkm_plugin.evaluation import paper
from ggkm_plugin.evaluation.complexity import PAPER_SIZE, Count, count_macs, count_parameters
from ggkm_plugin.evaluation.paper import TABLE_2, TABLE_8, TABLE_10, TABLE_11, PaperRow
from ggkm_plugin.report.tables import Cell, Table, fixed, write
from ggkm_plugin.utils import registry

_LEFT_OUT = 'the paper leaves the IGGCM out of this row'
_HEAD = 'its parameters are those of alpha_head: lstm_fc with the SRM'
_HEADS = 'its parameters include the heads used only in training'
_UNEXPLAINED = 'neither half of thop nor the true count'
_NO_MODEL = 'no single model explains both figures'
_UNIT = 'fuse: none and beta_path2: c3 with beta_norm: bn give'


@dataclass(frozen=True)
class PaperNetwork:
    """A row of the paper's tables and the registered network that corresponds to it.

    counts_kernels: the paper's figure includes the blur kernels. expected: GMACs of this package's network in the
    paper's unit, None where no single model explains the figure. note: why the two differ. recorded: parameters,
    training-only ones included, and true GMACs of the original or of an independent rewrite; None where unknown.
    """

    label: str
    source: str
    paper: PaperRow
    arch: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    counts_kernels: bool = False
    expected: float | None = None
    note: str = ''
    recorded: tuple[int, float | None] | None = None

    @property
    def configuration(self) -> str:
        return f'{self.arch}({", ".join(f"{key}={value}" for key, value in self.arguments.items())})'


def _method(
    label: str, arch: str, recorded: tuple[int, float | None] | None, note: str, expected: float | None = None
) -> PaperNetwork:
    return PaperNetwork(label, 'Table 2', TABLE_2[label], arch, {}, False, expected, note, recorded)


_GGKMNET = TABLE_2['GGKMNet']
_STANDARD = PaperRow(
    parameters=_GGKMNET.parameters, gmacs=(_GGKMNET.gmacs or 0) + (paper.STANDARD_CONVOLUTIONS.gmacs or 0)
)
NETWORKS: tuple[PaperNetwork, ...] = (
    PaperNetwork(
        'GGKMNet', 'Tables 2, 8, 10, 11', _GGKMNET, 'GGKMNet', {}, True, 158.7, f'{_HEAD}; {_UNIT} 158.5'
    ),
    PaperNetwork(
        paper.DAGGER, 'Tables 2, 3', TABLE_2[paper.DAGGER], 'GGKMNet', {'enc_blocks': (12, 12, 12)}, False, 519.4,
        f'{_LEFT_OUT}; {_HEAD}',
    ),
    PaperNetwork(
        'standard convolutions', 'Sec. 5.2', _STANDARD, 'GGKMNet', {'iterative': False}, True, None,
        'the paper does not say how it counts +13 G; separable passes cost the same in a chain or apart, dense kernels '
        'would add 18.6 G',
    ),
    *(
        PaperNetwork(label, 'Table 8', TABLE_8[label], arch, arguments, counts_kernels, expected, note)
        for label, arch, arguments, counts_kernels, expected, note in (
            ('w/o Group (21)', 'GGKMNetNoGroup', {'num_kernels': 21}, True, 152.4,
             'no alpha-APU: its 1.68M are not explained'),
            ('w/o Group (84)', 'GGKMNetNoGroup', {'num_kernels': 84}, True, None, _NO_MODEL),
            ('w/o LSTM (N)', 'GGKMNetNoLSTM', {'shared': False}, False, 136.3,
             f'{_LEFT_OUT}; only with separate weights of the whole step for each scale its 4.72M are near'),
            ('w/o LSTM (S)', 'GGKMNetNoLSTM', {'shared': True}, False, 136.3, _LEFT_OUT),
            ('GGKMNet(1)', 'GGKMNet', {'num_scales': 1}, False, 115.5, _LEFT_OUT),
            ('MCP-Net', 'MCPNet', {}, False, 136.2, 'has no IGGCM'),
            ('Fully-Learned (R)', 'GGKMNetFullyLearned', {'kernel_init': 'random'}, True, 158.7,
             'the kernels of the chain counted as separable passes'),
            ('Fully-Learned (G)', 'GGKMNetFullyLearned', {'kernel_init': 'gaussian'}, True, 158.7,
             'the kernels of the chain counted as separable passes'),
        )
    ),
    PaperNetwork(
        'w/o one of the losses', 'Table 8', TABLE_8['w/o l_FR'], 'GGKMNet', {}, True, 158.7,
        'the network of the first row; without l_SR there is no SRM to train',
    ),
    *(
        PaperNetwork(
            label, 'Table 10', TABLE_10[label], 'GGKMNet', {'num_groups': groups, 'kernels_per_group': 1}, True,
            expected, note,
        )
        for label, groups, expected, note in (
            ('P=10, Q=1', 10, None, 'P=10 has 11 coefficient maps; the figure needs 22'),
            ('P=21, Q=1', 21, 153.4, 'the paper repeats its model w/o Group (21), whose kernels are smaller; this one '
             'is a chain of 3x3 to 43x43'),
            ('P=84, Q=1', 84, None, _NO_MODEL),
        )
    ),
    *(
        PaperNetwork(
            f'S={scales}, R={iterations}', 'Table 11', TABLE_11['GGKMNet'][f'S={scales}, R={iterations}'], 'GGKMNet',
            {'num_scales': scales, 'num_iters': iterations}, scales == 3, expected,
            _HEAD if scales == 3 else f'{_LEFT_OUT}; {_HEAD}',
        )
        for scales, iterations, expected in (
            (1, 3, 346.4), (2, 1, 144.3), (2, 2, 288.7), (2, 3, 433.0), (3, 2, 317.4),
        )
    ),
    *(
        PaperNetwork(
            f'GKMNet, {label}', 'Table 11', row, 'GKMNet',
            {'num_scales': int(label[2]), 'num_iters': int(label[-1])}, False, expected,
            note if expected is None else 'the paper has 1.407M an iteration',
        )
        for note in ("the paper's figures do not grow in proportion to R",)
        for (label, row), expected in zip(
            TABLE_11['GKMNet'].items(), (None, None, None, 423.1, 148.1, 296.2), strict=True
        )
        if label != 'S=3, R=1'
    ),
    _method('NRKNet', 'NRKNet', None, 'thop does not see its recursive kernels', 552.8),
    _method(
        'GKMNet', 'GKMNet', None,
        'thop does not see its Gaussian convolutions; 147.8 without the triplet attention; Table 11 has 1.41M', 148.1,
    ),
    _method('DPDNet-S', 'DPDNetS', (31_033_423, 769.5), "the paper's figures are of another implementation"),
    _method('AIFNet', 'AIFNet', (41_557_358, 1706.8), f'{_UNEXPLAINED}; {_HEADS}'),
    _method('MDP', 'MDP', (46_860_397, 1897.6), _UNEXPLAINED),
    _method(
        'KPAC', 'KPAC', (2_057_893, 113.0),
        'neither half of thop, which does not see its shared kernels, nor the true count',
    ),
    _method('IFANet', 'IFAN', (10_476_996, 361.7), 'the paper has nearly the true count'),
    _method('DRBNet', 'DRBNet', (11_689_616, 623.5), 'thop does not see its per-pixel kernels', 345.6),
    _method('SRN', 'SRN', (10_250_723, 1433.1), '', 763.0),
    _method('AttSRN', 'AttSRN', (10_276_529, None), 'where the attention is counted is not known', 763.7),
)  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """A `PaperNetwork` as counted: parameters in millions without and with the training-only ones, GMACs at 1280x720.

    gmacs: in the paper's unit, with the blur kernels where the paper counts them. true_gmacs: with all of them.
    difference: of `gmacs` from the paper, in percent. recorded_*: as in `PaperNetwork`.
    """

    row: str
    source: str
    configuration: str
    paper_parameters: float | None
    inference_parameters: float
    parameters: float
    paper_gmacs: float | None
    gmacs: float
    difference: float
    counts_kernels: bool
    expected: float | None
    true_gmacs: float
    recorded_parameters: float | None
    recorded_gmacs: float | None
    note: str


def calibrate(networks: Sequence[PaperNetwork] = NETWORKS) -> list[Calibration]:
    """Count every network. A second or two per network, no GPU.

    Raises OptionError if an arch is not registered.
    """
    counts: dict[str, tuple[int, int, Count]] = {}
    results = []
    for row in networks:
        if row.configuration not in counts:
            counts[row.configuration] = _count(row)
        inference, parameters, count = counts[row.configuration]
        gmacs = (count.paper_macs if row.counts_kernels else count.paper_macs_without_kernels) / 1e9
        recorded, recorded_gmacs = row.recorded or (None, None)
        results.append(
            Calibration(
                row.label,
                row.source,
                row.configuration,
                row.paper.parameters,
                inference / 1e6,
                parameters / 1e6,
                row.paper.gmacs,
                gmacs,
                100 * (gmacs / (row.paper.gmacs or gmacs) - 1),
                row.counts_kernels,
                row.expected,
                count.macs / 1e9,
                None if recorded is None else recorded / 1e6,
                recorded_gmacs,
                row.note,
            )
        )
    return results


def _count(row: PaperNetwork) -> tuple[int, int, Count]:
    net = registry.build(row.label, 'archs', {'type': row.arch, **row.arguments})
    parameters, inference = count_parameters(net)
    return inference, parameters, count_macs(net, (1, 3, *PAPER_SIZE), row.configuration)


def table(results: Sequence[Calibration]) -> str:
    """Return the terminal table: the paper's figures, those counted here, and why they differ as footnotes."""
    header = (
        'row', 'paper M', 'here M', 'in training', 'recorded M', 'paper G', 'here G', 'difference', 'IGGCM', 'true G',
        'recorded G',
    )  # fmt: skip
    rows = [
        (
            result.row,
            fixed(result.paper_parameters, 2),
            fixed(result.inference_parameters, 3),
            fixed(result.parameters, 3),
            fixed(result.recorded_parameters, 3),
            fixed(result.paper_gmacs, 1),
            fixed(result.gmacs, 1),
            f'{result.difference:+.1f} %',
            'counted' if result.counts_kernels else 'left out',
            fixed(result.true_gmacs, 1),
            Cell(fixed(result.recorded_gmacs, 1), footnote=result.note),
        )
        for result in results
    ]
    note = (
        'M: million parameters, here without and with the training-only ones. G: GMACs at 1280x720 in the paper\'s '
        'convention (thop / 2). IGGCM: whether the row counts it. true G: torch.utils.flop_counter / 2, all of it. '
        'recorded: counted on the original network or on an independent rewrite, in training, and true.'
    )  # fmt: skip
    return write(Table(header, rows, notes=['', note]))
