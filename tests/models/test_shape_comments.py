"""The shapes in comments beside tensor code, `# (N, A, 4)`, are those that the tensors have.

A letter stands for one number within a call, and in a loop for a new one each time round.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from detector_configs import model_config

from srfgan.models import MaskPatch, Polygons, Target, build_detector, build_upsampler
from srfgan.models.backbones.swin import shift_mask
from srfgan.models.config import DETECTORS
from srfgan.models.discriminator import Discriminator
from srfgan.models.ops import masks
from srfgan.models.ops.graph_pooling import graph_max_pool, graph_smoothed
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan.models.upsamplers.seam import doubled
from srfgan_cli.machine.distributed import World
from srfgan_cli.presets.config import AdversarialConfig
from srfgan_cli.training.adversarial import Adversary

ROOT = Path(__file__).parents[2]
FILES = [*ROOT.glob("models/**/*.py"), ROOT / "srfgan_cli" / "training" / "adversarial.py"]


@dataclass(frozen=True)
class Said:
    """An assignment with a comment: its lines, and the shape of each of its names."""

    lines: range
    names: tuple[str, ...]
    shapes: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return f"{self.lines[-1]}: {', '.join(self.names)}: {self.shapes}"


def said_in(text: str) -> Iterator[Said]:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        comment = re.search(r"  # (\(.*\))( each)?$", lines[node.end_lineno - 1])
        if comment:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            names = tuple(one.id for one in getattr(target, "elts", [target]))
            shapes = re.findall(r"\(([^()]*)\)", comment[1]) * (len(names) if comment[2] else 1)
            split = (tuple(dim.strip() for dim in shape.split(",") if dim.strip()) for shape in shapes)
            yield Said(range(node.lineno, node.end_lineno + 1), names, tuple(split))


@dataclass
class Call:
    """What is known in one call of a function: the letters' numbers, and the lines that bound them."""

    letters: dict[str, tuple[int, int]] = field(default_factory=dict)
    line: int = 0

    def forget(self, line: int) -> None:
        """A loop goes round at `line`."""
        self.letters = {name: bound for name, bound in self.letters.items() if bound[1] < line}

    def fits(self, dim: str, size: int, line: int) -> bool:
        code = re.sub(r"(\d)([A-Za-z])", r"\1*\2", dim).replace("sum ", "sum_")
        names = [name for name in re.findall(r"[A-Za-z_]\w*", code) if name not in self.letters]
        if names == [code]:
            self.letters[code] = (size, line)
            return True
        known = {name: number for name, (number, _) in self.letters.items()}
        if len(names) == 1:
            solve, largest = compile(code, dim, "eval"), size * (64 if "/" in code else 1)
            fitting = [n for n in range(largest + 1) if eval(solve, known | {names[0]: n}) == size]
            if len(fitting) == 1:
                self.letters[names[0]] = (fitting[0], line)
            return bool(fitting) or (size == 0)
        if names:  # several unknown factors: the product is a letter of its own
            return self.letters.setdefault(dim, (size, line))[0] == size
        return eval(code, known) == size


