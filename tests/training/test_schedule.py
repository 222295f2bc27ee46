"""Learning rates and parameter groups."""

import pytest
import torch
from torch import nn

from srfgan.models.config import BackboneConfig
from srfgan.models.errors import InputError
from srfgan.models.factory import build_backbone
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.training.optim import build_optimizer, lr_factor, set_lr


@pytest.mark.parametrize(
    ("iteration", "factor"),
    [(0, 0.001), (500, 0.5005), (999, 0.999001), (1000, 1.0), (59_999, 1.0), (60_000, 0.1), (80_000, 0.01)],
)
def test_warm_up_then_steps(iteration, factor):
    assert lr_factor(iteration, SolverConfig()) == pytest.approx(factor, rel=1e-9)


def test_warm_up_then_a_cosine():
    solver = SolverConfig(schedule="cosine", iterations=1000, warmup_iterations=200)
    factors = [lr_factor(iteration, solver) for iteration in (0, 100, 200, 400, 600, 1000)]
    assert factors == pytest.approx([0.001, 0.5005, 1.0, (1 + 0.5**0.5) / 2, 0.5, 0.0])
    assert SolverConfig(schedule="cosine", iterations=1000, warmup_iterations=200).misfit is None


def test_the_rate_follows_the_batch_size():
    assert SolverConfig(lr=0.02, lr_batch_size=16, batch_size=4).scaled_lr == pytest.approx(0.005)


def test_a_shortened_schedule_keeps_its_shares():
    short = SolverConfig().shortened(900)
    assert (short.iterations, short.milestones, short.warmup_iterations) == (900, [600, 800], 10)


def test_norms_are_not_decayed_and_frozen_parameters_are_left_out():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    module[2].requires_grad_(False)
    decayed, plain = build_optimizer(module, SolverConfig(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1 and plain["weight_decay"] == 0
    assert {id(p) for p in decayed["params"]} == {id(p) for p in module[0].parameters()}
    assert {id(p) for p in plain["params"]} == {id(p) for p in module[1].parameters()}
    all_of_them = build_optimizer(module, SolverConfig(optimizer="adamw", weight_decay=0.1, decay_all=True))
    assert isinstance(all_of_them, torch.optim.AdamW)
    (group,) = all_of_them.param_groups
    assert group["weight_decay"] == 0.1 and len(group["params"]) == 4


def test_factors_on_the_rate_multiply_and_leave_the_decay():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1))
    solver = SolverConfig(lr=1.0, lr_batch_size=16, weight_decay=0.1, warmup_iterations=0, milestones=[10])
    optimizer = build_optimizer(module, solver, {"[01].*": 0.5, "*.weight": 0.5, "3.*": 4.0})
    assert set_lr([optimizer], 10, solver) == pytest.approx(0.1)
    found = {
        id(p): (round(g["lr"] * 10, 9), g["weight_decay"])
        for g in optimizer.param_groups
        for p in g["params"]
    }
    given = {name: found[id(p)] for name, p in module.named_parameters()}
    expected = {"0.weight": (0.25, 0.1), "0.bias": (0.5, 0.1), "1.weight": (0.25, 0.0), "1.bias": (0.5, 0.0)}
    expected |= {"2.weight": (0.5, 0.1), "2.bias": (1.0, 0.1), "3.weight": (2.0, 0.1), "3.bias": (4.0, 0.1)}
    assert given == expected
    with pytest.raises(
        InputError, match=r"finetune.lr_factors: '4.\*' matches no trained parameter \(0.\*, 1.\*, "
    ):
        build_optimizer(module, solver, {"4.*": 0.5})


def test_swins_position_biases_and_layer_norms_are_not_decayed():
    backbone = build_backbone(BackboneConfig(name="swin_t", freeze_at=0))
    solver = SolverConfig(optimizer="adamw", lr=1e-4, weight_decay=0.05)
    optimizer = build_optimizer(backbone, solver)
    assert isinstance(optimizer, torch.optim.AdamW)
    decayed, plain = ({id(p) for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.0]
    for name, parameter in backbone.named_parameters():
        spared = "norm" in name or name.endswith("relative_position_bias_table")
        assert id(parameter) in (plain if spared else decayed), name
