"""A training step leaves the GPU running ahead: where it waits, it is for a reason given here.

No GPU is needed. A mode follows every call into torch and keeps account of which tensors would lie on the device
and which on the host; a call whose result the host needs at once, or that hands the device something from
pageable host memory, is a wait.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from models import build_detector, build_discriminator, build_generator
from models.heads.rpn import RegionProposals
from models.structures import Polygons, Target
from srfgan_cli.config import SolverConfig
from srfgan_cli.data.loaders import Batch
from srfgan_cli.distributed import World
from srfgan_cli.presets import load_preset
from srfgan_cli.training.engine import Hooks, Trainer
from srfgan_cli.training.extract import ExtractStage
from srfgan_cli.training.finetune import FinetuneStage
from srfgan_cli.training.pretrain import PretrainStage

ROOT = Path(__file__).parents[2]
OURS = (ROOT / "models", ROOT / "srfgan_cli")
TO_HOST = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__"}
COUNTED_BY_THE_HOST = {
    *("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount", "one_hot"),
    *("equal", "allclose", "nms"),
}
FACTORIES = {"tensor", "as_tensor", "new_tensor", "scalar_tensor"}


class Waits(TorchFunctionMode):
    """Counts (place in our code, call) of everything for which a GPU's host would wait.

    All tensors are of the device at first. Made without a `device` or taken from numpy, or from the device by
    `cpu()`, they are the host's, and so is what is computed of these alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, str]] = Counter()

    def __enter__(self):
        # Not a function that a mode sees.
        self._from_numpy = torch.from_numpy
        torch.from_numpy = lambda array: _marked(self._from_numpy(array))
        return super().__enter__()

    def __exit__(self, *error):
        torch.from_numpy = self._from_numpy
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_host = all(map(_is_host, given)) if given else kwargs.get("device") is None
        if given and not on_host and self._waits(name, args, kwargs):
            self.found[_place(), name] += 1
        moved = name in ("to", "cuda") and _names_device(args, kwargs)
        if on_host and moved and not kwargs.get("non_blocking"):
            self.found[_place(), "to the device"] += 1
        if name in FACTORIES and not on_host:
            self.found[_place(), name] += 1
        result = func(*args, **kwargs)
        if on_host and moved:
            return result.clone()
        if name == "cpu":
            result, on_host = result.clone(), True
        return _marked(result) if on_host else result

    def _waits(self, name, args, kwargs) -> bool:
        if name in TO_HOST or name in COUNTED_BY_THE_HOST:
            return True
        if name == "repeat_interleave":
            return "output_size" not in kwargs
        if name == "where":
            return len(args) == 1
        if name in ("__getitem__", "__setitem__"):
            filled = name == "__setitem__" and not isinstance(args[2], Tensor)
            return any(_index_waits(part, filled) for part in _parts(args[1]))
        return False


def _parts(index):
    return index if isinstance(index, tuple) else (index,)


def _index_waits(part, filled: bool) -> bool:
    """A mask's rows are counted; an index from the host is copied."""
    if isinstance(part, Tensor):
        return (part.dtype == torch.bool and not filled) or (part.ndim > 0 and _is_host(part))
    return isinstance(part, list)


def _is_host(x: Tensor) -> bool:
    return getattr(x, "of_the_host", False)


def _marked(result):
    """`result` with its tensors marked as the host's."""
    for x in tree_leaves(result):
        if isinstance(x, Tensor):
            x.of_the_host = True
    return result


def _names_device(args, kwargs) -> bool:
    return any(isinstance(x, (torch.device, str)) for x in (*args, *kwargs.values()))


