"""Detections drawn over their image: outlined masks, boxes, labels with scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from srfgan.models.structures import Detections
from srfgan_cli.visualization.colours import Colour, distinct_colour
from srfgan_cli.visualization.labels import Label, draw_labels
from srfgan_cli.visualization.text import Lettering, class_texts

SMALLEST_SIDE = 640
"""Images whose longer side is smaller are enlarged by a whole factor, so that lines and text stay fine."""

LARGEST_SIDE = 1600
"""No image is enlarged beyond this."""

SMALLEST_OBJECT = 36
"""Images are enlarged until half of their objects have at least this size (root of the box's area)."""

CROWD = 25
"""From this many objects on, masks have no boxes around them and labels shrink."""

_MASK_OPACITY = 0.4


def draw(
    image: Tensor,
    detections: Detections,
    class_names: Sequence[str],
    *,
    score_threshold: float = 0.5,
    scores: bool = True,
    enlarge: bool = True,
    masks: Tensor | Sequence[Tensor] | None = None,
) -> Tensor:
    """Draw detections over an image.

    Classes have a colour each; with a single class, instances have, and labels show only the score. In a
    crowd masks go without boxes, and labels are left out where there is no room. How many objects of each
    class there are stands below the picture.

    Args:
        image: (3, H, W) uint8 RGB.
        detections: in the image's pixels, masks pasted or None.
        class_names: name of each label; where no font can show one, it is `class` and the label.
        score_threshold: detections below it are left out.
        scores: write them; ground truth has none.
        enlarge: otherwise the image keeps its size, as frames of one video do.
        masks: each detection's, (H, W) bool, made when it is asked for: those of a large image together may be more
            than the memory holds. None: those in `detections`.

    Returns:
        (3, H', W') uint8 RGB: the image, enlarged by a whole factor where it or its objects are small, and
        the caption.
    """
    class_names = class_texts(class_names, range(len(class_names)))
    detections = detections.to("cpu")
    masks = detections.masks if masks is None else masks
    rows = _above(detections.scores, score_threshold)
    shown = _near(detections, rows, image)
    factor = _enlargement(image, shown.boxes) if enlarge else 1
    canvas = _enlarged(image, factor)
    colours = _colours(shown, single_class=len(class_names) == 1)
    crowded = len(shown) > CROWD
    line = max(1, round(min(canvas.shape[1:]) / 250))
    if crowded:
        line = max(1, min(line, factor // 2))
    if masks is not None:
        worst_first = (masks[row] for row in reversed(rows.tolist()))
        canvas = with_masks(canvas, worst_first, reversed(colours), factor, line)
    picture = Image.fromarray(canvas.permute(1, 2, 0).numpy())
    pen = ImageDraw.Draw(picture, "RGBA")
    boxes = [_scaled(box, factor) for box in shown.boxes.tolist()]
    if masks is None or not crowded:
        for box, colour in reversed(list(zip(boxes, colours, strict=True))):
            pen.rectangle(box, outline=(*colour, 255), width=line)
    labels = [
        Label(_text(class_names, label, score if scores else None, crowded), box, colour)
        for label, score, box, colour in zip(
            shown.labels.tolist(), shown.scores.tolist(), boxes, colours, strict=True
        )
    ]
    # In a crowd no larger than what they name, which in a large picture is small.
    room = typical_size(shown.boxes) * factor / 2 if crowded else math.inf
    letters = Lettering(max(10, round(min(min(picture.size) / (70 if crowded else 42), room))))
    draw_labels(pen, [label for label in labels if label.text], letters, picture.size)
    captioned = _with_caption(picture, _caption(shown, class_names, score_threshold if scores else None))
    return torch.from_numpy(np.array(captioned)).permute(2, 0, 1)


def _above(scores: Tensor, threshold: float) -> Tensor:
    """Where the scores (R,) of at least `threshold` are, the best first: (K,) int64."""
    order = scores.argsort(descending=True)
    return order[scores[order] >= threshold]


def _near(detections: Detections, rows: Tensor, image: Tensor) -> Detections:
    """Some of the detections, without masks; boxes end as far outside as the image is large, as lines take time."""
    size = torch.tensor([image.shape[2], image.shape[1]] * 2)
    boxes = detections.boxes[rows].clamp(-size, 2 * size)
    return Detections(boxes, detections.scores[rows], detections.labels[rows])


def _enlargement(image: Tensor, boxes: Tensor) -> int:
    """By what whole factor a picture is enlarged, so that it and its objects are large enough to look at."""
    longest = max(image.shape[1:])
    factor = round(SMALLEST_SIDE / longest)
    if len(boxes):
        factor = max(factor, round(SMALLEST_OBJECT / typical_size(boxes)))
    return max(1, min(factor, LARGEST_SIDE // longest))


def typical_size(boxes: Tensor) -> float:
    """The median of the sizes (roots of areas) of boxes (R, 4) in pixels, one at least; R is at least 1."""
    return max(1.0, float((boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt().median()))


def _enlarged(image: Tensor, factor: int) -> Tensor:
    image = image.cpu()
    if factor == 1:
        return image.clone()
    larger = functional.interpolate(image[None].float(), scale_factor=factor, mode="bicubic")[0]
    return larger.round().clamp(0, 255).to(torch.uint8)


def _colours(detections: Detections, *, single_class: bool) -> list[Colour]:
    if single_class:
        return [distinct_colour(index) for index in range(len(detections))]
    return [distinct_colour(label) for label in detections.labels.tolist()]


def with_masks(
    canvas: Tensor,
    masks: Iterable[Tensor],
    colours: Iterable[Colour],
    factor: int,
    line: int,
    opacity: float = _MASK_OPACITY,
) -> Tensor:
    """Tint masks and draw their outlines inside their borders; the last comes out on top.

    Args:
        canvas: (3, H * factor, W * factor) uint8.
        masks: (H, W) bool each.
        colours: of each mask.
        factor: by which the picture is larger than the masks.
        line: width of the outlines in pixels of the picture.
        opacity: of the tint, 0..1.
    """
    picture = canvas.float()
    for mask, colour in zip(masks, colours, strict=True):
        extent = mask_extent(mask)
        if extent is None:
            continue
        x1, y1, x2, y2 = extent
        area = mask[y1:y2, x1:x2].float()
        area = functional.interpolate(area[None, None], scale_factor=factor, mode="bilinear")[0, 0] >= 0.5
        window = picture[:, y1 * factor : y2 * factor, x1 * factor : x2 * factor]
        tint = torch.tensor(colour, dtype=torch.float32)[:, None, None]
        cover = torch.where(_outline(area, line), 1.0, opacity) * area
        window += (tint - window) * cover
    return picture.round().to(torch.uint8)


def mask_extent(mask: Tensor) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 around the pixels of a mask (H, W) bool, the last two exclusive; None where it has none."""
    # numpy looks eight pixels at a time, where torch looks at one.
    columns, rows = (np.flatnonzero(mask.numpy().any(axis)) for axis in (0, 1))
    return (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if len(rows) else None


def _outline(mask: Tensor, width: int) -> Tensor:
    """The pixels of a mask (H, W) within `width` pixels of its border."""
    padded = functional.pad(mask.float(), [width] * 4)[None, None]
    # Along rows, then along columns: the same as a square, in a time that grows with the width and not its square.
    core = -padded
    for window in ((1, 2 * width + 1), (2 * width + 1, 1)):
        core = functional.max_pool2d(core, window, stride=1)
    return mask & (-core[0, 0] < 0.5)


def _scaled(box: Sequence[float], factor: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (value * factor for value in box)
    return x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)


def _text(class_names: Sequence[str], label: int, score: float | None, crowded: bool) -> str:
    percent = "" if score is None else f"{100 * score:.0f}"
    if len(class_names) == 1:
        return percent
    return class_names[label] if crowded else f"{class_names[label]} {percent}".rstrip()


def _caption(shown: Detections, class_names: Sequence[str], threshold: float | None) -> list[str]:
    """How many of each class there are, in parts of which names are parts of their own."""
    counts = torch.bincount(shown.labels, minlength=len(class_names)).tolist()
    present = sorted(((n, name) for name, n in zip(class_names, counts, strict=True) if n), reverse=True)
    start = "" if threshold is None else f"score at least {round(100 * threshold, 1):g} %: "
    none = "no objects" if threshold is None else "nothing found"
    parts = [part for n, name in present for part in (f", {n} ", name)] or [f"  {none}"]
    return [start + parts[0][2:], *parts[1:]]


def _with_caption(picture: Image.Image, parts: Sequence[str]) -> Image.Image:
    """The picture with one line of text below it, cut to its width."""
    letters = Lettering(max(11, round(min(picture.size) / 46)))
    height = round(letters.size * 1.8)
    framed = Image.new("RGB", (picture.width, picture.height + height), (24, 24, 24))
    framed.paste(picture)
    pen = ImageDraw.Draw(framed)
    x, base = 6.0, picture.height + height / 2 + 0.36 * letters.size
    # Part by part: a name written from right to left would carry the next one's number to its other side.
    for part in letters.fitted(parts, picture.width - 12):
        x = letters.draw(pen, (x, base), part, (235, 235, 235))
    return framed
