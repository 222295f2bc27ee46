"""What a stage is said to need of a GPU: what stays, what each image adds, and what makes it less.

The figures of an H200 beside the predicted ones are in docs/gpu.md.
"""

import json

import pytest
import torch

from srfgan.models import build_detector
from srfgan_cli.presets import load_preset
from srfgan_cli.training.memory import GIB, WINDOW, StorageMeter, memory_of, of_stage, questions

SIZE = (512, 640)


def test_a_storage_counts_until_it_is_gone_and_what_autograd_keeps_lives():
    with StorageMeter() as meter, torch.device("meta"):
        weight = torch.empty(256, 256, requires_grad=True)
        x = torch.empty(1024, 256)
        assert meter.live == meter.peak == (256 * 256 + 1024 * 256) * 4
        before = meter.live
        loss = (x @ weight).exp().sum()  # exp keeps its result, and the product is gone
        assert meter.live == before + 2**20 + 512 and meter.peak == before + 2 * 2**20
        x.view(-1)[:10]
        loss.backward()
        assert weight.grad is not None
        del loss
        assert meter.live == before + 256 * 256 * 4


def test_what_stays_is_weights_gradients_the_optimizers_state_and_averages():
    """Five numbers a weight: AdamW has two."""
    config = load_preset("faster_rcnn_r18_fpn_nn", ["finetune.solver.ema_decay=0.99"])
    need = of_stage(config, "finetune", "tf32", None, SIZE)
    weights = sum(p.numel() for p in build_detector(config.model).parameters())
    assert need.fixed * GIB == pytest.approx(5 * 4 * weights, rel=0.02)
    assert need.of(3) == need.first + 2 * need.further


def test_half_the_precision_and_a_window_are_less():
    config = load_preset("mask_rcnn_r18_fpn", ["model.backbone.name=r10"])
    whole, less = (
        of_stage(config, "pretrain", precision, side, SIZE)
        for precision, side in (("tf32", None), ("bf16", 16))
    )
    assert less.further < 0.4 * whole.further
    assert less.fixed == whole.fixed


def test_without_the_adversarial_term_no_window_is_advised():
    config = load_preset("mask_rcnn_r18_fpn", ["pretrain.adversarial.weight=0"])
    assert [window for stage, _, window in questions(config) if stage == "pretrain"] == [None, None]
    assert {window for stage, _, window in questions(config) if stage == "extract"} == {None, WINDOW}


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    ["fcos_r18_bifpn", "sparse_rcnn_r18_fpn", "centermask_r18_fpn", "libra_rcnn_r18_fpn", "panet_r18_pafpn"],
)
def test_every_kind_of_detector_is_told(preset):
    needs = list(memory_of(load_preset(preset)))
    assert {need.stage for need in needs} == {"pretrain", "extract", "finetune", "inference"}
    assert all(0 < need.fixed <= need.first and need.further > 0 for need in needs)


def test_the_command_tells_each_stage_and_inference_in_each_precision(srfgan):
    options = ["--memory", "--json", "--set", "data.short_sides=[256]", "--set", "data.max_side=256"]
    told = json.loads(srfgan("presets", "show", "retinanet_r18_fpn_nn", *options).out)
    assert [need["stage"] for need in told["memory"]] == ["finetune", "finetune", "inference", "inference"]
    assert told["image"] == [256, 256] and told["test_image"] == [288, 480]
    tf32, bf16, *_ = told["memory"]
    assert tf32["further"] > bf16["further"]
