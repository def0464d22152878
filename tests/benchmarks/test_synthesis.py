"""The benchmark of synthetic samples: what it compares, what it leaves behind. No time is asserted."""

import json
import re

import pytest

from ggkm_plugin.benchmarks import reader, synthesis
from ggkm_plugin.benchmarks.measuring import Failed
from ggkm_plugin.cli.main import main
from ggkm_plugin.utils.errors import DataError

NAMES = ['plain scenes, made on the fly', 'varied scenes, made on the fly', 'varied scenes, LMDB raw']


def test_steps_are_of_10_ms():
    """Batches of four: 400 samples a second feed one training."""
    assert synthesis.SynthesisRow('any', 0, 400.0).steps == pytest.approx(1)
    assert synthesis.SynthesisRow('any', 2, 100.0).steps == pytest.approx(0.25)


def test_the_crop_is_the_recipe_s():
    from ggkm_plugin.utils import config

    recipe = config.load_options(config.packaged_folder() / 'train_GGKMNet_synthetic.yml')
    assert recipe['datasets']['train']['gt_size'] == synthesis.CROP


@pytest.mark.slow
def test_the_command(tmp_path, capfd, monkeypatch):
    """Every way has its number, and nothing is left but what was asked for."""
    work, out = tmp_path / 'work', tmp_path / 'bench.json'
    work.mkdir()
    monkeypatch.setattr(synthesis, 'WORKERS', (0,))
    arguments = ['--pairs', '4', '--seconds', '0.05', '--work', str(work), '--json', str(out)]
    assert main(['bench', 'synthesis', *arguments]) == 0
    printed, record = capfd.readouterr().out, json.loads(out.read_text())
    assert set(record) == {'machine', 'synthesis'}
    assert [row['reader'] for row in record['synthesis']['rows']] == NAMES
    for row in record['synthesis']['rows']:
        assert 0 < row['samples_per_second'] < float('inf')
        assert re.search(rf'^{row["reader"]} +0 ', printed, re.MULTILINE)
    assert record['synthesis']['made'] == 6  # a scene of each photograph inside scikit-image
    assert record['synthesis']['making_seconds'] > 0
    assert not list(work.iterdir())


def test_a_way_that_fails_is_told_by_name(tmp_path, monkeypatch):
    def fails(*_):
        raise Failed('ValueError: nothing to read')

    monkeypatch.setattr(synthesis, 'watch', fails)
    with pytest.raises(DataError, match='plain scenes, made on the fly, 0 workers: ValueError: nothing to read'):
        synthesis._rows(tmp_path, 'nowhere', 6, reader.ReaderSettings(), progress=False)
