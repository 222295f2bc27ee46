"""`eval --report`: one page that needs nothing beside it, and its numbers as JSON."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from srfgan.models.errors import InputError
from srfgan.models.structures import Detections, Target
from srfgan_cli.analysis.against import FEWEST, Change
from srfgan_cli.analysis.charts import confusion_chart, curves_chart, errors_chart
from srfgan_cli.analysis.compared import CLASSES, Compared, by_class, by_group, direction, interval, verdict
from srfgan_cli.analysis.errors import KINDS, MEANINGS, Errors
from srfgan_cli.analysis.judgement import Judgement
from srfgan_cli.analysis.matches import counted, score_of
from srfgan_cli.analysis.slices import ImageScore
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.images import read_image
from srfgan_cli.data.rle import with_bytes
from srfgan_cli.evaluation.coco import Task, TaskScores
from srfgan_cli.evaluation.crowding import GROUPS
from srfgan_cli.evaluation.report import METRICS, Report
from srfgan_cli.evaluation.results import Result
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.screen.pages import head, signed, versions
from srfgan_cli.visualization.detections import draw
from srfgan_cli.visualization.truth import as_detections

FRAME = Path(__file__).with_name("page.html")
_PICTURES = 6
"""Of the worst images, those that are shown."""
_CLASSES = 100
"""Rows of the table of classes."""
_QUALITY = 85
_FEW_CLASSES = 12
"""So many and fewer are readable on a telephone."""
_TITLES: dict[Task, str] = {"box": "Boxes", "mask": "Masks"}
_SIZES = {"small": "small: to 32 px", "medium": "medium: to 96 px", "large": "large: from 96 px"}
"""COCO's areas, by their roots."""
_AGAINST = f"""<p class="note">A difference is this run's AP less the other's; below it, and as a line, is its interval
of 95 % over the choice of images, the same for both runs; {FEWEST} images are the fewest for one. It is coloured where
the interval leaves out zero; so does one in 20 by chance where nothing differs. Each run is one training: what another
seed changes comes on top. Further down stands what is small, touching or crowded.</p>"""


