"""Complexity of a network: parameters, multiply-accumulates (MACs) in two conventions, time and peak memory.

=============  =====================================================================================================
true MACs      `torch.utils.flop_counter` / 2: convolutions and transposed convolutions, linear layers and matrix
               products (so LSTM cells and ConvLSTMs too), attention, functional or not; FFTs as 2.5 N log2 N MACs
               (FFTW's convention; half of that for a real transform). Elementwise operations, norms, pooling and
               resizing count nothing.
paper MACs     the unit of the GGKMNet paper's tables: half of what thop counts for the modules. thop takes a
               transposed convolution of stride 2 for four times what it costs, counts norms, and skips functional
               operations.
kernel MACs    the part of each that blur kernels cost (the IGGCM), whatever evaluates them (under `reflect` that is a
               product in the DCT basis). Gaussians count as separable passes: two lines of the kernel's size and one
               weighting per kernel, pixel and color. Learned kernels truly cost a dense composite kernel per pixel
               and color; the paper's figure for them is explained by separable passes too.
               Kernels that a network predicts for every pixel (IFAN, DRBNet) cost a multiplication a tap, pixel and
               channel, and nothing in the paper's unit.
=============  =====================================================================================================

Counting runs the network on fake tensors, which have shapes and no values: 1280x720 takes a second or two, and no
memory. A network that decides by values cannot be counted so and is run for real.
"""

import contextlib
import copy
import dataclasses
import logging
import math
import statistics
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ggkm_plugin.archs.blocks import PixelFilter
from ggkm_plugin.archs.ggkmnet_ablations_arch import LearnedIGGCM
from ggkm_plugin.archs.ggkmnet_arch import IGGCM
from ggkm_plugin.report.tables import MISSING, Table, fixed, write
from ggkm_plugin.restoration import tiling
from ggkm_plugin.restoration.restorer import Restorer, checked_device, for_inference
from ggkm_plugin.utils import config, plugins, registry
from ggkm_plugin.utils.devices import device_name, find_device, synchronize
from ggkm_plugin.utils.errors import OptionError

Size = tuple[int, int]

_log = logging.getLogger(__name__)

PAPER_SIZE: Size = (720, 1280)  # (H, W) of the paper's complexity figures

MEMORY_SOURCES = {
    'cpu': 'live tensors',  # weights, input and activations, by their shapes; scratch memory of the libraries unseen
    'cuda': 'cuda allocator',  # torch.cuda.max_memory_allocated
}


class ClosedCount(NamedTuple):
    """MACs of one call of a module: of its blur kernels, as the paper counts these (thop's unit), and of the rest."""

    kernels: int
    paper_kernels: int
    rest: int


def separable_macs(sizes: Sequence[int], kernels: int) -> int:
    """Count MACs per pixel and color of steps with `kernels` separable kernels: rows, columns, weighted sum."""
    return kernels * sum(2 * size + 1 for size in sizes)


def _points(module: IGGCM | LearnedIGGCM, num_groups: int, blurred: Tensor) -> tuple[int, int]:
    """Count the pixels that a blur processes, and those of one color."""
    pixels = blurred.shape[0] * blurred.shape[-2] * blurred.shape[-1]
    return pixels, pixels * module.mix.in_channels // (num_groups + module.include_identity)


def _group_gaussian_blur(blur: IGGCM, blurred: Tensor) -> ClosedCount:
    """Count Q Gaussians per step of Eq. (16), as separable passes, and the 1x1 convolution."""
    num_groups, kernels, _ = blur.bank.shape
    if type(blur).make_bank is IGGCM.make_bank:
        sizes = [2 * j + 3 for j in range(num_groups)]  # 2p-1; a far tap of a narrow one may be zero in floating point
    else:
        offsets = (blur.make_bank() != 0).any(dim=1) * torch.arange(-num_groups, num_groups + 1).abs()
        sizes = [2 * int(reach) + 1 for reach in offsets.amax(dim=1)]
    pixels, points = _points(blur, num_groups, blurred)
    chain = points * separable_macs(sizes, kernels)
    return ClosedCount(chain, chain, pixels * blur.mix.weight.numel())


