"""Networks of the spandrel library under their papers' names, for images of any size.

`network_g: {type: Restormer, dim: 32}` builds the library's network with the arguments of its constructor; the defaults
are those of the paper for deblurring. The networks in `spandrel` have permissive licenses; those in
`spandrel_extra_arches` are not for commercial use, so there are two extras. A name is registered whether or not its
package is installed; the package is imported when a network is built.

The keys of a state dict are the released checkpoints', so every command loads them strictly: under params (NAFNet,
KBNet, Restormer) or state_dict (Uformer, GRL, MPRNet), or bare (FFTformer).
"""

import functools
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ggkm_plugin.ops.boundary import crop_to, pad_to_multiple, padded_size
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.registry import ARCH_REGISTRY

_EXTRAS = {'spandrel': 'models', 'spandrel_extra_arches': 'academic-models'}


class LibraryNetMixin(nn.Module):
    """Mixin for a network of the library: y (B,3,H,W), RGB in [0,1], of any size -> its image, same shape and dtype.

    y is padded to a multiple of `size_multiple`, or to a square (`square`), and the image is cropped, in training too.
    A network with several stages returns in training a dict of their images, first stage first: `scales`, `inputs`
    ([y], since all have full size) and `reconstructions` (empty). A loss that takes scales then trains all stages, as
    the authors do; any other loss trains the last.
    """

    size_multiple: int
    square: bool
    float32: bool

    def forward(self, y: Tensor) -> Tensor | dict[str, list[Tensor]]:
        height, width = y.shape[-2:]
        side = max(padded_size(height, width, self.size_multiple)) if self.square else 0
        padded = pad_to_multiple(y, self.size_multiple, side)
        with torch.autocast(y.device.type, enabled=False) if self.float32 else nullcontext():
            output = super().forward(padded)  # type: ignore[misc]
        stages = output[::-1] if isinstance(output, tuple) else [output]  # the library returns the last stage first
        images = [crop_to(image, height, width).to(y.dtype) for image in stages]
        if self.training and len(images) > 1:
            return {'scales': images, 'inputs': [y], 'reconstructions': []}
        return images[-1]


@functools.cache
def _class(arch: str, module: str, name: str) -> type[nn.Module]:
    """Create the library's class with the mixin, named `arch`. Raises OptionError naming the package to install."""
    package = module.partition('.')[0]
    try:
        base = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise OptionError(
            f'{arch} needs the package {package}, which is missing or too old ({error}). Run pip install --upgrade '
            f"'ggkm_plugin[{_EXTRAS[package]}]'"
        ) from error
    return type(arch, (LibraryNetMixin, base), {'__module__': __name__, '__doc__': base.__doc__})


@dataclass(eq=False)
class ExternalArch:
    """Entry of the registry for a library network; a call with the options of `network_g` builds it.

    Args:
        name: name in the registry and of the network's class.
        source: module and class of the library.
        size_multiple: function from the network to the number of which its input's sides must be multiples.
        doc: paper, published size, what the library omits.
        defaults: values for deblurring that differ from the library's.
        hidden: arguments of the library that are not options here.
        square: whether the network takes squares only.
        float32: whether the network fails under autocast, which is then disabled in it.
        unused: a submodule that the network never calls; it is frozen, because DDP would wait for its gradients.
        convert: a hook that converts the authors' state dict to the network's.

    Raises:
        OptionError: the package is missing or too old, also from `inspect.signature`.
        TypeError: an unknown option.
    """

    name: str
    source: tuple[str, str]
    size_multiple: Callable[[Any], int]
    doc: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    square: bool = False
    float32: bool = False
    unused: str | None = None
    convert: Callable[..., None] | None = None

    def __post_init__(self) -> None:
        self.__name__, self.__doc__ = self.name, self.doc

    @property
    def __signature__(self) -> inspect.Signature:
        """Return the signature of the library's constructor with the options and defaults of this entry."""
        signature = inspect.signature(_class(self.name, *self.source))
        return signature.replace(
            parameters=[
                parameter.replace(default=self.defaults.get(name, parameter.default))
                for name, parameter in signature.parameters.items()
                if name not in self.hidden
            ],
            return_annotation=nn.Module,
        )

    def __call__(self, **options: Any) -> nn.Module:
        bound = inspect.signature(self).bind(**options)
        net: Any = _class(self.name, *self.source)(**{**self.defaults, **bound.arguments})
        net.size_multiple, net.square, net.float32 = self.size_multiple(net), self.square, self.float32
        if self.unused is not None:
            net.get_submodule(self.unused).requires_grad_(False)
        if self.convert is not None:
            net.register_load_state_dict_pre_hook(self.convert)
        return net


