"""Whole runs of the command in processes of their own: what a user sees, and what must come out the same again."""

import json
import re
from pathlib import Path

import cv2
import pytest
import torch
from conftest import run_command, run_python

pytestmark = pytest.mark.slow

SHORT = ('train:total_iter=4', 'val:val_freq=100', 'logger:save_checkpoint_freq=2', 'logger:print_freq=1')


def _weights(folder: Path, name: str = 'latest') -> dict[str, torch.Tensor]:
    return torch.load(folder / 'models' / f'net_g_{name}.pth')['params']


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _scores(log: str) -> dict[str, tuple[str, str]]:
    """The last validation's metrics: (value, the blurred input's), as printed."""
    return {name: values for name, *values in re.findall(r'# (\w+): (\S+)\s+input: (\S+)', log)[-2:]}


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """The packaged demo, four iterations of it, and everything it printed."""
    folder = tmp_path_factory.mktemp('demo')
    result = run_command('train', '-opt', 'train_GGKMNet_demo', '--force_yml', *SHORT, cwd=folder)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result


def test_the_demo_from_any_folder(demo):
    folder, result = demo
    run = folder / 'experiments/GGKMNet_demo'
    assert (run / 'models/net_g_latest.pth').is_file()
    assert f'Picture: {run / "comparison_held_out.png"}' in result.stdout
    assert 'basicsr test -opt test_GGKMNet_demo.yml' in result.stdout
    assert min(cv2.imread(str(run / 'comparison_held_out.png')).shape[:2]) > 600
    assert 'eta:' in result.stderr


def test_testing_the_checkpoint_gives_the_same_numbers(demo):
    folder, trained = demo
    tested = run_command('test', '-opt', 'test_GGKMNet_demo', cwd=folder)
    assert tested.returncode == 0, tested.stderr[-3000:]
    assert set(_scores(tested.stderr)) == {'psnr', 'ssim'}
    assert _scores(tested.stderr) == _scores(trained.stderr)
    results = folder / 'results/test_GGKMNet_demo'
    assert len(list((results / 'visualization/held_out').glob('*.png'))) == 2
    record = json.loads((results / 'scores_held_out.json').read_text())
    (dataset,) = record['datasets']
    assert f'{dataset["means"]["result"]["psnr"]:.4f}' == _scores(tested.stderr)['psnr'][0]
    assert len(dataset['images']) == 2
    assert (results / 'scores_held_out.csv').read_text().count('\n') == 5


@pytest.mark.parametrize('workers', [1, 2])
def test_the_same_seed_gives_the_same_bits(demo, basicsr, workplace, workers):
    """Once more with the demo's one worker, and with two: results do not depend on their number."""
    result = basicsr(
        'train', '-opt', 'train_GGKMNet_demo', '--force_yml', *SHORT,
        f'datasets:train:num_worker_per_gpu={workers}', 'logger:use_tb_logger=false',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    for name in ('2', 'latest'):
        again = _weights(workplace / 'experiments/GGKMNet_demo', name)
        assert _same(_weights(demo[0] / 'experiments/GGKMNet_demo', name), again)


def test_auto_resume_from_another_folder(basicsr, workplace, tiny, write_options):
    """BasicSR would start from scratch there and rename the good run."""
    path = write_options(tiny)
    assert basicsr('train', '-opt', path).returncode == 0
    (workplace / 'elsewhere').mkdir()
    result = basicsr(
        'train', '-opt', path, '--auto_resume', '--root', str(workplace), '--force_yml', 'train:total_iter=5'
    )
    assert 'iter: 4' in result.stderr
    assert [folder.name for folder in (workplace / 'experiments').glob('tiny*')] == ['tiny']


def test_workers_started_by_spawn(basicsr, workplace, tiny, write_options):
    """A stock data set in spawned workers: BasicSR's import fails there unless the import hook is installed first."""
    (workplace / 'spawn_workers.py').write_text(
        'import multiprocessing\nmultiprocessing.set_start_method("spawn", force=True)\n'
    )
    tiny['datasets']['train'].update(
        type='PairedImageDataset', io_backend={'type': 'disk'}, use_rot=False, num_worker_per_gpu=1
    )
    result = basicsr('train', '-opt', write_options(tiny), '--plugin', 'spawn_workers')
    assert result.returncode == 0, result.stderr[-3000:]


def test_our_names_in_somebody_s_own_train_py(workplace, tiny, write_options):
    """`register()` and BasicSR alone: SRModel trains and validates GGKMNet with GGKMLoss."""
    tiny['model_type'] = 'SRModel'
    tiny['datasets']['train']['num_worker_per_gpu'] = 1
    write_options(tiny)
    result = run_python(
        'import sys\nimport ggkm_plugin\nggkm_plugin.register()\nfrom basicsr.train import train_pipeline\n'
        'sys.argv = ["train.py", "-opt", "tiny.yml"]\ntrain_pipeline(".")\n',
        workplace,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (workplace / 'experiments/tiny/models/net_g_latest.pth').is_file()
