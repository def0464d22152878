"""The JSON schema of option files, for editors."""

import json

import pytest

from ggkm_plugin.training.config_schema import json_schema
from ggkm_plugin.utils import config, plugins

jsonschema = pytest.importorskip('jsonschema', reason='jsonschema is not installed: pip install jsonschema')
FOLDER = config.packaged_folder()


@pytest.fixture(scope='module')
def validator():
    schema = json.loads((FOLDER / 'schema.json').read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def test_the_file_is_up_to_date():
    """Otherwise: basicsr check --schema > options/schema.json"""
    plugins.load_installed()
    assert json.loads(json_schema()) == json.loads((FOLDER / 'schema.json').read_text())


@pytest.mark.parametrize('file', sorted(FOLDER.glob('*.yml')), ids=lambda file: file.stem)
def test_option_files_are_valid(validator, file):
    """As they are written and as they are resolved."""
    options, _ = config.read_options(file)
    for content in (config._parse(file), options):
        assert [error.message for error in validator.iter_errors(content)] == []


@pytest.mark.parametrize(
    'options',
    [
        {'modle_type': 'DefocusModel'},
        {'network_g': {'type': 'GGKMNet', 'boundary': 'circular'}},
        {'network_g': {'type': 'GGKMNet', 'widht': 8}},
        {'train': {'amp': 'half'}},
        {'train': {'pixel_opt': {'type': 'GGKMLoss', 'mse_wight': 1}}},
        {'train': {'total_iter': 0}},
        {'val': {'metrics': {'psnr': {'type': 'defocus_psnr', 'prtocol': 'ifan'}}}},
        {'datasets': {'train': {'type': 'PairedDefocusDataset', 'use_hflip': 'false'}}},
        {'models': [{'name': 'x', 'weight': 'x.pth'}]},
        {'base': 3},
    ],
    ids=str,
)
def test_faults_are_marked(validator, options):
    assert list(validator.iter_errors(options))


def test_models_of_other_authors_may_have_other_keys(validator):
    options = {'model_type': 'TheirModel', 'theirs': 1, 'train': {'optim_d': {'type': 'Adam'}}}
    assert list(validator.iter_errors(options)) == []