def _learned_group_blur(blur: LearnedIGGCM, blurred: Tensor) -> ClosedCount:
    """Count Q learned kernels per step: their weighted sum per image, and its dense convolution."""
    learned = list(blur.kernels)
    sizes, kernels = [kernel.shape[-1] for kernel in learned], learned[0].shape[0]
    pixels, points = _points(blur, len(learned), blurred)
    composed = blurred.shape[0] * sum(kernel.numel() for kernel in learned)
    return ClosedCount(
        composed + points * sum(size**2 for size in sizes),
        points * separable_macs(sizes, kernels),
        pixels * blur.mix.weight.numel(),
    )


def _pixel_filter(pixel_filter: PixelFilter, filtered: Tensor) -> ClosedCount:
    """Count one multiplication per tap, pixel and channel; thop counts none."""
    return ClosedCount(filtered.numel() * pixel_filter.rows * pixel_filter.columns, 0, 0)


# Modules, subclasses included, whose cost should not depend on how they are evaluated. What they run inside is not
# counted. (module, its output) -> ClosedCount.
_CLOSED_FORMS: dict[type[nn.Module], Callable[[Any, Tensor], ClosedCount]] = {
    IGGCM: _group_gaussian_blur,
    LearnedIGGCM: _learned_group_blur,
    PixelFilter: _pixel_filter,
}


@dataclasses.dataclass(frozen=True)
class Profile:
    """The cost of one (1,3,H,W) image in evaluation, the network in float32.

    `parameters` are all of them, `inference_parameters` those without what only training uses. `kernel_macs` is part
    of `macs`, `paper_kernel_macs` of `paper_macs`. `seconds` is the median of the timed runs on `device`, `memory` in
    bytes the peak with the weights, measured as `memory_source` says; both are None where nothing was run.
    """

    name: str
    height: int
    width: int
    parameters: int
    inference_parameters: int
    macs: int
    kernel_macs: int
    paper_macs: int
    paper_kernel_macs: int
    seconds: float | None
    memory: int | None
    memory_source: str
    device: str


def profile(
    net: nn.Module,
    size: Size = PAPER_SIZE,
    device: str = 'cpu',
    repeats: int = 3,
    name: str | None = None,
    restorer: Restorer | None = None,
) -> Profile:
    """Measure `net`, which is not changed, on one image of `size` (H, W).

    MACs and parameters are those of `net`; time and memory are those of `restorer`, by default the network in its form
    for inference, in tiles as a Restorer uses them. `repeats` runs are timed after one that is not; with 0 nothing is
    run, only counted. Raises OptionError for a device or a size that cannot be used.
    """
    name = name or type(net).__name__
    where = find_device(device)
    if min(size) < 1:
        raise OptionError(f'--size {size[0]}x{size[1]}: height and width are at least 1')
    count = count_macs(net, (1, 3, *size), name)
    seconds, memory = None, None
    if repeats > 0:
        prepared = restorer.network if restorer else for_inference(net)
        where = checked_device(prepared, where, _log.warning)
        prepared.to(where)
        run = restorer.restore if restorer else lambda image: tiling.restored(prepared, image[None])
        seconds, memory = _timed(run, prepared, size, where, repeats)
    return Profile(
        name,
        *size,
        *count_parameters(net),
        count.macs,
        count.kernel_macs,
        count.paper_macs,
        count.paper_kernel_macs,
        seconds,
        memory,
        MEMORY_SOURCES.get(where.type, MEMORY_SOURCES['cpu']) if memory is not None else '',
        device_name(where) if repeats > 0 else '',
    )


def profile_named(
    name: str,
    variant: str | None = None,
    size: Size = PAPER_SIZE,
    device: str = 'cpu',
    repeats: int = 3,
) -> Profile:
    """Profile a registered arch with its default arguments, or an option file's `network_g`.

    Plugins that an option file names are loaded. Raises OptionError.
    """
    try:
        path = config.find_option_file(name)
    except OptionError as no_file:
        if registry.find('archs', name) is None:
            raise OptionError(
                f'{no_file} Nor is an arch of this name registered: `basicsr list archs` shows them'
            ) from None
        if variant is not None:
            raise OptionError(f'--variant {variant}: {name} is an arch; only option files have variants') from None
        try:
            net = registry.build(name, 'archs', {'type': name})
        except OptionError as error:
            raise OptionError(f'{error}. To give it arguments, name an option file with them as network_g') from None
        return profile(net, size, device, repeats, name=name)
    opt = config.load_options(path, variant)
    plugins.load_local(opt.get('plugins') or [])
    net = registry.build('network_g', 'archs', opt.get('network_g'))
    label = f'{path.stem}:{variant}' if variant else path.stem
    return profile(net, size, device, repeats, name=label)


