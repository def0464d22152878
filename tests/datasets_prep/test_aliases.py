"""The scripts that are aliases of commands: same arguments, same exit code."""

from conftest import write_pairs

from ggkm_plugin.datasets_prep import prepare, verify


def test_prepare_and_verify_are_the_commands(tmp_path, capsys):
    write_pairs(tmp_path / 'RealDOF', 2)
    for old, new in (('input', 'source'), ('ground_truth', 'target')):
        (tmp_path / 'RealDOF' / old).rename(tmp_path / 'RealDOF' / new)
    assert prepare.main([str(tmp_path / 'RealDOF'), '-o', str(tmp_path / 'made'), '--format', 'raw']) == 0
    assert (tmp_path / 'made/test.lmdb').is_dir()
    capsys.readouterr()
    assert verify.main([str(tmp_path / 'made')]) == 0
    assert 'RealDOF' in capsys.readouterr().out
    assert verify.main([str(tmp_path / 'nowhere')]) != 0
