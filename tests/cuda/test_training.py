"""Training steps on a GPU, which is pretended: the CPU's results, no mixed devices, no wait without a reason.

A wait that a step needs is written down in its detector's table, by the function that waits; the loop itself waits
for nothing but its log.
"""

import math

import pytest
import torch
from detector_configs import fitting
from pretended_cuda import CUDA, PretendedTensor
from small_runs import HOST, SIZES, measured, preset, small_trainer, tensors_of

from srfgan.models.config import DETECTORS
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.training.checkpoint import load_checkpoint, save_checkpoint

GPU = World(CUDA)
NECKS = ("fpn", "pafpn", "bifpn", "augfpn")
PRECISIONS = ("fp32", "bf16", "fp16")
IMAGES, LEVELS = len(SIZES), 5

# How many anchors and boxes were chosen: in the RPN, for the box heads, and of each level for each pooling.
PROPOSALS = {("rpn._suppress_together", "to host"): 1}
MASKS = {("box_head.foreground_on_host", "to host"): 1}  # their targets are drawn by the host
COUNTS = ("transfer.rows_where", "to host")
WAITS = {
    "faster_rcnn": {**PROPOSALS, COUNTS: 3},
    "mask_rcnn": {**PROPOSALS, **MASKS, COUNTS: 4},
    "cascade_rcnn": {**PROPOSALS, COUNTS: 7},
    "cascade_mask_rcnn": {**PROPOSALS, **MASKS, COUNTS: 8},
    # Every box is of every level.
    "panet": {**PROPOSALS, **MASKS, COUNTS: 2},
    "tridentnet": {**PROPOSALS, COUNTS: 2},
    "libra_rcnn": {**PROPOSALS, COUNTS: 3},
    "retinanet": {},
    "fcos": {},
    "atss": {},
    # The masks train on what FCOS finds: pairs above the threshold at each level, then NMS.
    "centermask": {
        **MASKS,
        COUNTS: 2,
        ("dense.best_pairs", "nonzero"): IMAGES * LEVELS,
        ("nms.nms", "nms"): IMAGES,
    },
    # The host solves the assignment.
    "sparse_rcnn": {COUNTS: 2, ("set_matching.match_sets", "to host"): 1},
}


def solver(precision: str = "fp32", accumulate: int = 1) -> SolverConfig:
    return SolverConfig(
        iterations=3,
        lr=0.0005,
        clip_norm=1.0,
        ema_decay=0.9,
        precision=precision,
        accumulate=accumulate,
        batch_size=2 * accumulate,
    )


def steps(stage: str, how: SolverConfig, world: World, *over: str, count: int = 1):
    trainer = small_trainer(stage, how, world, *over, steps=count + 1)
    torch.manual_seed(1)
    for _ in range(count):
        trainer.step()
    return trainer


