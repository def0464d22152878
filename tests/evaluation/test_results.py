"""An infinite score, which JSON has no word for."""

import math

from ggkm_plugin.evaluation.results import with_infinities


def test_infinite_scores_come_back_for_the_report():
    scores = {'input': {'psnr': 30.0}, 'same': {'psnr': None}}
    results = {'datasets': [{'means': scores, 'images': [{'scores': {'same': {'psnr': None, 'ssim': 1.0}}}]}]}
    [dataset] = with_infinities(results)['datasets']
    assert dataset['means'] == {'input': {'psnr': 30.0}, 'same': {'psnr': math.inf}}
    assert dataset['images'][0]['scores']['same'] == {'psnr': math.inf, 'ssim': 1.0}
    assert results['datasets'][0]['means']['same']['psnr'] is None
