"""Entry point of the plugin: importing this module registers everything of this package with BasicSR."""

import importlib

from ggkm_plugin.utils.registry import OWN_MODULES

for _module in OWN_MODULES.values():
    importlib.import_module(_module)
