"""The studies that `basicsr study` knows: rows of the paper's tables, as changes to one option file.

A row names a variant: of the option file that the study is run on, or else of train_GGKMNet_DPDD.yml, which lists the
paper's. Scores are the paper's, on DPDD unless said, protocol not stated. No torch here: the command's help reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Scores = Mapping[str, float]

FULL = 'full'  # the row that is the option file itself
_METRICS = ('psnr', 'ssim', 'lpips')


def scores(*values: float) -> Scores:
    """PSNR, SSIM and LPIPS, or the first of them."""
    return MappingProxyType(dict(zip(_METRICS, values, strict=False)))


@dataclass(frozen=True)
class Row:
    """name: of the row's files. label: the paper's.

    paper: its scores; or difference, of the row from the study's reference, where the paper gives only that. noise:
    standard deviation added to the images that are scored, in 8-bit steps. source: train on the set of this number of
    a mixture alone.
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
    """rows are measured against the one named `reference`. plain_start: some network has no `init` but the paper's.
    own_networks: every row says its whole network.
    """

    title: str
    rows: tuple[Row, ...]
    reference: str = FULL
    plain_start: bool = False
    own_networks: bool = False
    mixture: bool = False
    note: str = ''


_GGKMNET = Row(FULL, 'GGKMNet', None, scores(26.039, 0.806, 0.215))
_LOSSES = (
    Row('wo_fr', 'w/o l_FR', 'wo_fr', scores(25.857, 0.795, 0.239)),
    Row('wo_ssim', 'w/o l_SSIM', 'wo_ssim', scores(25.944, 0.791, 0.225)),
    Row('wo_sr', 'w/o l_SR', 'wo_sr', scores(25.864, 0.788, 0.238)),
)
_GROUPS = (
    Row('wo_group_21', 'w/o Group (21)', 'wo_group_21', scores(25.798, 0.794, 0.241)),
    Row('wo_group_84', 'w/o Group (84)', 'wo_group_84', scores(26.012, 0.807, 0.218)),
)
_LSTM = (
    Row('wo_lstm_n', 'w/o LSTM (N)', 'wo_lstm_n', scores(23.881, 0.741, 0.371)),
    Row('wo_lstm_s', 'w/o LSTM (S)', 'wo_lstm_s', scores(25.678, 0.797, 0.256)),
)
_ONE_SCALE = Row('t1', 'GGKMNet(1)', 't1', scores(24.275, 0.752, 0.283))
_MCP = Row('mcp_net', 'MCP-Net', 'mcp_net', scores(22.686, 0.672, 0.542))
_KERNELS = (
    Row('fully_learned_r', 'Fully-Learned (R)', 'fully_learned_r', scores(25.861, 0.801, 0.256)),
    Row('fully_learned_g', 'Fully-Learned (G)', 'fully_learned_g', scores(26.072, 0.808, 0.216)),
)


def _noise(title: str, *losses: tuple[float, ...]) -> Study:
    """Losses at a standard deviation of 3, 5 and 15: lower PSNR and SSIM, higher LPIPS."""
    rows = tuple(
        Row(f'noise{std}', f'noise {std}', 'noise', None, scores(-psnr, -ssim, lpips), noise=std)
        for std, (psnr, ssim, lpips) in zip((3, 5, 15), losses, strict=True)
    )
    clean = Row(FULL, 'without noise')
    return Study(title, (*rows, clean), note='The rows with noise are one network, trained with noise from 0 to 17.85.')


STUDIES: Mapping[str, Study] = {
    'ablations': Study(
        'Table 8', (*_GROUPS, *_LSTM, _ONE_SCALE, _MCP, *_KERNELS, *_LOSSES, _GGKMNET), plain_start=True
    ),
    'losses': Study('Table 8, the terms of the loss', (*_LOSSES, _GGKMNET)),
    'groups': Study(
        'Table 10, and the grouping in Table 8',
        (
            Row('p10_q1', '(P,Q) = (10,1)', 'p10_q1', scores(25.644, 0.790, 0.253)),
            Row('p21_q1', '(P,Q) = (21,1)', 'p21_q1', scores(25.809, 0.794, 0.241)),
            *_GROUPS,
            Row(FULL, '(P,Q) = (21,4), GGKMNet', None, scores(26.039, 0.806, 0.215)),
        ),
        note='(84,1) is w/o Group (84), figure by figure.',
    ),
    'scales': Study(
        'Table 11, and GGKMNet(1) of Table 8',
        (
            Row('t1', '(S,R) = (1,1), GGKMNet(1)', 't1', scores(24.275, 0.752, 0.283)),
            Row('s1_r3', '(S,R) = (1,3)', 's1_r3', scores(25.723)),
            Row('s2_r1', '(S,R) = (2,1)', 's2_r1', scores(25.810)),
            Row('s2_r2', '(S,R) = (2,2)', 's2_r2', scores(25.965)),
            Row('s2_r3', '(S,R) = (2,3)', 's2_r3', scores(25.767)),
            Row('s3_r2', '(S,R) = (3,2)', 's3_r2', scores(26.121)),
            Row(FULL, '(S,R) = (3,1), GGKMNet', None, scores(26.039, 0.806, 0.215)),
        ),
    ),
    'lstm': Study('Table 8, the memory', (*_LSTM, _GGKMNET)),
    'kernels': Study('Table 8, learned kernels', (*_KERNELS, _GGKMNET)),
    'noise': _noise('Table 6, DPDD', (0.343, 0.025, 0.074), (0.471, 0.032, 0.091), (0.937, 0.060, 0.154)),
    'noise-rtf': _noise('Table 7, RTF', (0.300, 0.003, 0.030), (0.572, 0.019, 0.091), (1.611, 0.088, 0.114)),
    'methods': Study(
        'Table 2, methods under equal terms',
        (
            Row('dpdnet_s', 'DPDNet-S', 'dpdnet_s', scores(24.348, 0.747, 0.277)),
            Row('aifnet', 'AIFNet', 'aifnet', scores(24.213, 0.742, 0.309)),
            Row('mdp', 'MDP', 'mdp', scores(25.347, 0.763, 0.268)),
            Row('kpac', 'KPAC', 'kpac', scores(25.221, 0.774, 0.226)),
            Row('ifan', 'IFANet', 'ifan', scores(25.366, 0.789, 0.217)),
            Row('drbnet', 'DRBNet', 'drbnet', scores(25.485, 0.792, 0.254)),
            Row('srn', 'SRN', 'srn', scores(24.612, 0.612, 0.256)),
            Row('attsrn', 'AttSRN', 'attsrn', scores(25.224, 0.781, 0.219)),
            Row('nrknet', 'NRKNet', 'nrknet', scores(26.109, 0.810, 0.210)),
            Row('gkmnet', 'GKMNet*', 'gkmnet', scores(25.711, 0.790, 0.219)),
            Row('ggkmnet', 'GGKMNet', 'ggkmnet', scores(26.039, 0.806, 0.215)),
        ),
        reference='ggkmnet',
        own_networks=True,
        note='Equal terms: data, crops, iterations, loss and optimizer; each network whole, from its own start.',
    ),
    'mixed': Study(
        'Sec. 5.3, mixed data',
        (
            Row('only_1', 'the first set alone (the paper: DPDD, on RealDOF)', None, None,
                scores(-0.148, -0.002, 0.006), source=0),
            Row('only_2', 'the second set alone (the paper: LFDOF, on RTF)', None, None,
                scores(-0.004, -0.009, 0.001), source=1),
            Row(FULL, 'both mixed'),
        ),
        mixture=True,
    ),
}  # fmt: skip
