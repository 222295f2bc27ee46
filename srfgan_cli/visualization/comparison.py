"""Truth and two detectors' findings in one image, side by side; what one finds and the other misses is marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from srfgan.models.structures import Detections
from srfgan_cli.visualization.agreement import Agreement, Finder, Truth, agreement
from srfgan_cli.visualization.colours import Colour
from srfgan_cli.visualization.detections import CROWD, mask_extent, typical_size, with_masks
from srfgan_cli.visualization.labels import Box, Label, draw_labels
from srfgan_cli.visualization.text import Lettering, class_texts, one_line, shortened

BOTH: Colour = (245, 245, 245)
FIRST: Colour = (255, 159, 28)
SECOND: Colour = (64, 190, 255)
NEITHER: Colour = (255, 92, 205)
FALSE: Colour = (235, 62, 52)
"""What objects have that both, one or no detector finds, and detections that are no object."""

_SIDE, _LARGEST_SIDE = 640, 960
"""Longer side of each picture in pixels; the larger one for small objects."""
_SMALL_OBJECT = 28
_GAP = 12
_NARROWEST = 480
"""Width in pixels that titles need."""
_LONGEST_NAME = 26
_WORDS = (32, 32, 32)
_SHADE = (0, 0, 0, 150)
"""Beside every line: the picture may have its colour."""
_TINT = 0.25


@dataclass(frozen=True)
class _Mark:
    """One object in a picture: its outline where there is one, or else its box; dashed for what is missing."""

    box: Box
    colour: Colour
    text: str = ""
    strong: bool = False
    dashed: bool = False
    mask: Tensor | None = None


@dataclass(frozen=True)
class Contest:
    """What a comparison is about.

    Attributes:
        names: of the two detectors.
        class_names: of each label.
        score_threshold: detections below it are left out.
    """

    names: tuple[str, str]
    class_names: Sequence[str]
    score_threshold: float


def comparison_panel(
    image: Tensor, found: tuple[Detections, Detections], truth: Truth | None, contest: Contest
) -> Image.Image:
    """Draw the truth, if there is one, and what each detector finds.

    Objects that both find are white; those that one finds are in its colour, in its own picture, in the truth, and
    dashed in the picture of the other. With the truth, what neither finds and what is no object have colours, too.

    Args:
        image: (3, H, W) uint8 RGB.
        found: the two detectors' detections in the image's pixels, masks pasted or None.
        truth: of the image.
        contest: what is compared.
    """
    names = class_texts(contest.class_names, range(len(contest.class_names)))
    shown = [_above(each, contest.score_threshold) for each in found]
    result = agreement(shown[0], shown[1], truth)
    size = _size(image, result.objects.boxes)
    cells = []
    if truth is not None:
        cells.append((f"truth: {_counted(len(result.objects), 'object')}", _truth_marks(result, names)))
    for letter, name, finder, colours in zip(
        "AB", contest.names, result.finders, ((FIRST, SECOND), (SECOND, FIRST)), strict=True
    ):
        title = f"{letter}  {shortened(one_line(name), _LONGEST_NAME)}: {_score(finder, truth)}"
        cells.append((title, _finder_marks(finder, colours, names)))
    pictures = [(title, _drawn(image, marks, size)) for title, marks in cells]
    return _laid_out(pictures, _legend(result, truth), _small_print(contest))


def _above(found: Detections, threshold: float) -> Detections:
    found = found.to("cpu")
    order = found.scores.argsort(descending=True, stable=True)
    return found.select(order[found.scores[order] >= threshold])


def _size(image: Tensor, boxes: Tensor) -> tuple[int, int]:
    """Height and width of each picture."""
    longest = max(image.shape[1:])
    factor = _SIDE / longest
    if len(boxes):
        factor = min(max(factor, _SMALL_OBJECT / typical_size(boxes)), _LARGEST_SIDE / longest)
    return max(1, round(factor * image.shape[1])), max(1, round(factor * image.shape[2]))


def _truth_marks(result: Agreement, names: Sequence[str]) -> list[_Mark]:
    """Each object in the colour of who finds it."""
    objects, (first, second) = result.objects, result.found_by.tolist()
    colours = {(True, True): BOTH, (True, False): FIRST, (False, True): SECOND, (False, False): NEITHER}
    return [
        replace(mark, colour=colours[by], strong=by != (True, True))
        for mark, by in zip(
            _marks(objects, names, scores=False), zip(first, second, strict=True), strict=True
        )
    ]


def _finder_marks(finder: Finder, colours: tuple[Colour, Colour], names: Sequence[str]) -> list[_Mark]:
    """What a detector finds, and dashed what only the other finds; `colours` are its own and the other's."""
    marks = [
        replace(mark, colour=colours[0] if alone else BOTH if right else FALSE, strong=alone)
        for mark, right, alone in zip(
            _marks(finder.found, names, scores=True),
            finder.right.tolist(),
            finder.alone.tolist(),
            strict=True,
        )
    ]
    missed = [_Mark(_box(box), colours[1], strong=True, dashed=True) for box in finder.missed]
    return [*missed, *marks]


