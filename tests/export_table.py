"""Rows of the table arch x format in docs/export.md; `python tests/export_table.py [ARCH...]` writes them.

Each arch of this package is exported as a small network with random weights, which has the operators of the large one.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

import ggkm_plugin
from ggkm_plugin.restoration import graphs
from ggkm_plugin.restoration.export import export
from ggkm_plugin.restoration.graphs import ExportError
from ggkm_plugin.restoration.load import build_network
from ggkm_plugin.utils.checkpoint import describe_network, save_checkpoint

PAGE = Path(__file__).parents[1] / 'docs/export.md'
FORMATS = ('.onnx', '.pt2', '.safetensors', '.pth')
SIZE = (96, 96)  # a multiple of every network's
NARROW = {'width': 4}
FAMILY = {'width': 4, 'num_groups': 2, 'kernels_per_group': 2, 'num_scales': 1}
NETWORKS = {
    'AIFNet': NARROW,
    'AttSRN': NARROW,
    'DPDNetS': NARROW,
    'DRBNet': NARROW,
    'FFTformer': {'dim': 8, 'num_blocks': [1] * 3, 'num_refinement_blocks': 1},
    'GGKMNet': FAMILY,
    'GGKMNetFullyLearned': FAMILY,
    'GGKMNetNoGroup': {'width': 4, 'num_scales': 1},
    'GGKMNetNoLSTM': {**FAMILY, 'shared': True},
    'GKMNet': {'num_scales': 1},
    'GRL': {'embed_dim': 36, 'depths': [1, 1], 'num_heads_window': [3] * 2, 'num_heads_stripe': [3] * 2},
    'IFAN': {'width': 4, 'num_filters': 2},
    'KBNet': {'dim': 24, 'num_blocks': [1] * 4, 'heads': [1] * 4, 'num_refinement_blocks': 1},
    'KPAC': NARROW,
    'MCPNet': {'width': 4, 'num_groups': 2, 'num_scales': 1},
    'MDP': NARROW,
    'MPRNet': {'n_feat': 8, 'scale_unetfeats': 4, 'scale_orsnetfeats': 4, 'num_cab': 1},
    'NAFNet': {'width': 4, 'enc_blk_nums': [1, 1], 'dec_blk_nums': [1, 1]},
    'NRKNet': {},
    'Restormer': {'dim': 8, 'num_blocks': [1] * 4, 'heads': [1] * 4, 'num_refinement_blocks': 1},
    'SRN': NARROW,
    'Uformer': {'embed_dim': 4, 'depths': [1] * 9, 'num_heads': [1] * 9, 'win_size': 2, 'img_size': 64},
}  # fmt: skip


def row(arch: str) -> str:
    """Export one arch in every format: its row in Markdown."""
    torch.manual_seed(0)
    options = {**NETWORKS[arch], 'type': arch}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, 'w.pth')
        state = build_network(options, arch).state_dict()
        save_checkpoint(state, describe_network(options), weights)
        with shared_traces():
            cells = [cell(weights, Path(folder, f'm{suffix}')) for suffix in FORMATS]
        return f'| {arch} | {" | ".join(cells)} |'


@contextmanager
def shared_traces() -> Iterator[None]:
    """Trace once for both graph formats, since tracing takes most of the time."""
    trace, traces = graphs.trace, {}

    def traced(network: nn.Module, name: str, size: graphs.Size | None = None) -> torch.export.ExportedProgram:
        if size not in traces:
            traces[size] = trace(network, name, size)
        return traces[size]

    graphs.trace = traced
    try:
        yield
    finally:
        graphs.trace = trace


def cell(weights: Path, target: Path) -> str:
    """Export in one format: `any size`, `fixed size`, `no`; for checkpoints `yes`."""
    if target.suffix not in ('.onnx', '.pt2'):
        export(weights, target, check=True)
        return 'yes'
    for size, text in ((None, 'any size'), (SIZE, '`--size`')):
        try:
            export(weights, target, size=size)
        except ExportError as error:
            print(f'  {target.name} {size}: {error}', file=sys.stderr)
        else:
            return text
    return 'no'


if __name__ == '__main__':
    ggkm_plugin.register()
    for chosen in sys.argv[1:] or NETWORKS:
        line = row(chosen)
        print(line, flush=True)
        text = PAGE.read_text(encoding='utf-8')
        old = next(known for known in text.splitlines() if known.startswith(f'| {chosen} |'))
        PAGE.write_text(text.replace(old, line), encoding='utf-8')
