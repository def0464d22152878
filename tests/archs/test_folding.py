"""Inference form: equal results without the submodules that only training uses."""

import pytest
import torch
from torch import nn

from ggkm_plugin.archs.folding import inference_form
from ggkm_plugin.archs.ggkmnet_arch import GGKMNet
from ggkm_plugin.archs.gkmnet_arch import GKMNet

SMALL = {'num_groups': 3, 'kernels_per_group': 2, 'width': 4}


def with_history(net: nn.Module) -> nn.Module:
    """Set BatchNorm statistics and parameters to values as after a training."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return net


@pytest.mark.parametrize(
    'net',
    [
        lambda: GGKMNet(num_iters=2, beta_norm='bn', **SMALL),
        lambda: GKMNet(bn_mode='batch'),
    ],
)
def test_it_evaluates_to_the_same(net):
    torch.manual_seed(0)
    net = with_history(net()).train()
    y = torch.rand(2, 3, 37, 50)
    prepared = net.prepare_inference()
    assert net.training
    assert not prepared.training
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    assert not [name for name, _ in prepared.named_parameters() if name.startswith('srm')]
    norms = [each for each in prepared.modules() if isinstance(each, nn.BatchNorm2d)]
    assert bool(norms) == (getattr(next(iter(norms), None), 'mode', 'running') == 'batch')
    with torch.no_grad():
        want, got = net.eval()(y), prepared(y)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-5 * want.abs().max().item())


def test_a_norm_of_two_convolutions_is_folded_into_the_one_before_it():
    net = with_history(
        nn.Sequential(
            nn.ConvTranspose2d(3, 4, 4, 2, 1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 2, 3, bias=False),
            nn.BatchNorm2d(2),
        )
    ).eval()
    prepared, y = inference_form(net), torch.rand(1, 3, 9, 8)
    assert [type(each).__name__ for each in prepared] == ['ConvTranspose2d', 'Identity', 'ReLU', 'Conv2d', 'Identity']
    torch.testing.assert_close(prepared(y), net(y))