class Watch:
    """Compares what runs with what `FILES` say beside it."""

    def __init__(self) -> None:
        self.said = {str(file): list(said_in(file.read_text("utf-8"))) for file in FILES}
        self.at = {
            file: {n: said for said in all_said for n in said.lines} for file, all_said in self.said.items()
        }
        self.seen: set[tuple[str, Said]] = set()
        self.wrong: set[str] = set()
        self.calls: dict[FrameType, Call] = {}

    def __call__(self, frame, event, _):
        if self.said.get(frame.f_code.co_filename):
            self.calls[frame] = Call()
            return self.step
        return None

    def step(self, frame, event, _):
        call, before = self.calls[frame], self.calls[frame].line
        said = self.at[frame.f_code.co_filename].get(before)
        if said and (event == "return" or frame.f_lineno not in said.lines):
            self.compare(frame, call, said)
        if frame.f_lineno < before:
            call.forget(frame.f_lineno)
        call.line = frame.f_lineno
        if event == "return":
            del self.calls[frame]
        return self.step

    def compare(self, frame, call, said):
        file = frame.f_code.co_filename
        for name, dims in zip(said.names, said.shapes, strict=True):
            value = frame.f_locals.get(name)
            several = isinstance(value, list | tuple)
            for one in value if several else [value]:
                if one is None:
                    continue
                scope = Call(dict(call.letters)) if several else call
                self.seen.add((file, said))
                shape = tuple(one.shape)
                wanted = dims
                if dims[0] == "...":
                    wanted, shape = dims[1:], shape[len(shape) - len(dims) + 1 :]
                if len(wanted) != len(shape) or not all(
                    scope.fits(dim, size, said.lines[-1]) for dim, size in zip(wanted, shape, strict=True)
                ):
                    self.wrong.add(f"{Path(file).relative_to(ROOT)}:{said}: {tuple(one.shape)}")


def everything():
    """Calls of every function that has such a comment."""
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    boxes = torch.tensor([[4.0, 4, 44, 40], [30, 10, 90, 60], [50, 20, 62, 30]])
    outline = Polygons((np.array([[4.0, 4], [44, 4], [44, 40]]),))
    patch = MaskPatch(np.ones((9, 7), np.uint8), np.array([30.0, 10, 90, 60]))
    some = Target(boxes, torch.tensor([0, 2, 1]), [outline, patch, outline])
    none = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), [])
    for detector, neck in [*((detector, "fpn") for detector in DETECTORS), ("mask_rcnn", "augfpn")]:
        torch.manual_seed(0)
        model = build_detector(
            model_config(
                detector,
                num_classes=5,
                backbone={"name": "r10", "norm": "bn", "freeze_at": 0},
                neck={"name": neck, "channels": 64, "upsampler": "nn"},
                inference={"score_threshold": 0.0, "detections_per_image": 7},
                box_head={"fc_dim": 32},
                mask_head={"channels": 16, "num_convs": 1},
                rpn={"post_nms_topk_train": 60, "post_nms_topk_test": 9},
                centermask={"proposal_threshold": 0.0, "iou_convs": 1, "iou_fc_dim": 32},
                sparse_rcnn={"stages": 2, "num_proposals": 12},
            )
        )
        model(images, [some, none])
        with torch.no_grad():
            model.eval()(images)
            if detector == "faster_rcnn":
                batch, sizes = model.preprocess(images)
                rpn = model.head.rpn
                rpn._suppress_each = rpn._suppress_together  # a GPU's way
                rpn.propose(model.pyramid(batch), sizes)
    graph_max_pool(torch.rand(2, 16, 8, 12), (4, 3))
    graph_smoothed(torch.rand(2, 16, 8, 12), 3)
    for name in UPSAMPLERS:
        doubled(build_upsampler(name, 16), torch.rand(2, 16, 3, 5), torch.rand(2, 16, 6, 9))
    for paste in (masks._paste_one_by_one, masks._paste_together):
        paste(torch.rand(3, 28, 28), boxes, (64, 96), 0.5)
    shift_mask(2, 3, 7, 3, torch.device("cpu"))
    Adversary(Discriminator(16, [8], 1), AdversarialConfig(), World(torch.device("cpu"))).judge(
        [torch.rand(2, 16, 4, 6)]
    )


def test_every_shape_in_a_comment_is_the_tensors():
    watch = Watch()
    other = sys.gettrace()
    sys.settrace(watch)
    try:
        everything()
    finally:
        sys.settrace(other)
    assert not watch.wrong
    unseen = [
        f"{Path(file).relative_to(ROOT)}:{said}"
        for file, all_said in watch.said.items()
        for said in all_said
        if (file, said) not in watch.seen
    ]
    assert not unseen
    assert len(watch.seen) > 100
