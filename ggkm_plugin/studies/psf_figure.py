"""Fig. 7: results of GKMNet and GGKMNet on one photograph, and their effective PSFs at some pixels.

GGKMNet's PSF is that of `basicsr inspect`: b = sum_p beta_p w_p K_p, which acts on the estimate that the last step
starts from. GKMNet has no operator B: its output layer adds weighted blurs of the input and of the estimate. Its
effective PSF is defined here as what it applies to the estimate at the finest scale,

    b_c = sum_k s_{c,k} a_k K_{c,k}

with the weights a_k (B,22,H,W) of the estimate, the kernel K_{c,k} of color c that they weigh, and the weight s_{c,k}
that the output layer gives to this blur in color c. As for GGKMNet, what it mixes from other colors is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ggkm_plugin.archs.gkmnet_arch import NUM_KERNELS, GKMNet, StepLayers
from ggkm_plugin.data.sampling import to_tensor
from ggkm_plugin.inspection.inspection import Place, inspect, parse_points, reduced, shown_reach, spread_points
from ggkm_plugin.inspection.network import Subject
from ggkm_plugin.report import figures
from ggkm_plugin.report.tables import Cell, Table, csv_text, write
from ggkm_plugin.restoration.image_io import read_photograph
from ggkm_plugin.restoration.load import build_network, load
from ggkm_plugin.restoration.psf import effective_radius
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.files import write_whole, writing_into
from ggkm_plugin.utils.image_decoding import to_float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_AROUND = 32  # pixels of the detail shown on each side of a point
_POINTS = 4


@dataclass(frozen=True, eq=False)
class GkmSubject:
    """A GKMNet in evaluation mode, and where its weights come from."""

    net: GKMNet
    source: str
    trained: bool


@dataclass(frozen=True, eq=False)
class NetworkPsfs:
    """A network's name, its result (3,H,W), and its PSF (C,S,S) at each point."""

    name: str
    result: Tensor
    psfs: list[Tensor]


def load_gkmnet(weights: str | None) -> GkmSubject:
    """Load a checkpoint of GKMNet; without one, an untrained GKMNet. Raises CheckpointError, OptionError."""
    if weights is None:
        net = build_network({'type': 'GKMNet'}, 'network')
        assert isinstance(net, GKMNet)
        return GkmSubject(net.eval(), 'untrained, random weights', False)
    loaded = load(weights)
    if not isinstance(loaded.net, GKMNet):
        raise OptionError(f'--gkmnet {weights}: a checkpoint of {type(loaded.net).__name__}. Name one of GKMNet')
    return GkmSubject(loaded.net.eval(), Path(loaded.path).name, True)


def gkmnet_psfs(net: GKMNet, photograph: Tensor, places: Sequence[Place]) -> NetworkPsfs:
    """Run GKMNet on (3,H,W) and return its effective PSFs, (3,21,21) float64."""
    with torch.no_grad():
        last = net.unroll(net.pyramid(net.padded(photograph[None])))[-1]
    step = cast(StepLayers, net.steps[-1] if len(net.steps) else net)
    taps = step.GCM.make_bank().double()
    kernels = torch.einsum('jm,jn->jmn', taps, taps).unflatten(0, (3, NUM_KERNELS))
    output = cast(nn.Conv2d, step.SumLayer.conv)
    on_estimate = output.weight[:, 3 * NUM_KERNELS :, 0, 0].unflatten(1, (3, NUM_KERNELS))
    diagonal = torch.einsum('cck->ck', on_estimate.detach().double())
    weights = last.weights[0, NUM_KERNELS:].double()
    psfs = [torch.einsum('ck,k,ckmn->cmn', diagonal, weights[:, y, x], kernels) for x, y in places]
    height, width = photograph.shape[-2:]
    return NetworkPsfs('GKMNet', last.x[0, :, :height, :width], psfs)


