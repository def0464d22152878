"""GGKMNet on images of any size in bounded memory, with the result of the untiled network.

alpha depends on the image only through the mean of F1. beta depends on neither alpha nor x. So each iteration runs in
two passes. Pass A computes the features in tiles that overlap by the receptive field, the sum of F1, and beta. The
overlap is cropped as soon as nothing depends on it; beta and the recurrent maps of coarser scales are kept. Pass B has
alpha and computes x in larger tiles that overlap by the radius of the blur. Besides beta, 4 M bytes per pixel, only a
few images of full size are kept.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ggkm_plugin.archs.ggkmnet_ablations_arch import LearnedIGGCM
from ggkm_plugin.archs.ggkmnet_arch import IGGCM, BlurFeatureExtractor, FixedPointStep, GGKMNet
from ggkm_plugin.archs.ggkmnet_state import Memory, State
from ggkm_plugin.ops.ggkm.spectral import margin_of
from ggkm_plugin.ops.precision import widest
from ggkm_plugin.ops.pyramid import double, pyramid
from ggkm_plugin.utils.errors import OptionError, TrainingError
from ggkm_plugin.utils.memory import free_bytes, is_out_of_memory, release

Tile = int | str | None
# Called with alpha (B,P,Q) and beta (B,M,H,W) of the last iteration while they exist.
Observe = Callable[[Tensor, Tensor], None]
Edges = tuple[int, int, int, int]  # pixels at the top, the bottom, the left and the right

SMALLEST = 64
# A tile with a side of this many halos reads a quarter more pixels than its core. Larger tiles gain little and take
# more memory.
_HALOS = 17
# Bytes a pixel in float32, measured at their peak (two cores, width 32, `allocator.keep_freed_memory`): of a tile in
# pass A with its halo, and of the whole image beside its M maps.
_TILE_BYTES = 2100
_IMAGE_BYTES = 100
# Pass B takes far less memory a pixel than pass A: its tiles are up to twice as long and wide, and no longer than this.
_BLUR_SIDE = 512
# Time of a pixel in pass B, in that of a pixel in pass A.
_BLUR_WORK = 0.4


@dataclass(frozen=True)
class TileProgress:
    """Tiles that are done, tiles in all, and the share of the work that is done, in [0,1]."""

    done: int
    total: int
    share: float


def no_progress(progress: TileProgress) -> None:
    """Show no progress."""


def restored(
    net: nn.Module,
    y: Tensor,
    tile: Tile = 'auto',
    tell: Callable[[str], None] = lambda line: None,
    progress: Callable[[TileProgress], None] = no_progress,
    observe: Observe | None = None,
) -> Tensor:
    """Compute `net(y)` for y (B,3,H,W), in tiles.

    Networks other than GGKMNet's family cannot be tiled exactly and run at once. Where the memory does not suffice,
    tiles are halved.

    Args:
        tile: side in pixels; `auto`: as large as the free memory allows; None: the whole image at once.
        tell: called with a line when tiles are halved.
        progress: called after each tile; an image that runs at once is one tile.
        observe: called with the coefficients of the last iteration, of the padded image; for GGKMNet's family.

    Raises:
        OptionError: the network cannot run in tiles of this size.
        TrainingError: out of memory in the smallest tiles.
    """
    check_tile(tile)
    if not isinstance(net, GGKMNet):
        if isinstance(tile, int):
            raise OptionError(
                f'tile: only GGKMNet can be tiled exactly, {type(net).__name__} runs at once; leave it out'
            )
        side = None
    else:
        side = _side_for(net, y) if tile == 'auto' else cast('int | None', tile)
    while True:
        try:
            if side is None:
                progress(TileProgress(0, 1, 0.0))
                x = _at_once(net, y, observe)
                progress(TileProgress(1, 1, 1.0))
                return x
            return _tiled(cast(GGKMNet, net), y, side, progress, observe)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = ' '.join(str(error).split())[:200]
        smaller = _smaller(net, y, side)
        size = f'{y.shape[-2]}x{y.shape[-1]}'
        if smaller is None:
            raise TrainingError(
                f'out of memory on an image of {size}{f" in tiles of {side}" if side else ""}: make it smaller, or '
                f'run it where there is more memory ({reason})'
            )
        tell(f'out of memory on {size} {f"in tiles of {side}" if side else "at once"}: trying tiles of {smaller}')
        side = smaller
        release(y.device)


def _at_once(net: nn.Module, y: Tensor, observe: Observe | None) -> Tensor:
    if observe is None:
        return net(y)
    family = cast(GGKMNet, net)
    last = family.unroll(family.padded(y))[-1]
    observe(*last.coefficients)
    return family.cropped(last.x, y)


def check_tile(tile: Tile) -> None:
    """Raise OptionError unless `tile` is auto, None, or a number of pixels from `SMALLEST` on."""
    if tile in ('auto', None) or (type(tile) is int and tile >= SMALLEST):
        return
    raise OptionError(f'tile: auto, none, or a whole number of pixels from {SMALLEST} on, not {tile!r}')


def parse_tile(text: str) -> Tile:
    """Parse an argument: auto, none, or a number. Raises OptionError."""
    if text == 'none':
        return None
    try:
        tile: Tile = int(text)
    except ValueError:
        tile = text
    check_tile(tile)
    return tile


def _smaller(net: nn.Module, y: Tensor, side: int | None) -> int | None:
    """Return the next smaller side to try, None if there is none."""
    if not isinstance(net, GGKMNet):
        return None
    largest = max(y.shape[-2:]) if side is None else side
    side = max(largest // 2 // 16 * 16, SMALLEST)
    return side if side < largest else None


def _side_for(net: GGKMNet, y: Tensor) -> int | None:
    """Choose the side of tiles by the free memory; None if the image is no larger than one tile."""
    halo = coefficient_radius(_steps(net)[0])
    side = -(-_HALOS * halo // 64) * 64
    free = free_bytes(y.device)
    if free is not None:
        step = _steps(net)[0]
        width = cast(nn.Conv2d, step.bfe.enc1[0]).out_channels
        kept = y.shape[0] * y.shape[-2] * y.shape[-1] * (4 * _maps(step) + _IMAGE_BYTES)
        budget = (free - kept) // 2
        while side > 128 and y.shape[0] * (side + 2 * halo) ** 2 * _TILE_BYTES * width / 32 > budget:
            side -= 64
    return side if max(y.shape[-2:]) > side + 2 * halo else None


def _steps(net: GGKMNet) -> list[FixedPointStep]:
    return [cast(FixedPointStep, step) for step in net.steps]


def _maps(step: FixedPointStep) -> int:
    return next(layer.out_channels for layer in step.beta_apu.path2 if isinstance(layer, nn.Conv2d))


def _computed_in(step: FixedPointStep, y: Tensor) -> torch.dtype:
    """Return the dtype of the coefficients."""
    if torch.is_autocast_enabled(y.device.type):
        return torch.get_autocast_dtype(y.device.type)
    return next(step.parameters()).dtype


@dataclass(frozen=True)
class _Tile:
    """A tile: its `core` and the larger part that is `read` for it, each (top, bottom, left, right) in pixels."""

    core: Edges
    read: Edges

    @property
    def pixels(self) -> int:
        """The number of pixels that are read."""
        top, bottom, left, right = self.read
        return (bottom - top) * (right - left)

    def around(self, reach: int) -> '_Tile':
        """Return a tile with the same core, read with at most `reach` pixels around it."""
        edges = zip(self.core, self.read, (max, min, max, min), (-reach, reach, -reach, reach), strict=True)
        return _Tile(self.core, cast(Edges, tuple(choose(read, core + far) for core, read, choose, far in edges)))

    def beyond(self, other: '_Tile') -> Edges:
        """Return the pixels at each edge that are read here and not for another tile."""
        return cast(Edges, tuple(abs(ours - theirs) for ours, theirs in zip(self.read, other.read, strict=True)))

    def inside(self, image: Tensor, shrink: int = 1) -> Tensor:
        """Crop an image computed from the read part to the core, at 1/shrink of the resolution."""
        top, bottom, left, right = self.core
        up, _, before, _ = self.read
        return image[
            ..., (top - up) // shrink : (bottom - up) // shrink, (left - before) // shrink : (right - before) // shrink
        ]


def _part(image: Tensor, place: Edges, shrink: int = 1) -> Tensor:
    top, bottom, left, right = (edge // shrink for edge in place)
    return image[..., top:bottom, left:right]


def _tiles(height: int, width: int, side: int, halo: int) -> Iterator[_Tile]:
    """Yield the fewest tiles whose cores are at most `side` long, except at the borders, of nearly equal size."""
    rows, columns = list(_cores(height, side, halo)), list(_cores(width, side, halo))
    for top, bottom in rows:
        for left, right in columns:
            read = (max(top - halo, 0), min(bottom + halo, height), max(left - halo, 0), min(right + halo, width))
            yield _Tile((top, bottom, left, right), read)


def _cores(length: int, side: int, halo: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each core. Cores at the borders are longer, because no halo is read there."""
    inner = max(length - 2 * halo, 1)
    count = -(-inner // max(side // 16 * 16, 16))
    step = -(-inner // (16 * count)) * 16
    start = 0
    for end in (*range(halo + step, length - halo, step), length):
        yield start, end
        start = end


def _doubled(image: Tensor, place: Edges) -> Tensor:
    """Enlarge an image twofold and return a part of it; the part begins and ends at even pixels of the result."""
    height, width = image.shape[-2:]
    top, bottom, left, right = (edge // 2 for edge in place)
    up, down, before, after = max(top - 1, 0), min(bottom + 1, height), max(left - 1, 0), min(right + 1, width)
    large = double(image[..., up:down, before:after])
    rows, columns = 2 * (top - up), 2 * (left - before)
    return large[..., rows : rows + 2 * (bottom - top), columns : columns + 2 * (right - left)]


class _Counter:
    """Count the tiles of all passes, and the share of the work that they are."""

    def __init__(self, net: GGKMNet, levels: list[Tensor], side: int, progress: Callable[[TileProgress], None]) -> None:
        self._progress, self._done, self._worked, self._share = progress, 0, 0.0, 0.0
        # Tiles and work of each pass. How far the blur reaches is known with alpha only: until then, without overlap.
        self._passes: list[tuple[int, float]] = []
        for t, y in enumerate(levels, start=1):
            height, width = y.shape[-2:]
            for step in net.steps_of_scale(t):
                halo = coefficient_radius(cast(FixedPointStep, step))
                self._passes.append(_size(_tiles(height, width, side, halo)))
                self._passes.append(_size(_tiles(height, width, _blur_side(side), 0), _BLUR_WORK))
        self._waiting = iter(range(len(self._passes)))
        self._report()

    def _report(self) -> None:
        total, work = map(sum, zip(*self._passes, strict=True))
        self._share = max(self._share, min(self._worked / work, 1.0))  # never back
        self._progress(TileProgress(self._done, int(total), self._share))

    def counted(self, tiles: Iterable[_Tile], work: float = 1.0) -> Iterator[_Tile]:
        """Yield the tiles of the next pass; each is done when the next one is asked for."""
        chosen = list(tiles)
        self._passes[next(self._waiting)] = _size(chosen, work)
        for tile in chosen:
            yield tile
            self._done += 1
            self._worked += work * tile.pixels
            self._report()


def _size(tiles: Iterable[_Tile], work: float = 1.0) -> tuple[int, float]:
    """Compute the number of tiles and their work."""
    pixels = [tile.pixels for tile in tiles]
    return len(pixels), work * sum(pixels)


def _tiled(
    net: GGKMNet, y: Tensor, side: int, progress: Callable[[TileProgress], None], observe: Observe | None
) -> Tensor:
    """Run `net.unroll` in tiles."""
    height, width = y.shape[-2:]
    levels = pyramid(net.padded(y), net.num_scales)
    counter = _Counter(net, levels, side, progress)
    memories = [Memory()] * net.num_iters
    # One buffer for all betas, with the size of the largest: otherwise the memory becomes fragmented.
    step = _steps(net)[0]
    buffer = y.new_empty(y.shape[0] * _maps(step) * levels[-1][0, 0].numel(), dtype=_computed_in(step, y))
    x: Tensor | None = None
    for t in range(1, net.num_scales + 1):
        y_t = levels.pop(0)
        for r, module in enumerate(net.steps_of_scale(t)):
            step = cast(FixedPointStep, module)
            keep = t < net.num_scales
            alpha, beta, memories[r] = _coefficients(step, y_t, memories[r], side, buffer, keep, counter)
            x = _updated(step, y_t, y_t if x is None else x, alpha, beta, side, counter)
    assert x is not None
    if observe is not None:
        observe(alpha, beta)
    return x[..., :height, :width].to(y.dtype)


def _coefficients(
    step: FixedPointStep, y: Tensor, memory: Memory, side: int, buffer: Tensor, keep: bool, counter: _Counter
) -> tuple[Tensor, Tensor, Memory]:
    """Pass A: compute alpha, beta and recurrent states of one iteration; recurrent maps only if `keep`.

    beta lies in `buffer`.
    """
    batch, _, height, width = y.shape
    beta = buffer[: batch * _maps(step) * height * width].view(batch, _maps(step), height, width)
    kept: State | None = None
    if keep:
        h, c = (y.new_empty(batch, _maps(step), height // 2, width // 2, dtype=buffer.dtype) for _ in range(2))
        kept = (h, c)
    total: Tensor | float = 0.0
    for tile in counter.counted(_tiles(height, width, side, coefficient_radius(step))):
        near = tile.around(BETA_RADIUS)
        f1, f2 = cropped_features(step.bfe, _part(y, tile.read), tile.beyond(near))
        total = total + tile.inside(f1, 4).sum((-2, -1), dtype=widest(f1.device))
        del f1
        state: State | None = None
        if memory.beta is not None:
            place = cast(Edges, tuple(edge // 2 for edge in near.read))
            state = cast(State, tuple(_doubled(maps, place) for maps in memory.beta))
        part, state = step.beta_apu(f2, state)
        del f2
        _part(beta, near.core).copy_(near.inside(part))
        if state is None:  # a network without memory
            kept = None
        for whole, maps in zip(kept or (), state or (), strict=False):
            _part(whole, near.core, 2).copy_(near.inside(maps, 2))
        del part, state
    mean = cast(Tensor, total) / (height // 4 * (width // 4))
    alpha, alpha_states = step.alpha_apu(mean.to(buffer.dtype)[..., None, None], memory.alpha)
    return alpha, beta, Memory(alpha_states, kept)


def _blur_reach(blur: nn.Module, alpha: Tensor) -> int:
    """Return the radius of the blur in pixels."""
    if isinstance(blur, IGGCM):
        if blur.boundary == 'reflect':
            bank = blur.bank
            return blur.margin if alpha.device.type != 'cpu' else margin_of(alpha, bank, blur.iterative, torch.float32)
        groups = blur.bank.shape[0]
        return groups * (groups + 1) // 2 if blur.iterative else groups
    if isinstance(blur, LearnedIGGCM):
        reaches = [kernels.shape[-1] // 2 for kernels in blur.kernels]
        return sum(reaches) if blur.iterative else max(reaches)
    return 0


def _blur_side(side: int) -> int:
    """Return the side of the tiles in pass B for that in pass A."""
    return max(side, min(2 * side, _BLUR_SIDE))


def _updated(
    step: FixedPointStep, y: Tensor, xu: Tensor, alpha: Tensor, beta: Tensor, side: int, counter: _Counter
) -> Tensor:
    """Pass B: compute x of one iteration. xu has the size of y, or half of it from the previous scale."""
    height, width = y.shape[-2:]
    part_of = _part if xu.shape == y.shape else _doubled
    x = torch.empty_like(y, dtype=torch.promote_types(y.dtype, torch.float32))
    reach = _blur_reach(step.blur, alpha)
    for tile in counter.counted(_tiles(height, width, _blur_side(side), reach + reach % 2), _BLUR_WORK):
        part = step.updated(_part(y, tile.read), part_of(xu, tile.read), alpha, _part(beta, tile.read))
        _part(x, tile.core).copy_(tile.inside(part))
    return x


# Receptive fields

# Radius, in pixels of F2, that beta depends on: a 5x5 convolution at half the resolution, or a few of 3x3.
BETA_RADIUS = 4


def coefficient_radius(step: FixedPointStep) -> int:
    """Compute the radius, in pixels, within which zero padding affects beta; a multiple of 4, as edges have to be."""
    features = feature_radius(cast(BlurFeatureExtractor, step.bfe))
    return -(-features // 4) * 4 + BETA_RADIUS


def feature_radius(bfe: BlurFeatureExtractor) -> int:
    """Compute the radius, in pixels, within which zero padding at an edge affects F2; F1 is affected less."""
    pixels = 0
    for strided, stage in enumerate((bfe.enc1, bfe.enc2, bfe.enc3, bfe.bottleneck)):
        blocks = cast(nn.Sequential, stage[2])
        halved = -(-(pixels + 1) // 2) if strided in (1, 2) else pixels + 1
        pixels = halved + 2 * len(blocks)
    return _spread(bfe, pixels, 0)


def _spread(bfe: BlurFeatureExtractor, pixels: int, stage: int) -> int:
    """Compute how many pixels of F2 are wrong if this many at an edge are wrong before a stage of the decoder."""
    for place, blocks in enumerate((bfe.dec1, bfe.dec2, bfe.dec3)[stage:]):
        pixels = (2 * pixels + 1 if place else pixels) + 2 * len(blocks)
    return pixels


def _crops(bfe: BlurFeatureExtractor, unused: Edges) -> list[Edges]:
    """Compute the margins that can be cropped before each decoder stage, and after the last."""
    crops, done = [], [0, 0, 0, 0]
    for stage, size in enumerate((4, 2, 1, 1)):
        needed = _spread(bfe, 0, stage)
        crop = [max(edge - needed - before, 0) // size for edge, before in zip(unused, done, strict=True)]
        done = [before + size * pixels for before, pixels in zip(done, crop, strict=True)]
        crops.append(cast(Edges, tuple(crop)))
    return crops


def cropped_features(bfe: BlurFeatureExtractor, y: Tensor, unused: Edges) -> tuple[Tensor, Tensor]:
    """Compute F1 of y, and F2 without its unused edges: `bfe(y)` with a decoder that skips what is not needed."""
    first, second, third, last = _crops(bfe, unused)
    e1, e2, e3, f1 = bfe.encode(y)
    d = bfe.up1(bfe.dec1(_cropped(first, f1 + e3)))
    d = bfe.up2(bfe.dec2(_cropped(second, d + _cropped(first, e2, 2))))
    d = bfe.dec3(_cropped(third, d + _cropped(second, _cropped(first, e1, 4), 2)))
    return f1, _cropped(last, d)


def _cropped(edges: Edges, image: Tensor, scale: int = 1) -> Tensor:
    if not any(edges):
        return image
    (top, bottom, left, right), (height, width) = (scale * edge for edge in edges), image.shape[-2:]
    return image[..., top : height - bottom, left : width - right]
