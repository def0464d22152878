"""A trained network on photographs of any size: `Restorer`."""

from ggkm_plugin.inference.restorer import Restorer

__all__ = ['Restorer']
