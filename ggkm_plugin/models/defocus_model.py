"""Training model: SRModel with loss terms, mixed precision, atomic checkpoints, exact resume and graceful shutdown."""

import json
import uuid
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from os import path as osp
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ggkm_plugin.basicsr_patches.data_loading import Position
from ggkm_plugin.basicsr_patches.distributed import any_of, barrier, from_first, gathered, rank_and_size
from ggkm_plugin.basicsr_patches.generators import generator_states, restore_generators, unchanged_generators
from ggkm_plugin.basicsr_patches.graceful_shutdown import StopRequest
from ggkm_plugin.basicsr_patches.resuming import numbered_states
from ggkm_plugin.losses.common import loss_input
from ggkm_plugin.metrics.selection import better_of
from ggkm_plugin.models.optimizing import build_optimizer, build_schedule
from ggkm_plugin.models.progress import Throughput, TrainingProgress
from ggkm_plugin.models.step_options import StepOptions
from ggkm_plugin.models.validating_model import ValidatingModel
from ggkm_plugin.utils.checkpoint import save_atomically, save_content
from ggkm_plugin.utils.errors import Interrupted, NotFiniteError, OptionError, UserError
from ggkm_plugin.utils.memory import memory_advice
from ggkm_plugin.utils.registry import MODEL_REGISTRY

from basicsr.utils import get_root_logger  # isort: skip
from basicsr.utils.dist_util import master_only  # isort: skip


_UNTOUCHED = 'Earlier checkpoints are untouched: free disk space, then continue with --auto_resume'
# Keys that do not change the content of batches.
_NO_EFFECT_ON_BATCHES = {
    f'datasets.train.{key}'
    for key in ('num_worker_per_gpu', 'persistent_workers', 'pin_memory', 'prefetch_mode', 'num_prefetch_queue')
}


