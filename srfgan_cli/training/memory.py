"""What a training or a detection will hold of a GPU's memory, by a step on the meta device: nothing is computed.

Every storage that comes to be in a real step of the stage's own trainer is counted until it is gone again, as torch's
allocator counts. Not in it: what cuDNN and cuBLAS take for themselves (some tenths of a GiB, and many GiB in true
float32), the CUDA context, and what the allocator holds without using it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from srfgan.models import build_detector
from srfgan.models.count import NothingIsDropped
from srfgan.models.instance_masks import Polygons
from srfgan.models.structures import Target
from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.precision import autocast
from srfgan_cli.presets.config import AdversarialConfig, Config, Precision, SolverConfig, StageName
from srfgan_cli.training.engine import Trainer
from srfgan_cli.training.fresh import fresh_stage, standing_trainer
from srfgan_cli.training.recomputation import recompute_activations

GIB = 2**30
PRECISIONS: tuple[Precision, ...] = ("tf32", "bf16")
WINDOW = 16
"""Of D, that is told beside a preset's own if that is whole maps."""
_BLOCK = 512
"""Bytes that torch's allocator for GPUs rounds up to."""
_OBJECTS = 8
"""In an image; COCO has seven."""
_META = torch.device("meta")
_aten = torch.ops.aten


@dataclass(frozen=True)
class Memory:
    """Of one process, in GiB, at the moment of the most.

    Attributes:
        stage: or `inference`.
        precision: bf16 stands for fp16 too.
        window: of D's; None: whole maps, or a stage without D.
        fixed: weights, gradients, the optimizer's state and averages; of inference, weights.
        first: with one image at once, all in all; at least `fixed`.
        further: what each more image at once adds.
    """

    stage: str
    precision: Precision
    window: int | None
    fixed: float
    first: float
    further: float

    def of(self, images: int) -> float:
        """All in all, with so many images at once."""
        return self.first + (images - 1) * self.further

    def as_json(self) -> dict[str, Any]:
        """The attributes."""
        return asdict(self)


def memory_of(config: Config) -> Iterator[Memory]:
    """Each stage of the preset and inference, by precision and window, at the largest images that it is trained on.

    A minute or two for all of them: each is some steps in full, but for the numbers.
    """
    for stage, precision, window in questions(config):
        if stage == "inference":
            yield of_inference(config, precision, inference_size(config))
        else:
            yield of_stage(config, stage, precision, window, training_size(config))


def questions(config: Config) -> list[tuple[StageName | Literal["inference"], Precision, int | None]]:
    """What `memory_of` answers: stage, precision and window."""
    steps = [
        (stage, precision, window)
        for stage in config.stages
        for precision in PRECISIONS
        for window in _windows(config, stage)
    ]
    return [*steps, *(("inference", precision, None) for precision in PRECISIONS)]


def training_size(config: Config) -> tuple[int, int]:
    """Height and width in pixels of the largest training image."""
    return _largest(config, max(config.data.short_sides), config.data.max_side)


def inference_size(config: Config) -> tuple[int, int]:
    """Height and width in pixels of the largest test image."""
    return _largest(config, config.data.test_short_side, config.data.test_max_side)


def of_stage(
    config: Config, stage: StageName, precision: Precision, window: int | None, size: tuple[int, int]
) -> Memory:
    """One stage at images of `size`, in pixels.

    Heads get as many boxes as the config lets them learn from, with as many objects: more than a detector has at first.
    """
    # Of two and three: batch norms of single numbers, as ResNeSt's, cannot train on one image.
    fixed, two = _step(config, stage, precision, window, size, 2)
    further = _step(config, stage, precision, window, size, 3)[1] - two
    first = max(fixed, two - further)  # at the end of a step every gradient is there
    return Memory(stage, precision, window, fixed / GIB, first / GIB, further / GIB)


