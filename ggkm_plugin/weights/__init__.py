"""The weights that come with the package; README.md beside this file says where they come from and what they can do."""

from pathlib import Path

from ggkm_plugin.errors import CheckpointError

DEFAULT, LIGHT = 'GGKMNet', 'GGKMNet_light'
NAMES = (DEFAULT, LIGHT)


def packaged_weights(name: str = DEFAULT) -> str:
    """The path of a packaged checkpoint; the default one is what is used unless another is named."""
    return str(Path(__file__).with_name(f'{name}.pth'))


def checkpoint_path(given: str | Path) -> str:
    """`given`, or the packaged checkpoint of this name where there is no such file.

    Raises CheckpointError for a bare word that is neither.
    """
    path = str(given)
    if Path(path).exists() or len(Path(path).parts) != 1 or Path(path).suffix:
        return path
    if path not in NAMES:
        from ggkm_plugin.options import nearest  # brings yaml, which --help does without

        raise CheckpointError(f'{path}: no such checkpoint.{nearest(path, list(NAMES), "Packaged are")}')
    return packaged_weights(path)
