"""Complexity of the networks compared with the recorded figures and the paper's, at 1280x720."""

import json

import pytest

from ggkm_plugin.evaluation import calibration
from ggkm_plugin.evaluation.calibration import NETWORKS, Calibration, PaperNetwork, calibrate
from ggkm_plugin.evaluation.paper import PaperRow
from ggkm_plugin.report.tables import to_csv, to_json
from ggkm_plugin.utils.errors import OptionError

# GMACs in the paper's unit, as recorded for the default network and its variants.
EXPECTED = [158.7, 317.4, 115.5, 144.3, 346.4, 288.7, 433.0, 519.4, 136.3, 136.2, 152.4, 153.4]
# Parameters in millions, without and with the SRM.
PARAMETERS = {
    'GGKMNet': (1.659, 1.713),
    'S=3, R=2': (3.318, 3.427),
    'S=1, R=3': (4.978, 5.140),
    'GGKMNet-dagger': (5.917, 5.971),
    'w/o Group (21)': (1.599, 1.653),
    'w/o LSTM (S)': (1.505, 1.559),
    'w/o LSTM (N)': (4.515, 4.678),
    'MCP-Net': (1.497, 1.552),
    'GKMNet': (1.409131, 1.409131),
    'GKMNet, S=1, R=3': (4.227393, 4.227393),
    'GKMNet, S=3, R=2': (2.818262, 2.818262),
    'NRKNet': (6.094107, 6.094107),
}

_results = {}


@pytest.fixture
def result(row):
    if row.label not in _results:
        _results[row.label] = calibrate([row])[0]
    return _results[row.label]


def test_every_recorded_figure_has_a_row():
    assert set(EXPECTED) <= {row.expected for row in NETWORKS}
    assert len({row.label for row in NETWORKS}) == len(NETWORKS)


@pytest.mark.parametrize('row', [row for row in NETWORKS if row.expected], ids=lambda row: row.label)
def test_macs_in_the_papers_convention(row, result):
    assert result.gmacs == pytest.approx(row.expected, rel=3e-3)


@pytest.mark.parametrize('row', [row for row in NETWORKS if row.label in PARAMETERS], ids=lambda row: row.label)
def test_parameters(row, result):
    # 1e-3: the recorded numbers are of path 2 = c3, without `fuse`, and have three digits.
    expected = PARAMETERS[row.label]
    assert (result.inference_parameters, result.parameters) == pytest.approx(expected, rel=1e-3)


RECORDED = [row for row in NETWORKS if row.recorded]


@pytest.mark.parametrize('row', RECORDED, ids=lambda row: row.label)
def test_parameters_equal_the_originals_and_true_macs_agree_within_half_a_percent(row, result):
    parameters, gmacs = row.recorded
    assert round(result.parameters * 1e6) == parameters
    assert gmacs is None or result.true_gmacs == pytest.approx(gmacs, rel=5e-3)
    assert parameters == pytest.approx(row.paper.parameters * 1e6, rel=5e-3) or row.label == 'DPDNet-S'


# Recorded configurations that the paper's tables do not have: true GMACs, parameters in evaluation.
@pytest.mark.parametrize(
    ('arch', 'options', 'parameters', 'gmacs'),
    [
        ('KPAC', {'levels': 2}, 1_578_277, 191.7),
        ('MDP', {'views': False}, 45_094_735, 1290.4),
        ('AIFNet', {}, 39_966_564, 1706.8),
        ('IFAN', {'reblur': True}, 10_476_996, 361.7),
    ],
)
def test_other_configurations(arch, options, parameters, gmacs):
    found = calibrate([PaperNetwork('', '', PaperRow(), arch, options)])[0]
    assert round(found.inference_parameters * 1e6) == parameters
    assert found.true_gmacs == pytest.approx(gmacs, rel=5e-3)


@pytest.mark.parametrize('row', NETWORKS, ids=lambda row: row.label)
def test_a_row_that_differs_from_the_paper_says_why(row):
    differs = row.expected is None or abs(row.expected - row.paper.gmacs) > 0.05
    assert row.note or not differs


def test_the_network_with_the_options_that_fit_the_papers_figures():
    options = {'fuse': 'none', 'beta_path2': 'c3', 'beta_norm': 'bn'}
    found = calibrate(
        [
            PaperNetwork('', '', PaperRow(), 'GGKMNet', options, True),
            PaperNetwork('', '', PaperRow(), 'GGKMNet', {'num_scales': 1, **options}),
        ]
    )
    assert [result.gmacs for result in found] == pytest.approx([158.5, 115.3], abs=0.05)


def test_a_missing_arch_is_named():
    with pytest.raises(OptionError, match=r'Nowhere.*not registered'):
        calibrate([PaperNetwork('new', '', PaperRow(), 'Nowhere')])


def test_reports():
    results = calibrate([row for row in NETWORKS if row.label in ('MCP-Net', 'GGKMNet(1)')])
    text = calibration.table(results)
    line = next(line for line in text.splitlines() if line.startswith('GGKMNet(1)'))
    assert ' '.join(line.split()) == 'GGKMNet(1) 1.68 1.660 1.714 - 115.3 115.5 +0.1 % left out 196.6 - [1]'
    assert '[1] the paper leaves the IGGCM out of this row' in text
    assert [Calibration(**row) for row in json.loads(to_json(results))] == results
    assert len(to_csv(results).splitlines()) == 3
