"""Alias of `ggkm_plugin.restoration` for code written for version 0.1.0; removed in 0.3."""

from ggkm_plugin.restoration import Restorer

__all__ = ['Restorer']