def count_parameters(net: nn.Module) -> tuple[int, int]:
    """Count all parameters, and those without the submodules in `training_only`."""
    training_only = getattr(net, 'training_only', ())
    counts = [(key.partition('.')[0], parameter.numel()) for key, parameter in net.named_parameters()]
    return sum(n for _, n in counts), sum(n for child, n in counts if child not in training_only)


def parse_size(text: str) -> Size:
    """Parse '720x1280' as (720, 1280), height first. Raises OptionError."""
    height, times, width = text.lower().partition('x')
    if not (times and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise OptionError(f'--size {text}: height x width in pixels, for example 720x1280')
    return int(height), int(width)


class Count(NamedTuple):
    """See `Profile`."""

    macs: int
    kernel_macs: int
    paper_macs: int
    paper_kernel_macs: int


_REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError)


def count_macs(net: nn.Module, shape: Sequence[int], name: str = 'the network') -> Count:
    """Count one evaluation of `net` on an input of this shape. Raises OptionError if it refuses such an input."""
    fake = FakeTensorMode(allow_non_fake_inputs=True).from_tensor(torch.empty(1)).new_empty(tuple(shape))
    # It may decide by values, use an operation without a rule for shapes, or refuse the input: a real run tells.
    with contextlib.suppress(*_REFUSALS):
        return _count(net, fake)
    try:
        return _count(net, torch.zeros(tuple(shape)))
    except _REFUSALS as error:
        size = 'x'.join(map(str, shape))
        raise OptionError(f'{name} does not take an input of {size}: {type(error).__name__}: {error}') from error


