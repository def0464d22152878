"""`prepare` and `verify` as modules and scripts: the same commands as `basicsr prepare` and `basicsr verify`."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize('name', ['prepare', 'verify'])
@pytest.mark.parametrize('form', ['module', 'script'])
def test_an_alias_shows_the_help_of_its_command(command, name, form):
    """In a checkout, where Python finds the package before an installed one."""
    target = (
        ['-m', f'ggkm_plugin.datasets_prep.{name}'] if form == 'module' else [str(ROOT / f'datasets_prep/{name}.py')]
    )
    environment = {**os.environ, 'COLUMNS': os.environ.get('COLUMNS', '80')}
    done = subprocess.run(
        [sys.executable, *target, '--help'], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout == command(name, '--help')[1]
