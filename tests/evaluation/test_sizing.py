"""Cropping and padding by protocol, on RTF's 360x360, which is not a multiple of 16."""

import pytest
import torch

from ggkm_plugin.evaluation.sizing import SIZINGS, protocol_words, scored, shown, sized
from ggkm_plugin.metrics.protocols import PROTOCOLS

RTF = (360, 360)


@pytest.mark.parametrize(
    ('protocol', 'seen_by_the_network', 'scored_on_rtf', 'scored_elsewhere'),
    [
        ('dpdnet', 360, 360, 360),
        ('ifan', 360, 360, 360),
        ('drbnet', 352, 352, 352),
        ('restormer', 360, 360, 360),
        ('nrknet', 368, 360, 368),
        ('gkmnet', 368, 368, 368),
        ('basicsr', 360, 360, 360),
    ],
)
def test_sizes(protocol, seen_by_the_network, scored_on_rtf, scored_elsewhere):
    image = sized(torch.rand(3, *RTF), protocol)
    assert image.shape == (3, seen_by_the_network, seen_by_the_network)
    assert scored(image, protocol, 'RTF', RTF).shape[-1] == scored_on_rtf
    assert scored(image, protocol, 'DPDD', RTF).shape[-1] == scored_elsewhere
    assert shown(image, RTF).shape[-1] == min(360, seen_by_the_network)


def test_gkmnet_pads_with_zeros():
    image = sized(torch.ones(3, 10, 20), 'gkmnet')
    assert image.shape == (3, 16, 32)
    assert image.sum() == 3 * 10 * 20


def test_every_protocol_has_its_words():
    assert set(SIZINGS) <= set(PROTOCOLS)
    words = {name: protocol_words(name) for name in PROTOCOLS}
    assert all(text.startswith(f'protocol {name}: ') for name, text in words.items())
    assert 'not clipped' in words['ifan']
    assert 'cropped to multiples of 16' in words['drbnet']
    assert 'rounded to 8 bits' in words['nrknet']
    assert 'Gaussian 11x11' in words['basicsr']
