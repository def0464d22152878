"""The host's SRModel with what defocus deblurring needs beside it: loss terms, float metrics, safe files, a picture."""

import pickle
from collections import OrderedDict
from os import path as osp
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ggkm_plugin.checkpoints import describe, save_atomically
from ggkm_plugin.data.decoding import write_image
from ggkm_plugin.errors import CheckpointError, TrainingError
from ggkm_plugin.figures import SheetRow, comparison_sheet
from ggkm_plugin.host.registries import METRIC_REGISTRY, MODEL_REGISTRY
from ggkm_plugin.models.progress import TrainingProgress

from basicsr.metrics import calculate_metric  # isort: skip
from basicsr.models.sr_model import SRModel  # isort: skip
from basicsr.utils import get_root_logger, tensor2img  # isort: skip
from basicsr.utils.dist_util import master_only  # isort: skip

# Held-out photographs in the closing picture.
_SHEET_ROWS = 4
# Pixels; there is nothing to see on smaller ones.
_SHEET_LEAST = 16


@MODEL_REGISTRY.register()
class DefocusModel(SRModel):
    """Trains and validates any registered arch.

    A network may return a training dict (see `GGKMNet`); a loss that declares `takes_scales` is given the whole of it,
    others the finest image. Metrics that declare `takes_float` see the network's float output, RGB and unclipped;
    others 8-bit BGR images, as in the host. Each metric is also computed once for the blurred input.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.description = describe(opt)  # before the host takes the options apart
        self.metric_results: dict[str, float] = {}
        self.input_results: dict[str, dict[str, float]] = {}
        super().__init__(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        if self.opt['dist'] and self.device.type == 'cpu':
            unused = self.opt.get('find_unused_parameters', False)
            return DistributedDataParallel(net, find_unused_parameters=unused)
        return super().model_to_device(net)

    @master_only
    def print_network(self, net: nn.Module) -> None:
        net = self.get_bare_model(net)
        count = sum(parameter.numel() for parameter in net.parameters())
        get_root_logger().info(f'Network: {type(net).__name__}, {count:,d} parameters')

    def init_training_settings(self) -> None:
        self.progress: TrainingProgress | None = None
        self.finished = False
        super().init_training_settings()

    def optimize_parameters(self, current_iter: int) -> None:
        if self.progress is None:
            self.progress = TrainingProgress(int(self.opt['train']['total_iter']), current_iter, self.opt['rank'])
        self.optimizer_g.zero_grad()
        output = self.net_g(self.lq)
        self.output = output['scales'][-1] if isinstance(output, dict) else output
        total, terms = self._losses(output)
        if not torch.isfinite(total):
            raise TrainingError(
                f'the loss is {float(total)} at iteration {current_iter}; nothing of this step is kept. Lower '
                'train.optim_g.lr or look at the weights of train.pixel_opt, then go on from the newest checkpoint '
                'with --auto_resume'
            )
        total.backward()
        self.optimizer_g.step()
        self.log_dict = self.reduce_loss_dict(terms)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        self.progress.step(float(total.detach()))

    def _losses(self, output: dict[str, list[Tensor]] | Tensor) -> tuple[Tensor, OrderedDict[str, Tensor]]:
        """The loss to minimise and every term to log, named l_*."""
        total = torch.zeros((), device=self.device)
        terms: OrderedDict[str, Tensor] = OrderedDict()
        if self.cri_pix:
            l_pix = self.cri_pix(output if getattr(self.cri_pix, 'takes_scales', False) else self.output, self.gt)
            total = total + l_pix
            terms['l_pix'] = l_pix
            terms.update(getattr(self.cri_pix, 'terms', {}))
        if self.cri_perceptual:
            for name, loss in zip(('l_percep', 'l_style'), self.cri_perceptual(self.output, self.gt), strict=True):
                if loss is not None:
                    total = total + loss
                    terms[name] = loss
        return total, terms

    def model_ema(self, decay: float = 0.999) -> None:
        super().model_ema(decay)
        buffers = dict(self.get_bare_model(self.net_g).named_buffers())
        for name, buffer in self.net_g_ema.named_buffers():
            buffer.copy_(buffers[name])

    def test(self) -> None:
        net = self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)
        net.eval()
        with torch.no_grad():
            self.output = net(self.lq)
        if self.is_train:
            self.net_g.train()

    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        name = dataloader.dataset.opt['name']
        if self._closing and self.is_train:  # the host's count has run past the end by then
            current_iter = int(self.opt['train']['total_iter'])
        metrics = self.opt['val'].get('metrics') or {}
        sums = dict.fromkeys(metrics, 0.0)
        first_time = name not in self.input_results
        sums_of_input = dict.fromkeys(metrics, 0.0)
        rows: list[SheetRow] = []
        for data in dataloader:
            self.feed_data(data)
            self.test()
            image_name = osp.splitext(osp.basename(data['lq_path'][0]))[0]
            lq, result = self.lq[0].float(), self.output[0].float()
            if save_img:
                write_image(self._image_path(name, image_name, current_iter), _to_uint8(result))
            if 'gt' not in data:
                continue
            gt = self.gt[0].float()
            for metric, metric_opt in metrics.items():
                sums[metric] += _score(metric_opt, result, gt)
                if first_time:
                    sums_of_input[metric] += _score(metric_opt, lq, gt)
            if self._closing and len(rows) < _SHEET_ROWS and min(gt.shape[-2:]) >= _SHEET_LEAST:
                pictures = (image.permute(1, 2, 0).cpu().numpy() for image in (lq, result, gt))
                rows.append(SheetRow(image_name, *pictures))
        if metrics and 'gt' in data:
            count = len(dataloader)
            self.metric_results = {metric: value / count for metric, value in sums.items()}
            if first_time:
                self.input_results[name] = {metric: value / count for metric, value in sums_of_input.items()}
            self._report(name, self.input_results[name], current_iter, tb_logger)
        if rows:
            path = osp.join(self._run_folder, f'comparison_{name}.png')
            comparison_sheet(rows, path)
            get_root_logger().info(f'Picture of {len(rows)} held-out images: {path}')

    @property
    def _closing(self) -> bool:
        """The last validation of a training, or a test: the one that draws the picture."""
        return not self.is_train or self.finished

    @property
    def _run_folder(self) -> str:
        return self.opt['path']['experiments_root' if self.is_train else 'results_root']

    def _image_path(self, dataset: str, image: str, current_iter: int | str) -> str:
        folder = self.opt['path']['visualization']
        if self.is_train:
            return osp.join(folder, image, f'{image}_{current_iter}.png')
        return osp.join(folder, dataset, f'{image}_{self.opt["val"].get("suffix") or self.opt["name"]}.png')

    def _report(self, dataset: str, inputs: dict[str, float], current_iter: int | str, tb_logger: Any) -> None:
        """Log each metric beside the blurred input's, in training also the best so far, and the TensorBoard curves."""
        lines = [f'Validation {dataset}']
        if self.is_train:
            self._initialize_best_metric_results(dataset)
        for metric, value in self.metric_results.items():
            line = f'\t # {metric}: {value:.4f}\tinput: {inputs[metric]:.4f}\tgain: {value - inputs[metric]:+.4f}'
            if self.is_train:
                self._update_best_metric_result(dataset, metric, value, current_iter)
                best = self.best_metric_results[dataset][metric]
                line += f'\tbest: {best["val"]:.4f} @ {best["iter"]}'
                if self.progress is not None:
                    self.progress.show(metric, value)
            lines.append(line)
            if tb_logger:
                tb_logger.add_scalar(f'metrics/{dataset}/{metric}', value, current_iter)
        get_root_logger().info('\n'.join(lines))

    def save(self, epoch: int, current_iter: int) -> None:
        super().save(epoch, current_iter)
        if current_iter == -1:  # the host's word for the end of training
            self.finished = True
            if self.progress is not None:
                self.progress.close()

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: str = 'params') -> None:
        """As the host. Raises CheckpointError for a file that is no checkpoint or does not fit the network."""
        try:
            super().load_network(net, load_path, strict, param_key)
        except (
            OSError,
            EOFError,
            LookupError,
            AttributeError,
            TypeError,
            RuntimeError,
            pickle.UnpicklingError,
        ) as error:
            reason = f'{type(error).__name__}: {" ".join(str(error).split())}'
            raise CheckpointError(
                f'{load_path}: not a checkpoint of {type(self.get_bare_model(net)).__name__} with these options '
                f'({reason[:300]}{"..." if len(reason) > 300 else ""})'
            ) from error

    def _print_different_keys_loading(
        self, crt_net: nn.Module, load_net: dict[str, Tensor], strict: bool = True
    ) -> None:
        if not strict:  # a strict load that does not fit raises, and names the keys itself
            super()._print_different_keys_loading(crt_net, load_net, strict)

    @master_only
    def save_network(
        self, net: nn.Module | list[nn.Module], net_label: str, current_iter: int, param_key: str | list[str] = 'params'
    ) -> None:
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        iteration = 'latest' if current_iter == -1 else current_iter
        content: dict[str, Any] = {
            key: {name: value.cpu() for name, value in self.get_bare_model(net_).state_dict().items()}
            for net_, key in zip(nets, keys, strict=True)
        }
        content['description'] = {**self.description, 'iteration': iteration, 'metrics': self.metric_results}
        save_atomically(content, osp.join(self.opt['path']['models'], f'{net_label}_{iteration}.pth'))

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        super().resume_training(resume_state)
        if self.cri_pix and resume_state.get('loss'):
            self.cri_pix.load_state_dict(resume_state['loss'])

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        if current_iter == -1:
            return
        state = {
            'epoch': epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            'loss': self.cri_pix.state_dict() if self.cri_pix else {},  # a loss may count its iterations
        }
        save_atomically(state, osp.join(self.opt['path']['training_states'], f'{current_iter}.state'))


def _to_uint8(image: Tensor) -> np.ndarray:
    """(3,H,W) float RGB to (H,W,3) uint8, clipped and rounded."""
    return image.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()


def _score(metric_opt: dict[str, Any], image: Tensor, gt: Tensor) -> float:
    """One metric of one image, both (3,H,W) float RGB in [0,1]; the metric gets the kind of image it asks for."""
    if getattr(METRIC_REGISTRY.get(metric_opt['type']), 'takes_float', False):
        return float(calculate_metric({'img': image, 'img2': gt}, metric_opt))
    return float(calculate_metric({'img': tensor2img(image), 'img2': tensor2img(gt)}, metric_opt))
