"""Initialization of GGKMNet: Xavier's, as in the paper, and a start near the identity for short trainings."""

import math
from typing import Any, cast

import torch
from torch import nn

from ggkm_plugin.archs.blocks import xavier_init

NEAR_ZERO = 0.01  # factor on Xavier's weights where `init: identity` starts from biases
SATURATED = 4.0  # value of a gate before its sigmoid or tanh


def initialize(net: nn.Module, init: str) -> None:
    """Initialize all parameters of a GGKMNet; `init` is xavier or identity."""
    xavier_init(net)
    for step in cast(Any, net).steps:
        if step.fuse is not None:
            pass_xu_through(step.fuse)
        if init == 'identity':
            start_near_identity(step)


def pass_xu_through(fuse: nn.Conv2d) -> None:
    """Start with u = xu. Not in the paper: chosen so that Eq. (14) holds from the start."""
    colors = fuse.out_channels
    with torch.no_grad():
        fuse.weight.zero_()
        fuse.weight[:, colors:, 0, 0] = torch.eye(colors)


def start_near_identity(step: Any) -> None:
    """Start near x = y.

    Not in the paper: chosen because from Xavier's start a short training spends its first thousand iterations learning
    to return its input. b1 starts nearly constant and b2 near 0, so every beta is about tanh(b1), and the output layer
    divides the first kernel's map by it.
    """
    b1 = start_constant(step.beta_apu)
    last = [layer for layer in step.beta_apu.path2 if isinstance(layer, nn.Conv2d)][-1]
    mix = step.blur.mix.weight
    with torch.no_grad():
        for weight in (last.weight, mix):
            weight.mul_(NEAR_ZERO)
        colors = mix.shape[0]
        mix[:, :colors, 0, 0] += torch.eye(colors) / math.tanh(b1)


def start_constant(beta_apu: Any) -> float:
    """Start path 1 of a beta-APU with a nearly constant output, by saturated gates or a bias; return the constant."""
    gate = torch.tensor(SATURATED)
    constant = float(gate.sigmoid() * torch.tanh(gate.sigmoid() * gate.tanh()))
    recurrent = hasattr(beta_apu, 'lstm')
    conv = beta_apu.lstm.conv if recurrent else beta_apu.path1
    with torch.no_grad():
        conv.weight.mul_(NEAR_ZERO)
        if recurrent:
            for part, value in zip(conv.bias.chunk(4), (SATURATED, -SATURATED, SATURATED, SATURATED), strict=True):
                part.fill_(value)  # gates i, f, o, g
        else:
            conv.bias.fill_(constant)
    return constant