@MODEL_REGISTRY.register()
class DefocusModel(ValidatingModel):
    """Model to train and validate any registered arch.

    A network may return a training dict (see `GGKMNet`); a loss that declares `takes_scales` gets the dict, others the
    finest image. `train:` may have the keys of `StepOptions`, and any optimizer and schedule of torch;
    `logger.keep_checkpoints` is the number of newest checkpoints to keep (default: all).

    A training state holds everything that the next step depends on, so that resuming is exact.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        # Copied for comparison when resuming, since BasicSR changes the options.
        self.options = json.loads(json.dumps(_compared(opt), default=str))
        super().__init__(opt)

    # ---- setup

    def init_training_settings(self) -> None:
        self.step_options = StepOptions.of(self.opt['train'], 'train')
        self.amp_type = self.step_options.amp_type(self.device)
        if self.step_options.amp == 'auto':
            get_root_logger().info(f'train.amp: auto is {self.amp_type or torch.float32} on this device')
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.step_options.amp == 'fp16')
        self.progress: TrainingProgress | None = None
        self.throughput = Throughput()
        self.stop: StopRequest | None = None
        self.tb_logger: Any = None
        self.position: Position | None = None  # of the last step
        self.iteration = self.saved_iteration = 0
        self.skipped = 0  # steps in a row
        self.finished = self._stepping = False
        self._val_loaders: list[Any] = []
        self._val_due = False
        super().init_training_settings()

    def attach(self, val_loaders: list[Any], tb_logger: Any, stop: StopRequest) -> None:
        """Store objects that BasicSR's loop does not pass to a model; see `basicsr_patches.seams.Session`."""
        self._val_loaders, self.tb_logger, self.stop = val_loaders, tb_logger, stop

    def model_to_device(self, net: nn.Module) -> nn.Module:
        if self.is_train:
            options = StepOptions.of(self.opt['train'], 'train')
            if options.channels_last:
                net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if self.opt.get('sync_bn') and self.opt['dist']:
                if self.device.type == 'cuda':
                    net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
                else:
                    get_root_logger().warning('sync_bn: only GPUs can; each process has its own batch statistics')
            if options.compile:
                net.compile(mode=options.compile if isinstance(options.compile, str) else None)
        return super().model_to_device(net)

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        return build_optimizer(optim_type, params, {'lr': lr, **kwargs})

    def setup_schedulers(self) -> None:
        options = dict(self.opt['train']['scheduler'])
        name = options.pop('type')
        self.schedulers = [build_schedule(name, optimizer, options) for optimizer in self.optimizers]

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the scheduled rate, multiplied by current_iter / warmup_iter during warm-up."""
        if self._val_due:
            self._validate_again()
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            for group, lr in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
                group['lr'] = lr  # some schedules start from this value
            if current_iter > 1:
                scheduler.step()
            if current_iter < warmup_iter:
                for group in optimizer.param_groups:
                    group['lr'] = group['lr'] / warmup_iter * current_iter

    # ---- a step

    def feed_data(self, data: dict[str, Any]) -> None:
        if self.is_train:
            self.throughput.start()
            self._fed = data.get('position')
        super().feed_data(data)
        if self.is_train and self.step_options.channels_last:
            self.lq = self.lq.to(memory_format=torch.channels_last)

    def optimize_parameters(self, current_iter: int) -> None:
        train = self.opt['train']
        if self.progress is None:
            self.progress = TrainingProgress(int(train['total_iter']), current_iter, self.opt['rank'])
        self._stepping = True
        buffers = [buffer.clone() for buffer in self.net_g.buffers()]
        total, terms, norm = self._gradients()
        nonfinite = not self.scaler.is_enabled() and not torch.isfinite(norm)  # the scaler handles these itself
        stop = self.stop is not None and self.stop.signal is not None
        flags = torch.stack([~torch.isfinite(total), total.new_tensor(nonfinite).bool(), total.new_tensor(stop).bool()])
        bad_loss, bad_gradient, stop = any_of(flags.float()).bool().tolist()
        if bad_loss or bad_gradient:
            self._reject(current_iter, bad_loss, total if bad_loss else norm, buffers)
        else:
            self.skipped = 0
            scale = self.scaler.get_scale()
            for optimizer in self.stepping:
                self.scaler.step(optimizer)
            self.scaler.update()
            if self.scaler.is_enabled() and self.scaler.get_scale() < 1:  # the scale is not the cause of the overflow
                raise NotFiniteError(
                    f'the norm of the gradients is {float(norm)} at iteration {current_iter}, as in every step before '
                    "it that fp16's scale was lowered for; nothing of these steps is kept. Set train.amp to bf16 or "
                    'none, lower train.optim_g.lr, or set train.grad_clip, then resume with --auto_resume'
                )
            if self.ema_decay > 0 and self.scaler.get_scale() >= scale:  # else the scaler has skipped the step
                self.model_ema(decay=self.ema_decay)
        self.iteration, self.position = current_iter, self._fed
        self._stepping = False
        images = len(self.lq) * self.opt['world_size']
        self.throughput.stop(images, self._fed.waited if self._fed else 0.0)
        self._log(current_iter, total, terms, norm)
        if stop:
            self._save_and_stop()

    def _gradients(self) -> tuple[Tensor, OrderedDict[str, Tensor], Tensor]:
        """Compute the gradients of a batch. Returns the loss, the terms to log and the norm before clipping."""
        for optimizer in self.stepping:
            optimizer.zero_grad()
        parts = self.step_options.accumulate
        total, terms = torch.zeros((), device=self.device), OrderedDict[str, Tensor]()
        advice = 'lower datasets.train.batch_size_per_gpu or gt_size, raise train.accumulate, or set train.amp: bf16'
        with memory_advice(f'in a training step of {len(self.lq)} images of {self.lq.shape[-1]} pixels', advice):
            counted = [buffer.clone() for buffer in self.cri_pix.buffers()] if self.cri_pix and parts > 1 else []
            lqs, gts = self.lq.chunk(parts), self.gt.chunk(parts)
            for i, (lq, gt) in enumerate(zip(lqs, gts, strict=True)):
                for buffer, value in zip(self.cri_pix.buffers() if counted else (), counted, strict=True):
                    buffer.copy_(value)  # a loss that counts its calls counts the parts as one
                with self._unsynchronized() if i < len(lqs) - 1 else nullcontext():
                    output = self._forward(lq)
                    self.output = output['scales'][-1] if isinstance(output, dict) else output
                    share = len(lq) / len(self.lq)
                    loss, terms_of_part = self._losses(output, lq, gt)
                    self.scaler.scale(loss * share).backward()
                total = total + loss.detach() * share
                for name, value in terms_of_part.items():
                    terms[name] = terms.get(name, 0) + value.detach() * share
            for optimizer in self.stepping:
                self.scaler.unscale_(optimizer)
            groups = [group for optimizer in self.stepping for group in optimizer.param_groups]
            parameters = [p for group in groups for p in group['params'] if p.grad is not None]
            norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
            if self.step_options.grad_clip is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.step_options.grad_clip, norm)
        return total, terms, norm

    @property
    def stepping(self) -> list[torch.optim.Optimizer]:
        """The optimizers that this step applies."""
        return [self.optimizer_g]

    def _forward(self, lq: Tensor) -> Any:
        """Run the network. Returns float32."""
        with torch.autocast(self.device.type, self.amp_type, self.amp_type is not None):
            return _as_float32(self.net_g(lq))

    def _unsynchronized(self) -> AbstractContextManager[Any]:
        """Return a context in which gradients are not synchronized: that of all parts but the last."""
        return self.net_g.no_sync() if isinstance(self.net_g, DistributedDataParallel) else nullcontext()

    def _losses(
        self, output: dict[str, list[Tensor]] | Tensor, lq: Tensor, gt: Tensor
    ) -> tuple[Tensor, OrderedDict[str, Tensor]]:
        """Return the loss to minimize and every term to log, named l_*."""
        total = torch.zeros((), device=self.device)
        terms: OrderedDict[str, Tensor] = OrderedDict()
        if self.cri_pix:
            l_pix = self.cri_pix(loss_input(self.cri_pix, output), gt)
            total = total + l_pix
            terms['l_pix'] = l_pix
            terms.update(getattr(self.cri_pix, 'terms', {}))
        if self.cri_perceptual:
            for name, loss in zip(('l_percep', 'l_style'), self.cri_perceptual(self.output, gt), strict=True):
                if loss is not None:
                    total = total + loss
                    terms[name] = loss
        return total, terms

    def _reject(self, current_iter: int, is_loss: bool, value: Tensor, buffers: list[Tensor]) -> None:
        """Skip a step with NaN or Inf. Raises NotFiniteError if the options say so, or after too many skipped steps."""
        shown = 'not finite on another process' if torch.isfinite(value) else float(value)
        what = f'the {"loss" if is_loss else "norm of the gradients"} is {shown} at iteration {current_iter}'
        with torch.no_grad():
            for buffer, before in zip(self.net_g.buffers(), buffers, strict=True):
                buffer.copy_(before)
        self.skipped += 1
        if self.step_options.nonfinite == 'stop' or self.skipped >= self.step_options.nonfinite_limit:
            times = f', and so were {self.skipped - 1} steps just before it' if self.skipped > 1 else ''
            raise NotFiniteError(
                f'{what}{times}; nothing of this step is kept. Lower train.optim_g.lr, set train.grad_clip, or look at '
                'the weights of train.pixel_opt, then resume from the newest checkpoint with --auto_resume'
            )
        get_root_logger().warning(f'{what}: step skipped ({self.skipped} in a row)')
        for optimizer in self.stepping:
            optimizer.zero_grad()
        self.scaler.update()

    def model_ema(self, decay: float = 0.999) -> None:
        super().model_ema(decay)
        buffers = dict(self.get_bare_model(self.net_g).named_buffers())
        for name, buffer in self.net_g_ema.named_buffers():
            buffer.copy_(buffers[name])

    def _log(self, current_iter: int, total: Tensor, terms: OrderedDict[str, Tensor], norm: Tensor) -> None:
        """Update the progress bar; fill BasicSR's log and TensorBoard if they are due."""
        if self.progress is not None:
            self.progress.step(total, self.throughput.images_per_s)
        if current_iter % self.opt['logger']['print_freq'] == 0:
            self.log_dict = self.reduce_loss_dict(terms)
            self.log_dict['grad_norm'] = float(norm)
            self.log_dict.update(self.throughput.read())
            if self.tb_logger:
                self.tb_logger.add_scalar('lr', self.get_current_learning_rate()[0], current_iter)

    # ---- validation

    @property
    def closing(self) -> bool:
        return not self.is_train or self.finished

    def before_image(self) -> None:
        if not self.is_train:
            return
        stop = self.stop is not None and self.stop.signal is not None
        if any_of(torch.tensor(float(stop), device=self.device)):
            self._save_and_stop()

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        if not self.is_train:
            return super().validation(dataloader, current_iter, tb_logger, save_img)
        with unchanged_generators():  # a resumed run may validate at other iterations
            super().validation(dataloader, current_iter, tb_logger, save_img)

    def scored(self, dataset: str, current_iter: int | str) -> dict[str, str]:
        """Record the scores, and save the best weights unless they would be chosen on a test split."""
        if not self.is_train:
            return {}
        iteration = int(current_iter)
        remarks = {}
        self._initialize_best_metric_results(dataset)
        for metric, score in self.metric_results.items():
            self._update_best_metric_result(dataset, metric, score, iteration)
            best = self.best_metric_results[dataset][metric]
            remarks[metric] = f'\tbest: {best["val"]:.4f} @ {best["iter"]}'
            if best['iter'] == iteration and self._may_choose_on(dataset):
                self._save_networks(f'best_{self._best_name(dataset, metric)}')
            if self.progress is not None:
                self.progress.show(metric, score)
        return remarks

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """Initialize the best scores. A metric's `better` attribute is the default of the option."""
        for metric_opt in self.opt['val']['metrics'].values():
            metric_opt['better'] = better_of(metric_opt)
        super()._initialize_best_metric_results(dataset_name)

    def _may_choose_on(self, dataset: str) -> bool:
        return all(
            loader.dataset.opt.get('split') != 'test'
            for loader in self._val_loaders
            if loader.dataset.opt['name'] == dataset
        )

    def _best_name(self, dataset: str, metric: str) -> str:
        return metric if len(self._val_loaders) <= 1 else f'{dataset}_{metric}'

    def _validate_again(self) -> None:
        """Run the validation of the resumed iteration, whose scores are not in its state."""
        self._val_due = False
        for loader in self._val_loaders:
            self.validation(loader, self.iteration, self.tb_logger, self.opt['val']['save_img'])

    # ---- saving and resuming

    def save(self, epoch: int, current_iter: int) -> None:
        if current_iter == -1:  # BasicSR's mark for the end of training
            self.finished = True
            if self.progress is not None:
                self.progress.close()
            if self.saved_iteration < self.iteration:
                self.save(epoch, self.iteration)
            self._delete_old_checkpoints()  # a run that was killed here left them
            self._save_networks('latest')
            return
        self.agree_on_buffers()
        self._generators = gathered(generator_states())
        self.description['saved'] = from_first(uuid.uuid4().hex)
        self._save_networks(current_iter)
        self.save_training_state(epoch, current_iter)
        self.saved_iteration = current_iter
        self._delete_old_checkpoints()

    @master_only
    def _save_networks(self, iteration: int | str) -> None:
        nets = {'params': self.net_g}
        if hasattr(self, 'net_g_ema'):
            nets['params_ema'] = self.net_g_ema
        content: dict[str, Any] = {
            key: {name: value.cpu() for name, value in self.get_bare_model(net).state_dict().items()}
            for key, net in nets.items()
        }
        content['description'] = {
            **self.description,
            'iteration': self.iteration or iteration,
            'metrics': self.metric_results,
        }
        path = Path(self.opt['path']['models'], f'net_g_{iteration}.pth')
        other = path.with_suffix('.safetensors')
        if self.opt['logger'].get('save_format') == 'safetensors':
            path, other = other, path
        save_content(content, path, _UNTOUCHED)
        other.unlink(missing_ok=True)  # of an earlier run with another save_format

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        state = self._training_state(epoch, current_iter)
        save_atomically(state, osp.join(self.opt['path']['training_states'], f'{current_iter}.state'), _UNTOUCHED)

    def _training_state(self, epoch: int, current_iter: int) -> dict[str, Any]:
        """Return everything that the next step depends on, except the network's weights."""
        state = {
            'epoch': self.position.epoch if self.position else epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            'loss': self.cri_pix.state_dict() if self.cri_pix else {},  # a loss may count its iterations
            'scaler': self.scaler.state_dict(),
            'skipped': self.skipped,
            'generators': self._generators,
            'options': self.options,
            'best': getattr(self, 'best_metric_results', {}),
            'metrics': self.metric_results,
            'inputs': self.input_results,
            'saved': self.description['saved'],
        }
        if self.position:
            state['position'] = {'samples': self.position.samples, 'epoch_samples': self.position.epoch_samples}
        return state

    @master_only
    def _delete_old_checkpoints(self) -> None:
        keep = self.opt['logger'].get('keep_checkpoints')
        states = numbered_states(self.opt['path']['training_states'])
        for state in states[:-keep] if keep else ():
            for suffix in ('.pth', '.safetensors'):
                (Path(self.opt['path']['models']) / f'net_g_{state.stem}{suffix}').unlink(missing_ok=True)
            state.unlink()  # last, so that the next call finds what a killed one has left

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        logger = get_root_logger()
        saved = resume_state.get('options')
        if saved:
            # The rate that is used; states of 0.1.0 hold the option file's.
            rate = resume_state['optimizers'][0]['param_groups'][0].get('initial_lr')
            saved['train']['optim_g']['lr'] = saved['train']['optim_g']['lr'] if rate is None else rate
            for line in _differences(saved, self.options):
                logger.warning(line)
            for key in ('optim_g', 'scheduler'):  # the values in use, for the next states
                self.options['train'][key] = saved['train'][key]
        super().resume_training(resume_state)
        if self.cri_pix and resume_state.get('loss'):
            self.cri_pix.load_state_dict(resume_state['loss'])
        self.iteration = self.saved_iteration = resume_state['iter']
        self.description['saved'] = resume_state.get('saved')
        rank, processes = rank_and_size()
        if len(resume_state.get('generators', ())) == processes:
            self.scaler.load_state_dict(resume_state['scaler'])
            self.skipped = resume_state['skipped']
            restore_generators(resume_state['generators'][rank])
        else:
            logger.warning('The state is of another number of processes or another program: resuming, but not exactly')
        for dataset, best in resume_state.get('best', {}).items() if self.opt.get('val') else ():
            self._initialize_best_metric_results(dataset)
            known = self.best_metric_results[dataset]
            known.update({metric: record for metric, record in best.items() if metric in known})
        self.metric_results, self.input_results = resume_state.get('metrics', {}), resume_state.get('inputs', {})
        self._val_due = self.opt.get('val') is not None and self.iteration % self.opt['val']['val_freq'] == 0

    def save_finished_work(self) -> None:
        """Save the finished steps after a failure outside of a step, if this is the only process."""
        if rank_and_size()[1] > 1 or self._stepping or self.finished or self.iteration <= self.saved_iteration:
            return
        try:
            self.save(0, self.iteration)
        except UserError as error:
            get_root_logger().error(f'steps since iteration {self.saved_iteration} are lost: {error}')
        else:
            get_root_logger().info(f'Saved the steps up to iteration {self.iteration}')

    def _save_and_stop(self) -> None:
        """Save if needed, and raise Interrupted."""
        if self.saved_iteration < self.iteration:
            self.save(0, self.iteration)
        barrier()  # a launcher ends the other processes soon after the first
        if self.progress is not None:
            self.progress.close()
        raise Interrupted(f'stopped by a signal after iteration {self.iteration}; everything is saved')


