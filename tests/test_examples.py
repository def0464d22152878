"""The examples and the notebook run as they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def basicsr(*words, cwd, path=''):
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, [str(path), os.environ.get('PYTHONPATH')]))}
    command = [sys.executable, '-m', 'ggkm_plugin.cli', *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_example_plugin_is_found_by_its_entry_point_and_trains(tmp_path):
    source = shutil.copytree(ROOT / 'examples/plugin', tmp_path / 'source')
    pip = [sys.executable, '-m', 'pip', 'install', '--no-index', '--no-deps', '--no-build-isolation']
    subprocess.run([*pip, '--target', tmp_path / 'site', source], check=True, capture_output=True, timeout=120)
    listed = basicsr('list', 'archs', cwd=tmp_path, path=tmp_path / 'site')
    assert 'ResidualNet' in listed.stdout, listed.stderr
    done = basicsr('train', '-opt', str(source / 'train.yml'), cwd=tmp_path, path=tmp_path / 'site')
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / 'experiments/my_plugin/models/net_g_latest.pth').is_file()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('basicsr') is None, reason='the notebook runs the installed command')
def test_the_notebook_runs(tmp_path):
    nbformat = pytest.importorskip('nbformat', reason='nbformat is not installed')
    nbclient = pytest.importorskip('nbclient', reason='nbclient is not installed')
    notebook = nbformat.read(ROOT / 'docs/notebooks/quickstart.ipynb', as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, resources={'metadata': {'path': str(tmp_path)}}).execute()
    assert list(tmp_path.glob('results/inspect/*.png'))
    assert list(tmp_path.glob('experiments/GGKMNet_demo*/models/net_g_latest.pth'))


@pytest.mark.parametrize('script', sorted(ROOT.glob('examples/*.sh')), ids=lambda path: path.name)
def test_scripts_are_valid_and_explain_themselves(script):
    assert subprocess.run(['bash', '-n', script]).returncode == 0
    assert subprocess.run(['bash', script], capture_output=True, text=True).returncode == 2
