"""Optimizers and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import SGD, AdamW, Optimizer

from srfgan.models.backbones.timm_backbone import TimmBackbone
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.training.freezing import matching

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
UNDECAYED = ("relative_position_bias_table",)
"""Last parts of names of other parameters without weight decay (Swin's own training of detectors)."""


def build_optimizer(
    module: nn.Module, solver: SolverConfig, factors: Mapping[str, float] | None = None
) -> Optimizer:
    """The optimizer of a module's trainable parameters.

    Norms get no weight decay (detectron2's default), and neither do the position biases of Swin and what else a
    `timm/NAME` scales or norms by, unless `solver.decay_all`.

    Args:
        factors: on the learning rate, by patterns of names; those of several that match are multiplied.

    Raises:
        InputError: a pattern matches no parameter that is trained.
    """
    groups = _parameter_groups(module, solver, factors or {})
    # Fused is one pass over the weights instead of several: a seventh of the time on a CPU.
    if solver.optimizer == "adamw":
        return AdamW(groups, lr=solver.scaled_lr, fused=True)
    optimizer = SGD(groups, lr=solver.scaled_lr, momentum=solver.momentum, fused=True)
    if solver.momentum:
        # Where fp16's scaler skips the first step, torch would keep what happened to be in the memory.
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def continue_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Let an optimizer go on from the state dict of another one of the same parameters.

    What is kept of a weight gets its strides, which may differ from those where it was saved, as G's and D's do on CPUs
    and on GPUs. A fused step goes along the memory: on a CPU it would take other elements' momentum without a word.
    """
    optimizer.load_state_dict(state)
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


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
    """Set every optimizer's learning rate for `iteration`, times its groups' factors, and return it without them."""
    lr = solver.scaled_lr * lr_factor(iteration, solver)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)
    return lr


def _parameter_groups(
    module: nn.Module, solver: SolverConfig, factors: Mapping[str, float]
) -> list[dict[str, object]]:
    """For each factor on the learning rate: what has weight decay, then what has none."""
    spared = {id(p) for m in module.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    spared |= {id(p) for name, p in module.named_parameters() if name.rsplit(".", 1)[-1] in UNDECAYED}
    spared |= {id(p) for m in module.modules() if isinstance(m, TimmBackbone) for p in _scales(m)}
    if solver.decay_all:
        spared = set()
    trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
    of_name = dict.fromkeys(trainable, 1.0)
    for pattern, factor in factors.items():
        for name in matching(trainable, pattern, "finetune.lr_factors", "trained parameter"):
            of_name[name] *= factor
    groups = [
        {
            "params": [
                p for name, p in trainable.items() if of_name[name] == factor and (id(p) in spared) == free
            ],
            "weight_decay": 0.0 if free else solver.weight_decay,
            "lr_factor": factor,
        }
        for factor in sorted(set(of_name.values()), reverse=True)
        for free in (False, True)
    ]
    return [group for group in groups if group["params"]]


def _scales(backbone: TimmBackbone) -> Iterator[nn.Parameter]:
    """What is a vector or scalar and no bias, whatever its class: weights of norms, layer scale, temperatures."""
    for name, parameter in backbone.named_parameters():
        if parameter.numel() == max(parameter.shape, default=1) and not name.endswith("bias"):
            yield parameter
