"""Entry point of `python -m ggkm_plugin.cli`.

Runs `cli.main` under its own module name, because processes started by spawn import that module again and not this one.
"""

import runpy

runpy.run_module('ggkm_plugin.cli.main', run_name='__main__', alter_sys=True)
