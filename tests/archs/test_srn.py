"""SRN and AttSRN against a written-out forward pass, counts, and laws.

float64; 1e-9 is the rounding error of 3 x 45 layers.
"""

import pytest
import torch
import torch.nn.functional as F
from reference import Layers, bilinear, close, legacy_bilinear, moved, on_paper, rand

from ggkm_plugin.archs.attsrn_arch import AttSRN
from ggkm_plugin.archs.srn_arch import SRN
from ggkm_plugin.losses.srn_loss import SRNLoss

OFFICIAL = {'deconv_kernel': 4, 'first_pred': 'blurry', 'conventions': 'official'}
GRAY = {**OFFICIAL, 'lstm_kernel': 3, 'color': False}


@pytest.mark.parametrize(
    ('arch', 'options', 'parameters'),
    [
        (SRN, {}, 10_250_723),
        (SRN, GRAY, 8_056_609),  # the authors' "8.06M"
        (SRN, {**OFFICIAL, 'lstm_kernel': 0}, 6_881_251),  # "6.88M"
        (AttSRN, {}, 10_276_529),
        (AttSRN, {'variant': 'release'}, 6_907_057),
    ],
)
def test_counts(arch, options, parameters):
    assert sum(parameter.numel() for parameter in on_paper(arch, **options).parameters()) == parameters


def as_recorded(net, y, official, lstm=True, blurry=False, attention=False, deconv=5, color=True):
    layers = Layers(net)
    conv = layers.same if official else layers.conv
    enlarged = legacy_bilinear if official else bilinear

    def up(key, x):
        return layers.up(key, x, cut={5: 2, 4: 1}[deconv]).relu()

    def gate(key, x):
        return layers.conv(f'{key}.2', layers.conv(f'{key}.0', x).relu()).sigmoid()

    def res(key, x):
        branch = layers.conv(f'{key}.conv2', layers.conv(f'{key}.conv1', x).relu())
        if attention:
            branch = branch * gate(f'{key}.spatial', branch)
            branch = branch * gate(f'{key}.channel', branch.mean((2, 3), keepdim=True))
        return x + branch

    def three(key, first, x):
        for i in range(first, first + 3):
            x = res(f'{key}.{i}', x)
        return x

    ys = [y[..., ::n, ::n] if official else shrunk(y, n) for n in (4, 2)] + [y]
    if not color:
        ys = [level.reshape(-1, 1, *level.shape[-2:]) for level in ys]
    images, scales, prediction = ys, [], None
    ys = ys if official else [2 * level - 1 for level in ys]
    h = c = ys[0].new_zeros(len(ys[0]), 4 * net.enc1[0].out_channels, *(side // 4 for side in ys[0].shape[-2:]))
    for level in ys:
        if prediction is None:
            prediction = level if blurry else torch.zeros_like(level)
        else:
            prediction, h, c = enlarged(prediction), enlarged(h), enlarged(c)
        e1 = three('enc1', 2, conv('enc1.0', torch.cat([level, prediction], 1)).relu())
        e2 = three('enc2', 2, conv('enc2.0', e1, stride=2).relu())
        x = three('enc3', 2, conv('enc3.0', e2, stride=2).relu())
        if lstm:
            i, f, o, g = layers.conv('lstm.conv', torch.cat([x, h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            x = h = o.sigmoid() * c.tanh()
        x = up('dec3.3', three('dec3', 0, x)) + e2
        x = up('dec2.3', three('dec2', 0, x)) + e1
        prediction = layers.conv('dec1.3', three('dec1', 0, x))
        scales.append((prediction if official else (prediction + 1) / 2).reshape(-1, 3, *prediction.shape[-2:]))
    return scales, [level.reshape(-1, 3, *level.shape[-2:]) for level in images]


def shrunk(y, n):
    """Downscale by n, antialiased: triangle weights of width 2n, truncated at the edge, with sum 1."""
    for dim in (-2, -1):
        side = y.shape[dim]
        centers = n * (torch.arange(side // n, dtype=y.dtype) + 0.5)
        weights = (1 - (torch.arange(side, dtype=y.dtype) + 0.5 - centers[:, None]).abs() / n).clamp(min=0)
        weights = weights / weights.sum(1, keepdim=True)
        y = torch.tensordot(y, weights, ([dim], [1])).movedim(-1, dim)
    return y


CASES = {
    'port': (lambda: SRN(width=4), {'official': False}),
    'official, gray': (lambda: SRN(**GRAY, width=4), {'official': True, 'blurry': True, 'deconv': 4, 'color': False}),
    'blurry port': (
        lambda: SRN(lstm_kernel=0, first_pred='blurry', width=4),
        {'official': False, 'lstm': False, 'blurry': True},
    ),
    'AttSRN': (lambda: AttSRN(width=16), {'official': False, 'attention': True}),
    'AttSRN, released': (
        lambda: AttSRN('release', width=16),
        {'official': True, 'lstm': False, 'blurry': True, 'deconv': 4, 'attention': True},
    ),
}


@pytest.mark.parametrize(('build', 'facts'), CASES.values(), ids=CASES)
def test_it_is_as_recorded(build, facts):
    net, y = moved(build()), rand(2, 3, 32, 48)
    with torch.no_grad():
        scales, inputs = as_recorded(net, y, **facts)
        close(net(y), scales[-1], atol=1e-9)
        output = net.train()(y)
        assert list(output) == ['scales', 'inputs', 'reconstructions', 'pyramid']
        assert output['reconstructions'] == []
        for got, want in ((output['scales'], scales), (output['inputs'], inputs), (output['pyramid'](y), inputs)):
            assert len(got) == 3
            for level in range(3):
                close(got[level], want[level], atol=1e-9)


@pytest.mark.parametrize('conventions', ['port', 'official'])
def test_gradients_between_scales(conventions):
    """The official form without an LSTM has no gradient from the finest prediction to the coarsest."""
    net = moved(SRN(lstm_kernel=0, conventions=conventions, width=4))
    predictions = net.unroll(net.levels(rand(1, 3, 16, 16)))
    (coarsest,) = torch.autograd.grad(predictions[-1].sum(), predictions[0], allow_unused=True)
    assert (coarsest is None) is (conventions == 'official')


def test_only_the_official_forget_gate_starts_open():
    for conventions, start in (('port', 0), ('official', 1)):
        i, f, o, g = SRN(conventions=conventions, width=4).lstm.conv.bias.chunk(4)
        assert (f == start).all()
        assert not torch.cat([i, o, g]).any()


@pytest.mark.parametrize('conventions', ['port', 'official'])
def test_an_odd_crop_trains_with_sides_rounded_up(conventions):
    net, y = moved(SRN(width=4, conventions=conventions)).train(), rand(2, 3, 21, 34)
    output = net(y)
    assert [tuple(x.shape[-2:]) for x in output['scales']] == [(6, 9), (11, 17), (21, 34)]
    assert [x.shape for x in output['inputs']] == [x.shape for x in output['scales']]
    assert all(torch.equal(a, b) for a, b in zip(output['pyramid'](y), output['inputs'], strict=True))
    loss = SRNLoss()
    value = loss(output, y)
    want = sum(F.mse_loss(x, target) for x, target in zip(output['scales'], output['inputs'], strict=True))
    close(value, want, atol=1e-12)


def test_the_british_spelling_is_deprecated():
    with pytest.warns(DeprecationWarning, match='colour'):
        net = SRN(colour=False, width=4)
    assert not net.color
