"""JDRL: training any network on misaligned pairs.

Y. Li et al., "Learning Single Image Defocus Deblurring with Misaligned Training Pairs" (AAAI 2023). MPRNet* of
the GGKMNet paper is MPRNet trained with it.
"""

import warnings
from collections import OrderedDict
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ggkm_plugin.archs.reblurring import ReblurNet
from ggkm_plugin.models.defocus_model import DefocusModel
from ggkm_plugin.models.flow import build_flow, calibration_mask, warp
from ggkm_plugin.utils.errors import CheckpointError
from ggkm_plugin.utils.registry import MODEL_REGISTRY
from ggkm_plugin.utils.schema import Natural, NonNegative, Section, Spec


class JDRLOptions(Section):
    """`train.jdrl`.

    The first `warp_iter` iterations train the network alone, the next `reblur_iter` the reblurring module alone, the
    rest both.
    """

    flow: Spec  # a flow network
    warp_iter: Natural
    reblur_iter: Natural
    reblur_weight: NonNegative = 0.5
    mask_tolerance: NonNegative = 0.35

    def phase(self, iteration: int) -> str:
        """Return what an iteration (from 1) trains: `network`, `reblurring` or `both`."""
        if iteration <= self.warp_iter:
            return 'network'
        return 'reblurring' if iteration <= self.warp_iter + self.reblur_iter else 'both'


@MODEL_REGISTRY.register()
class JDRLModel(DefocusModel):
    """DefocusModel under JDRL's loss; `train.jdrl` has the keys of `JDRLOptions`.

    With B the photograph, S its misaligned sharp partner, O the network's (finest) image, l the loss `train.pixel_opt`,
    f(x, y) the flow from x to y, W the warp by it, M the mask of reliable flow, the phases minimize

        network      l(O, W(S, f(B,S)))
        reblurring   0.5 l(R(O,B), B), by the reblurring module R alone
        both         l(M O, M W(S, f(O,S))) + l(M' S, M' W(O, f(S,O))) + 0.5 l(R(O,B), B)

    The flow network is frozen, and its flow is a constant. The paper does not say whether a gradient passes through the
    flow (not here), how long the phase `reblurring` is, and whether the module is trained further in `both` (here it
    is). The module has the network's optimizer options and schedule. It is saved in the training state only.
    """

    def init_training_settings(self) -> None:
        self.jdrl = JDRLOptions.of(self.opt['train']['jdrl'], 'train.jdrl')
        self.flow_net = build_flow(self.opt['train']['jdrl']['flow']).to(self.device)
        self.net_r = self.model_to_device(ReblurNet())
        self.phase = ''
        super().init_training_settings()

    def setup_optimizers(self) -> None:
        options = dict(self.opt['train']['optim_g'])
        super().setup_optimizers()
        self.optimizer_r = self.get_optimizer(options.pop('type'), self.net_r.parameters(), **options)
        self.optimizers.append(self.optimizer_r)

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        with warnings.catch_warnings():  # torch warns that the rate changes before the first step
            warnings.filterwarnings('ignore', message='Detected call of `lr_scheduler.step')
            super().update_learning_rate(current_iter, warmup_iter)

    # ---- a step

    def optimize_parameters(self, current_iter: int) -> None:
        self.phase = self.jdrl.phase(current_iter)
        super().optimize_parameters(current_iter)

    @property
    def stepping(self) -> list[torch.optim.Optimizer]:
        return {
            'network': [self.optimizer_g],
            'reblurring': [self.optimizer_r],
            'both': [self.optimizer_g, self.optimizer_r],
        }[self.phase]

    def _forward(self, lq: Tensor) -> Any:
        if self.phase != 'reblurring':
            return super()._forward(lq)
        self.net_g.eval()  # keeps its BatchNorm statistics, too
        with torch.no_grad():
            output = super()._forward(lq)
        self.net_g.train()
        return output

    def _unsynchronized(self) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(super()._unsynchronized())
        if isinstance(self.net_r, DistributedDataParallel):
            stack.enter_context(self.net_r.no_sync())
        return stack

    def _losses(self, output: Any, lq: Tensor, gt: Tensor) -> tuple[Tensor, OrderedDict[str, Tensor]]:
        assert self.cri_pix is not None
        sharp, terms = self.output, OrderedDict[str, Tensor]()
        if self.phase == 'network':
            terms['l_pix'] = self.cri_pix(sharp, warp(gt, self._flow(lq, gt)))
            return terms['l_pix'], terms
        terms['l_reblur'] = self.cri_pix(self.net_r(sharp, lq), lq)
        total = self.jdrl.reblur_weight * terms['l_reblur']
        if self.phase == 'both':
            forth, back = self._flow(sharp, gt), self._flow(gt, sharp)
            reliable, reliable_back = (calibration_mask(flow, self.jdrl.mask_tolerance) for flow in (forth, back))
            terms['l_forth'] = self.cri_pix(reliable * sharp, reliable * warp(gt, forth))
            terms['l_back'] = self.cri_pix(reliable_back * gt, reliable_back * warp(sharp, back))
            terms['l_pix'] = terms['l_forth'] + terms['l_back']
            terms['believed'] = reliable.mean()
            total = total + terms['l_pix']
        return total, terms

    @torch.no_grad()
    def _flow(self, one: Tensor, two: Tensor) -> Tensor:
        return self.flow_net(one.clamp(0, 1), two.clamp(0, 1))

    # ---- saving and resuming

    def _training_state(self, epoch: int, current_iter: int) -> dict[str, Any]:
        reblurring = self.get_bare_model(self.net_r).state_dict()
        state = super()._training_state(epoch, current_iter)
        return {**state, 'reblurring': {name: value.cpu() for name, value in reblurring.items()}}

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        if 'reblurring' not in resume_state:
            raise CheckpointError(
                'the state to resume is of a training without JDRL: start a new run with path.pretrain_network_g set '
                'to its weights'
            )
        super().resume_training(resume_state)
        self.get_bare_model(self.net_r).load_state_dict(resume_state['reblurring'])
