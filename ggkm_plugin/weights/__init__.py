"""The weights that come with the package; README.md beside this file says where they come from and what they can do."""

from pathlib import Path

NAME = 'GGKMNet_light'


def packaged_weights() -> str:
    """The checkpoint that `basicsr deblur` and `basicsr inspect` use unless another one is named."""
    return str(Path(__file__).with_name(f'{NAME}.pth'))