def draw(
    subject: Subject, gkm: GkmSubject, photograph: str, points: Sequence[str] | None, longest: int, folder: Path
) -> tuple[str, list[Path]]:
    """Write psfs.png and psfs.csv; return the table of the points and the files.

    points: 'X,Y'; None to choose them by GGKMNet's blur map. Raises OptionError for a wrong point, DataError.
    """
    colors = read_photograph(photograph).colors
    image = reduced(to_float(colors if colors.ndim == 3 else np.dstack([colors] * 3)), longest)
    tensor = to_tensor(image)
    height, width = image.shape[:2]
    places = parse_points(points, width, height) if points else []
    inspection = inspect(subject, tensor)
    places = places or spread_points(inspection.radius, _POINTS)
    networks = [
        gkmnet_psfs(gkm.net, tensor, places),
        NetworkPsfs(subject.name, inspection.result, [inspection.psf_at(place).double() for place in places]),
    ]
    rows: list[tuple[int, int, str, float, float]] = [
        (x, y, network.name, effective_radius(psf.abs().sum(dim=0)).item(), psf.mean(dim=0).sum().item())
        for place, (x, y) in enumerate(places)
        for network, psf in ((network, network.psfs[place]) for network in networks)
    ]
    with writing_into(folder, '-o'):
        figures.write_png(_picture(tensor, networks, places, subject, gkm), folder / 'psfs.png')
        write_whole(folder / 'psfs.csv', csv_text(['x', 'y', 'network', 'radius', 'sum'], rows))
    shown: list[list[Cell | str]] = [
        [f'{x},{y}', name, f'{radius:.3f}', f'{total:.3f}'] for x, y, name, radius, total in rows
    ]
    note = 'radius: sqrt(sum r^2 |b| / sum |b|), pixels, over all colors; sum: of b, mean of the colors'
    header = ['pixel', 'network', 'radius', 'sum']
    return write(Table(header, shown, notes=[note])), [folder / 'psfs.png', folder / 'psfs.csv']


def _picture(
    photograph: Tensor, networks: Sequence[NetworkPsfs], places: Sequence[Place], subject: Subject, gkm: GkmSubject
) -> 'Figure':
    """Draw a row for each point: detail of the photograph, then result and PSF of each network."""
    warning = '' if subject.trained and gkm.trained else 'UNTRAINED: nothing has been learned'
    title = f'GKMNet: {gkm.source}; {subject.name}: {subject.source}'
    drawn = figures.figure(1100, 60 + 220 * len(places), title, warning)
    grid = drawn.subplots(len(places), 1 + 2 * len(networks), squeeze=False)
    for axes, place in zip(grid, places, strict=True):
        figures.show(axes[0], _detail(photograph, place))
        axes[0].set_ylabel(f'{place[0]},{place[1]}', fontsize=9)
    reach = max(shown_reach(network.psfs) for network in networks)
    for column, network in enumerate(networks):
        for axes, place, psf in zip(grid, places, network.psfs, strict=True):
            figures.show(axes[1 + 2 * column], _detail(network.result, place))
            mean = _window(psf.mean(dim=0), reach).numpy()
            figures.show_signed(axes[2 + 2 * column], mean, float(np.abs(mean).max()))
        grid[0, 1 + 2 * column].set_title(network.name, fontsize=11)
    grid[0, 0].set_title('photograph', fontsize=11)
    words = f'PSFs: {2 * reach + 1} pixels wide, each on its own scale; white 0, vermilion positive, blue negative'
    drawn.supxlabel(words, fontsize=9, color=figures.FAINT)
    return drawn


def _window(psf: Tensor, reach: int) -> Tensor:
    """Crop (S,S) to `reach` pixels on each side of the center, or surround it with zeros."""
    return F.pad(psf, [reach - psf.shape[-1] // 2] * 4)


def _detail(image: Tensor, place: Place) -> np.ndarray:
    x, y = place
    part = image[:, max(0, y - _AROUND) : y + _AROUND + 1, max(0, x - _AROUND) : x + _AROUND + 1]
    return part.permute(1, 2, 0).numpy()
