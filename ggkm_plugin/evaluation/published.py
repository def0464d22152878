"""Published scores, as reference rows beside measured ones: their protocols are unknown, so neither ranks the other."""

from typing import Any, NamedTuple

_PAPER = 'GGKMNet paper, Tables 2-5'
_NOISE_PAPER = 'GGKMNet paper, Tables 6-7'
_OWN = "the method's own paper or README"


class Published(NamedTuple):
    """Mean scores of one method on one benchmark, as printed; None where nothing is.

    LPIPS as AlexNet sees it, where it is known at all. parameters, and macs_paper of an image of 1280x720, are those of
    the method whatever the benchmark.
    """

    method: str
    dataset: str
    psnr: float
    ssim: float
    lpips: float | None
    parameters: float | None
    macs_paper: float | None
    source: str
    remark: str = ''


class PublishedDrop(NamedTuple):
    """How much a method loses when Gaussian noise of `std` 8-bit steps is added: trained without it on images without,
    less retrained with such noise on images with it.
    """

    method: str
    dataset: str
    std: int
    psnr: float
    ssim: float
    lpips: float | None
    source: str


def record(row: Published | PublishedDrop, lpips: bool) -> dict[str, Any]:
    """A row as plain values; without its LPIPS where the measured one is of another network."""
    return row._asdict() if lpips else {**row._asdict(), 'lpips': None}


# The columns of a row: benchmark, and what the network was trained on where that is not the benchmark.
_COLUMNS = (
    ('DPDD', ''),
    ('LFDOF', ''),
    ('RealDOF', 'trained on DPDD'),
    ('RealDOF', 'trained on LFDOF'),
    ('RTF', 'trained on DPDD'),
    ('RTF', 'trained on LFDOF'),
)
# PSNR/SSIM/LPIPS. The paper gives two rows of RTF's inputs, which are the same images.
_ROWS = """
Input        23.890/.725/.349 25.874/.777/.320 22.333/.633/.524 22.333/.633/.524 23.608/.591/.296 24.200/.717/.248
JNB          23.840/.715/.315 - - - - -
EBDB         23.450/.683/.336 - - - - -
DPDNet-S     24.348/.747/.277 - - - - -
AIFNet       24.213/.742/.309 29.677/.884/.202 23.093/.680/.413 22.623/.667/.461 24.041/.758/.289 27.552/.882/.176
MDP          25.347/.763/.268 28.069/.834/.185 23.500/.681/.444 22.726/.680/.453 24.012/.738/.312 25.580/.809/.228
KPAC         25.221/.774/.226 28.942/.857/.174 23.975/.762/.338 22.550/.671/.457 24.618/.777/.236 25.959/.803/.230
IFANet       25.366/.789/.217 29.787/.872/.154 24.712/.748/.306 22.504/.669/.483 24.924/.801/.227 26.437/.838/.238
DRBNet       25.485/.792/.254 30.253/.883/.147 24.884/.751/.376 22.910/.691/.437 24.463/.773/.311 26.717/.853/.200
MPRNet*      25.730/.792/.232 - - - - -
SRN          24.612/.612/.256 28.971/.851/.176 - - - -
AttSRN       25.224/.781/.219 29.621/.867/.169 - - - -
NRKNet       26.109/.810/.210 30.481/.884/.147 25.148/.768/.338 23.528/.716/.431 25.931/.829/.215 28.047/.889/.145
GKMNet       25.468/.789/.219 29.081/.867/.171 - - - -
GKMNet*      25.711/.790/.219 29.125/.867/.170 - - - -
GGKMNet      26.039/.806/.215 29.936/.873/.166 24.942/.763/.356 23.901/.729/.399 25.895/.827/.225 27.908/.883/.169
GGKMNet-dagger 26.272/.810/.215 30.552/.886/.154 25.355/.770/.320 24.108/.735/.385 26.012/.846/.210 28.308/.905/.140
"""
_REMARKS = {'GKMNet*': "with GGKMNet's loss"}
# Multiply-accumulates of an image of 1280x720, in the paper's convention, and parameters.
_COSTS = {
    'DPDNet-S': (484.8e9, 35.25e6),
    'AIFNet': (984.7e9, 41.56e6),
    'MDP': (1080.8e9, 46.86e6),
    'KPAC': (98.5e9, 2.06e6),
    'IFANet': (362.9e9, 10.48e6),
    'DRBNet': (346.6e9, 11.7e6),
    'MPRNet*': (5347.5e9, 20.1e6),
    'SRN': (763.0e9, 10.25e6),
    'AttSRN': (763.8e9, 10.28e6),
    'NRKNet': (552.8e9, 6.09e6),
    'GKMNet': (147.8e9, 1.47e6),
    'GKMNet*': (147.8e9, 1.47e6),
    'GGKMNet': (158.4e9, 1.68e6),
    'GGKMNet-dagger': (518.9e9, 5.93e6),
}
# Single images only: figures of 27 dB and more on DPDD are of dual-pixel input.
_OTHERS = (
    Published('Restormer', 'DPDD', 25.98, 0.811, 0.178, None, None, _OWN),
    Published('ConvIR-S', 'DPDD', 26.06, 0.810, None, None, None, _OWN),
    Published('ConvIR-B', 'DPDD', 26.16, 0.814, None, None, None, _OWN),
    Published('ConvIR-L', 'DPDD', 26.36, 0.820, None, None, None, _OWN),
    Published('LaKDNet-S', 'DPDD', 26.15, 0.810, None, None, None, _OWN),
    Published('LaKDNet-S', 'LFDOF', 31.87, 0.912, None, None, None, _OWN),
    Published('LaKDNet-L', 'DPDD', 26.25, 0.813, None, None, None, _OWN),
    Published('SFNet', 'DPDD', 26.23, 0.811, None, None, None, _OWN),
)
# At a standard deviation of 3, 5 and 15.
_DROPS = """
GGKMNet DPDD 0.343/.025/.074 0.471/.032/.091 0.937/.060/.154
GGKMNet RTF  0.300/.003/.030 0.572/.019/.091 1.611/.088/.114
IFANet  DPDD 0.481/.031/.095 0.632/.036/.108 0.918/.060/.145
IFANet  RTF  0.675/.021/.085 0.771/.028/.092 1.471/.087/.115
NRKNet  DPDD 0.962/.035/.086 1.045/.041/.096 1.452/.070/.144
NRKNet  RTF  1.651/.011/.100 1.863/.012/.101 2.824/.073/.140
"""


def _scores(cell: str) -> tuple[float, float, float]:
    psnr, ssim, lpips = map(float, cell.split('/'))
    return psnr, ssim, lpips


def _of_the_paper() -> list[Published]:
    rows = []
    for line in _ROWS.strip().splitlines():
        method, *cells = line.split()
        for (dataset, training), cell in zip(_COLUMNS, cells, strict=True):
            if cell != '-':
                remark = ', '.join(word for word in (_REMARKS.get(method), training) if word)
                macs, parameters = _COSTS.get(method, (None, None))
                rows.append(Published(method, dataset, *_scores(cell), parameters, macs, _PAPER, remark))
    return rows


def _drops() -> list[PublishedDrop]:
    rows = []
    for line in _DROPS.strip().splitlines():
        method, dataset, *cells = line.split()
        for std, cell in zip((3, 5, 15), cells, strict=True):
            rows.append(PublishedDrop(method, dataset, std, *_scores(cell), _NOISE_PAPER))
    return rows


PUBLISHED = (*_of_the_paper(), *_OTHERS)
PUBLISHED_DROPS = tuple(_drops())
