"""The host's SRModel with validation as defocus deblurring needs it: float scores, shared out over processes."""

from dataclasses import dataclass
from os import path as osp
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset

from ggkm_plugin.basicsr_patches.distributed import gathered, rank_and_size, spread_buffers
from ggkm_plugin.evaluation.score_files import ImageScores, means, write_scores
from ggkm_plugin.models.loading import load_network
from ggkm_plugin.report.pictures import coefficient_map, strip, to_uint8
from ggkm_plugin.report.sheet import SheetRow, comparison_sheet
from ggkm_plugin.utils.checkpoint import describe
from ggkm_plugin.utils.image_decoding import write_image
from ggkm_plugin.utils.memory import memory_advice
from ggkm_plugin.utils.registry import METRIC_REGISTRY

from basicsr.metrics import calculate_metric  # isort: skip
from basicsr.models.sr_model import SRModel  # isort: skip
from basicsr.utils import get_root_logger, tensor2img  # isort: skip
from basicsr.utils.dist_util import master_only  # isort: skip

# Held-out photographs in the closing picture, and in TensorBoard at each validation.
_SHEET_ROWS, _STRIPS = 4, 3
# Pixels; there is nothing to see on smaller ones.
_SHEET_LEAST = 16


@dataclass(frozen=True)
class Seen(ImageScores):
    """What a process brings back from one validation image."""

    index: int
    row: SheetRow | None  # for the closing picture
    strips: dict[str, np.ndarray]  # for TensorBoard


