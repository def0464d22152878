"""Tiled equals untiled: for every member of the family, odd sizes, borders, and the widest kernels."""

import pytest
import torch
from torch import nn

from ggkm_plugin.archs.ggkmnet_ablations_arch import (
    GGKMNetFullyLearned,
    GGKMNetNoGroup,
    GGKMNetNoLSTM,
    MCPNet,
)
from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.archs.nrknet_arch import NRKNet
from ggkm_plugin.restoration import tiling
from ggkm_plugin.utils.errors import OptionError, TrainingError

SMALL = {'num_groups': 3, 'kernels_per_group': 2, 'width': 4}


def built(make, seed=0, **options):
    """A network in which everything takes part: biases too, and coefficients that are no longer alike."""
    torch.manual_seed(seed)
    net = make(**options).eval().requires_grad_(False)
    for name, parameter in net.named_parameters():
        if parameter.dim() == 1:
            parameter.normal_(std=0.3)
        elif 'lstm' in name or 'head' in name:
            parameter.mul_(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
    return net


def photograph(*size, seed=1):
    """Noise with structure of all sizes, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    image = sum(
        nn.functional.interpolate(
            torch.randn(1, 3, max(size[0] // n, 1), max(size[1] // n, 1), generator=generator), size
        )
        for n in (1, 8, 50)
    )
    return image.sigmoid()


def assert_equal(net, y, side, atol=1e-5):
    with torch.no_grad():
        want, got = net(y), tiling.restored(net, y, side)
    assert got.shape == want.shape
    assert (got - want).abs().max() <= atol * max(1, want.abs().max().item())


@pytest.mark.parametrize('size', [(1, 1), (70, 3), (181, 200), (37, 301)])
def test_odd_sizes(size):
    assert_equal(built(GGKMNet, **SMALL), photograph(*size), 64)


@pytest.mark.parametrize(
    'options',
    [
        {'num_iters': 2},
        {'num_scales': 1},
        {'beta_path2': 'c3c3', 'beta_norm': 'bn'},
        {'boundary': 'zeros'},
        {'boundary': 'replicate', 'iterative': False},
        {'alpha_head': 'lstm_fc', 'fuse': 'add', 'residual': 'none', 'include_identity': False},
        {'enc_blocks': (2, 0, 3), 'bottleneck_blocks': 2, 'dec_blocks': (0, 2, 1)},
    ],
)
def test_every_option_that_tiles_could_feel(options):
    assert_equal(built(GGKMNet, **SMALL, **options), photograph(150, 203), 64)


@pytest.mark.parametrize(
    ('make', 'options'),
    [
        (GGKMNetNoLSTM, {**SMALL, 'shared': False}),
        (MCPNet, {'num_groups': 3, 'width': 4}),
        (GGKMNetNoGroup, {'num_kernels': 21, 'width': 4}),
        (GGKMNetFullyLearned, SMALL),
    ],
)
def test_the_ablations(make, options):
    assert_equal(built(make, **options), photograph(150, 203), 64)


def test_two_images_at_once():
    y = torch.cat([photograph(140, 160), photograph(140, 160, seed=2)])
    assert_equal(built(GGKMNet, **SMALL), y, 64)


@pytest.mark.parametrize('head', [-30.0, 30.0])
def test_the_paper_s_kernels_at_their_widest_and_narrowest(head):
    """alpha all on one kernel of each group, strips narrower than the kernels' reach."""
    net = built(GGKMNet, width=4, alpha_head='lstm_fc')
    net.steps[0].alpha_apu.head.bias.copy_(torch.tensor([0, 0, 0, head]).repeat(21))
    y = photograph(240, 272)
    assert net.coefficients(y)[-1].alpha[..., 3].mean().item() == pytest.approx(float(head > 0), abs=1e-3)
    assert_equal(net, y, 64)


def test_the_network_of_the_paper_and_its_form_for_inference():
    net, y = built(GGKMNet), photograph(176, 130)
    assert_equal(net, y, 64)
    with torch.no_grad():
        want, got = net(y), tiling.restored(net.prepare_inference(), y, 64)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    'options',
    [{}, {'enc_blocks': (2, 0, 3), 'bottleneck_blocks': 2, 'dec_blocks': (0, 2, 1)}, {'beta_path2': 'c3c3'}],
)
def test_the_reach_is_what_an_edge_spoils_and_no_more(options):
    """Beta of an image and of its right part: they differ up to the reach, not beyond; much less would be too few."""
    net = built(GGKMNet, num_scales=1, **SMALL, **options).double()
    step = net.steps[0]
    reach = tiling.coefficient_radius(step)
    y = photograph(64, 2 * reach + 64).double()
    with torch.no_grad():
        whole, part = (step.beta_apu(step.bfe(image)[1], None)[0] for image in (y, y[..., reach:]))
    differs = ((whole[..., reach:] - part).abs().amax((0, 1, 2)) > 1e-15).nonzero().max().item() + 1
    assert reach - 8 < differs <= reach


