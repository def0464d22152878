"""The counter against closed forms of every layer type in use, its laws, and the reports."""

import math

import pytest
import thop
import torch
import torch.nn.functional as F
from torch import nn

from ggkm_plugin.archs.blocks import ConvLSTMCell, PixelFilter
from ggkm_plugin.archs.ggkmnet_ablations_arch import GGKMNetFullyLearned, GGKMNetNoGroup, LearnedIGGCM
from ggkm_plugin.archs.ggkmnet_arch import IGGCM, GGKMNet, GGKMNetConfig, SelfReconstruction
from ggkm_plugin.archs.gkmnet_arch import ModeBatchNorm2d
from ggkm_plugin.evaluation import complexity
from ggkm_plugin.evaluation.complexity import count_macs, profile, profile_named
from ggkm_plugin.ops import gaussian_bank
from ggkm_plugin.utils.errors import OptionError
from ggkm_plugin.utils.registry import ARCH_REGISTRY

B, H, W = 2, 16, 20
SMALL = {'width': 4, 'num_groups': 3, 'kernels_per_group': 2, 'num_scales': 2}


class Call(nn.Module):
    """A function as a network; its parameters, if any, are the module it calls."""

    def __init__(self, function, module=None):
        super().__init__()
        self.function, self.module = function, module

    def forward(self, x):
        return self.function(x) if self.module is None else self.function(self.module, x)


def rows(x):
    """(B,C,H,W) -> (B*H, C*W), the input of what takes vectors."""
    return x.transpose(1, 2).flatten(2).flatten(0, 1)


PIXELS = B * H * W
LAYERS = {
    'conv': (nn.Conv2d(6, 8, 3, padding=1), PIXELS * 6 * 8 * 9),
    'conv stride 2, no padding': (nn.Conv2d(6, 8, 5, stride=2, bias=False), B * 6 * 8 * 6 * 8 * 25),
    'conv in groups': (nn.Conv2d(6, 12, 3, padding=1, groups=3), PIXELS * 2 * 12 * 9),
    'functional conv': (Call(lambda x: F.conv2d(x, torch.ones(6, 1, 1, 7), groups=6)), B * H * (W - 6) * 6 * 7),
    'transposed conv k4 s2': (nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1), PIXELS * 6 * 8 * 16),
    'transposed conv k2 s2': (nn.ConvTranspose2d(6, 8, 2, stride=2), PIXELS * 6 * 8 * 4),
    'transposed conv in groups': (nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1, groups=2), PIXELS * 3 * 8 * 16),
    'linear': (Call(lambda m, x: m(rows(x)), nn.Linear(6 * W, 5)), B * H * 6 * W * 5),
    'LSTM cell': (Call(lambda m, x: m(rows(x)), nn.LSTMCell(6 * W, 5)), B * H * 4 * 5 * (6 * W + 5)),
    'LSTM': (Call(lambda m, x: m(x[:, 0]), nn.LSTM(W, 5, batch_first=True)), B * H * 4 * 5 * (W + 5)),
    'ConvLSTM': (Call(lambda m, x: m(x, None)[0], ConvLSTMCell(6, 4, 5)), PIXELS * (6 + 4) * 16 * 25),
    'SRM': (
        Call(lambda m, x: m(x[:, :2, ::4, ::4], x[:, 2:5], x[:, 5:]), SelfReconstruction(2, 3, 1, 7)),
        PIXELS * 9 * (6 * 7 + 7 * 7 + 7 * 1),
    ),
    'per-pixel kernels': (
        Call(lambda m, x: m(x, torch.ones(B, 1, 15, H, W)), PixelFilter(3, 5)),
        PIXELS * 6 * 15,
    ),
    'matrix product': (Call(lambda x: x @ torch.ones(W, 9)), PIXELS * 6 * 9),
    'batched matrix product': (Call(lambda x: x @ x.transpose(-1, -2)), PIXELS * 6 * H),
    'matrix times vector': (Call(lambda x: x[0, 0] @ torch.ones(W)), H * W),
    'einsum': (Call(lambda x: torch.einsum('bchw,bchv->bwv', x, x)), PIXELS * 6 * W),
    'attention': (Call(lambda x: F.scaled_dot_product_attention(x, x, x)), 2 * B * 6 * H * H * W),
    'complex FFT': (Call(lambda x: torch.fft.fft2(x.to(torch.complex64))), 2.5 * PIXELS * 6 * math.log2(H * W)),
    'real FFT': (Call(lambda x: torch.fft.rfft(x)), 1.25 * PIXELS * 6 * math.log2(W)),
    'real FFT and back': (Call(lambda x: torch.fft.irfft2(torch.fft.rfft2(x))), 2.5 * PIXELS * 6 * math.log2(H * W)),
    'no multiplications to count': (
        nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.Sigmoid()),
        0,
    ),
}


