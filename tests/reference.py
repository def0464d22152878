"""Helpers of the arch tests: networks with random parameters, and reference layers that shift pixels.

The layers take (B,C,H,W) tensors and keys of a state dict; none uses a layer of the package.
"""

import torch
import torch.nn.functional as F


def rand(*shape, seed=1, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(got, want, atol=1e-10):
    torch.testing.assert_close(got, want, rtol=0, atol=atol)


def on_paper(arch, **options):
    """Build a network on the meta device, to count its parameters."""
    with torch.device('meta'):
        return arch(**options)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def disturbed(net, seed=5):
    """Add noise to every parameter, so that biases and `fuse` differ from their start."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return net


def moved(net, seed=0, dtype=torch.float64):
    """Add noise to every bias and statistic; return the network in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith('running_var'):
                tensor.add_(torch.rand(tensor.shape, generator=generator))
            elif tensor.is_floating_point() and tensor.dim() == 1:
                tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
    return net.to(dtype).eval()


def zeros_around(x, top, bottom, left, right):
    height, width = x.shape[-2:]
    y = x.new_zeros(*x.shape[:-2], height + top + bottom, width + left + right)
    y[..., top : top + height, left : left + width] = x
    return y


def edges_around(x, n):
    """Pad x with its edge pixels, n on every side."""
    rows = torch.arange(-n, x.shape[-2] + n).clamp(0, x.shape[-2] - 1)
    columns = torch.arange(-n, x.shape[-1] + n).clamp(0, x.shape[-1] - 1)
    return x[..., rows, :][..., columns]


def correlated(x, weight, stride=1, dilation=1):
    """Convolve without padding, tap by tap."""
    rows, columns = weight.shape[-2:]
    height = (x.shape[-2] - dilation * (rows - 1) - 1) // stride + 1
    width = (x.shape[-1] - dilation * (columns - 1) - 1) // stride + 1
    total = 0
    for u in range(rows):
        for v in range(columns):
            window = x[..., u * dilation :, v * dilation :][..., ::stride, ::stride][..., :height, :width]
            total = total + torch.einsum('oc,bchw->bohw', weight[..., u, v], window)
    return total


class Layers:
    """Layers of a network, computed from the weights at a key."""

    def __init__(self, net):
        self.state = {key: value.detach() for key, value in net.state_dict().items()}

    def __getitem__(self, key):
        return self.state[key]

    def biased(self, key, x):
        return x + self.state[f'{key}.bias'].view(1, -1, 1, 1) if f'{key}.bias' in self.state else x

    def conv(self, key, x, stride=1, dilation=1, around=None):
        """Convolve with (k-1)/2 zeros on every side, as PyTorch, or with other padding `around`."""
        weight = self.state[f'{key}.weight']
        n = dilation * (weight.shape[-1] // 2)
        x = around(x, n) if around else zeros_around(x, n, n, n, n)
        return self.biased(key, correlated(x, weight, stride, dilation))

    def same(self, key, x, stride=1, dilation=1):
        """Convolve with TensorFlow's SAME padding: output ceil(size / stride), an odd zero on the right and bottom."""
        weight = self.state[f'{key}.weight']
        margins = []
        for side in x.shape[-2:]:
            total = max((-(-side // stride) - 1) * stride + dilation * (weight.shape[-1] - 1) + 1 - side, 0)
            margins += [total // 2, total - total // 2]
        return self.biased(key, correlated(zeros_around(x, *margins), weight, stride, dilation))

    def up(self, key, x, cut=1):
        """Transposed convolution of stride 2: every pixel adds the kernel; crop to twice the size from (cut, cut)."""
        weight = self.state[f'{key}.weight']
        size = weight.shape[-1]
        height, width = x.shape[-2:]
        y = x.new_zeros(len(x), weight.shape[1], 2 * height + size, 2 * width + size)
        for u in range(size):
            for v in range(size):
                product = torch.einsum('co,bchw->bohw', weight[..., u, v], x)
                y[..., u : u + 2 * height : 2, v : v + 2 * width : 2] += product
        return self.biased(key, y[..., cut : cut + 2 * height, cut : cut + 2 * width])


def leaky(x, slope):
    return torch.where(x >= 0, x, slope * x)


def nearest(x, n=2):
    return x.repeat_interleave(n, -2).repeat_interleave(n, -1)


def pooled(x):
    return x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).amax((-3, -1))


def mean_of_blocks(x, n):
    return x.unflatten(-1, (-1, n)).unflatten(-3, (-1, n)).mean((-3, -1))


def bilinear(x):
    """Upscale by 2, pixel centers aligned."""
    return F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=False)


def legacy_bilinear(x):
    """Upscale by 2, first pixels aligned: out[2k] = x[k], out[2k+1] = (x[k] + x[k+1]) / 2, the last x[n-1]."""
    for dim in (-2, -1):
        side = x.shape[dim]
        following = x.index_select(dim, torch.arange(1, side + 1).clamp(max=side - 1))
        x = torch.stack([x, (x + following) / 2], dim=x.dim() + dim + 1).flatten(x.dim() + dim, x.dim() + dim + 1)
    return x
