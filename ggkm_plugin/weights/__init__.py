"""The weights that come with the package; README.md beside this file says where they come from and what they can do."""

from pathlib import Path

from ggkm_plugin.utils.errors import CheckpointError

DEFAULT, LIGHT = 'GGKMNet', 'GGKMNet_light'
NAMES = (DEFAULT, LIGHT)
# What a command says when nobody named weights.
NOTICE = f'with the packaged weights, {DEFAULT}; --weights {LIGHT} is faster, --weights FILE names yours'


def packaged_weights(name: str = DEFAULT) -> str:
    """The path of a packaged checkpoint; the default one is what is used unless another is named."""
    return str(Path(__file__).with_name(f'{name}.pth'))


def checkpoint_path(given: str | Path | None) -> str:
    """`given`, or the packaged checkpoint of this name where there is no such file; of None, the default one.

    Raises CheckpointError for a bare word that is neither, and for an empty one.
    """
    if given is None:
        return packaged_weights()
    path = str(given)
    if Path(path).is_file():
        return path
    if path in NAMES:
        return packaged_weights(path)
    if not path:
        raise CheckpointError(f'the name of the weights is empty; name a file, or one of {", ".join(NAMES)}')
    bare = len(Path(path).parts) == 1 and (not Path(path).suffix or path.removesuffix('.pth') in NAMES)
    if bare and not Path(path).exists():
        from ggkm_plugin.utils.config import nearest  # brings yaml, which --help does without

        raise CheckpointError(f'{path}: no such checkpoint.{nearest(path, list(NAMES), "Packaged are")}')
    return path