def _as_float32(output: Any) -> Any:
    """Convert a tensor, or tensors in dicts and sequences, to float32 for the loss."""
    if isinstance(output, dict):
        return {key: _as_float32(value) for key, value in output.items()}
    if isinstance(output, list | tuple):
        return [_as_float32(value) for value in output]
    return output.float() if isinstance(output, Tensor) and output.is_floating_point() else output


def _compared(opt: dict[str, Any]) -> dict[str, Any]:
    train_set = (opt.get('datasets') or {}).get('train') or {}
    return {'network_g': opt['network_g'], 'train': opt.get('train', {}), 'datasets.train': train_set}


def _differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line for each option that differs from the resumed state's.

    Raises OptionError if the type of optimizer or schedule differs: the new one cannot load the state.
    """
    then, here = _flat(saved), _flat(now)
    lines = []
    for key in sorted(key for key in {*then, *here} - _NO_EFFECT_ON_BATCHES if then.get(key) != here.get(key)):
        values = f'{key} is {here.get(key)!r} in the option file, {then.get(key)!r} in the state that is resumed'
        if key in ('train.optim_g.type', 'train.scheduler.type'):
            raise OptionError(
                f'{values}: change it back, or start a new run with path.pretrain_network_g set to these weights'
            )
        if key.startswith(('train.optim_g.', 'train.scheduler.')):
            lines.append(f"{values}; the state's is used. A new run from path.pretrain_network_g uses the file's")
        else:
            lines.append(f"{values}; the file's is used, so results differ from those of an uninterrupted run")
    return lines


def _flat(options: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in options.items():
        flat.update(_flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {f'{prefix}{key}': value})
    return flat
