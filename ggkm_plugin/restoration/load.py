"""Networks built from checkpoints: the one loader of every command that evaluates.

Formats and the choice of weights are those of `utils.checkpoint`, which training's `models.loading` shares.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ggkm_plugin.utils import registry
from ggkm_plugin.utils.checkpoint import (
    absent_parts,
    described_network,
    in_parts,
    load_weights,
    read_checkpoint,
    weights_key,
    weights_of,
)
from ggkm_plugin.utils.config import Options, nearest, parse_named
from ggkm_plugin.utils.errors import CheckpointError, OptionError
from ggkm_plugin.utils.registry import ARCH_REGISTRY
from ggkm_plugin.weights import NAMES, checkpoint_path, packaged_weights

HUB_FILE = 'model.safetensors'


@dataclass(frozen=True, eq=False)
class LoadedNetwork:
    """A network with its weights.

    Attributes:
        options: `type` and the arguments that build it.
        path: the checkpoint.
        param_key: where in the checkpoint the weights are; None: it is the state dict itself.
        description: what the checkpoint says of its training; may be empty.
        without: parts that only training uses and the checkpoint does not hold; their weights are random.
    """

    net: nn.Module
    options: Options
    path: str
    param_key: str | None
    description: Mapping[str, Any]
    without: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights that come from the checkpoint."""
        return {key: value for key, value in self.net.state_dict().items() if not in_parts(key, self.without)}

    @property
    def packaged(self) -> str | None:
        """The name of the packaged weights, if it is one of them."""
        return next((name for name in NAMES if packaged_weights(name) == self.path), None)


def load(
    weights: str | Path | None = None,
    network: Options | None = None,
    param_key: str | None = None,
    where: str | None = None,
) -> LoadedNetwork:
    """Build the network of a checkpoint and load its weights: the EMA weights if there are any.

    Args:
        weights: a file, or the name of packaged weights; None: the default ones.
        network: `type` and arguments of the network; default: as the checkpoint describes it.
        param_key: where in the checkpoint the weights are; default: see `utils.checkpoint`.
        where: what errors call the network's options; default: the file.

    Raises:
        CheckpointError: the file is missing, damaged or of another network, or it does not describe its network.
        OptionError: the network is not registered, or has no such options.
    """
    path = checkpoint_path(weights)
    content = read_checkpoint(path)
    state = weights_of(content, path, param_key)
    options = dict(network or described_network(content, path))
    net = build_network(options, where or f'{path}: its network')
    load_weights(net, state, path)
    description = content.get('description')
    return LoadedNetwork(
        net,
        options,
        path,
        weights_key(content, path, param_key),
        description if isinstance(description, dict) else {},
        absent_parts(net, state),
    )


def load_network(weights: str | Path | None = None, network: Options | None = None) -> nn.Module:
    """Load a network as `load` does, without its description."""
    return load(weights, network).net


def build_network(options: Options, where: str) -> nn.Module:
    """Build a network of any registered arch. Raises OptionError, which names `where`."""
    name = options['type']
    if registry.find('archs', name) is None:
        near = nearest(name, list(ARCH_REGISTRY.keys()), 'Registered are')
        raise OptionError(
            f'{where}: {name!r} is not registered among the archs.{near} A local module that registers it is imported '
            'by --plugin MODULE'
        )
    return registry.build(where, 'archs', options)


def parse_network(text: str) -> Options:
    """Read --arch: ``NAME[,KEY=VALUE]``, such as ``GGKMNet,width=8,enc_blocks=[1,1,1]``. Raises OptionError."""
    name, options = parse_named('--arch', text)
    return {**options, 'type': name}


def pretrained_file(name: str | Path, filename: str = HUB_FILE, revision: str | None = None) -> str:
    """Find the checkpoint of a packaged name, a path, or a repository `OWNER/NAME` of the Hugging Face Hub.

    Only a repository needs the package `huggingface_hub`, and a network unless the file is in its cache.

    Raises:
        CheckpointError: there is no such file, or it cannot be fetched.
    """
    text = str(name)
    if (
        not re.fullmatch(r'[\w.-]+/[\w.-]+', text)
        or Path(text).exists()
        or Path(text).suffix in ('.pth', '.safetensors')
    ):
        return checkpoint_path(name)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise CheckpointError(
            f'{text}: no such file, and the Hugging Face Hub needs the package huggingface_hub. Install it: '
            "pip install 'ggkm_plugin[hub]'"
        ) from error
    try:
        return hf_hub_download(text, filename, revision=revision)
    except Exception as error:  # of the hub, the connection or the disk
        reason = ' '.join(str(error).split())[:300]
        raise CheckpointError(
            f'{text}: {filename} cannot be fetched from the Hugging Face Hub ({type(error).__name__}: {reason}). Check '
            'the name and the connection, or name a local file'
        ) from error
