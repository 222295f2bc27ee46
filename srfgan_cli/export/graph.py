"""A detector as one graph: an image in, or a batch of them, tensors out."""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from srfgan.models.config import ModelConfig
from srfgan.models.detector import Detector
from srfgan.models.heads.c5_head import C5BoxHead
from srfgan.models.ops.conv_norm import as_frozen

INPUT_NAME, BATCH_NAME = "image", "images"
OUTPUT_NAMES = ("boxes", "scores", "labels", "masks", "mask_scores")
"""In the order of the graph's outputs; a detector has the first three, four or all (`output_names`)."""
BATCH_OUTPUT = "image_index"
"""The last output of a graph for a batch: which of its images each detection is of."""

Runtime = Callable[[Tensor], dict[str, Tensor]]
"""An opened file: image (3, H, W), or images (N, 3, H, W), float32 RGB in 0..255 to the outputs by name."""

_TRACED_SIZE = (256, 320)


class DetectorGraph(nn.Module):
    """A detector for one image, without Python objects at its ends.

    Pixel order, normalisation, padding and NMS are inside; pasting the masks into the image is not, because
    it would make the output as large as all masks of the whole image.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Detect in `image` (3, H, W), float32 RGB in 0..255.

        Returns:
            boxes (R, 4) float32 xyxy in the image's pixels, scores (R,) float32 best first, labels (R,)
            int64 0-based and, with masks, their probabilities (R, M, M) float32 over each box and perhaps their
            own scores (R,) float32.
        """
        size = (image.shape[-2], image.shape[-1])
        batch = self._padded(image)[None]
        found = self.detector.detect_from_pyramid(self.detector.pyramid(batch), [size])[0]
        outputs = (found.boxes, found.scores, found.labels, found.mask_probs, found.mask_scores)
        return tuple(output for output in outputs if output is not None)

    def _padded(self, image: Tensor) -> Tensor:
        """As `Detector.preprocess`, of (..., 3, H, W), by operations that keep the size symbolic."""
        pixels = image.flip(-3) if self.detector.config.pixel.order == "BGR" else image
        pixels = (pixels - self.detector.pixel_mean) / self.detector.pixel_std
        unit = self.detector.config.size_divisibility
        below, right = (_next_multiple(side, unit) - side for side in image.shape[-2:])
        return F.pad(pixels, (0, right, 0, below))


class BatchGraph(DetectorGraph):
    """A detector for a fixed number of images of one size: how many, the example says that it is traced with."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Detect in `images` (N, 3, H, W), float32 RGB in 0..255.

        Returns:
            As `DetectorGraph`, the detections of the N images one after the other, and after them the index (R,) int64
            of the image of each.
        """
        sizes = [(images.shape[-2], images.shape[-1])] * images.shape[0]
        found = self.detector.detect_from_pyramid(self.detector.pyramid(self._padded(images)), sizes)
        fields = ("boxes", "scores", "labels", "mask_probs", "mask_scores")
        columns = [[getattr(one, field) for one in found] for field in fields]
        index = [torch.full_like(one.labels, at) for at, one in enumerate(found)]
        return tuple(torch.cat(column) for column in [*columns, index] if column[0] is not None)


def split_batch(found: Mapping[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """The outputs of a batch as those of each of its first `count` images."""
    of = found[BATCH_OUTPUT]
    return [
        {name: value[of == image] for name, value in found.items() if name != BATCH_OUTPUT}
        for image in range(count)
    ]


def output_names(config: ModelConfig, batch: int | None = None) -> tuple[str, ...]:
    """The names of the outputs that a detector's graph has, for one image or a `batch` of so many."""
    names = OUTPUT_NAMES[: 3 + config.has_masks + config.has_mask_scores]
    return names if batch is None else (*names, BATCH_OUTPUT)


def smallest_side(config: ModelConfig) -> int:
    """The shortest side in pixels that a graph takes: 65, or 129 for detectors with a p7.

    Below, the coarsest level is one pixel wide, and torch.export treats an axis of length one as another graph.
    """
    coarsest = int(config.levels[-1].removeprefix("p"))
    return int(2**coarsest) + 1


def trace(detector: Detector, batch: int | None = None) -> ExportedProgram:
    """The graph of a detector on the CPU in evaluation mode, for images of any size from `smallest_side`.

    It takes one image or, with `batch`, always so many of one size: what follows the networks goes from image to image,
    and a graph has no loops.
    """
    # Rows first: torch.export would guard the strides of channels-last maps, which depend on the size.
    detector = copy.deepcopy(detector).to(memory_format=torch.contiguous_format)
    _freeze_norms_of_boxes(detector)
    graph = (DetectorGraph(detector) if batch is None else BatchGraph(detector)).eval()
    shape = (3, *_TRACED_SIZE) if batch is None else (batch, 3, *_TRACED_SIZE)
    shapes = ({len(shape) - 2: Dim.AUTO, len(shape) - 1: Dim.AUTO},)
    with torch.no_grad(), warnings.catch_warnings(), mended_pools():
        # torchvision's shape rules use a name that torch is about to rename.
        warnings.filterwarnings("ignore", "`create_unbacked_symint` is deprecated", FutureWarning)
        example = torch.zeros(shape)
        program = torch.export.export(graph, (example,), dynamic_shapes=shapes, strict=False)
    _forget_source(program)
    return program


@contextmanager
def mended_pools() -> Iterator[None]:
    """Within it torch.export does not ask whether a pool's map has an odd or an even size, as torch 2.11 does.

    A graph that was told would run at sizes of that kind only. 2.14 has the same `//`, which rounds down by itself.
    """
    if torch.__version__ >= "2.14":
        yield
        return
    rules: Any = torch._meta_registrations
    theirs, rules.div_rtn = rules.div_rtn, operator.floordiv
    try:
        yield
    finally:
        rules.div_rtn = theirs


def _freeze_norms_of_boxes(detector: Detector) -> None:
    """Give what a C5 head runs on boxes frozen batch norms: others ask whether there are any, which no graph knows."""
    box = getattr(detector.head, "box", None)
    if not isinstance(box, C5BoxHead):
        return
    for parent in list(box.res5.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                setattr(parent, name, as_frozen(norm))


def _forget_source(program: ExportedProgram) -> None:
    """Remove the tracebacks that name this machine's folders."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def _next_multiple(side: int, unit: int) -> int:
    return (side + unit - 1) // unit * unit