def write_report(
    report: Report,
    judgements: Sequence[Judgement],
    index: CocoIndex,
    results: Sequence[Result],
    image_folder: Path,
    output_dir: Path,
) -> Path:
    """Write report.html and report.json, and return the page.

    Args:
        report: the scores.
        judgements: of boxes, and of masks where there are; of the first one more is shown than of the second.
        index: the data set.
        results: what was judged.
        image_folder: where its images are; one that cannot be read is left out of the page, which says so.
        output_dir: made if need be.

    Raises:
        InputError: they cannot be written.
    """
    document = report.as_json()
    document["analysis"] = {one.task: one.as_json(index) for one in judgements}
    pictures = "".join(_worst(judgements[0], report.max_detections, index, results, image_folder))
    page = Template(FRAME.read_text(encoding="utf-8")).substitute(
        _values(report, judgements, pictures or "<p>None: every image is right.</p>")
    )
    files = {"report.json": json.dumps(document, indent=2) + "\n", "report.html": page}
    for name, text in files.items():
        content = text.encode(errors="backslashreplace")
        write_atomically(output_dir / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return output_dir / "report.html"


def _values(report: Report, judgements: Sequence[Judgement], worst: str) -> Mapping[str, str]:
    first = judgements[0]
    confusion = confusion_chart(first)
    scale = f"{report.images:,} images of {report.split}, {len(first.matches.found):,} objects"
    limit = f"at most {report.max_detections} detections of a class in an image"
    return {
        "head": head(),
        "title": escape(report.preset),
        "lead": escape(f"{scale}; {limit}."),
        "scores": _scores(report),
        "curves": "".join(map(_curves, judgements)),
        "score": f"{first.threshold:.2f}",
        "other_score": ""
        if first.other is None
        else f", the other run's from {first.other.threshold:.2f} on",
        "costs": _inline(errors_chart(list(judgements)), "png"),
        "errors": _errors(judgements),
        "against": _comparisons(report, judgements) if any(one.other for one in judgements) else "",
        "kinds": _kinds(report),
        "slices": _slices(first),
        "classes": _classes(first),
        "confusion": "" if confusion is None else _confusion(confusion, len(first.names)),
        "worst": worst,
        "made_with": escape(", ".join(f"{name} {version}" for name, version in versions().items())),
    }


def _scores(report: Report) -> str:
    rows = [
        [task, *(_number(getattr(scores.overall, metric)) for metric in METRICS)]
        + [_number(value) for value in scores.recall.values()]
        for task, scores in report.scores.items()
    ]
    recalls = list(next(iter(report.scores.values())).recall)
    return _table(["", *METRICS, *recalls], rows)


def _curves(one: Judgement) -> str:
    """A task's curves below the score that suits it best."""
    title = _TITLES[one.task]
    described = f"{title}: precision over recall, and F1 over the score"
    return f"<h3>{title}</h3><p>{_threshold(one)}</p>{_chart(curves_chart(one), described, 'wide')}"


def _threshold(one: Judgement) -> str:
    at_best = one.pooled.at_best
    if at_best["F1"] is None:
        return "There is no detection."
    f1, precision, recall = (_share(at_best[name]) for name in ("F1", "precision", "recall"))
    return (
        f"From a score of {one.threshold:.2f} on, F1 is highest: {f1}, with {precision} of the detections right and "
        f"{recall} of the objects found."
    )


def _errors(judgements: Sequence[Judgement]) -> str:
    heads = [
        "error",
        *(f"{one.task}: how many" for one in judgements),
        *(f"{one.task}: cost" for one in judgements),
    ]
    rows = [
        [f"{kind}<small>{escape(MEANINGS[kind])}</small>"]
        + [f"{one.errors.counts[kind]:,}" for one in judgements]
        + [f"{one.errors.cost[kind]:.1f}" for one in judgements]
        for kind in KINDS
    ]
    return _table(heads, rows, escaped=True)


def _comparisons(report: Report, judgements: Sequence[Judgement]) -> str:
    return "".join(_against(one, report.scores[one.task]) for one in judgements) + _AGAINST


def _against(one: Judgement, own: TaskScores) -> str:
    """Whether this run or the other is better, where and by how much."""
    other, title = one.other, _TITLES[one.task]
    if other is None:
        return f'<p class="note">{title} are not compared: the other run has none.</p>'
    said = [
        f"<h2>{title} against {escape(other.name)}</h2>",
        f"<p>{escape(verdict(one.task, other))} {other.won:,} images are better by their F1, {other.lost:,} worse.</p>",
        _compared("objects", by_group(own, other)),
    ]
    if len(one.names) > 1:
        rows = by_class(one, own, other)
        said += [f"<h3>{_ranked(len(rows))}</h3>", _compared("class", rows[:CLASSES])]
    said += ["<h3>What they get wrong</h3>", _both_errors(one.errors, other.errors)]
    return f"<section>{''.join(said)}</section>"


def _both_errors(own: Errors, other: Errors) -> str:
    """How many errors of each kind two runs make, and what they cost."""
    heads = ["error", "this run: how many", "the other", "this run: cost in AP50", "the other", "difference"]
    rows = []
    for kind in KINDS:
        counts = [f"{one.counts[kind]:,}" for one in (own, other)]
        costs = [f"{one.cost[kind]:.1f}" for one in (own, other)]
        rows.append([kind, *counts, *costs, signed(own.cost[kind] - other.cost[kind])])
    return f'<div class="scroll"><table class="steps">{_table(heads, rows)}</table></div>'


def _ranked(classes: int) -> str:
    """What the table of so many classes shows."""
    some = "Classes" if classes <= CLASSES else f"{CLASSES} of {classes} classes"
    return f"{some}, the surest differences first"


def _compared(head: str, rows: Sequence[Compared]) -> str:
    """A table of two runs' numbers, with the intervals as bars of one scale around zero."""
    intervals = [row.change.interval for row in rows if row.change is not None and row.change.interval]
    ends = [0.0, *(end for pair in intervals for end in pair)]
    heads = [head, '<th class="count">how many</th>', "this run", "the other", "difference", ""]
    cells = [
        [f"<td>{escape(row.name)}</td>", f'<td class="count">{row.objects:,}</td>']
        + [f"<td>{_number(value)}</td>" for value in (row.own, row.other)]
        + ["<td></td>" if row.change is None else _signed_cell(row.change)]
        + [f'<td class="bar">{_bar(row.change, min(ends), max(ends))}</td>']
        for row in rows
    ]
    return f'<div class="scroll"><table class="steps compared">{_table(heads, cells)}</table></div>'


def _signed_cell(change: Change) -> str:
    """Coloured where the interval, which stands below it, leaves out zero."""
    return f'<td class="{direction(change)}">{signed(change.value)}<small>{interval(change)}</small></td>'


def _bar(change: Change | None, least: float, most: float) -> str:
    """The interval as a line, the difference as a dot; a stroke at zero."""
    if change is None or change.interval is None:
        return ""

    def place(value: float) -> str:
        return f"{4 + 92 * (value - least) / ((most - least) or 1):.1f}%"

    zero, low, value, high = map(place, (0.0, change.interval[0], change.value, change.interval[1]))
    return (
        f'<svg class="{direction(change)}" aria-hidden="true"><line class="zero" x1="{zero}" x2="{zero}" y2="100%"/>'
        f'<line x1="{low}" x2="{high}" y1="50%" y2="50%"/><circle cx="{value}" cy="50%" r="3.5"/></svg>'
    )


def _kinds(report: Report) -> str:
    """AP by size and by crowding, of each task."""
    heads, columns = ["objects"], [[*_SIZES.values(), *GROUPS]]
    for task, scores in report.scores.items():
        groups = [scores.groups[name] for name in (*_SIZES, *GROUPS)]
        heads += [f"{task}: how many", f"{task}: AP"]
        columns += [[f"{group.objects:,}" for group in groups], [_number(group.AP) for group in groups]]
    return _table(heads, list(zip(*columns, strict=True)))


def _slices(one: Judgement) -> str:
    other = one.other
    heads = ["objects", "how many", "found"] + ([] if other is None else ["the other run"])
    theirs = [] if other is None else [*other.sizes, *other.crowding]
    rows = []
    for number, part in enumerate([*one.sizes, *one.crowding]):
        row = [part.name, f"{part.objects:,}", _share(part.recall)]
        rows.append(row + ([_share(theirs[number].recall)] if theirs else []))
    return _table(heads, rows)


def _classes(one: Judgement) -> str:
    order = sorted(range(len(one.names)), key=lambda at: -one.classes[at].objects)
    rows = []
    for at in order[:_CLASSES]:
        curve = one.classes[at]
        best = curve.best
        at_best = [] if best is None else [curve.score[best], curve.precision[best], curve.recall[best]]
        numbers = [f"{at_best[0]:.2f}", _share(at_best[1]), _share(at_best[2])] if at_best else ["", "", ""]
        name = f"<td>{escape(one.names[at])}</td>"  # it may begin as a cell does
        rows.append([name, f"{curve.objects:,}", f"{len(curve.score):,}", _number(curve.ap), *numbers])
    heads = ["class", "objects", "detections", "AP50", "best score", "precision", "recall"]
    return _table(heads, rows)


def _worst(
    one: Judgement, limit: int, index: CocoIndex, results: Sequence[Result], image_folder: Path
) -> Iterator[str]:
    """Truth and detections of each of the worst images, side by side."""
    labels = {category: label for label, category in enumerate(index.categories.ids)}
    for scored in one.images[:_PICTURES]:
        if not scored.missed + scored.false:
            return
        name = index.file_name(scored.image)
        title = f"{name}: {scored.right} found, {scored.missed} missed, {scored.false} false alarms"
        try:
            height, width = index.sizes[scored.image].tolist()
            image = read_image(image_folder / name, (height, width))
        except InputError as error:
            yield f"<h4>{escape(title)}; {escape(str(error))}</h4>"
            continue
        pair = [_truth(index, scored, image), _found(index, scored, one, limit, results, labels)]
        pictures = [
            draw(image, shown, index.categories.names, score_threshold=one.threshold, scores=scores)
            for shown, scores in zip(pair, (False, True), strict=True)
        ]
        yield f'<h4>{escape(title)}</h4><div class="pair">' + "".join(map(_picture, pictures)) + "</div>"


def _truth(index: CocoIndex, scored: ImageScore, image: Tensor) -> Detections:
    rows = np.array(index.rows(scored.image), np.int64)
    rows = rows[~index.crowd[rows]]
    target = Target(torch.from_numpy(index.boxes[rows]), torch.from_numpy(index.labels[rows]))
    return as_detections(target, (image.shape[1], image.shape[2]))


def _found(
    index: CocoIndex,
    scored: ImageScore,
    judged: Judgement,
    limit: int,
    results: Sequence[Result],
    labels: Mapping[int, int],
) -> Detections:
    """The detections of an image that were counted, by the score that they were judged by."""
    image_id = int(index.image_ids[scored.image])
    own = [one for one in results if one["image_id"] == image_id]
    label = np.array([labels[one["category_id"]] for one in own], np.int64)
    score = np.array([score_of(one, judged.task) for one in own], np.float64)
    kept = counted(label, score, limit)
    kept = kept[score[kept] >= judged.threshold]
    boxes = torch.tensor([_box(own[at]) for at in kept], dtype=torch.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # as 64 bits: infinite ones less as many would be no number
    return Detections(boxes.float(), torch.from_numpy(score[kept]).float(), torch.from_numpy(label[kept]))


def _box(found: Result) -> Sequence[float]:
    """x, y, width, height; of masks that come without, around their pixels."""
    if "bbox" in found:
        return list(found["bbox"])
    return list(coco_mask.toBbox(with_bytes(found["segmentation"])).tolist())


def _picture(pixels: Tensor) -> str:
    buffer = io.BytesIO()
    to_pil_image(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return f'<figure><img src="{_inline(buffer.getvalue(), "jpeg")}" alt=""></figure>'


def _confusion(chart: bytes, classes: int) -> str:
    """As large as it is drawn where there are few classes; a large one scrolls on a narrow screen."""
    return _chart(chart, "Which class is taken for which", "own" if classes <= _FEW_CLASSES else "wide")


def _chart(content: bytes, description: str, kind: str) -> str:
    image = f'<img src="{_inline(content, "png")}" alt="{description}">'
    return f'<figure class="{kind}"><div class="scroll">{image}</div></figure>'


def _inline(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]], *, escaped: bool = False) -> str:
    """Head and body of an HTML table; a cell that is one already stays."""

    def cell(value: str) -> str:
        return value if value.startswith("<td") else f"<td>{value if escaped else escape(value)}</td>"

    head = "".join(one if one.startswith("<th") else f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
