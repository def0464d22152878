"""GGKMNet, GKMNet and NRKNet as architectures of spandrel: detection by keys, options from the file or from shapes.

Shapes do not tell every option, such as the number of scales. `ModelLoader.load_from_file` therefore takes the options
that the file describes. From a bare state dict, those that shapes do not tell have their defaults.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from spandrel import Architecture, ImageModelDescriptor, ModelLoader, ModelTiling, StateDict
from spandrel.util import KeyCondition, get_seq_len
from torch import nn

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.archs.gkmnet_arch import GKMNet
from ggkm_plugin.archs.nrknet_arch import NRKNet

# Of .safetensors files that a training with an EMA network saved.
_EMA = 'params_ema.'


class _DescribedState(dict[str, Any]):
    """State dict with what its file says of the network; empty if it says nothing."""

    description: Mapping[str, Any]


class _RestorationArchitecture(Architecture[nn.Module]):
    """Base of the architectures: any size of RGB images, whose result depends on the whole image."""

    network: type[nn.Module]
    keys: tuple[str, ...]

    def __init__(self) -> None:
        detect = KeyCondition.has_any(
            KeyCondition.has_all(*self.keys), KeyCondition.has_all(*(_EMA + key for key in self.keys))
        )
        super().__init__(id=self.network.__name__, name=self.network.__name__, detect=detect)

    def options(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Infer the options from the shapes of a state dict."""
        return {}

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[nn.Module]:
        described = getattr(state_dict, 'description', {})
        if any(key.startswith(_EMA) for key in state_dict):
            state_dict = {key.removeprefix(_EMA): state_dict[key] for key in state_dict if key.startswith(_EMA)}
        options = self.options(state_dict)
        if described.get('arch') == self.id:
            # An export may leave out what only training uses.
            srm = {key: value for key, value in options.items() if key == 'self_reconstruction'}
            options = {**described['options'], **srm}
        network = self.network(**options).eval()  # in training it returns a dict
        channels = state_dict[self.keys[0]].shape[1]
        return ImageModelDescriptor(
            network,
            state_dict,
            architecture=self,
            purpose='Restoration',
            tags=[],
            supports_half=False,
            supports_bfloat16=True,
            scale=1,
            input_channels=channels,
            output_channels=channels,
            tiling=ModelTiling.DISCOURAGED,
        )


class GGKMNetArchitecture(_RestorationArchitecture):
    network = GGKMNet
    keys = (
        'steps.0.bfe.enc1.0.weight',
        'steps.0.alpha_apu.lstm.weight_ih',
        'steps.0.beta_apu.lstm.conv.weight',
        'steps.0.beta_apu.path2.0.weight',
        'steps.0.blur.mix.weight',
    )

    def options(self, state: Mapping[str, Any]) -> dict[str, Any]:
        width, in_ch = state['steps.0.bfe.enc1.0.weight'].shape[:2]
        maps = state['steps.0.beta_apu.path2.0.weight'].shape[0]
        linear = 'steps.0.alpha_apu.head.weight' in state
        alphas = state[f'steps.0.alpha_apu.head.{"weight" if linear else "bias_hh"}'].shape[0] // (1 if linear else 4)
        identity = maps > 1 and alphas % (maps - 1) == 0
        groups = maps - identity
        bn = 'steps.0.beta_apu.path2.1.running_mean' in state
        last = state.get(f'steps.0.beta_apu.path2.{3 if bn else 2}.weight')

        def blocks(part: str) -> int:
            return get_seq_len(state, f'steps.0.bfe.{part}')

        return {
            'in_ch': in_ch,
            'width': width,
            'num_groups': groups,
            'kernels_per_group': alphas // groups,
            'include_identity': identity,
            'num_iters': get_seq_len(state, 'steps'),
            'enc_blocks': tuple(blocks(f'enc{level}.2') for level in (1, 2, 3)),
            'bottleneck_blocks': blocks('bottleneck.2'),
            'dec_blocks': tuple(blocks(f'dec{level}') for level in (1, 2, 3)),
            'alpha_head': 'lstm_fc' if linear else 'lstm2',
            'beta_path2': 'c3' if last is None else 'c3c1' if last.shape[-1] == 1 else 'c3c3',
            'beta_norm': 'bn' if bn else 'none',
            'fuse': 'conv1x1' if 'steps.0.fuse.weight' in state else 'none',
            'self_reconstruction': get_seq_len(state, 'srm') > 0,
        }


class GKMNetArchitecture(_RestorationArchitecture):
    network = GKMNet
    keys = (
        'in_block.conv.0.weight',
        'bottle_neck_1.conv.0.weight',
        'APU.conv_atten.conv.weight',
        'SumLayer.conv.weight',
    )

    def options(self, state: Mapping[str, Any]) -> dict[str, Any]:
        return {'self_reconstruction': any(key.startswith('srm.') for key in state)}


class NRKNetArchitecture(_RestorationArchitecture):
    network = NRKNet
    keys = (
        'feat_extract.0.main.0.weight',
        'APU.conv_atten.conv.weight',
        'GCM.kernels',
        'SummationLayer.conv.weight',
    )


ARCHITECTURES = (GGKMNetArchitecture, GKMNetArchitecture, NRKNetArchitecture)


def describe_loaded(loader: type[ModelLoader]) -> None:
    """Let spandrel's loader keep the description of its network that a file has."""
    original = loader.load_state_dict_from_file
    if hasattr(original, '__wrapped__'):
        return

    @functools.wraps(original)
    def load_state_dict_from_file(self: ModelLoader, path: str | Path) -> StateDict:
        state = _DescribedState(original(self, path))
        state.description = _read_description(path)
        return state

    loader.load_state_dict_from_file = load_state_dict_from_file  # type: ignore[method-assign]


def _read_description(path: str | Path) -> Mapping[str, Any]:
    """Read what a file says of its network, without its tensors; empty if it says nothing, or cannot be read."""
    try:
        if Path(path).suffix.lower() == '.safetensors':
            from safetensors import safe_open

            with safe_open(path, 'pt') as file:
                described = json.loads((file.metadata() or {}).get('description', '{}'))
        else:
            content = torch.load(path, map_location='cpu', mmap=True, weights_only=True)
            described = content.get('description', {})
        return described if isinstance(described.get('options'), dict) else {}
    except Exception:  # spandrel's own loader tells what is wrong with the file
        return {}