@pytest.mark.parametrize('layer', LAYERS)
def test_true_macs_are_the_closed_form(layer):
    net, expected = LAYERS[layer]
    assert count_macs(net, (B, 6, H, W)).macs == pytest.approx(expected, abs=1)  # an FFT's are no whole number


def test_the_papers_convention_is_half_of_thop_with_its_faults():
    assert count_macs(LAYERS['conv'][0], (B, 6, H, W)).paper_macs == LAYERS['conv'][1] // 2
    for kind in ('transposed conv k4 s2', 'transposed conv k2 s2'):  # four times too many
        assert count_macs(LAYERS[kind][0], (B, 6, H, W)).paper_macs == 4 * LAYERS[kind][1] // 2
    assert count_macs(LAYERS['functional conv'][0], (B, 6, H, W)).paper_macs == 0
    assert count_macs(nn.BatchNorm2d(6), (B, 6, H, W)).paper_macs == 4 * 6 * PIXELS // 2


def test_a_subclass_counts_as_its_layer_in_the_papers_convention():
    assert count_macs(ModeBatchNorm2d(6, 'running'), (B, 6, H, W)) == count_macs(nn.BatchNorm2d(6), (B, 6, H, W))


def test_a_stock_arch_as_thop_counts_it():
    net = ARCH_REGISTRY.get('SwinIR')(
        upscale=1, img_size=32, window_size=8, embed_dim=12, depths=(2, 2), num_heads=(2, 2), upsampler=''
    )
    count = count_macs(net, (1, 3, 32, 40))
    assert count.macs > 0
    total, _ = thop.profile(net, (torch.zeros(1, 3, 32, 40),), verbose=False)
    assert count.paper_macs == int(total) // 2


FITTING = {'fuse': 'none', 'beta_path2': 'c3', 'beta_norm': 'bn'}


# At 1280x720, in the paper's unit. With three scales the paper counts the IGGCM, with fewer it does not.
@pytest.mark.parametrize(
    ('arch', 'options', 'with_kernels', 'gmacs'),
    [
        ('GGKMNet', {}, True, 158.7),
        ('GGKMNet', FITTING, True, 158.5),
        ('GGKMNet', {'num_scales': 1, **FITTING}, False, 115.3),
        ('GGKMNet', {'num_scales': 2, 'num_iters': 2}, False, 288.7),
        ('GGKMNet', {'enc_blocks': (12, 12, 12)}, False, 519.4),
        ('GGKMNet', {'num_groups': 21, 'kernels_per_group': 1}, True, 153.4),
        ('GGKMNetNoGroup', {'num_kernels': 21}, True, 152.4),
        ('GGKMNetNoLSTM', {'shared': False}, False, 136.3),
        ('GGKMNetFullyLearned', {}, True, 158.7),
        ('MCPNet', {}, False, 136.2),
        ('GKMNet', {}, False, 148.1),
        ('NRKNet', {}, False, 552.8),
        ('DRBNet', {}, False, 345.6),
        ('SRN', {}, False, 763.0),
        ('AttSRN', {}, False, 763.7),
    ],
)
def test_macs_in_the_papers_convention_are_the_recorded_ones(arch, options, with_kernels, gmacs):
    count = count_macs(ARCH_REGISTRY.get(arch)(**options), (1, 3, 720, 1280))
    assert (count.paper_macs - (0 if with_kernels else count.paper_kernel_macs)) / 1e9 == pytest.approx(gmacs, rel=3e-3)


