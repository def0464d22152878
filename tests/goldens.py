"""Outputs of GGKMNet and its ablations as version 0.1.0 computed them, and the networks they belong to.

`python goldens.py` writes the file; it was written by the code of 0.1.0, which is also needed to add a case.
Weights come from numpy's frozen legacy generator, one stream per key, so that no case depends on PyTorch's random
numbers. Networks run in float64; outputs are stored in float32.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).parent / 'archs/goldens/ggkmnet_0_1_0.npz'
SMALL = {'num_groups': 2, 'kernels_per_group': 2, 'num_scales': 2, 'width': 4}
EVAL_SIZE, TRAIN_SIZE = (9, 13), (8, 16)
STRIDE = 3  # of the coefficient maps that are stored

# name: (arch, options)
CASES = {
    'default': ('GGKMNet', {}),
    'alpha_head=lstm_fc': ('GGKMNet', {'alpha_head': 'lstm_fc'}),
    'beta_path2=c3': ('GGKMNet', {'beta_path2': 'c3'}),
    'beta_path2=c3c3': ('GGKMNet', {'beta_path2': 'c3c3'}),
    'beta_norm=bn': ('GGKMNet', {'beta_norm': 'bn'}),
    'fuse=none': ('GGKMNet', {'fuse': 'none'}),
    'fuse=add': ('GGKMNet', {'fuse': 'add'}),
    'sigma_denom=P': ('GGKMNet', {'sigma_denom': 'P'}),
    'sigma_conv=s2': ('GGKMNet', {'sigma_conv': 's2'}),
    'sigma_q0=1': ('GGKMNet', {'sigma_q0': 1}),
    'boundary=zeros': ('GGKMNet', {'boundary': 'zeros'}),
    'boundary=replicate': ('GGKMNet', {'boundary': 'replicate'}),
    'include_identity=false': ('GGKMNet', {'include_identity': False}),
    'iterative=false': ('GGKMNet', {'iterative': False}),
    'residual=none': ('GGKMNet', {'residual': 'none'}),
    'self_reconstruction=false': ('GGKMNet', {'self_reconstruction': False}),
    'init=identity': ('GGKMNet', {'init': 'identity'}),
    'in_ch=1': ('GGKMNet', {'in_ch': 1}),
    'num_groups=5': ('GGKMNet', {'num_groups': 5}),
    'kernels_per_group=1': ('GGKMNet', {'kernels_per_group': 1}),
    'num_scales=1': ('GGKMNet', {'num_scales': 1}),
    'num_scales=3': ('GGKMNet', {'num_scales': 3}),
    'num_iters=2': ('GGKMNet', {'num_iters': 2}),
    'width=6': ('GGKMNet', {'width': 6}),
    'enc_blocks=2,0,1': ('GGKMNet', {'enc_blocks': (2, 0, 1)}),
    'bottleneck_blocks=2': ('GGKMNet', {'bottleneck_blocks': 2}),
    'bottleneck_blocks=0': ('GGKMNet', {'bottleneck_blocks': 0}),
    'dec_blocks=0,2,1': ('GGKMNet', {'dec_blocks': (0, 2, 1)}),
    'GGKMNetNoLSTM': ('GGKMNetNoLSTM', {}),
    'GGKMNetNoLSTM init=identity': ('GGKMNetNoLSTM', {'init': 'identity'}),
    'GGKMNetNoLSTM shared=false': ('GGKMNetNoLSTM', {'shared': False, 'num_iters': 2}),
    'MCPNet': ('MCPNet', {'kernels_per_group': None}),
    'GGKMNetNoGroup 21': ('GGKMNetNoGroup', {'num_groups': None, 'kernels_per_group': None}),
    'GGKMNetNoGroup 84': ('GGKMNetNoGroup', {'num_kernels': 84, 'num_groups': None, 'kernels_per_group': None}),
    'GGKMNetFullyLearned': ('GGKMNetFullyLearned', {}),
    'GGKMNetFullyLearned random': ('GGKMNetFullyLearned', {'kernel_init': 'random', 'iterative': False}),
}


# Cases whose start from a seed is compared, too.
STARTS = ('default', 'init=identity', 'num_iters=2', 'GGKMNetNoGroup 21')


def build(case, seed=0):
    """The network of a case as it starts from a seed."""
    import ggkm_plugin

    ggkm_plugin.register()
    from basicsr.utils.registry import ARCH_REGISTRY

    arch, options = CASES[case]
    options = {name: value for name, value in {**SMALL, **options}.items() if value is not None}
    torch.manual_seed(seed)
    return ARCH_REGISTRY.get(arch)(**options)


def numbers(name, shape):
    """Uniform in [-1, 1), float64, the same with every version of numpy."""
    return 2 * np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape) - 1


def filled(net):
    """The network in float64 with weights that depend on their keys alone."""
    net = net.double()
    state = {}
    for key, tensor in net.state_dict().items():
        shape = tuple(tensor.shape)
        values = numbers(key, shape)
        if key.endswith('running_var'):
            values = 1 + values / 2
        elif len(shape) >= 2:
            fans = (shape[0] + shape[1]) * np.prod(shape[2:])
            values = values * 1.5 * np.sqrt(6 / fans)
        elif tensor.is_floating_point():
            values = values / 4
        else:
            values = np.zeros(shape)
        state[key] = torch.from_numpy(np.asarray(values)).to(tensor.dtype)
    net.load_state_dict(state)
    return net


def image(size, channels, batch=1):
    return torch.from_numpy((numbers(f'image {size}', (batch, channels, *size)) + 1) / 2)


def outputs(net, channels):
    """All that a network computes, by name: evaluation, coefficients, and the dict of training."""
    found = {}
    with torch.no_grad():
        net.eval()
        y = image(EVAL_SIZE, channels)
        found['eval'] = net(y)
        for i, (alpha, beta) in enumerate(net.coefficients(y)):
            found[f'alpha{i}'], found[f'beta{i}'] = alpha, beta[:, :: max(1, beta.shape[1] // 6), ::STRIDE, ::STRIDE]
        net.train()
        size = tuple(max(side, net.size_multiple) for side in TRAIN_SIZE)
        output = net(image(size, channels))
        for name in ('scales', 'reconstructions'):
            for i, each in enumerate(output[name]):
                found[f'{name}{i}'] = each
    return {name: tensor.float().numpy() for name, tensor in found.items()}


def channels_of(case):
    return CASES[case][1].get('in_ch', 3)


def start(net):
    """The sum and the norm of each parameter, by key."""
    return {
        key: [round(float(f(p.double())), 6) for f in (torch.sum, torch.norm)] for key, p in net.state_dict().items()
    }


def main():
    stored, keys, starts = {}, {}, {}
    for case in CASES:
        net = build(case)
        if case in STARTS:
            starts[case] = start(net)
        keys[case] = {key: list(tensor.shape) for key, tensor in net.state_dict().items()}
        for name, array in outputs(filled(net), channels_of(case)).items():
            stored[f'{case}/{name}'] = array
    text = json.dumps({'keys': keys, 'starts': starts})
    np.savez_compressed(FILE, **stored, description=np.frombuffer(text.encode(), np.uint8))
    print(f'{FILE.stat().st_size} bytes, {len(CASES)} cases', file=sys.stderr)


if __name__ == '__main__':
    main()