def _marks(found: Detections, names: Sequence[str], *, scores: bool) -> list[_Mark]:
    masks: Sequence[Tensor | None] = [None] * len(found) if found.masks is None else list(found.masks)
    return [
        _Mark(_box(box), BOTH, _text(names, label, score if scores else None), mask=mask)
        for box, label, score, mask in zip(
            found.boxes, found.labels.tolist(), found.scores.tolist(), masks, strict=True
        )
    ]


def _box(box: Tensor) -> Box:
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1


def _text(names: Sequence[str], label: int, score: float | None) -> str:
    name = names[label] if len(names) > 1 else ""
    return f"{name} {'' if score is None else f'{100 * score:.0f}'}".strip()


def _drawn(image: Tensor, marks: Sequence[_Mark], size: tuple[int, int]) -> Image.Image:
    """The image at `size` (height, width) with its marks, the strong ones on top."""
    height, width = size
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    ordered = sorted(marks, key=lambda mark: mark.strong)
    crowded = len(marks) > CROWD
    line = 1 if crowded else max(2, round(min(size) / 320))
    strong = line + (1 if crowded else 2)
    picture = _with_outlines(picture, [mark for mark in ordered if _has_outline(mark)], line, strong)
    scale = (width / image.shape[2], height / image.shape[1])
    pen = ImageDraw.Draw(picture, "RGBA")
    for mark in ordered:
        if not _has_outline(mark):
            _draw_box(pen, _scaled(mark.box, scale), mark, strong if mark.strong else line)
    labelled = [mark for mark in reversed(ordered) if mark.text and (mark.strong or not crowded)]
    labels = [Label(mark.text, _scaled(_bounds(mark), scale), mark.colour) for mark in labelled]
    draw_labels(pen, labels, Lettering(max(11, round(min(size) / 46))), (width, height))
    return picture


def _has_outline(mark: _Mark) -> bool:
    return mark.mask is not None and mask_extent(mark.mask) is not None


def _bounds(mark: _Mark) -> Box:
    """What is drawn of it: a mask may be smaller than its box."""
    return mark.box if mark.mask is None else mask_extent(mark.mask) or mark.box


def _with_outlines(picture: Image.Image, marks: Sequence[_Mark], line: int, strong_line: int) -> Image.Image:
    """Outlines of masks, tinted where they are strong; the last ones on top."""
    canvas = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    for strong, width, tint in ((False, line, 0.0), (True, strong_line, _TINT)):
        group = [mark for mark in marks if mark.strong == strong]
        if group:
            masks = [_resized(mark.mask, canvas) for mark in group if mark.mask is not None]
            canvas = with_masks(canvas, masks, [_SHADE[:3]] * len(group), 1, width + 1, 0.0)
            canvas = with_masks(canvas, masks, [mark.colour for mark in group], 1, width, tint)
    return Image.fromarray(canvas.permute(1, 2, 0).numpy())


def _resized(mask: Tensor, canvas: Tensor) -> Tensor:
    """A mask (H, W) at the size of the picture."""
    size = (canvas.shape[1], canvas.shape[2])
    return functional.interpolate(mask[None, None].float(), size, mode="bilinear")[0, 0] >= 0.5


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    x0, y0, x1, y1 = box
    x0, y0, x1, y1 = x0 * scale[0], y0 * scale[1], x1 * scale[0], y1 * scale[1]
    return x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)


