"""IFAN against a written-out forward pass with the released keys, counts, and laws.

float64; 1e-9 is the rounding error of 70 layers.
"""

import pytest
import torch
from reference import Layers, close, edges_around, leaky, mean_of_blocks, moved, on_paper, rand

from ggkm_plugin.archs.ifan_arch import IFAN
from ggkm_plugin.losses.ifan_loss import IFANLoss


def test_counts_and_keys():
    net = on_paper(IFAN)
    assert sum(parameter.numel() for parameter in net.parameters()) == 10_476_996
    assert len(net.state_dict()) == 158
    reblur = {
        key: value for key, value in on_paper(IFAN, reblur=True).state_dict().items() if key.startswith('reblurNet.')
    }
    assert sum(value.numel() for value in reblur.values()) == 19_139_685


def lk(x):
    return leaky(x, 0.1)


def iac(t, w, count, second_pass, last):
    """Filter by index: kernels of all steps first, K1 before K2, the taps of each channel in turn."""
    channels = t.shape[1]
    for i in range(count):
        k1, k2 = w[:, 6 * channels * i : 6 * channels * (i + 1)].chunk(2, 1)
        horizontal = k2 if second_pass == 'K2' else k1
        bias = w[:, 6 * channels * count + channels * i :][:, :channels]
        rows = edges_around(t, 1)[..., 1:-1]
        t = sum(k1[:, tap::3] * rows[..., tap : tap + t.shape[-2], :] for tap in range(3))
        columns = edges_around(t, 1)[..., 1:-1, :]
        t = sum(horizontal[:, tap::3] * columns[..., tap : tap + t.shape[-1]] for tap in range(3)) + bias
        t = lk(t) if last or i < count - 1 else t
    return t


def as_recorded(net, y, second_pass, gt=None):
    layers = Layers(net)
    count = net.IAC.count

    def conv(key, x, stride=1):
        return lk(layers.conv(f'{key}.0', x, stride))

    def res(key, n, x):
        t = x
        for i in range(n):
            t = lk(t + layers.conv(f'{key}.stem.{i}.2', lk(layers.conv(f'{key}.stem.{i}.0', t))))
        return t + x if n > 1 else t

    def head(key, x, last):
        x = res(f'{key}.2', 2, res(f'{key}.1', 2, conv(f'{key}.0', x)))
        return last(f'{key}.3', x)

    def levels(prefix):
        x, features = y, []
        for level in (1, 2, 3, 4):
            x = conv(f'{prefix}{level}_1', x, 1 if level == 1 else 2)
            x = conv(f'{prefix}{level}_3', conv(f'{prefix}{level}_2', x))
            features.append(x)
        return features

    *skips, t = levels('conv')
    e = levels('kconv')[-1]
    d = head('DME', e, layers.conv)
    w = head('F', head('conv4_4', torch.cat([e, conv('conv_DME', d)], 1), conv), layers.conv)
    t = iac(t, w, count, second_pass, last=True)
    t = conv('conv_res.2', res('conv_res.1', 3, conv('conv_res.0', t)))
    for level in (3, 2, 1):
        t = lk(layers.up(f'upconv{level}_u.0', t)) + skips[level - 1]
        t = res(f'upconv{level}_2', 1, res(f'upconv{level}_1', 1, t))
    raw = conv('out_res', t) + y
    if gt is None:
        return raw
    small = gt[..., ::8, ::8]
    return raw, small + iac(small, head('reblurNet', w, layers.conv), count, second_pass, last=False)


def network(**options):
    """Build a network whose filters are not all small."""
    torch.manual_seed(0)
    net = moved(IFAN(num_filters=3, width=4, **options))
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if key in ('F.3.bias', 'reblurNet.3.bias'):
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(5))
            elif key in ('F.3.weight', 'reblurNet.3.weight'):
                parameter.mul_(0.1)
    return net


@pytest.mark.parametrize('second_pass', ['K2', 'K1'])
def test_it_is_as_recorded(second_pass):
    net, y, gt = network(second_pass=second_pass, reblur=True), rand(2, 3, 24, 40), rand(2, 3, 24, 40, seed=2)
    with torch.no_grad():
        raw, reblurred = as_recorded(net, y, second_pass, gt)
        close(net(y), raw.clamp(0, 1), atol=1e-9)
        output = net.train()(y)
        assert list(output) == ['scales', 'inputs', 'reconstructions', 'reblur_eighth']
        close(output['scales'][0], raw, atol=1e-9)
        assert (raw > 1).any()
        got, small = output['reblur_eighth'](gt)
        close(got, reblurred, atol=1e-9)
        close(small, mean_of_blocks(y, 8))


def test_initialization():
    """Xavier's rule, with gain 1.5 in F."""
    net = IFAN()
    for conv, gain in ((net.F[3], 1.5), (net.conv4_4[0][0], 1.0)):
        out_ch, in_ch, k, _ = conv.weight.shape
        assert conv.weight.std().item() == pytest.approx(gain * (2 / ((out_ch + in_ch) * k * k)) ** 0.5, rel=0.01)
        assert not conv.bias.any()


def test_only_training_reblurs():
    net, y = network(reblur=True), rand(1, 3, 13, 21)
    bare = IFAN(num_filters=3, width=4).double().eval()
    bare.load_state_dict(net.state_dict())
    with torch.no_grad():
        close(bare(y), net(y), atol=0)
        assert isinstance(bare.train()(y), torch.Tensor)


def test_every_parameter_learns_something_on_an_odd_crop():
    net = network(reblur=True).train()
    IFANLoss()(net(rand(2, 3, 21, 34)), rand(2, 3, 21, 34, seed=2)).backward()
    unread = {f'F.3.{name}' for name in ('weight', 'bias')}
    assert [key for key, p in net.named_parameters() if key not in unread and not p.grad.any()] == []
    assert net.F[3].bias.grad.view(-1)[: 3 * 96].view(3, 2, 48).abs().amax((0, 2)).all()
