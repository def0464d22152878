"""Published numbers: rows copied by hand from the paper, and what its text says about its tables."""

import pytest

from ggkm_plugin.evaluation import paper
from ggkm_plugin.evaluation.paper import FOOTNOTES, PUBLISHED, PUBLISHED_DROPS, record

TABLES = {
    2: paper.TABLE_2, 3: paper.TABLE_3, 4: paper.TABLE_4['DPDD'], 5: paper.TABLE_5['LFDOF'], 8: paper.TABLE_8,
    10: paper.TABLE_10, 11: paper.TABLE_11['GGKMNet'],
}  # fmt: skip


def found(method, dataset, remark=''):
    rows = (row for row in PUBLISHED if row.method == method and row.dataset == dataset and remark in row.remark)
    return [row[2:5] for row in rows]


def test_published_rows():
    assert found('GGKMNet', 'DPDD') == [(26.039, 0.806, 0.215)]
    assert found('NRKNet', 'RTF', 'trained on LFDOF') == [(28.047, 0.889, 0.145)]
    assert found('IFANet', 'RealDOF', 'trained on DPDD') == [(24.712, 0.748, 0.306)]
    assert found('GKMNet', 'RealDOF') == []
    assert found('LaKDNet-S', 'LFDOF') == [(31.87, 0.912, None)]
    assert found('GKMNet*', 'LFDOF') == [(29.125, 0.867, 0.170)]
    assert (1.611, 0.088, 0.114) in [row[3:6] for row in PUBLISHED_DROPS if row[:3] == ('GGKMNet', 'RTF', 15)]
    costs = {row.method: (row.parameters, row.macs_paper) for row in PUBLISHED}
    assert costs['GGKMNet'] == (1.68e6, 158.4e9)
    assert costs['Input'] == costs['Restormer'] == (None, None)
    assert found('ViTDeblur', 'RealDOF') == [(25.141, 0.769, 0.295)]


def test_the_tables_are_whole():
    assert {number: len(rows) for number, rows in TABLES.items()} == {2: 17, 3: 13, 4: 9, 5: 9, 8: 12, 10: 4, 11: 6}
    assert paper.TABLE_10['P=21, Q=4'] is paper.TABLE_8['GGKMNet'] is paper.TABLE_2['GGKMNet']


def test_what_the_text_says_of_the_tables():
    """Gains and drops in Secs. 5.2, 5.3 and 6.1, to their printed digits."""
    two, eight = paper.TABLE_2, paper.TABLE_8
    assert two['GGKMNet'].psnr - two['GKMNet'].psnr > 0.5
    assert paper.TABLE_3['GGKMNet'].psnr - paper.TABLE_3['GKMNet'].psnr > 0.4
    assert eight['GGKMNet'].psnr - eight['w/o l_SR'].psnr == pytest.approx(0.18, abs=0.01)
    for method, drop in (('GGKMNet', 1.0), ('GGKMNet-dagger', 1.2), ('KPAC', 1.5), ('IFANet', 2.2)):
        lost = paper.TABLE_4['DPDD'][method].psnr - paper.TABLE_4['LFDOF'][method].psnr
        assert lost == pytest.approx(drop, abs=0.1)
    for training in paper.TRAINED_ON:
        rows = paper.TABLE_5[training]
        best = rows['GGKMNet-dagger']
        others = [row for method, row in rows.items() if method != 'GGKMNet-dagger']
        assert best.psnr > max(row.psnr for row in others)
        assert best.lpips < min(row.lpips for row in others)


@pytest.mark.parametrize('key', FOOTNOTES, ids=str)
def test_footnotes_belong_to_rows(key):
    number, row = key
    assert row in TABLES[number]
    if 2 <= number <= 5:
        assert any(published.footnote == FOOTNOTES[key] for published in PUBLISHED if published.method == row)


def test_input_rows():
    assert paper.INPUT_ROWS == {
        'DPDD': ((23.890, 0.725),),
        'LFDOF': ((25.874, 0.777),),
        'RealDOF': ((22.333, 0.633),),
        'RTF': ((23.608, 0.591), (24.200, 0.717)),
    }


def test_lpips_of_another_network_is_left_out():
    for row in (PUBLISHED[0], PUBLISHED_DROPS[0]):
        assert record(row, lpips=True)['lpips'] == row.lpips is not None
        assert record(row, lpips=False) == {**record(row, lpips=True), 'lpips': None}
