"""Plugins: discovery, names and sources; a plugin that fails registers nothing."""

import subprocess
import sys

import pytest

from ggkm_plugin.utils import plugins
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.registry import ARCH_REGISTRY


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write an importable module; its names are removed from the registry after the test."""
    monkeypatch.chdir(tmp_path)
    before = dict(ARCH_REGISTRY._obj_map)
    written = []

    def write(name, body):
        (tmp_path / f'{name}.py').write_text(
            'from torch import nn\nfrom basicsr.utils.registry import ARCH_REGISTRY\n' + body
        )
        written.append(name)
        return name

    yield write
    ARCH_REGISTRY._obj_map.clear()
    ARCH_REGISTRY._obj_map.update(before)
    for name in written:
        sys.modules.pop(name, None)
        plugins._loaded.discard(name)
        plugins._sources = {key: source for key, source in plugins._sources.items() if source != f'module {name}'}
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]


def _arch(name):
    return f'@ARCH_REGISTRY.register()\nclass {name}(nn.Module):\n    pass\n'


def test_names_and_their_sources(module):
    assert plugins.load_installed() == []
    plugins.load_local([module('local_plugin', _arch('LocalNet'))])
    sources = {name: source for kind, name, source in plugins.registered()[0] if kind == 'archs'}
    assert sources['LocalNet'] == 'module local_plugin'
    assert sources['SwinIR'] == 'basicsr 1.4.2'
    assert sources['GGKMNet'].startswith('ggkm_plugin')


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        (_arch('HalfNet') + 'import no_such_library', 'no_such_library'),
        (_arch('HalfNet') + _arch('GGKMNet'), 'GGKMNet'),
        (_arch('HalfNet') + 'raise SystemError("broken")', 'broken'),
    ],
)
def test_a_failing_plugin_leaves_nothing_behind(module, body, message):
    name = module('failing_plugin', body)
    before = ARCH_REGISTRY.get('GGKMNet')
    for plugin, named in ((name, f'failing_plugin.*{message}'), ('no_such_module', 'no_such_module')):
        with pytest.raises(OptionError, match=named):
            plugins.load_local([plugin])
    assert 'HalfNet' not in ARCH_REGISTRY
    assert ARCH_REGISTRY.get('GGKMNet') is before


@pytest.mark.slow
def test_other_distributions_through_the_entry_point_group(tmp_path):
    """The broken plugin is reported, the other one is listed."""
    for name, body in (('sound', _arch('SoundNet')), ('broken', _arch('BrokenNet') + 'raise RuntimeError("no luck")')):
        (tmp_path / f'{name}_plugin.py').write_text(
            'from torch import nn\nfrom basicsr.utils.registry import ARCH_REGISTRY\n' + body
        )
        info = tmp_path / f'{name}_dist-2.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}-dist\nVersion: 2.0\n')
        (info / 'entry_points.txt').write_text(f'[basicsr.plugins]\n{name} = {name}_plugin\n')
    result = subprocess.run(
        [
            sys.executable,
            '-c',
            f'import sys; sys.path.append({str(tmp_path)!r})\n'
            'from ggkm_plugin.cli.main import main; sys.exit(main(["list", "archs"]))',
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0
    rows = {line.split()[0]: line.split(maxsplit=1)[1].strip() for line in result.stdout.splitlines()[1:]}
    assert rows['SoundNet'] == 'sound-dist 2.0'
    assert 'GGKMNet' in rows
    assert 'BrokenNet' not in rows
    assert 'broken-dist' in result.stderr
    assert 'no luck' in result.stderr


def test_the_list_is_what_is_registered(python):
    """The names listed without an import equal those that the import registers."""
    result = python("""
from ggkm_plugin.utils import plugins
from ggkm_plugin.utils.registry import REGISTRIES
listed = {(kind, name): source for kind, name, source in plugins.registered()[0]}
assert not any(registry._obj_map for registry in REGISTRIES.values())
plugins.load_installed()
registered = {(kind, name): target for kind, registry in REGISTRIES.items() for name, target in registry}
own = {key: target.__module__.split('.')[0] for key, target in registered.items()}
assert {key: source.split()[0] for key, source in listed.items()} == own, set(listed) ^ set(own)
""")
    assert result.returncode == 0, result.stderr


def test_a_name_is_imported_when_it_is_looked_up(python):
    """A name of this package is found without importing basicsr."""
    result = python("""
import sys
from ggkm_plugin.utils import registry
assert registry.find('archs', 'GGKMNet').__module__ == 'ggkm_plugin.archs.ggkmnet_arch'
assert not {'basicsr', 'torchvision', 'ggkm_plugin.archs.gkmnet_arch'} & sys.modules.keys()
assert registry.find('archs', 'SwinIR').__module__ == 'basicsr.archs.swinir_arch'
assert registry.find('models', 'RealESRGANModel').__name__ == 'RealESRGANModel'
assert registry.find('models', 'NoSuchModel') is None
import basicsr.utils
assert basicsr.utils.registry.ARCH_REGISTRY is registry.ARCH_REGISTRY
""")
    assert result.returncode == 0, result.stderr