class ValidatingModel(SRModel):
    """Builds any registered arch, loads its weights and scores it.

    Metrics that declare `takes_float` see the network's float output, RGB and unclipped; others 8-bit BGR images, as in
    the host. Each metric is also computed once for the blurred input. Every process scores its share of the images;
    the means are the same, bit by bit, for any number of processes.
    """

    lq: Tensor  # (B,3,H,W) RGB in [0,1]
    gt: Tensor
    output: Tensor

    def __init__(self, opt: dict[str, Any]) -> None:
        self.description = describe(opt)  # before the host takes the options apart
        self.metric_results: dict[str, float] = {}
        self.input_results: dict[str, dict[str, float]] = {}
        super().__init__(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        if self.opt['dist'] and self.device.type == 'cpu':  # the host would name a GPU
            # else it groups the gradients anew after its first step, and so adds up those of three or more processes in
            # another order: a resumed run would differ in the last bits
            kept = self.opt['world_size'] > 2 or self.opt.get('find_unused_parameters', False)
            return DistributedDataParallel(net, find_unused_parameters=kept)
        return super().model_to_device(net)

    @master_only
    def print_network(self, net: nn.Module) -> None:
        net = self.get_bare_model(net)
        count = sum(parameter.numel() for parameter in net.parameters())
        get_root_logger().info(f'Network: {type(net).__name__}, {count:,d} parameters')

    load_network = load_network

    @property
    def scored_net(self) -> nn.Module:
        """The network that is validated: the averaged one if there is one."""
        return self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)

    def test(self) -> None:
        net = self.scored_net
        height, width = self.lq.shape[-2:]
        advice = 'crop the images of this data set, or run it where there is more memory'
        net.eval()
        with (
            torch.no_grad(),
            torch.compiler.set_stance('force_eager'),  # else every size of image would be compiled for
            memory_advice(f'on an image of {height}x{width} of the validation', advice),
        ):
            self.output = net(self.lq)

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Score a data set; in training also keep the best, at the end and in a test also draw the picture."""
        dataset = dataloader.dataset
        name = dataset.opt['name']
        if self.closing and self.is_train:  # the host's count has run past the end by then
            current_iter = int(self.opt['train']['total_iter'])
        self.agree_on_buffers()
        rank, processes = rank_and_size()
        share = Subset(dataset, range(rank, len(dataset), processes))
        images = iter(DataLoader(share, batch_size=1, generator=torch.Generator()))
        mine: list[Seen] = []
        for first in range(0, len(dataset), processes):
            self.before_image()
            if first + rank < len(dataset):
                mine.append(self._see(first + rank, next(images), name, current_iter, save_img))
        if self.is_train:
            self.net_g.train()
        seen = sorted((item for part in gathered(mine) for item in part), key=lambda item: item.index)
        if seen and seen[0].scores:
            self.metric_results = means([item.scores for item in seen])
            if seen[0].input_scores:
                self.input_results[name] = means([item.input_scores for item in seen])
            self._report(name, self.input_results[name], current_iter, tb_logger)
            if not self.is_train and rank == 0:
                lines = write_scores(self._run_folder, seen, self.opt, dataset.opt, self.description['option_digest'])
                get_root_logger().info(
                    '\n'.join([f'Scores of each image: {self._run_folder}/scores_{name}.csv', *lines])
                )
        if tb_logger:
            for item in seen:
                for tag, picture in item.strips.items():
                    tb_logger.add_image(f'{name}/{item.name}/{tag}', picture, current_iter, dataformats='HWC')
        rows = [item.row for item in seen if item.row]
        if rows and rank == 0:
            path = osp.join(self._run_folder, f'comparison_{name}.png')
            comparison_sheet(rows, path)
            get_root_logger().info(f'Picture of {len(rows)} held-out images: {path}')

    def agree_on_buffers(self) -> None:
        """Between two steps each process has the BatchNorm statistics of its own images; the first one's count."""
        spread_buffers(self.get_bare_model(self.net_g), *([self.net_g_ema] if hasattr(self, 'net_g_ema') else []))

    def before_image(self) -> None:
        """Called by all processes together before each takes up an image."""

    @property
    def closing(self) -> bool:
        """The last validation of a training, or a test: the one that draws the picture."""
        return not self.is_train

    def scored(self, dataset: str, current_iter: int | str, inputs: dict[str, float]) -> dict[str, str]:
        """Called with new `metric_results`; gives what is to be said beside each."""
        return {}

    def _see(self, index: int, data: dict[str, Any], dataset: str, current_iter: int | str, save_img: bool) -> Seen:
        self.feed_data(data)
        self.test()
        path = data['lq_path'][0]
        name = osp.splitext(osp.basename(path))[0]
        lq, result = self.lq[0].float(), self.output[0].float()
        if save_img:
            write_image(self._image_path(dataset, name, current_iter), to_uint8(result))
        strips: dict[str, np.ndarray] = {}
        if self.is_train and self.opt['logger'].get('use_tb_logger') and index < _STRIPS:
            strips['input_result' + '_gt' * ('gt' in data)] = strip(lq, result, *([self.gt[0]] if 'gt' in data else []))
            coefficients = coefficient_map(self.scored_net, self.lq)
            if coefficients is not None:
                strips['coefficients'] = coefficients
        if 'gt' not in data:
            return Seen(name, path, {}, {}, index, None, strips)
        gt = self.gt[0].float()
        metrics = self.opt['val'].get('metrics') or {}
        scores = {metric: _score(options, result, gt) for metric, options in metrics.items()}
        inputs = {} if dataset in self.input_results else metrics
        input_scores = {metric: _score(options, lq, gt) for metric, options in inputs.items()}
        row = None
        if self.closing and index < _SHEET_ROWS and min(gt.shape[-2:]) >= _SHEET_LEAST:
            row = SheetRow(name, *(image.permute(1, 2, 0).cpu().numpy() for image in (lq, result, gt)))
        return Seen(name, path, scores, input_scores, index, row, strips)

    @property
    def _run_folder(self) -> str:
        return self.opt['path']['experiments_root' if self.is_train else 'results_root']

    def _image_path(self, dataset: str, image: str, current_iter: int | str) -> str:
        folder = self.opt['path']['visualization']
        if self.is_train:
            if sum(phase.startswith('val') for phase in self.opt['datasets']) > 1:  # they may have the same file names
                folder = osp.join(folder, dataset)
            return osp.join(folder, image, f'{image}_{current_iter}.png')
        return osp.join(folder, dataset, f'{image}_{self.opt["val"].get("suffix") or self.opt["name"]}.png')

    def _report(self, dataset: str, inputs: dict[str, float], current_iter: int | str, tb_logger: Any) -> None:
        """Log each metric beside the blurred input's, and the TensorBoard curves."""
        remarks = self.scored(dataset, current_iter, inputs)
        lines = [f'Validation {dataset}']
        for metric, value in self.metric_results.items():
            gain = value - inputs[metric]
            line = f'\t # {metric}: {value:.4f}\tinput: {inputs[metric]:.4f}\tgain: {gain:+.4f}'
            lines.append(line + remarks.get(metric, ''))
            if tb_logger:
                tb_logger.add_scalar(f'metrics/{dataset}/{metric}', value, current_iter)
        get_root_logger().info('\n'.join(lines))


def _score(metric_opt: dict[str, Any], image: Tensor, gt: Tensor) -> float:
    """One metric of one image, both (3,H,W) float RGB in [0,1]; the metric gets the kind of image it asks for."""
    if getattr(METRIC_REGISTRY.get(metric_opt['type']), 'takes_float', False):
        return float(calculate_metric({'img': image, 'img2': gt}, metric_opt))
    return float(calculate_metric({'img': tensor2img(image), 'img2': tensor2img(gt)}, metric_opt))