def _draw_box(pen: ImageDraw.ImageDraw, box: Box, mark: _Mark, line: int) -> None:
    x0, y0, x1, y1 = box
    if not mark.dashed:
        pen.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=_SHADE, width=line + 2)
        pen.rectangle(box, outline=(*mark.colour, 255), width=line)
        return
    for start, end in (
        ((x0, y0), (x1, y0)),
        ((x0, y1), (x1, y1)),
        ((x0, y0), (x0, y1)),
        ((x1, y0), (x1, y1)),
    ):
        for dash in _dashes(start, end, 3.0 * (line + 1)):
            pen.line(dash, fill=_SHADE, width=line + 2)
            pen.line(dash, fill=(*mark.colour, 255), width=line)


def _dashes(start: tuple[float, float], end: tuple[float, float], length: float) -> list[Box]:
    """Pieces of a line, about `length` long, with gaps of the same length; the first and the last touch its ends."""
    (x0, y0), (x1, y1) = start, end
    gaps = round((abs(x1 - x0) + abs(y1 - y0) - length) / (2 * length))
    step = 1 / (2 * max(gaps, 0) + 1)
    pieces = [(2 * i * step, (2 * i + 1) * step) for i in range(max(gaps, 0) + 1)]
    return [
        (x0 + a * (x1 - x0), y0 + a * (y1 - y0), x0 + b * (x1 - x0), y0 + b * (y1 - y0)) for a, b in pieces
    ]


def _score(finder: Finder, truth: Truth | None) -> str:
    if truth is None:
        return _counted(len(finder.found), "detection")
    wrong = int((~finder.right).sum())
    return f"finds {len(finder.found) - wrong}, {_counted(wrong, 'false alarm')}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _legend(result: Agreement, truth: Truth | None) -> list[tuple[Colour, str]]:
    counts = result.counts
    entries = [
        (BOTH, f"both find {counts['both']}"),
        (FIRST, f"only A finds {counts['first']}"),
        (SECOND, f"only B finds {counts['second']}"),
    ]
    if truth is None:
        return entries
    wrong = [int((~finder.right).sum()) for finder in result.finders]
    return [
        *entries,
        (NEITHER, f"neither finds {counts['neither']}"),
        (FALSE, f"false alarms: A {wrong[0]}, B {wrong[1]}"),
    ]


def _small_print(contest: Contest) -> str:
    return (
        f"dashed: the other one finds it.  From score {100 * contest.score_threshold:g} % on; "
        "the same: class, and IoU of 0.5"
    )


def _laid_out(
    pictures: Sequence[tuple[str, Image.Image]], legend: Sequence[tuple[Colour, str]], words: str
) -> Image.Image:
    """Pictures of one size in a row on white, each below its title, and a legend below them."""
    height = pictures[0][1].height
    width = max(pictures[0][1].width, _NARROWEST)
    letters = Lettering(max(15, round(width / 36)))
    small = Lettering(max(13, round(letters.size * 0.85)))
    top, row = round(2.1 * letters.size), round(2 * small.size)
    across = len(pictures) * (width + _GAP) + _GAP
    sheet = Image.new("RGB", (across, top + height + 2 * row + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (title, picture) in enumerate(pictures):
        left = _GAP + column * (width + _GAP)
        (shown,) = letters.fitted([title], width)
        letters.draw(pen, (left, 1.45 * letters.size), shown, _WORDS)
        sheet.paste(picture, (left, top))
    x, base = float(_GAP), top + height + 1.4 * small.size
    for colour, text in legend:
        side = small.size
        pen.rectangle(
            (x, base - 0.85 * side, x + side, base + 0.15 * side), fill=colour, outline=(90, 90, 90)
        )
        x = small.draw(pen, (x + 1.4 * side, base), text, _WORDS) + 1.6 * side
    small.draw(pen, (_GAP, base + row), small.fitted([words], across - 2 * _GAP)[0], (90, 90, 90))
    return sheet
