"""Studies of `basicsr study`: rows of the paper's tables as changes to one option file.

A row names a variant of the option file that the study runs on, or else of train_GGKMNet_DPDD.yml. The paper's scores
are on DPDD unless noted, their protocol is unknown. No torch here: the command's help reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ggkm_plugin.evaluation.paper import (
    MIXED_TRAINING,
    NOISE_LEVELS,
    TABLE_2,
    TABLE_6,
    TABLE_7,
    TABLE_8,
    TABLE_10,
    TABLE_11,
    PaperRow,
)

Scores = Mapping[str, float]

BASE = 'train_GGKMNet_study'
FULL = 'full'  # the row that is the option file without changes


@dataclass(frozen=True)
class StudyRow:
    """A training of a study. name: of its files. label: the paper's.

    paper: the paper's scores. difference: the row's difference from the reference where the paper gives only that.
    noise: standard deviation added to the scored images, in 8-bit steps. source: index of the only set of a mixture to
    train on.
    """

    name: str
    label: str
    variant: str | None = None
    paper: Scores | None = None
    difference: Scores | None = None
    noise: float = 0
    source: int | None = None


@dataclass(frozen=True)
class Study:
    """Rows that are compared with the row named `reference`.

    plain_start: `init` of the option file is removed, since a network of the study has only the paper's. own_networks:
    every row gives its whole network. opt: default option file.
    """

    title: str
    rows: tuple[StudyRow, ...]
    reference: str = FULL
    plain_start: bool = False
    own_networks: bool = False
    note: str = ''
    opt: str = BASE


def _ablation(name: str, label: str) -> StudyRow:
    return StudyRow(name, label, name, TABLE_8[label].scores)


def _scales(name: str, scales: int, iterations: int) -> StudyRow:
    paper = TABLE_11['GGKMNet'][f'S={scales}, R={iterations}'].scores
    return StudyRow(name, f'(S,R) = ({scales},{iterations})', name, paper)


def _groups(name: str, groups: int) -> StudyRow:
    return StudyRow(name, f'(P,Q) = ({groups},1)', name, TABLE_10[f'P={groups}, Q=1'].scores)


def _methods(**labels: str) -> tuple[StudyRow, ...]:
    return tuple(StudyRow(name, label, name, TABLE_2[label].scores) for name, label in labels.items())


def _loss(row: PaperRow) -> Scores:
    """Convert a loss to differences: lower PSNR and SSIM, higher LPIPS."""
    return {metric: score if metric == 'lpips' else -score for metric, score in row.scores.items()}


def _noise(title: str, table: Mapping[str, Mapping[str, PaperRow]]) -> Study:
    rows = tuple(
        StudyRow(f'noise{std}', f'noise {std}', 'noise', None, _loss(table['GGKMNet'][str(std)]), noise=std)
        for std in NOISE_LEVELS
    )
    note = 'The rows with noise are one network, trained with noise from 0 to 17.85.'
    return Study(title, (*rows, StudyRow(FULL, 'without noise')), note=note)


_FULL_SCORES = TABLE_2['GGKMNet'].scores
_GGKMNET = StudyRow(FULL, 'GGKMNet', None, _FULL_SCORES)
_LOSSES = (_ablation('wo_fr', 'w/o l_FR'), _ablation('wo_ssim', 'w/o l_SSIM'), _ablation('wo_sr', 'w/o l_SR'))
_NO_GROUPS = (_ablation('wo_group_21', 'w/o Group (21)'), _ablation('wo_group_84', 'w/o Group (84)'))
_LSTM = (_ablation('wo_lstm_n', 'w/o LSTM (N)'), _ablation('wo_lstm_s', 'w/o LSTM (S)'))
_KERNELS = (_ablation('fully_learned_r', 'Fully-Learned (R)'), _ablation('fully_learned_g', 'Fully-Learned (G)'))

STUDIES: Mapping[str, Study] = {
    'ablations': Study(
        'Table 8',
        (
            *_NO_GROUPS,
            *_LSTM,
            _ablation('t1', 'GGKMNet(1)'),
            _ablation('mcp_net', 'MCP-Net'),
            *_KERNELS,
            *_LOSSES,
            _GGKMNET,
        ),
        plain_start=True,
    ),
    'losses': Study('Table 8, loss terms', (*_LOSSES, _GGKMNET)),
    'groups': Study(
        'Table 10, and w/o Group of Table 8',
        (
            _groups('p10_q1', 10),
            _groups('p21_q1', 21),
            *_NO_GROUPS,
            StudyRow(FULL, '(P,Q) = (21,4), GGKMNet', None, _FULL_SCORES),
        ),
        note='(84,1) of Table 10 is w/o Group (84) of Table 8.',
    ),
    'scales': Study(
        'Table 11, and GGKMNet(1) of Table 8',
        (
            StudyRow('t1', '(S,R) = (1,1), GGKMNet(1)', 't1', TABLE_8['GGKMNet(1)'].scores),
            _scales('s1_r3', 1, 3),
            _scales('s2_r1', 2, 1),
            _scales('s2_r2', 2, 2),
            _scales('s2_r3', 2, 3),
            _scales('s3_r2', 3, 2),
            StudyRow(FULL, '(S,R) = (3,1), GGKMNet', None, _FULL_SCORES),
        ),
    ),
    'lstm': Study('Table 8, LSTM', (*_LSTM, _GGKMNET)),
    'kernels': Study('Table 8, learned kernels', (*_KERNELS, _GGKMNET)),
    'noise': _noise('Table 6, DPDD', TABLE_6),
    'noise-rtf': _noise('Table 7, RTF', TABLE_7),
    'methods': Study(
        'Table 2, methods under equal terms',
        _methods(
            dpdnet_s='DPDNet-S',
            aifnet='AIFNet',
            mdp='MDP',
            kpac='KPAC',
            ifan='IFANet',
            drbnet='DRBNet',
            srn='SRN',
            attsrn='AttSRN',
            nrknet='NRKNet',
            gkmnet='GKMNet',
            gkmnet_star='GKMNet*',
            ggkmnet='GGKMNet',
        ),
        reference='ggkmnet',
        own_networks=True,
        note='Equal terms: data, crops, iterations, loss and optimizer; each network with its own initialization. '
        'GKMNet* is GKMNet with self-reconstruction; the paper trains plain GKMNet with its own loss.',
    ),
    'mixed': Study(
        'Sec. 5.3, mixed data',
        (
            StudyRow(
                'only_1',
                'the first set alone (paper: DPDD, scored on RealDOF)',
                difference=_loss(MIXED_TRAINING['RealDOF']),
                source=0,
            ),
            StudyRow(
                'only_2',
                'the second set alone (paper: LFDOF, scored on RTF)',
                difference=_loss(MIXED_TRAINING['RTF']),
                source=1,
            ),
            StudyRow(FULL, 'both mixed'),
        ),
        opt='train_GGKMNet_DPDD_LFDOF',
    ),
}