def _count(net: nn.Module, x: Tensor) -> Count:
    net = copy.deepcopy(net).cpu().eval()
    paper_macs = _thop(net, x) // 2
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS)
    counts = [ClosedCount(0, 0, 0)]
    replaced = [0]  # FLOPs counted up to the end of each module with a closed form, less those up to its start

    def before(module: nn.Module, args: object) -> None:
        replaced.append(-counter.get_total_flops())

    def after(module: nn.Module, args: object, output: Tensor) -> None:
        replaced.append(counter.get_total_flops())
        counts.append(_closed_count(module, output))

    for module in _with_closed_form(net):
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
    with torch.no_grad(), counter:
        net(x)
    kernels, paper_kernels, rest = map(sum, zip(*counts, strict=True))
    macs = (counter.get_total_flops() - sum(replaced)) // 2 + kernels + rest
    return Count(macs, kernels, paper_macs, paper_kernels // 2)


def _kind(module: nn.Module) -> type[nn.Module] | None:
    """Return the class whose closed form counts the module."""
    return next((kind for kind in type(module).__mro__ if kind in _CLOSED_FORMS), None)


def _closed_count(module: nn.Module, output: Tensor) -> ClosedCount:
    return _CLOSED_FORMS[cast(type[nn.Module], _kind(module))](module, output)


def _with_closed_form(net: nn.Module) -> list[nn.Module]:
    """List the outermost modules that have a closed form, each once."""
    found: dict[nn.Module, None] = {}

    def search(module: nn.Module) -> None:
        if _kind(module) is not None:
            found[module] = None
        else:
            for child in module.children():
                search(child)

    search(net)
    return list(found)


def _thop(net: nn.Module, x: Tensor) -> int:
    """Count with thop, and closed forms for modules that it skips. A subclass of a layer counts as that layer."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # it compares versions with distutils
        import thop
        from thop.profile import register_hooks

    def by_closed_form(module: Any, args: object, output: Tensor) -> None:
        count = _closed_count(module, output)
        module.total_ops += count.paper_kernels + count.rest

    rules: dict[type[nn.Module], Callable[..., None]] = {
        type(module): register_hooks[kind]
        for module in net.modules()
        for kind in type(module).__mro__[:0:-1]
        if kind in register_hooks and type(module) not in register_hooks
    }
    rules.update({type(module): by_closed_form for module in _with_closed_form(net)})
    total, _ = thop.profile(copy.deepcopy(net), (x,), custom_ops=rules, verbose=False)
    return int(total)


def _fft_flops(shape: Sequence[int], dims: Sequence[int], share: float) -> int:
    """Count 5 N log2 N per transform of N points, and half of that where one side is real."""
    points = math.prod(shape[dim] for dim in dims)
    return round(share * 5 * math.prod(shape) * math.log2(max(points, 1)))


def _matrix_vector(matrix: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(matrix)


def _attention(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: object, **__: object) -> int:
    """Count both products of (B,heads,L,E), (B,heads,S,E), (B,heads,S,Ev)."""
    return 2 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _rnn_layer(x: Sequence[int], w_input: Sequence[int], w_hidden: Sequence[int], *_: object, **__: object) -> int:
    """Count nn.LSTM on the CPU, one layer and direction: (steps,batch,features)."""
    return 2 * x[0] * x[1] * (math.prod(w_input) + math.prod(w_hidden))


_aten = torch.ops.aten
# Operations that torch's counter lacks: FLOPs from the shapes of the arguments.
_MORE_FLOPS: dict[Any, Callable[..., int]] = {
    _aten._fft_c2c: lambda shape, dims, *_, **__: _fft_flops(shape, dims, 1),
    _aten._fft_r2c: lambda shape, dims, *_, **__: _fft_flops(shape, dims, 0.5),
    _aten._fft_c2r: lambda shape, dims, *_, out_shape, **__: _fft_flops(out_shape, dims, 0.5),
    _aten.mv: _matrix_vector,
    _aten.dot: _matrix_vector,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten.mkldnn_rnn_layer: _rnn_layer,
}


class LiveTensors(TorchDispatchMode):
    """Peak memory of tensors: follow storages until they are freed; `peak` is the largest sum in bytes.

    Scratch memory inside an operation is not counted. `held` are tensors that live from the start.
    """

    def __init__(self, held: Sequence[Tensor]) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}
        self.now = self.peak = 0
        for tensor in held:
            self._follow(tensor)

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, key).atexit = False

    def _freed(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def __torch_dispatch__(
        self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self._follow(value)
        return result


@torch.inference_mode()
def _timed(
    run: Callable[[Tensor], Tensor], net: nn.Module, size: Size, device: torch.device, repeats: int
) -> tuple[float, int]:
    """Return the median seconds of one image, and the peak of allocated bytes with the weights of `net`."""
    cuda = device.type == 'cuda'
    image = torch.rand((3, *size), device=device)
    weights = [*net.parameters(), *net.buffers()]
    before = torch.cuda.memory_allocated(device) - sum(one.nbytes for one in weights) if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    live = LiveTensors([image, *weights])
    with contextlib.nullcontext() if cuda else live:
        run(image)
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        run(image)
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated(device) - before if cuda else live.peak
    return statistics.median(seconds), memory


def table(rows: Sequence[Profile]) -> str:
    """Return the terminal table, with the conventions below it."""
    header = (
        'network', 'input', 'params M', 'in training', 'true GMAC', 'paper GMAC', 'kernels', 'time s', 'memory MiB',
    )  # fmt: skip
    lines = [
        (
            row.name,
            f'{row.height}x{row.width}',
            fixed(row.inference_parameters, 3, 1e6),
            fixed(row.parameters, 3, 1e6) if row.parameters != row.inference_parameters else MISSING,
            fixed(row.macs, 1, 1e9),
            fixed(row.paper_macs, 1, 1e9),
            fixed(row.kernel_macs or None, 1, 1e9),
            fixed(row.seconds, 3),
            fixed(row.memory, 0, 2**20),
        )
        for row in rows
    ]
    notes = [
        '',
        'true GMAC: multiply-accumulates in evaluation (torch.utils.flop_counter / 2). paper GMAC: the convention of '
        'the GGKMNet paper, thop / 2. kernels: the part of true GMAC that blur kernels cost, Gaussians as separable '
        'passes.',
    ]
    if any(row.seconds is not None for row in rows):
        notes.append(f'time: median, one image, float32, {", ".join(sorted({row.device for row in rows}))}.')
    sources = {row.memory_source for row in rows if row.memory is not None}
    if MEMORY_SOURCES['cpu'] in sources:
        notes.append(
            'memory: peak of weights, input and activations, from their shapes; without scratch memory of libraries.'
        )
    if MEMORY_SOURCES['cuda'] in sources:
        notes.append('memory: torch.cuda.max_memory_allocated.')
    return write(Table(header, lines, notes=notes))
