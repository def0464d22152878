"""The table of published scores against figures copied by hand from the paper."""

from ggkm_plugin.compare.published import PUBLISHED, PUBLISHED_DROPS


def found(method, dataset, note=''):
    return [row[2:5] for row in PUBLISHED if row.method == method and row.dataset == dataset and note in row.note]


def test_rows():
    assert found('GGKMNet', 'DPDD') == [(26.039, 0.806, 0.215)]
    assert found('NRKNet', 'RTF', 'trained on LFDOF') == [(28.047, 0.889, 0.145)]
    assert found('IFANet', 'RealDOF', 'trained on DPDD') == [(24.712, 0.748, 0.306)]
    assert found('GKMNet', 'RealDOF') == []
    assert found('LaKDNet-S', 'LFDOF') == [(31.87, 0.912, None)]


def test_no_dual_pixel_results():
    assert max(row.psnr for row in PUBLISHED if row.dataset == 'DPDD') < 27


def test_each_says_where_it_is_from():
    assert all('paper' in row.note for row in (*PUBLISHED, *PUBLISHED_DROPS))


def test_drops():
    assert (1.611, 0.088, 0.114) in [row[3:6] for row in PUBLISHED_DROPS if row[:3] == ('GGKMNet', 'RTF', 15)]
    assert len(PUBLISHED_DROPS) == 18
