"""Commands that prepare data sets, one a job: `python -m ggkm_plugin.datasets_prep.NAME --help`."""
