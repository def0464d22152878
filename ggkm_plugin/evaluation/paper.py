"""Published numbers: Tables 2 to 11 of the GGKMNet paper, newer methods, and where the sources contradict themselves.

Scores are means over the test split; the protocols behind them are unknown, so that none of them ranks measured ones.
Every number stands here once: where the paper repeats a row (GGKMNet in Tables 8, 10 and 11) the tables share it.
No torch here: the command's help reads it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

PAPER = 'GGKMNet paper'
NOISE_LEVELS = (3, 5, 15)  # standard deviation in 8-bit steps
DAGGER = 'GGKMNet-dagger'


class PaperRow(NamedTuple):
    """A row of a table of the paper; None where it prints nothing.

    parameters: millions. gmacs: of an image of 1280x720, in the paper's convention. seconds: for such an image on an
    NVIDIA RTX 2080 Ti.
    """

    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None
    parameters: float | None = None
    gmacs: float | None = None
    seconds: float | None = None

    @property
    def scores(self) -> dict[str, float]:
        """Scores that are printed, by metric."""
        scores = {'psnr': self.psnr, 'ssim': self.ssim, 'lpips': self.lpips}
        return {metric: score for metric, score in scores.items() if score is not None}


Rows = Mapping[str, PaperRow]


def _grouped(text: str, groups: tuple[str, ...], fields: str) -> dict[str, dict[str, PaperRow]]:
    """Parse lines `name: values`, the values of all groups one after the other, into rows by group and name."""
    names = fields.split()
    rows: dict[str, dict[str, PaperRow]] = {group: {} for group in groups}
    for line in text.strip().splitlines():
        name, _, words = line.partition(':')
        values = [None if word == '-' else float(word) for word in words.split()]
        for index, group in enumerate(groups):
            own = values[index * len(names) : (index + 1) * len(names)]
            rows[group][name.strip()] = PaperRow(**dict(zip(names, own, strict=True)))
    return rows


def _rows(text: str, fields: str) -> dict[str, PaperRow]:
    return _grouped(text, ('',), fields)['']


# Table 2: DPDD.
TABLE_2: Rows = _rows(
    """
    Input:          23.890 0.725 0.349 -      -     -
    JNB:            23.840 0.715 0.315 -      -     -
    EBDB:           23.450 0.683 0.336 -      -     -
    DPDNet-S:       24.348 0.747 0.277 484.8  35.25 0.261
    AIFNet:         24.213 0.742 0.309 984.7  41.56 0.471
    MDP:            25.347 0.763 0.268 1080.8 46.86 0.534
    KPAC:           25.221 0.774 0.226 98.5   2.06  0.082
    IFANet:         25.366 0.789 0.217 362.9  10.48 0.274
    DRBNet:         25.485 0.792 0.254 346.6  11.7  0.201
    MPRNet*:        25.730 0.792 0.232 5347.5 20.1  2.200
    SRN:            24.612 0.612 0.256 763.0  10.25 0.338
    AttSRN:         25.224 0.781 0.219 763.8  10.28 0.369
    NRKNet:         26.109 0.810 0.210 552.8  6.09  0.329
    GKMNet:         25.468 0.789 0.219 147.8  1.47  0.145
    GKMNet*:        25.711 0.790 0.219 147.8  1.47  0.145
    GGKMNet:        26.039 0.806 0.215 158.4  1.68  0.154
    GGKMNet-dagger: 26.272 0.810 0.215 518.9  5.93  0.322
    """,
    'psnr ssim lpips gmacs parameters seconds',
)
# Table 3: LFDOF. It repeats the costs of Table 2, but for those of GKMNet* (FOOTNOTES).
TABLE_3: Rows = _rows(
    """
    Input:          25.874 0.777 0.320
    AIFNet:         29.677 0.884 0.202
    MDP:            28.069 0.834 0.185
    KPAC:           28.942 0.857 0.174
    IFANet:         29.787 0.872 0.154
    DRBNet:         30.253 0.883 0.147
    SRN:            28.971 0.851 0.176
    AttSRN:         29.621 0.867 0.169
    NRKNet:         30.481 0.884 0.147
    GKMNet:         29.081 0.867 0.171
    GKMNet*:        29.125 0.867 0.170
    GGKMNet:        29.936 0.873 0.166
    GGKMNet-dagger: 30.552 0.886 0.154
    """,
    'psnr ssim lpips',
)
# Tables 4 and 5: RealDOF and RTF, by the set that the network was trained on.
TRAINED_ON = ('DPDD', 'LFDOF')
TABLE_4: Mapping[str, Rows] = _grouped(
    """
    Input:          22.333 0.633 0.524  22.333 0.633 0.524
    AIFNet:         23.093 0.680 0.413  22.623 0.667 0.461
    MDP:            23.500 0.681 0.444  22.726 0.680 0.453
    KPAC:           23.975 0.762 0.338  22.550 0.671 0.457
    IFANet:         24.712 0.748 0.306  22.504 0.669 0.483
    DRBNet:         24.884 0.751 0.376  22.910 0.691 0.437
    NRKNet:         25.148 0.768 0.338  23.528 0.716 0.431
    GGKMNet:        24.942 0.763 0.356  23.901 0.729 0.399
    GGKMNet-dagger: 25.355 0.770 0.320  24.108 0.735 0.385
    """,
    TRAINED_ON,
    'psnr ssim lpips',
)
TABLE_5: Mapping[str, Rows] = _grouped(
    """
    Input:          23.608 0.591 0.296  24.200 0.717 0.248
    AIFNet:         24.041 0.758 0.289  27.552 0.882 0.176
    MDP:            24.012 0.738 0.312  25.580 0.809 0.228
    KPAC:           24.618 0.777 0.236  25.959 0.803 0.230
    IFANet:         24.924 0.801 0.227  26.437 0.838 0.238
    DRBNet:         24.463 0.773 0.311  26.717 0.853 0.200
    NRKNet:         25.931 0.829 0.215  28.047 0.889 0.145
    GGKMNet:        25.895 0.827 0.225  27.908 0.883 0.169
    GGKMNet-dagger: 26.012 0.846 0.210  28.308 0.905 0.140
    """,
    TRAINED_ON,
    'psnr ssim lpips',
)
# Tables 6 and 7: DPDD and RTF, loss at each of NOISE_LEVELS by method, positive for worse: of a network trained
# without noise on images without, against one trained with noise on images with it.
_NOISY = ('IFANet', 'NRKNet', 'GGKMNet')
TABLE_6: Mapping[str, Rows] = _grouped(
    """
    3:  0.481 0.031 0.095  0.962 0.035 0.086  0.343 0.025 0.074
    5:  0.632 0.036 0.108  1.045 0.041 0.096  0.471 0.032 0.091
    15: 0.918 0.060 0.145  1.452 0.070 0.144  0.937 0.060 0.154
    """,
    _NOISY,
    'psnr ssim lpips',
)
TABLE_7: Mapping[str, Rows] = _grouped(
    """
    3:  0.675 0.021 0.085  1.651 0.011 0.100  0.300 0.003 0.030
    5:  0.771 0.028 0.092  1.863 0.012 0.101  0.572 0.019 0.091
    15: 1.471 0.087 0.115  2.824 0.073 0.140  1.611 0.088 0.114
    """,
    _NOISY,
    'psnr ssim lpips',
)
# Table 8: ablations on DPDD.
TABLE_8: Rows = {
    **_rows(
        """
        w/o Group (21):    25.798 0.794 0.241 1.68 152.3
        w/o Group (84):    26.012 0.807 0.218 4.60 673.4
        w/o LSTM (N):      23.881 0.741 0.371 4.72 136.1
        w/o LSTM (S):      25.678 0.797 0.256 1.55 136.1
        GGKMNet(1):        24.275 0.752 0.283 1.68 115.3
        MCP-Net:           22.686 0.672 0.542 1.55 136.0
        Fully-Learned (R): 25.861 0.801 0.256 1.68 158.7
        Fully-Learned (G): 26.072 0.808 0.216 1.68 158.7
        w/o l_FR:          25.857 0.795 0.239 1.68 158.4
        w/o l_SSIM:        25.944 0.791 0.225 1.68 158.4
        w/o l_SR:          25.864 0.788 0.238 1.68 158.4
        """,
        'psnr ssim lpips parameters gmacs',
    ),
    'GGKMNet': TABLE_2['GGKMNet'],
}
# Table 9: RTF, PSNR of the blurred image synthesized with the fitted PSFs.
TABLE_9: Mapping[str, float] = {
    'Gaussian': 34.832,
    'generalized Gaussian': 35.617,
    'GKM': 91.680,
    'GGKM': 100.256,
}
# Table 10: P groups of Q kernels, on DPDD.
TABLE_10: Rows = {
    **_rows(
        """
        P=10, Q=1: 25.644 0.790 0.253 1.65 151.3
        P=21, Q=1: 25.809 0.794 0.241 1.68 152.2
        """,
        'psnr ssim lpips parameters gmacs',
    ),
    'P=84, Q=1': TABLE_8['w/o Group (84)'],
    'P=21, Q=4': TABLE_2['GGKMNet'],
}
# Table 11: S scales of R iterations, on DPDD, by network.
TABLE_11: Mapping[str, Rows] = _grouped(
    """
    S=1, R=3: 25.114 4.22 389.9  25.723 5.02 345.8
    S=2, R=1: 25.236 1.41 137.1  25.810 1.68 144.1
    S=2, R=2: 25.377 2.81 346.1  25.965 3.35 288.2
    S=2, R=3: 25.127 4.22 423.8  25.767 5.02 432.2
    S=3, R=1: 25.468 1.41 147.8  26.039 1.68 158.4
    S=3, R=2: 25.529 2.81 296.6  26.121 3.35 317.2
    """,
    ('GKMNet', 'GGKMNet'),
    'psnr parameters gmacs',
)
# Sec. 5.2: what GGKMNet with the standard Gaussian convolutions of GKMNet costs more.
STANDARD_CONVOLUTIONS = PaperRow(gmacs=13, seconds=0.152)
# Sec. 5.3: gain of GGKMNet trained on DPDD and LFDOF together, on RealDOF over the one trained on DPDD and on RTF over
# the one trained on LFDOF. Positive for better.
MIXED_TRAINING: Rows = {'RealDOF': PaperRow(0.148, 0.002, 0.006), 'RTF': PaperRow(0.004, 0.009, 0.001)}

# Where a row contradicts another place of the paper, or another paper: footnotes by table and row.
FOOTNOTES: Mapping[tuple[int, str], str] = {
    (2, 'IFANet'): 'LPIPS 0.331 in the ViTDeblur paper, whose LPIPS differs for most methods',
    (2, 'DRBNet'): '25.725 dB and LPIPS 0.240 in the ViTDeblur paper',
    (2, 'MPRNet*'): 'printed as MRPNet*: MPRNet trained with JDRL',
    (2, 'SRN'): 'its SSIM has the decimals of its PSNR (24.612), probably a misprint',
    (2, 'GKMNet'): 'Table 11 has 1.41 M parameters',
    (2, 'GKMNet*'): "GKMNet with self-reconstruction, trained with GGKMNet's loss",
    (3, 'GKMNet*'): 'Table 3 prints the costs of GGKMNet in this row, Table 2 those of GKMNet',
    (4, 'DRBNet'): 'the text has a drop of more than 2 dB from DPDD to LFDOF, the table 1.974 dB',
    (5, 'Input'): 'one set of images with two rows of scores: 23.608 dB in one column and 24.200 dB in the other',
    (8, 'w/o Group (21)'): 'the same model as P=21, Q=1 in Table 10, there with 25.809 dB and 152.2 G',
    (8, 'GGKMNet(1)'): 'the text has a slightly smaller model, the table as many parameters as GGKMNet',
    (10, 'P=21, Q=4'): 'the text has 4 groups of 21 kernels, the table and Sec. 5.1 21 groups of 4',
    (11, 'S=1, R=3'): 'the paper has 1.407 M parameters for an iteration of GKMNet, the released network 1.409 M',
    (11, 'S=2, R=2'): 'the GMACs of GKMNet do not grow in proportion to R: 137.1, 346.1, 423.8 with S=2',
    (11, 'S=3, R=1'): 'Table 2 has 1.47 M parameters for GKMNet',
}


class Published(NamedTuple):
    """Mean scores of a method on a benchmark, as printed; None where nothing is.

    LPIPS is AlexNet's where its network is known. parameters and macs_paper (1280x720) belong to the method, whatever
    the benchmark. remark: what the network was trained on where that is not the benchmark.
    """

    method: str
    dataset: str
    psnr: float | None
    ssim: float | None
    lpips: float | None
    parameters: float | None
    macs_paper: float | None
    source: str
    remark: str = ''
    footnote: str = ''


class PublishedDrop(NamedTuple):
    """Loss of a method when Gaussian noise of `std` 8-bit steps is added, as in Tables 6 and 7."""

    method: str
    dataset: str
    std: int
    psnr: float | None
    ssim: float | None
    lpips: float | None
    source: str


def record(row: Published | PublishedDrop, lpips: bool) -> dict[str, Any]:
    """Return a row as plain values; without its LPIPS where the measured one is of another network."""
    return row._asdict() if lpips else {**row._asdict(), 'lpips': None}


def _published(number: int, dataset: str, rows: Rows, trained_on: str = '') -> list[Published]:
    remark = f'trained on {trained_on}' if trained_on else ''
    return [
        Published(
            method,
            dataset,
            *row[:3],
            _scaled(TABLE_2[method].parameters, 1e6),
            _scaled(TABLE_2[method].gmacs, 1e9),
            f'{PAPER}, Table {number}',
            remark,
            FOOTNOTES.get((number, method), ''),
        )
        for method, row in rows.items()
    ]


def _input_row(*rows: PaperRow) -> tuple[tuple[float, float], ...]:
    found = [(row.psnr, row.ssim) for row in rows if row.psnr is not None and row.ssim is not None]
    return tuple(dict.fromkeys(found))


# PSNR and SSIM of the defocused test images; two where the paper contradicts itself (FOOTNOTES).
INPUT_ROWS: Mapping[str, tuple[tuple[float, float], ...]] = {
    'DPDD': _input_row(TABLE_2['Input']),
    'LFDOF': _input_row(TABLE_3['Input']),
    'RealDOF': _input_row(*(TABLE_4[training]['Input'] for training in TRAINED_ON)),
    'RTF': _input_row(*(TABLE_5[training]['Input'] for training in TRAINED_ON)),
}


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else round(value * unit)


def _own(method: str, dataset: str, psnr: float, ssim: float, lpips: float | None, source: str) -> Published:
    remark = 'trained on DPDD' if dataset == 'RealDOF' else ''
    return Published(method, dataset, psnr, ssim, lpips, None, None, source, remark)


_VITDEBLUR = 'ViTDeblur paper (Liang et al., IEEE TCI 2024)'
_CONVIR = 'ConvIR paper (Cui et al., TPAMI 2024)'
_LAKDNET = 'LaKDNet paper (Ruan et al., arXiv 2302.02234)'
PUBLISHED: tuple[Published, ...] = (
    *_published(2, 'DPDD', TABLE_2),
    *_published(3, 'LFDOF', TABLE_3),
    *(row for training in TRAINED_ON for row in _published(4, 'RealDOF', TABLE_4[training], training)),
    *(row for training in TRAINED_ON for row in _published(5, 'RTF', TABLE_5[training], training)),
    # Single images only: figures of 27 dB and more on DPDD are of dual-pixel input.
    _own('Restormer', 'DPDD', 25.98, 0.811, 0.178, 'Restormer paper (Zamir et al., CVPR 2022)'),
    _own('SFNet', 'DPDD', 26.23, 0.811, None, 'SFNet paper (Cui et al., ICLR 2023)'),
    _own('ConvIR-S', 'DPDD', 26.06, 0.810, None, _CONVIR),
    _own('ConvIR-B', 'DPDD', 26.16, 0.814, None, _CONVIR),
    _own('ConvIR-L', 'DPDD', 26.36, 0.820, None, _CONVIR),
    _own('LaKDNet-S', 'DPDD', 26.15, 0.810, None, _LAKDNET),
    _own('LaKDNet-L', 'DPDD', 26.25, 0.813, None, _LAKDNET),
    _own('LaKDNet-S', 'LFDOF', 31.87, 0.912, None, _LAKDNET),
    _own('ViTDeblur', 'DPDD', 26.114, 0.814, 0.201, _VITDEBLUR),
    _own('ViTDeblur', 'LFDOF', 30.508, 0.892, 0.144, _VITDEBLUR),
    _own('ViTDeblur', 'RealDOF', 25.141, 0.769, 0.295, _VITDEBLUR),
)
PUBLISHED_DROPS: tuple[PublishedDrop, ...] = tuple(
    PublishedDrop(method, dataset, int(std), *row[:3], f'{PAPER}, Table {number}')
    for number, dataset, table in ((6, 'DPDD', TABLE_6), (7, 'RTF', TABLE_7))
    for method, rows in table.items()
    for std, row in rows.items()
)