@pytest.mark.parametrize(
    ('arch', 'options', 'gmacs'),
    [
        ('DPDNetS', {}, 769.5),
        ('AIFNet', {}, 1706.8),
        ('MDP', {}, 1897.6),
        ('MDP', {'views': False}, 1290.4),
        ('KPAC', {}, 113.0),
        ('KPAC', {'levels': 2}, 191.7),
        ('IFAN', {}, 361.7),
        ('DRBNet', {}, 623.5),
        ('SRN', {}, 1433.1),
    ],
)
def test_true_macs_are_those_of_the_original_networks(arch, options, gmacs):
    """At 1280x720, of the originals or of independent rewrites."""
    count = count_macs(ARCH_REGISTRY.get(arch)(**options), (1, 3, 720, 1280))
    assert count.macs / 1e9 == pytest.approx(gmacs, rel=5e-3)


@pytest.mark.parametrize('boundary', ['reflect', 'zeros'])
@pytest.mark.parametrize('iterative', [True, False])
def test_the_chain_counts_as_separable_passes_however_it_is_evaluated(boundary, iterative):
    count = count_macs(_blur(boundary, iterative), (B, 3, 24, 32))
    sizes, pixels = (3, 5, 7), B * 24 * 32
    chain = pixels * 3 * (sum(2 * size * 2 for size in sizes) + 3 * 2)  # rows and columns of Q=2; Eq. (16)'s sum
    assert count.kernel_macs == chain
    assert count.macs == chain + pixels * 4 * 3 * 3  # and the 1x1 convolution of M*3 channels
    assert count.paper_macs == count.macs // 2
    assert count.paper_kernel_macs == chain // 2


def test_the_separable_count_is_what_the_passes_cost_when_they_run(monkeypatch):
    monkeypatch.setattr(complexity, '_CLOSED_FORMS', {})
    ran = count_macs(_blur('zeros'), (B, 3, 24, 32)).macs
    monkeypatch.undo()
    counted = count_macs(_blur('zeros'), (B, 3, 24, 32)).macs
    # The row passes also cover the margins above and below: 2 (p-1) lines each.
    margins = B * 3 * 2 * sum(2 * reach * 32 * (2 * reach + 1) for reach in (1, 2, 3))
    assert ran == counted + margins


def test_learned_kernels_count_as_dense_and_in_the_papers_convention_as_separable():
    fixed = _blur('reflect').module
    count = count_macs(Call(_blurred, LearnedIGGCM(fixed.config)), (B, 3, 24, 32))
    dense = sum(size**2 for size in (3, 5, 7))
    assert count.kernel_macs == B * 24 * 32 * 3 * dense + B * 2 * dense
    assert count.paper_macs == count_macs(_blur('reflect'), (B, 3, 24, 32)).paper_macs


def test_a_kernel_size_does_not_depend_on_taps_that_vanish():
    narrow = {'num_groups': 84, 'kernels_per_group': 1, 'width': 4, 'num_scales': 1}
    assert not gaussian_bank(84, 1)[-1, 0, 0], 'the far taps underflow'
    passes = sum(2 * (2 * p - 1) for p in range(2, 86))
    assert count_macs(GGKMNet(**narrow), (1, 3, 16, 16)).kernel_macs == 256 * 3 * (passes + 84)


def test_gkmnets_kernels_count_by_their_own_sizes():
    net = GGKMNetNoGroup(21, width=4, num_scales=1)
    passes = 2 * (3 + 2 * sum(range(3, 22, 2)))  # sizes 3, 3, 3, 5, 5, ... 21, 21
    assert count_macs(net, (1, 3, 16, 16)).kernel_macs == 256 * 3 * (passes + 21)


def _blur(boundary, iterative=True):
    return Call(
        _blurred, IGGCM(GGKMNetConfig(num_groups=3, kernels_per_group=2, boundary=boundary, iterative=iterative))
    )


def _blurred(blur, x):
    return blur(x, x.new_full((x.shape[0], 3, 2), 0.5), x.new_ones(x.shape[0], 4, *x.shape[-2:]))


@pytest.mark.parametrize('arch', [GGKMNet, GGKMNetFullyLearned])
def test_counting_by_shapes_is_counting_a_real_run(arch):
    net = arch(**SMALL)
    assert count_macs(net, (1, 3, 40, 48)) == complexity._count(net, torch.rand(1, 3, 40, 48))