@pytest.mark.parametrize('unused', [(56, 40, 0, 24), (4, 2, 2, 0)])
@pytest.mark.parametrize('options', [{}, {'dec_blocks': (0, 2, 1)}])
def test_features_without_their_edges(options, unused):
    net = built(GGKMNet, **SMALL, **options).double()
    y = photograph(120, 160).double()
    top, bottom, left, right = unused
    with torch.no_grad():
        (f1, whole), (same, part) = net.steps[0].bfe(y), tiling.cropped_features(net.steps[0].bfe, y, unused)
    torch.testing.assert_close(part, whole[..., top : 120 - bottom, left : 160 - right], rtol=0, atol=1e-14)
    assert torch.equal(f1, same)


# ---- memory


def failing_above(net, side, error):
    """The network's features do not fit into memory beyond this side."""

    def check(_, arguments):
        if max(arguments[0].shape[-2:]) > side:
            raise error

    for step in net.steps:
        step.bfe.enc1.register_forward_pre_hook(check)
    return net


@pytest.mark.parametrize('error', [torch.OutOfMemoryError('CUDA out of memory.'), MemoryError()])
def test_tiles_are_halved_when_the_memory_is_full(error):
    net, y, messages = built(GGKMNet, **SMALL), photograph(300, 520), []
    with torch.no_grad():
        want = net(y)
        got = tiling.restored(failing_above(net, 250, error), y, None, messages.append)
    assert (got - want).abs().max() <= 1e-5
    assert messages == [
        'out of memory on 300x520 at once: trying tiles of 256',
        'out of memory on 300x520 in tiles of 256: trying tiles of 128',
    ]


def test_a_memory_too_small_for_any_tile():
    net, messages = failing_above(built(GGKMNet, **SMALL), 10, MemoryError('no')), []
    with pytest.raises(TrainingError, match=r'out of memory on an image of 100x90 in tiles of 64: make it smaller.*no'):
        tiling.restored(net, photograph(100, 90), 128, messages.append)
    assert messages == ['out of memory on 100x90 in tiles of 128: trying tiles of 64']


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match='my own'):
        tiling.restored(failing_above(built(GGKMNet, **SMALL), 10, RuntimeError('my own')), photograph(32, 32))


@pytest.mark.parametrize(('free', 'side'), [(None, 960), (1 << 40, 960), (6 << 30, 960), (3 << 30, 640), (0, 128)])
def test_the_side_follows_the_free_memory(monkeypatch, free, side):
    monkeypatch.setattr(tiling, 'free_bytes', lambda device: free)
    chosen = tiling._side_for(GGKMNet(), torch.empty(1, 3, 2000, 3000))
    assert chosen == side if free != 3 << 30 else 256 < chosen < 960
    assert tiling._side_for(GGKMNet(), torch.empty(1, 3, 128, 200)) is None


def test_networks_and_sides_that_cannot_be_tiled():
    for tile in (63, 100.0, 'all', True):
        with pytest.raises(OptionError, match='tile: auto, none'):
            tiling.check_tile(tile)
    net, y = NRKNet().eval(), photograph(40, 48)
    with torch.no_grad():
        torch.testing.assert_close(tiling.restored(net, y), net(y), rtol=0, atol=0)
    with pytest.raises(OptionError, match='only GGKMNet can be tiled exactly, NRKNet runs at once'):
        tiling.restored(net, y, 64)
    net.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(TrainingError, match='out of memory on an image of 40x48: make it smaller'):
        tiling.restored(net, y)


def test_progress_counts_the_tiles_and_their_work(network):
    seen = []
    tiling.restored(network, torch.rand(1, 3, 30, 30), None, progress=seen.append)
    assert [(progress.done, progress.total) for progress in seen] == [(0, 1), (1, 1)]
    seen.clear()
    tiling.restored(network, torch.rand(1, 3, 150, 170), 64, progress=seen.append)
    assert [progress.done for progress in seen] == list(range(len(seen)))
    assert seen[-1].done == seen[-1].total
    shares = [progress.share for progress in seen]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
