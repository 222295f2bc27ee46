"""Optimizers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import SGD, AdamW, Optimizer

from srfgan.models.backbones.timm_backbone import TimmBackbone
from srfgan_cli.presets.config import SolverConfig

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
UNDECAYED = ("relative_position_bias_table",)
"""Last parts of names of other parameters without weight decay (Swin's own training of detectors)."""


def build_optimizer(module: nn.Module, solver: SolverConfig) -> Optimizer:
    """The optimizer of a module's trainable parameters.

    Norms get no weight decay (detectron2's default), and neither do the position biases of Swin and what else a
    `timm/NAME` scales or norms by, unless `solver.decay_all`.
    """
    groups = _parameter_groups(module, solver)
    # Fused is one pass over the weights instead of several: a seventh of the time on a CPU.
    if solver.optimizer == "adamw":
        return AdamW(groups, lr=solver.scaled_lr, fused=True)
    optimizer = SGD(groups, lr=solver.scaled_lr, momentum=solver.momentum, fused=True)
    if solver.momentum:
        # Where fp16's scaler skips the first step, torch would keep what happened to be in the memory.
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def lr_factor(iteration: int, solver: SolverConfig) -> float:
    """Share of the learning rate at an iteration (0-based): linear warm-up, times the steps passed or then a cosine."""
    if solver.schedule == "steps":
        decay = solver.gamma ** sum(iteration >= milestone for milestone in solver.milestones)
    else:
        after = max(0, iteration - solver.warmup_iterations)
        decay = (1 + math.cos(math.pi * after / max(1, solver.iterations - solver.warmup_iterations))) / 2
    if iteration >= solver.warmup_iterations:
        return decay
    progress = iteration / solver.warmup_iterations
    return decay * (solver.warmup_factor * (1 - progress) + progress)


def set_lr(optimizers: Iterable[Optimizer], iteration: int, solver: SolverConfig) -> float:
    """Set every optimizer's learning rate for `iteration` and return it."""
    lr = solver.scaled_lr * lr_factor(iteration, solver)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
    return lr


def _parameter_groups(module: nn.Module, solver: SolverConfig) -> list[dict[str, object]]:
    spared = {id(p) for m in module.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    spared |= {id(p) for name, p in module.named_parameters() if name.rsplit(".", 1)[-1] in UNDECAYED}
    spared |= {id(p) for m in module.modules() if isinstance(m, TimmBackbone) for p in _scales(m)}
    if solver.decay_all:
        spared = set()
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if id(p) not in spared], "weight_decay": solver.weight_decay},
        {"params": [p for p in trainable if id(p) in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _scales(backbone: TimmBackbone) -> Iterator[nn.Parameter]:
    """What is a vector or scalar and no bias, whatever its class: weights of norms, layer scale, temperatures."""
    for name, parameter in backbone.named_parameters():
        if parameter.numel() == max(parameter.shape, default=1) and not name.endswith("bias"):
            yield parameter
