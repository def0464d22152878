"""Package list; all other metadata is in pyproject.toml."""

from setuptools import find_packages, setup

# pyproject.toml cannot combine discovered packages with folders outside the package.
found = find_packages(include=['ggkm_plugin', 'ggkm_plugin.*'])
setup(packages=sorted({*found, 'ggkm_plugin.options', 'ggkm_plugin.datasets_prep'}))
