"""Every variant of every option file: read, built and trained for one step, in a narrow network."""

import copy

import pytest
import torch

from ggkm_plugin.losses.common import loss_input
from ggkm_plugin.utils import config

from basicsr.archs import build_network  # isort: skip
from basicsr.losses import build_loss  # isort: skip

VARIANTS = [
    (file, name)
    for file in sorted(config.packaged_folder().glob('train_*.yml'))
    for name in config.read_options(file)[1]
]
NOISE = {'IFAN', 'NRKNet', 'GGKMNet'}  # of Tables 6 and 7


def test_the_methods_of_the_noise_tables_have_its_training():
    files = [file for file, name in VARIANTS if name == 'noise']
    assert {file.stem for file in files} == {f'train_{name}_DPDD' for name in NOISE}
    for file in files:
        crops = config.load_options(file, 'noise')['datasets']['train']
        assert (crops['noise_std'], crops.get('noise_prob', 1)) == ([0, 17.85], 1)


@pytest.mark.parametrize(('file', 'name'), VARIANTS, ids=lambda value: getattr(value, 'stem', value))
def test_it_is_read_built_and_trained(file, name):
    base, opt = config.load_options(file), config.load_options(file, name)
    assert 'variants' not in opt
    assert {key for key in opt if opt[key] != base[key]} <= {
        'name', 'network_g', 'path', 'train', 'datasets', 'val', 'logger',
    }  # fmt: skip
    if opt['network_g']['type'] not in ('GKMNet', 'NRKNet'):  # which have one width
        opt['network_g']['width'] = 4
    torch.manual_seed(0)
    net, loss = build_network(copy.deepcopy(opt['network_g'])), build_loss(copy.deepcopy(opt['train']['pixel_opt']))
    before = [parameter.detach().clone() for parameter in net.parameters()]
    lq, gt = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    value = loss(loss_input(loss, net.train()(lq)), gt)
    value.backward()
    optimizer.step()
    assert torch.isfinite(value)
    for (key, parameter), start in zip(net.named_parameters(), before, strict=True):
        assert parameter.grad is not None, key  # else DistributedDataParallel stops
        assert parameter.isfinite().all(), key
        assert parameter.grad.abs().max() < 1e-6 or not torch.equal(parameter, start), key


def test_variants_are_different_trainings():
    """Only (84,1) repeats a row, in the paper too."""
    made = {}
    for file, name in VARIANTS:
        opt = config.load_options(file, name)
        made.setdefault((file, *(repr(opt[key]) for key in ('network_g', 'train', 'datasets'))), []).append(name)
    assert [names for names in made.values() if len(names) > 1] == [['wo_group_84', 'p84_q1']]
    for file in {file for file, _ in VARIANTS}:
        base = config.load_options(file)
        assert (file, *(repr(base[key]) for key in ('network_g', 'train', 'datasets'))) not in made