def test_a_network_that_decides_by_values_is_run():
    def decide(conv, x):
        return conv(conv(x)) if float(x.sum()) == 0 else conv(x)

    net = Call(decide, nn.Conv2d(6, 6, 1))
    assert count_macs(net, (1, 6, 4, 4)).macs == 2 * 16 * 36


def test_the_network_is_left_as_it_was():
    net = GGKMNet(**SMALL).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    profile(net, (16, 16), repeats=1)
    assert net.training
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_peak_memory_is_the_largest_sum_of_live_tensors():
    conv = nn.Conv2d(3, 24, 1, bias=False)

    def chain(conv, x):
        wide = conv(x)
        wide = wide * 2  # two wide tensors live here
        narrow = wide[:, :3].sigmoid()
        del wide
        return narrow.exp()

    plane = 4 * H * W
    found = profile(Call(chain, conv), (H, W), repeats=1)
    assert found.memory == 3 * plane + 2 * 24 * plane + 4 * conv.weight.numel()


def test_the_default_network_at_the_papers_size():
    result = profile_named('GGKMNet', repeats=0)
    assert (result.inference_parameters, result.parameters) == (1_659_734, 1_713_945)
    assert 250e9 < result.macs < 262e9
    pixels = 720 * 1280 * (1 + 1 / 4 + 1 / 16)
    assert result.kernel_macs == pixels * 3 * (4 * 2 * 483 + 4 * 21)  # 483 = 3 + 5 + ... + 43
    assert result.seconds is None
    assert result.memory is None


def test_profile_measures_time_and_memory():
    measured, counted = profile(GGKMNet(**SMALL), (32, 48), repeats=2), profile(nn.Conv2d(3, 3, 1), (8, 8), repeats=0)
    assert (measured.height, measured.width) == (32, 48)
    assert measured.seconds > 0
    assert measured.memory > 4 * (measured.parameters + 3 * 32 * 48)
    assert measured.memory_source == 'live tensors'
    text = complexity.table([measured, counted])
    assert measured.device in text
    lines = [line.split() for line in text.splitlines()]
    assert lines[2][:2] == ['GGKMNet', '32x48']
    assert lines[3] == ['Conv2d', '8x8', '0.000', '-', '0.0', '0.0', '-', '-', '-']
    assert 'time' not in complexity.table([counted]).split('\n\n')[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_profile_on_cuda():
    net = GGKMNet(**SMALL)
    on_gpu, on_cpu = profile(net, (64, 64), device='cuda'), profile(net, (64, 64), repeats=0)
    assert (on_gpu.macs, on_gpu.paper_macs) == (on_cpu.macs, on_cpu.paper_macs)
    assert on_gpu.memory_source == 'cuda allocator'
    assert on_gpu.memory > 4 * on_gpu.parameters
    assert on_gpu.device == torch.cuda.get_device_name()


def test_option_files_and_their_variants(tiny, write_options):
    file = write_options({**tiny, 'variants': {'wide': {'network_g.width': 8}}})
    plain, wide = profile_named(file, size=(16, 16), repeats=0), profile_named(file, 'wide', (16, 16), repeats=0)
    assert (plain.name, wide.name) == ('tiny', 'tiny:wide')
    assert wide.macs > plain.macs
    assert (
        plain.macs == count_macs(GGKMNet(width=4, num_groups=2, kernels_per_group=2, num_scales=2), (1, 3, 16, 16))[0]
    )
    packaged = profile_named('train_GGKMNet_DPDD', size=(16, 16), repeats=0)
    assert packaged.parameters == 1_713_945


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: profile_named('GKNet', repeats=0), 'GKNet: no such option file.*basicsr list archs'),
        (lambda: profile_named('EDSR', repeats=0), 'EDSR.*missing'),
        (lambda: profile_named('GGKMNet', 'wide', repeats=0), '--variant wide: GGKMNet is an arch'),
        (lambda: profile(GGKMNet(**SMALL), (0, 16)), '--size 0x16'),
        (lambda: profile(nn.Linear(5, 5), (16, 16)), 'Linear does not take an input of 1x3x16x16'),
        (lambda: complexity.parse_size('0x5'), '--size 0x5: height x width'),
    ],
)
def test_errors_say_what_to_mend(call, message):
    with pytest.raises(OptionError, match=message):
        call()
