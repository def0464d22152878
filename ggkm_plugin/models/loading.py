"""Checkpoints in training and testing: what replaces `load_network` of BasicSR's models."""

from typing import Any

from torch import nn

from ggkm_plugin.utils.checkpoint import load_weights, read_checkpoint, weights_key, weights_of
from ggkm_plugin.weights import checkpoint_path

from basicsr.utils import get_root_logger  # isort: skip


def load_network(
    model: Any, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
) -> None:
    """Load a checkpoint, or packaged weights by name, into a network of a BasicSR model.

    A resumed network gets exactly what was saved: `params`, and `params_ema` for the EMA network. Otherwise the network
    starts from the EMA weights if the file has them, or from `path.param_key_g`, and the EMA network as its copy.
    `param_key` is not used: in it BasicSR's default looks like an option.

    Raises CheckpointError: the file is missing or damaged, or its weights do not fit or are not finite.
    """
    options, is_average = model.opt['path'], net is getattr(model, 'net_g_ema', None)
    name = next((key for key in options if key.startswith('pretrain_network') and options[key] == load_path), '')
    network = name.removeprefix('pretrain_')
    resumed = bool(options.get('resume_state')) and network not in (options.get('ignore_resume_networks') or ())
    if is_average and not resumed:
        net.load_state_dict(model.get_bare_model(model.net_g).state_dict())
        return
    path = checkpoint_path(load_path)
    content, net, logger = read_checkpoint(path), model.get_bare_model(net), get_root_logger()
    if resumed:
        key = 'params_ema' if is_average and 'params_ema' in content else 'params'
    else:
        key = options.get(f'param_key_{network.removeprefix("network_")}')
    lines = load_weights(net, weights_of(content, path, key), path, strict, finite=not resumed)
    logger.info(f'Loading {type(net).__name__} from {path}, key {weights_key(content, path, key)}')
    for line in lines:
        logger.warning(line)