def of_inference(config: Config, precision: Precision, size: tuple[int, int]) -> Memory:
    """Detection in images of `size`, in pixels, masks not pasted."""
    peaks = []
    for count in (1, 2):
        meter = StorageMeter()
        with NothingIsDropped(), meter, _META:
            detector = build_detector(config.model).eval()
            fixed = meter.live
            images = [torch.empty(3, *size, dtype=torch.uint8) for _ in range(count)]
            with torch.no_grad(), autocast(_META, precision):
                detector.detect(images)
        peaks.append(meter.peak)
    first, second = peaks
    return Memory("inference", precision, None, fixed / GIB, first / GIB, (second - first) / GIB)


class StorageMeter(TorchDispatchMode):
    """Adds up the storages of meta tensors while they live.

    Attributes:
        live, peak: bytes, now and at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is _aten._to_copy.default and args[0].is_meta and kwargs.get("device") == torch.device("cpu"):
            # What the host asks for. It draws its masks, or matches, with zeros.
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device="cpu")
        made = func(*args, **kwargs)
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK
        self._known.add(storage._cdata)
        weakref.finalize(storage, self._forget, storage._cdata, size)
        self.live += size
        self.peak = max(self.peak, self.live)

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.live -= size


def _step(
    config: Config,
    stage: StageName,
    precision: Precision,
    window: int | None,
    size: tuple[int, int],
    count: int,
) -> tuple[int, int]:
    """Bytes that stay, with gradients, and the most of a step of `count` images."""
    meter = StorageMeter()
    with NothingIsDropped(), meter:
        with _META:
            trainer = _trainer(config, stage, precision, window, _batch(config, size, count))
        meter.peak = meter.live
        trainer.step()
        trained = [
            p for module in trainer.stage.modules.values() for p in module.parameters() if p.requires_grad
        ]
    return meter.live + sum(p.numel() * p.element_size() for p in trained), meter.peak


def _stand_still(optimizer: Optimizer) -> None:
    """Give an optimizer its state, and let it do nothing: its fused steps are in place, and meta does not know them."""
    if isinstance(optimizer, AdamW):
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter] = {
                name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")
            }
    optimizer.step = lambda *_: None  # type: ignore[method-assign, assignment]


def _trainer(
    config: Config, stage: StageName, precision: Precision, window: int | None, batch: Batch
) -> Trainer:
    recipe = getattr(config, stage)
    # A loss scaler's own part is a few numbers, and what it decides is by values.
    solver: SolverConfig = recipe.solver.model_copy(update={"precision": precision, "accumulate": 1})
    changes: dict[str, Any] = {"solver": solver}
    if stage != "finetune":
        changes["adversarial"] = recipe.adversarial.model_copy(update={"window": window})
    world = World(_META)
    made = fresh_stage(config.model_copy(update={stage: recipe.model_copy(update=changes)}), stage, world)
    if solver.recompute:
        recompute_activations(made)
    for optimizer in made.optimizers.values():
        _stand_still(optimizer)
    return standing_trainer(made, solver, world, batch)


def _batch(config: Config, size: tuple[int, int], count: int) -> Batch:
    """Images and boxes without values, outlines with."""
    corners = torch.tensor([[0, 0], [8, 0], [8, 8]], dtype=torch.float64, device="cpu").numpy()
    masks = [Polygons((corners,))] * _OBJECTS
    images = [torch.empty(3, *size, dtype=torch.uint8) for _ in range(count)]
    targets = [
        Target(torch.empty(_OBJECTS, 4), torch.empty(_OBJECTS, dtype=torch.int64), list(masks))
        for _ in images
    ]
    return Batch(images, targets, list(range(count)), [size] * count)


def _windows(config: Config, stage: StageName) -> list[int | None]:
    if stage == "finetune":
        return [None]
    adversarial: AdversarialConfig = getattr(config, stage).adversarial
    if adversarial.window is None and adversarial.judged:
        return [None, WINDOW]
    return [adversarial.window if adversarial.judged else None]


def _largest(config: Config, short: int, long: int) -> tuple[int, int]:
    return (short, short) if config.data.dataset == "shapes" else (short, max(short, long))
