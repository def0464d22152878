"""Fixtures of the training model: options as BasicSR's parser completes them, and batches of noise."""

import pytest
import torch


@pytest.fixture
def options(workplace, tiny):
    """Training options as BasicSR's parser completes them."""
    folder = workplace / 'experiments/tiny'
    tiny.update(dist=False, rank=0, world_size=1, is_train=True)
    tiny['path'].update(experiments_root=str(folder))
    for name in ('models', 'training_states', 'visualization'):
        (folder / name).mkdir(parents=True)
        tiny['path'][name] = str(folder / name)
    for phase in ('train', 'val'):
        tiny['datasets'][phase]['phase'] = phase
    return tiny


@pytest.fixture
def stock(options):
    """The same of a small network of BasicSR, without batch statistics, under its L1 loss."""
    options['network_g'] = {'type': 'SRVGGNetCompact', 'num_feat': 4, 'num_conv': 1, 'upscale': 1}
    options['train']['pixel_opt'] = {'type': 'L1Loss'}
    return options


@pytest.fixture
def batch():
    """Makes a batch of pairs that differ from one another; always the same for a size and a number."""

    def make(images: int = 2, number: int = 0) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(number)
        return {key: torch.rand(images, 3, 32, 32, generator=generator) for key in ('lq', 'gt')}

    return make
