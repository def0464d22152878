"""Scripts that prepare data sets: `python -m ggkm_plugin.datasets_prep.NAME --help`."""