def _grl_keys(net: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Convert GRL's checkpoints: remove the prefix `model.` or `model_g.`, the other keys, and the tables."""
    for trainer in ('model.', 'model_g.'):
        if f'{prefix}{trainer}conv_first.weight' in state_dict:
            kept = {key: state_dict[key] for key in state_dict if key.startswith(prefix + trainer)}
            state_dict.clear()
            state_dict.update({prefix + key.removeprefix(prefix + trainer): value for key, value in kept.items()})
    for name in net._non_persistent_buffers_set:
        state_dict.pop(prefix + name, None)


ARCHS = (
    ExternalArch(
        'NAFNet',
        ('spandrel.architectures.NAFNet', 'NAFNet'),
        lambda net: net.padder_size,
        """L. Chen, X. Chu, X. Zhang, J. Sun, "Simple Baselines for Image Restoration", ECCV 2022.

        The network for GoPro with 67.9 M parameters; width 32 has 17.1 M. Its authors' test-time local statistics (TLC)
        are not in the library: channel attention uses the whole image.
        """,
        {'width': 64, 'enc_blk_nums': [1, 1, 1, 28], 'middle_blk_num': 1, 'dec_blk_nums': [1, 1, 1, 1]},
    ),
    ExternalArch(
        'Uformer',
        ('spandrel.architectures.Uformer', 'Uformer'),
        lambda net: net.win_size * 2**net.num_enc_layers,
        """Z. Wang et al., "Uformer: A General U-Shaped Transformer for Image Restoration", CVPR 2022.

        Uformer-B, 50.9 M parameters. Squares only: 1280x720 costs as much as 1280x1280. `img_size` decides whether
        the coarsest windows shift. Its authors pad with zeros and mask attention there.
        """,
        {'depths': [1, 2, 8, 8, 2, 8, 8, 2, 1], 'modulator': True},
        hidden=('norm_layer', 'dowsample', 'upsample'),
        square=True,
    ),
    ExternalArch(
        'FFTformer',
        ('spandrel.architectures.FFTformer', 'FFTformer'),
        lambda net: 32,
        """L. Kong et al., "Efficient Frequency Domain-based Transformers for High-Quality Image Deblurring", CVPR 2023.

        16.6 M parameters.
        """,
        unused='reduce_chan_level2',
    ),
    ExternalArch(
        'GRL',
        ('spandrel.architectures.GRL', 'GRL'),
        lambda net: math.lcm(*net.window_size, *net.stripe_size),
        """Y. Li et al., "Efficient and Explicit Modelling of Image Hierarchies for Image Restoration", CVPR 2023.

        GRL-B, 19.8 M parameters, as trained on DPDD. Its attention masks are stored for images of `img_size`, a
        multiple of 96, and recomputed in each call for others: for training set `img_size` to gt_size. Masks of full
        photographs take gigabytes; its authors restore tiles of 480. The library's `stripe_groups` takes squares only.
        """,
        {
            'img_size': 96, 'embed_dim': 180, 'depths': [4, 4, 8, 8, 8, 4, 4], 'num_heads_window': [3] * 7,
            'num_heads_stripe': [3] * 7, 'window_size': 16, 'stripe_size': [48, 96], 'stripe_shift': True,
            'mlp_ratio': 2, 'anchor_window_down_factor': 4, 'local_connection': True,
        },
        hidden=('upscale', 'upsampler', 'stripe_groups', 'norm_layer', 'fairscale_checkpoint', 'offload_to_cpu'),
        convert=_grl_keys,
    ),
    ExternalArch(
        'KBNet',
        ('spandrel.architectures.KBNet', 'KBNet_l'),
        lambda net: 16,
        """Y. Zhang et al., "KBNet: Kernel Basis Network for Image Restoration", 2023.

        KBNet_l, the network for defocus deblurring. The library's kernels have no mixed precision: under `train.amp` it
        trains in float32.
        """,
        float32=True,
    ),
    ExternalArch(
        'Restormer',
        ('spandrel_extra_arches.architectures.Restormer', 'Restormer'),
        lambda net: 8,
        """S. W. Zamir et al., "Restormer: Efficient Transformer for High-Resolution Image Restoration", CVPR 2022;
        Academic Public License. 26.1 M parameters, the network for single-image defocus.
        """,
    ),
    ExternalArch(
        'MPRNet',
        ('spandrel_extra_arches.architectures.MPRNet', 'MPRNet'),
        lambda net: 8,
        """S. W. Zamir et al., "Multi-Stage Progressive Image Restoration", CVPR 2021; Academic
        Public License.

        The deblurring network, 20.1 M parameters. Three stages; see `LibraryNetMixin` for their training.
        """,
        {'n_feat': 96, 'scale_unetfeats': 48, 'scale_orsnetfeats': 32},
    ),
)  # fmt: skip

for _arch in ARCHS:
    if _arch.__name__ not in ARCH_REGISTRY:  # another program may have registered this name before
        ARCH_REGISTRY.register(_arch)
