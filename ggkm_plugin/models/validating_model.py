"""BasicSR's SRModel with the validation that defocus deblurring needs: float scores, shared over processes."""

from os import path as osp
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ggkm_plugin.basicsr_patches.distributed import gathered, rank_and_size, spread_buffers
from ggkm_plugin.evaluation.cache import write_picture
from ggkm_plugin.evaluation.evaluator import INPUT, RESULT, DatasetRecord, EvaluationError, Evaluator, Sample
from ggkm_plugin.models.loading import load_network
from ggkm_plugin.report.pictures import coefficient_map, strip
from ggkm_plugin.report.sheet import SheetRow, comparison_sheet
from ggkm_plugin.restoration.restorer import Restorer
from ggkm_plugin.utils.checkpoint import describe
from ggkm_plugin.utils.files import printable

from basicsr.models.sr_model import SRModel  # isort: skip
from basicsr.utils import get_root_logger  # isort: skip
from basicsr.utils.dist_util import master_only  # isort: skip

# Images on the comparison sheet, and in TensorBoard at each validation.
_SHEET_ROWS, _STRIPS = 4, 3


class ValidatingModel(SRModel):
    """A registered network with its weights, which an `Evaluator` scores.

    Each metric is also computed once for the blurred input. Every process scores its share of the images; the means
    are equal, bit by bit, for any number of processes.
    """

    lq: Tensor  # (B,3,H,W) RGB in [0,1]
    gt: Tensor
    output: Tensor

    def __init__(self, opt: dict[str, Any]) -> None:
        self.description = describe(opt)  # before BasicSR changes the options
        self.metric_results: dict[str, float] = {}
        self.input_results: dict[str, dict[str, float]] = {}
        self._tested: dict[str, list[str]] = {}  # faults by data set
        super().__init__(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        if self.opt['dist'] and self.device.type == 'cpu':  # BasicSR names a GPU
            # Otherwise gradients are grouped anew after the first step, and those of three or more processes are summed
            # in another order: a resumed run would differ in the last bits.
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
        """The network that is validated: the EMA network if there is one."""
        return self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)

    def restorer(self) -> Restorer:
        """Return a copy of the validated network in its form for inference."""
        return Restorer(self.scored_net, self.device, tell=get_root_logger().warning)

    def test(self) -> None:
        self.output = self.restorer().restore(self.lq)

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Score a data set. Training saves the best weights; a test and the end of a training draw the sheet."""
        dataset = dataloader.dataset
        name = dataset.opt['name']
        if self.closing and self.is_train:  # BasicSR's count is past the end then
            current_iter = int(self.opt['train']['total_iter'])
        self.agree_on_buffers()
        restorer = self.restorer()
        rows: dict[int, SheetRow] = {}
        strips: dict[tuple[int, str], np.ndarray] = {}

        def save(sample: Sample, source: str, result: Tensor) -> None:
            if source == INPUT:
                return
            record = sample.record
            if save_img:
                write_picture(self._image_path(name, record.name, current_iter), result, record.bits)
            if self.is_train and self.opt['logger'].get('use_tb_logger') and record.index < _STRIPS:
                drawn = _strips(sample, result, restorer)
                strips.update(
                    {(record.index, f'{printable(record.name)}/{tag}'): picture for tag, picture in drawn.items()}
                )
            if self.closing and record.index < _SHEET_ROWS and sample.gt is not None:
                images = (image.permute(1, 2, 0).cpu().numpy() for image in (sample.lq, result, sample.gt))
                rows[record.index] = SheetRow(record.name, *images)

        metrics = self.opt['val'].get('metrics') or {}
        evaluator = Evaluator(
            {RESULT: restorer},
            metrics,
            self.device,
            save=save,
            before_image=self.before_image,
            in_training=self.is_train,
        )
        record = evaluator.evaluate(dataset, name, with_input=name not in self.input_results)
        means = record.means()
        if means.get(RESULT):
            self.metric_results = means[RESULT]
            self.input_results.setdefault(name, means.get(INPUT, {}))
            self._report(name, self.input_results[name], current_iter, tb_logger, list(evaluator.missing))
        drawn = gathered((rows, strips))
        if tb_logger:
            for (_, tag), picture in sorted((one for _, part in drawn for one in part.items()), key=lambda one: one[0]):
                tb_logger.add_image(f'{name}/{tag}', picture, current_iter, dataformats='HWC')
        all_rows = dict(sorted(one for part, _ in drawn for one in part.items())).values()
        if all_rows and rank_and_size()[0] == 0:
            path = osp.join(self._run_folder, f'comparison_{name}.png')
            comparison_sheet(list(all_rows), path)
            get_root_logger().info(f'Picture of {len(all_rows)} held-out images: {path}')
        self._end(record)

    def _end(self, record: DatasetRecord) -> None:
        """Write the scores of a test and report faults. Raises EvaluationError for those of a test, at its end."""
        from ggkm_plugin.evaluation import results

        faults = results.failures_of(record, [RESULT])
        for fault in faults:
            get_root_logger().warning(fault)
        if self.is_train:
            return
        scored = record.has_gt or any(image.scores for image in record.images)
        if rank_and_size()[0] == 0 and scored and self.opt['val'].get('metrics'):
            results.write_test(
                Path(self._run_folder), record, self.opt, self.description['option_digest'], self.device, faults
            )
            lines = [f'Scores of each image: {self._run_folder}/scores_{record.name}.csv']
            for part, names in record.parts.items():
                means = record.means(part).get(RESULT, {})
                scores = ', '.join(f'{metric} {value:.4f}' for metric, value in means.items())
                lines.append(f'\t {part}, {len(names)} images: {scores}')
            get_root_logger().info('\n'.join(lines))
        self._tested[record.name] = faults
        failed = [fault for faults in self._tested.values() for fault in faults]
        if failed and len(self._tested) == len(self.opt['datasets']):
            raise EvaluationError('\n  '.join(['some images were not tested:', *failed]))

    def agree_on_buffers(self) -> None:
        """Give all processes the BatchNorm statistics of the first; between steps each has those of its own images."""
        spread_buffers(self.get_bare_model(self.net_g), *([self.net_g_ema] if hasattr(self, 'net_g_ema') else []))

    def before_image(self) -> None:
        """Prepare for the next image; all processes call this together."""

    @property
    def closing(self) -> bool:
        """Whether this is the last validation of a training, or a test: the one that draws the sheet."""
        return not self.is_train

    def scored(self, dataset: str, current_iter: int | str) -> dict[str, str]:
        """Handle new `metric_results`. Returns a remark on each for the log."""
        return {}

    @property
    def _run_folder(self) -> str:
        return self.opt['path']['experiments_root' if self.is_train else 'results_root']

    def _image_path(self, dataset: str, image: str, current_iter: int | str) -> str:
        folder = self.opt['path']['visualization']
        if self.is_train:
            if sum(phase.startswith('val') for phase in self.opt['datasets']) > 1:  # they may have the same file names
                folder = osp.join(folder, dataset)
            return osp.join(folder, image, f'{osp.basename(image)}_{current_iter}.png')
        return osp.join(folder, dataset, f'{image}_{self.opt["val"].get("suffix") or self.opt["name"]}.png')

    def _report(
        self, dataset: str, inputs: dict[str, float], current_iter: int | str, tb_logger: Any, missing: list[str]
    ) -> None:
        """Log each metric beside the blurred input's, and the TensorBoard curves."""
        remarks = self.scored(dataset, current_iter)
        lines = [f'Validation {dataset}']
        for metric, value in self.metric_results.items():
            line = f'\t # {metric}: {value:.4f}'
            if metric in inputs:  # a resumed training may have had other metrics
                line += f'\tinput: {inputs[metric]:.4f}\tgain: {value - inputs[metric]:+.4f}'
            lines.append(line + remarks.get(metric, ''))
            if tb_logger:
                tb_logger.add_scalar(f'metrics/{dataset}/{metric}', value, current_iter)
        lines += [f'\t # {metric}: n/a' for metric in missing]
        get_root_logger().info('\n'.join(lines))


def _strips(sample: Sample, result: Tensor, restorer: Restorer) -> dict[str, np.ndarray]:
    """Draw the pictures of one image for TensorBoard."""
    images = [sample.lq, result, *([] if sample.gt is None else [sample.gt])]
    strips = {'input_result' + '_gt' * (len(images) == 3): strip(*images)}
    coefficients = coefficient_map(restorer.network, sample.lq[None])
    return strips if coefficients is None else {**strips, 'coefficients': coefficients}