def assert_like_the_cpus(trainer, reference) -> None:
    """Equal but for rounding: autocast's types in the first step, and then only that numbers stay numbers."""
    exact = trainer.solver.precision == "fp32"
    rows = list(zip(measured(trainer), measured(reference), strict=True))
    for row, wanted in rows if exact else rows[:1]:
        assert row.keys() == wanted.keys()
        for name, value in wanted.items():
            if exact:
                assert row[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
            elif not name.startswith("norm"):
                assert row[name] == pytest.approx(value, rel=0.1, abs=0.02), name
    moved = tensors_of([list(module.parameters()) for module in trainer.stage.modules.values()])
    moved += tensors_of([optimizer.state_dict() for optimizer in trainer.stage.optimizers.values()])
    moved += tensors_of([list(module.parameters()) for module in trainer.average.modules.values()])
    assert all(isinstance(x, PretendedTensor) for x in moved)


SPREAD = [
    ("faster_rcnn", "pafpn", "carafe"),
    ("mask_rcnn", "fpn", "afi"),
    ("mask_rcnn", "augfpn", "afi"),
    ("cascade_mask_rcnn", "pafpn", "deconv"),
    ("panet", "pafpn", "fade"),
    ("tridentnet", "", ""),
    ("libra_rcnn", "fpn", "srf"),
    ("retinanet", "pafpn", "lda_aqu"),
    ("fcos", "bifpn", "freqfusion"),
    ("atss", "fpn", "sapa"),
    ("centermask", "fpn", "dysample"),
    ("sparse_rcnn", "fpn", "srf"),
]


def network(detector: str, neck: str, upsampler: str) -> list[str]:
    over = [f"model.detector={detector}", f"model.neck.name={neck}", f"model.neck.upsampler={upsampler}"]
    return fitting(over, detector)


@pytest.mark.parametrize(("detector", "neck", "upsampler"), SPREAD)
def test_a_detectors_step(cuda, detector, neck, upsampler):
    over = network(detector, neck, upsampler)
    trainer = steps("finetune", solver(), GPU, *over)
    of_every_level = {COUNTS: 2} if neck == "augfpn" else {}  # as PANet's
    assert dict(cuda.waits) == {**WAITS[detector], **of_every_level}
    assert_like_the_cpus(trainer, steps("finetune", solver(), HOST, *over))


@pytest.mark.parametrize(
    ("detector", "precision"),
    [
        ("faster_rcnn", "bf16"),
        ("mask_rcnn", "fp16"),
        ("cascade_mask_rcnn", "bf16"),
        ("retinanet", "fp16"),
        ("fcos", "bf16"),
        ("centermask", "bf16"),
        ("sparse_rcnn", "fp16"),
    ],
)
def test_a_step_in_half_precision(cuda, detector, precision):
    over = network(detector, "fpn", "nn")
    trainer = steps("finetune", solver(precision), GPU, *over)
    assert dict(cuda.waits) == WAITS[detector]
    assert_like_the_cpus(trainer, steps("finetune", solver(), HOST, *over))


@pytest.mark.parametrize(
    ("stage", "precision", "accumulate"),
    [("pretrain", "fp32", 2), ("extract", "fp32", 1), ("extract", "bf16", 1)],
)
def test_the_adversarial_stages_wait_for_nothing_of_their_own(cuda, stage, precision, accumulate):
    over = ["model.detector=retinanet"]
    trainer = steps(stage, solver(precision, accumulate), GPU, *over)
    assert not cuda.waits
    assert_like_the_cpus(trainer, steps(stage, solver(accumulate=accumulate), HOST, *over))


@pytest.mark.parametrize(("stage", "precision"), [("pretrain", "fp16"), ("finetune", "fp32")])
def test_a_run_goes_on_from_its_file_as_if_it_had_not_stopped(cuda, tmp_path, stage, precision):
    over = ["model.detector=retinanet"]
    trainer = steps(stage, solver(precision), GPU, *over)
    trainer.measured.settle(trainer.iteration)
    save_checkpoint(tmp_path / "saved.pt", trainer.state())
    cuda.waits.clear()
    trainer.step()
    assert not cuda.waits
    resumed = small_trainer(stage, solver(precision), GPU, *over)
    resumed.load_state(load_checkpoint(tmp_path / "saved.pt"))
    resumed.step()
    assert measured(resumed) == measured(trainer)
    if precision == "fp32":
        assert_like_the_cpus(resumed, steps(stage, solver(), HOST, *over, count=2))


def test_the_log_takes_one_wait(cuda):
    trainer = steps("finetune", solver(), GPU, "model.detector=retinanet")
    cuda.waits.clear()
    trainer.measured.settle(trainer.iteration)
    assert dict(cuda.waits) == {("measured._on_host", "to host"): 1}


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("detector", WAITS)
def test_every_detector_in_every_precision(cuda, detector, precision):
    over = network(detector, "fpn", "srf")
    trainer = steps("finetune", solver(precision, accumulate=2), GPU, *over)
    assert_like_the_cpus(trainer, steps("finetune", solver(accumulate=2), HOST, *over))


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("upsampler", UPSAMPLERS)
@pytest.mark.parametrize("neck", NECKS)
def test_every_upsampler_in_every_neck(cuda, neck, upsampler, precision):
    over = network("fcos", neck, upsampler)
    trainer = steps("finetune", solver(precision), GPU, *over)
    assert not cuda.waits
    assert_like_the_cpus(trainer, steps("finetune", solver(), HOST, *over))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["r18", "r50", "s101", "v39", "swin_t"])
def test_every_kind_of_backbone(cuda, backbone):
    over = [f"model.backbone.name={backbone}", "model.backbone.freeze_at=0", "model.detector=fcos"]
    trainer = steps("finetune", solver(), GPU, *over)
    assert_like_the_cpus(trainer, steps("finetune", solver(), HOST, *over))


def test_a_skipped_first_step_leaves_no_momentum(cuda):
    """fp16's first scale is often too large; the optimizers must not keep what happened to be in the memory."""
    trainer = small_trainer("pretrain", solver("fp16"), GPU, "model.detector=retinanet")
    trainer.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**100)
    before = [p.detach().clone() for p in trainer.stage.modules["generator"].parameters()]
    trainer.step()
    optimizer = trainer.stage.optimizers["generator"]
    buffers = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert buffers and all(float(buffer.abs().max()) == 0 for buffer in buffers)
    after = trainer.stage.modules["generator"].parameters()
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert math.isfinite(trainer.scaler.get_scale())


def test_a_preset_names_what_these_tests_run():
    """A new detector or neck belongs into the tables above."""
    assert set(type(preset().model.neck).model_fields["name"].annotation.__args__) == set(NECKS)
    assert set(DETECTORS) == set(WAITS)
