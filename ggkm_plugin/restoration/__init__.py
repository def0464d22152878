"""Restore images: checkpoint loading, `Restorer`, exact tiling, image files."""

from ggkm_plugin.restoration.restorer import Restorer

__all__ = ['Restorer']
