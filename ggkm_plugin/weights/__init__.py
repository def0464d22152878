"""The weights that come with the package; README.md beside this file says where they come from and what they can do."""

from pathlib import Path

DEFAULT, LIGHT = 'GGKMNet', 'GGKMNet_light'
NAMES = (DEFAULT, LIGHT)


def packaged_weights(name: str = DEFAULT) -> str:
    """The path of a packaged checkpoint; the default one is what is used unless another is named."""
    return str(Path(__file__).with_name(f'{name}.pth'))


def checkpoint_path(given: str | Path) -> str:
    """`given`, or the packaged checkpoint of this name where there is no such file."""
    path = str(given)
    return packaged_weights(path) if path in NAMES and not Path(path).exists() else path
