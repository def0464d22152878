"""A tiny network near the identity, its checkpoint, and photographs to try it on."""

import cv2
import numpy as np
import pytest
import torch

from ggkm_plugin.archs.ggkmnet_arch import GGKMNet

OPTIONS = {'width': 4, 'num_groups': 2, 'kernels_per_group': 2, 'num_scales': 2, 'init': 'identity'}


def make_network() -> GGKMNet:
    torch.manual_seed(1)
    net = GGKMNet(**OPTIONS)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if 'bias' in name:
                parameter.add_(0.02 * torch.randn_like(parameter))
    return net.eval()


def save(path, net=None, **more):
    """A checkpoint as trainings write it."""
    content = {'params': (net or make_network()).state_dict(), 'description': {'arch': 'GGKMNet', 'options': OPTIONS}}
    torch.save(content | more, path)
    return str(path)


@pytest.fixture
def network():
    return make_network()


@pytest.fixture
def weights(tmp_path):
    return save(tmp_path / 'weights.pth')


def pixels(height, width, channels=3, dtype=np.uint8, seed=0):
    """(H,W,C) of smooth colors."""
    rng = np.random.default_rng(seed)
    small = rng.random((4, 5, channels)).astype(np.float32)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)
    return (large * np.iinfo(dtype).max).astype(dtype)
