"""Packaged weights. Their model card is README.md in this folder."""

from pathlib import Path

from ggkm_plugin.utils.errors import CheckpointError
from ggkm_plugin.utils.files import stored_path

DEFAULT, LIGHT = 'GGKMNet', 'GGKMNet_light'
NAMES = (DEFAULT, LIGHT)
# Printed by commands that use the default weights.
NOTICE = f'with the packaged weights, {DEFAULT}; --weights {LIGHT} is faster, --weights FILE names yours'


def packaged_weights(name: str = DEFAULT) -> str:
    """Path of a packaged checkpoint."""
    return str(Path(__file__).with_name(f'{name}.safetensors'))


def checkpoint_path(given: str | Path | None) -> str:
    """Path of the checkpoint that a user names: a file, else packaged weights of this name; None: the default ones.

    Raises CheckpointError for an empty name, and for a single word that is neither a file nor packaged.
    """
    if given is None:
        return packaged_weights()
    path = stored_path(given)
    if Path(path).is_file():
        return path
    if path in NAMES:
        return packaged_weights(path)
    if not path:
        raise CheckpointError(f'weights: the name is empty. Name a file, or one of {", ".join(NAMES)}')
    bare = len(Path(path).parts) == 1 and (not Path(path).suffix or Path(path).stem in NAMES)
    if bare and not Path(path).exists():
        from ggkm_plugin.utils.config import nearest  # imports yaml, which --help does not need

        raise CheckpointError(f'{path}: no such checkpoint.{nearest(path, list(NAMES), "Packaged are")}')
    return path
