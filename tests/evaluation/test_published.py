"""The table of published scores against figures copied by hand from the paper."""

from ggkm_plugin.evaluation.published import PUBLISHED, PUBLISHED_DROPS, record


def found(method, dataset, remark=''):
    rows = (row for row in PUBLISHED if row.method == method and row.dataset == dataset and remark in row.remark)
    return [row[2:5] for row in rows]


def test_rows():
    assert found('GGKMNet', 'DPDD') == [(26.039, 0.806, 0.215)]
    assert found('NRKNet', 'RTF', 'trained on LFDOF') == [(28.047, 0.889, 0.145)]
    assert found('IFANet', 'RealDOF', 'trained on DPDD') == [(24.712, 0.748, 0.306)]
    assert found('GKMNet', 'RealDOF') == []
    assert found('LaKDNet-S', 'LFDOF') == [(31.87, 0.912, None)]


def test_no_dual_pixel_results():
    assert max(row.psnr for row in PUBLISHED if row.dataset == 'DPDD') < 27


def test_each_says_where_it_is_from():
    assert all('paper' in row.source for row in (*PUBLISHED, *PUBLISHED_DROPS))


def test_costs():
    costs = {row.method: (row.parameters, row.macs_paper) for row in PUBLISHED}
    assert costs['GGKMNet'] == (1.68e6, 158.4e9)
    assert costs['MPRNet*'] == (20.1e6, 5347.5e9)
    assert costs['Input'] == costs['Restormer'] == (None, None)


def test_lpips_of_another_network_is_left_out():
    for row in (PUBLISHED[0], PUBLISHED_DROPS[0]):
        assert record(row, lpips=True)['lpips'] == row.lpips is not None
        assert record(row, lpips=False) == {**record(row, lpips=True), 'lpips': None}


def test_drops():
    assert (1.611, 0.088, 0.114) in [row[3:6] for row in PUBLISHED_DROPS if row[:3] == ('GGKMNet', 'RTF', 15)]
    assert len(PUBLISHED_DROPS) == 18