def _place() -> str:
    """module.function of ours that is nearest to the call."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if any(path.is_relative_to(folder) for folder in OURS):
            return f"{path.stem}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


WORLD = World(torch.device("cpu"))
SOLVER = SolverConfig(iterations=2, clip_norm=1.0, ema_decay=0.9)
SMALL = [
    "initial_weights=none",
    "model.backbone.name=r10",
    "model.neck.channels=64",
    "model.num_classes=3",
    "model.box_head.fc_dim=32",
    "model.mask_head.channels=16",
    "model.mask_head.num_convs=1",
    "model.centermask.proposal_threshold=0.0001",
    "model.fcos.pre_nms_topk=100",
    "model.sparse_rcnn.num_proposals=10",
    "model.sparse_rcnn.stages=2",
    "discriminator.widths=[16,16]",
    "pretrain.adversarial.levels=[p3,p4]",
    "extract.adversarial.levels=[p3,p4]",
]
IMAGES, LEVELS = 2, 5


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """What is done in another way on a GPU."""
    monkeypatch.setattr(RegionProposals, "_suppress_each", RegionProposals._suppress_together)


def batch() -> Batch:
    torch.manual_seed(0)
    sizes = [(128, 160), (120, 150)]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    boxes = torch.tensor([[8.0, 8, 60, 70], [20, 30, 110, 100]])
    outlines = [Polygons((np.array([[x0, y0], [x1, y0], [x1, y1]]),)) for x0, y0, x1, y1 in boxes.numpy()]
    targets = [
        Target(boxes, torch.tensor([1, 2]), outlines),
        Target(boxes[:1], torch.tensor([0]), outlines[:1]),
    ]
    return Batch(images, targets, [1, 2], sizes)


def waits_of_a_step(stage, solver=SOLVER) -> Counter[tuple[str, str]]:
    """Of the second optimizer step; the first one makes the optimizers' states."""
    given = batch()
    trainer = Trainer(stage, solver, WORLD, iter([given, given]), Hooks(save=lambda state: None))
    stage.train()
    trainer._step()
    with Waits() as waits:
        trainer._step()
    return waits.found


def preset(*more: str):
    return load_preset("mask_rcnn_r18_fpn", [*SMALL, *more])


# How many anchors and boxes were chosen: in the RPN, for the box heads, and of each level for each pooling.
PROPOSALS = {
    ("rpn._suppress_together", "tolist"): 1,
}
MASKS = {("box_head.foreground_on_host", "cpu"): 1}  # their targets are drawn by the host
COUNTS = ("transfer.rows_where", "tolist")
REMAINING = {
    "faster_rcnn": {**PROPOSALS, COUNTS: 3},
    "mask_rcnn": {**PROPOSALS, **MASKS, COUNTS: 4},
    "cascade_mask_rcnn": {**PROPOSALS, **MASKS, COUNTS: 8},
    "retinanet": {},
    "fcos": {},
    # The masks train on what FCOS finds: pairs above the threshold at each level, then NMS.
    "centermask": {
        **MASKS,
        COUNTS: 2,
        ("dense.best_pairs", "nonzero"): IMAGES * LEVELS,
        ("nms.nms_within_classes", "nms"): IMAGES,
    },
    # The host solves the assignment.
    "sparse_rcnn": {COUNTS: 2, ("set_matching.match_sets", "cpu"): 1},
}


@pytest.mark.parametrize("detector", REMAINING)
def test_the_waits_of_a_detectors_step(detector):
    config = preset(f"model.detector={detector}")
    found = waits_of_a_step(FinetuneStage(build_detector(config.model), config.finetune, WORLD))
    assert dict(found) == REMAINING[detector]


def test_stage_one_never_waits():
    config = preset("pretrain.adversarial.window=8")
    networks = (
        build_generator("srf", 64),
        build_discriminator(config.discriminator, 64),
    )
    stage = PretrainStage(
        build_detector(config.model), *networks, config.pretrain.adversarial, "bilinear", SOLVER, WORLD
    )
    assert not waits_of_a_step(stage)


def test_stage_two_waits_for_the_detector_alone():
    config = preset("model.detector=retinanet")
    networks = (build_detector(config.model) for _ in range(2))
    discriminator = build_discriminator(config.discriminator, 64)
    assert not waits_of_a_step(ExtractStage(*networks, discriminator, config.extract, "bilinear", WORLD))


def test_the_mode_finds_what_waits():
    x, inside = torch.arange(4.0), torch.tensor([True, False, True, False])
    with Waits() as waits:
        kept = x[inside]
        kept.sum().item()
        x.new_tensor([1.0])
        torch.ones(3).to(x.device)
        torch.ones(3).to(x.device, non_blocking=True)
        x.cpu().tolist()
        torch.zeros(4, device=x.device)[torch.tensor([1])].nonzero()
        assert x[1:].shape == (3,) and len(x) == 4
    calls = ["__getitem__", "item", "new_tensor", "to the device", "cpu", "__getitem__", "nonzero"]
    assert Counter(name for _, name in waits.found.elements()) == Counter(calls)
