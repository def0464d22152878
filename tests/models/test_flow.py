"""Flow: the warp's and the mask's laws, and torchvision's RAFT from a file."""

import pytest
import torch
from torch import nn
from torchvision.models.optical_flow import raft_small

from ggkm_plugin.models.flow import FLOW_REGISTRY, RAFT, build_flow, calibration_mask, warp
from ggkm_plugin.utils.errors import OptionError


def even_flow(x, y, size=(20, 30), batch=1):
    return torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).expand(batch, 2, *size).clone()


# ---- warp


def test_a_flow_of_whole_pixels_moves_them():
    """x to the right and y down: the result at p is the image at p + flow; beyond, its border."""
    image = torch.rand(1, 3, 20, 30)
    found = warp(image, even_flow(3, -2))
    torch.testing.assert_close(found[..., 2:, :-3], image[..., :-2, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[..., 2:, -3:], image[..., :-2, -1:].expand(1, 3, 18, 3), atol=1e-5, rtol=0)


# ---- mask


@pytest.mark.parametrize('shift', [(0, 0), (-2, 5), (0.01, -0.01)])
def test_a_shift_of_the_whole_image_is_consistent(shift):
    assert (calibration_mask(even_flow(*shift)) == 1).all()


def test_flow_that_differs_from_the_rest_is_masked():
    flow = even_flow(0.2, 0)
    flow[..., 5:10, 5:12] = torch.tensor([8.0, -3.0]).view(1, 2, 1, 1)
    mask = calibration_mask(flow)
    assert mask.shape == (1, 1, 20, 30)
    assert (mask[..., 5:10, 5:12] == 0).all()
    assert mask.sum() == 20 * 30 - 5 * 7


@pytest.mark.parametrize(('direction', 'expected'), [((1, 0), 0), ((0, -1), 0), ((-0.17, 0.98), 1)])
def test_gray_is_of_the_drawn_flow(direction, expected):
    """Rest is white. To the right is red and up is blue on Middlebury's wheel, both dark; down is yellow, bright."""
    flow = torch.zeros(1, 2, 1, 10)
    flow[0, :, 0, 0] = torch.tensor(direction)
    assert calibration_mask(flow)[0, 0, 0].tolist() == [expected] + 9 * [1]


# ---- networks


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / 'raft.pth'
    torch.save(raft_small(weights=None).state_dict(), path)
    return str(path)


def test_raft_is_torchvision_s(weights):
    net = build_flow({'type': 'RAFT', 'weights': weights, 'size': 'small', 'updates': 3})
    theirs = raft_small(weights=None).eval()
    theirs.load_state_dict(torch.load(weights))
    one, two = torch.rand(2, 1, 3, 128, 136)
    with torch.no_grad():
        found, expected = net(one, two), theirs(2 * one - 1, 2 * two - 1, num_flow_updates=3)[-1]
    torch.testing.assert_close(found, expected)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize('size', [(37, 150), (129, 131)])
def test_raft_on_any_size(weights, size):
    net = RAFT(weights, 'small', 2).eval()
    with torch.no_grad():
        flow = net(*torch.rand(2, 2, 3, *size))
    assert flow.shape == (2, 2, *size)
    assert torch.isfinite(flow).all()


def test_one_s_own_flow_network(monkeypatch):
    class Still(nn.Module):
        def forward(self, one, two):
            return torch.zeros_like(one[:, :2])

    monkeypatch.setitem(FLOW_REGISTRY._obj_map, 'Still', Still)
    assert isinstance(build_flow({'type': 'Still'}), Still)


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        (None, []),
        ({'weights': 'x'}, ['type']),
        ({'type': 'RAFFT', 'weights': 'x'}, ['RAFFT', 'RAFT?']),
        ({'type': 'RAFT'}, ['train.jdrl.flow.weights']),
        (
            {'type': 'RAFT', 'weights': 'gone.pth'},
            ['gone.pth', 'raft_large', 'https:'],
        ),
        ({'type': 'RAFT', 'weights': 'gone.pth', 'size': 'small'}, ['gone.pth', 'raft_small']),
        ({'type': 'RAFT', 'weights': 'gone.pth', 'step': 3}, ['step']),
    ],
)
def test_wrong_options(spec, words):
    with pytest.raises(OptionError) as raised:
        build_flow(spec)
    assert all(word in str(raised.value) for word in ['train.jdrl.flow', *words]), raised.value


def test_weights_of_another_network(weights, tmp_path):
    with pytest.raises(OptionError, match='RAFT'):
        build_flow({'type': 'RAFT', 'weights': weights})
    (tmp_path / 'damaged.pth').write_bytes(b'no weights')
    with pytest.raises(OptionError, match=r'damaged\.pth'):
        build_flow({'type': 'RAFT', 'weights': str(tmp_path / 'damaged.pth')})
