"""Detections as COCO results: written and read back as one json file.

The format is COCO's (cocodataset.org, "results format"): a list of dicts with `image_id`, `category_id`,
`bbox` [x, y, width, height], `score`, and for masks `segmentation` as a compressed RLE; masks may come without
`bbox`. Detectors that score their masks (CenterMask) add a key of our own, `mask_score`: what the masks are ranked
by.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from srfgan.models.errors import InputError
from srfgan_cli.data.json_file import collector_paused, read_json
from srfgan_cli.data.ragged import row_sums
from srfgan_cli.data.rle import decode_strings
from srfgan_cli.machine.files import write_atomically

_MASKS_AT_ONCE = 20_000

Result = dict[str, Any]
"""One detection in COCO results format."""


def mask_score(result: Result) -> float:
    """What its mask is ranked by: a score of its own, if there is one."""
    score: float = result["mask_score" if "mask_score" in result else "score"]
    return score


def only_masks(results: Sequence[Result]) -> list[Result]:
    """Results without boxes, `mask_score` in the place of `score`, for tools that know one score only."""
    keys = ("image_id", "category_id", "segmentation")
    return [{key: result[key] for key in keys} | {"score": mask_score(result)} for result in results]


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Write `results` as json; `path` is whole or untouched, also when the disk is full.

    Raises:
        InputError: the file cannot be written.
    """
    text = json.dumps(results, separators=(",", ":"))
    write_atomically(path, lambda file: file.write(text.encode()))


@collector_paused()
def read_results(
    path: Path, *, image_sizes: Mapping[int, tuple[int, int]], category_ids: Collection[int]
) -> list[Result]:
    """Read and check results in COCO format: boxes, boxes and masks, or masks alone.

    Args:
        path: a json file as `write_results` or another tool wrote it.
        image_sizes: (H, W) by image id of the data set that the results belong to.
        category_ids: the data set's category ids.

    Raises:
        InputError: the file is missing, truncated or no list of results, or an entry does not fit the data
            set; names the file and the first such entry.
    """
    document = read_json(path, "file of results")
    if not isinstance(document, list):
        raise InputError(
            f"{path}: COCO results are a list of detections, this is a json {type(document).__name__}; "
            "give the results, not the annotations"
        )
    for entry in document:
        if isinstance(entry, dict) and "segmentation" in entry and entry.get("bbox", 0) in (None, []):
            del entry["bbox"]  # how some tools write masks without boxes
    categories = frozenset(category_ids)
    for number, entry in enumerate(document):
        problem = _problem(entry, image_sizes, categories)
        if problem:
            raise InputError(f"{path}: entry {number}: {problem}")
    for key, things in (("segmentation", "masks"), ("bbox", "boxes")):
        if len({key in entry for entry in document}) > 1:
            without = next(n for n, entry in enumerate(document) if key not in entry)
            raise InputError(
                f"{path}: entry {without}: has no '{key}', but other entries have; "
                f"give {things} for all detections or for none"
            )
    for entry in document:
        if "segmentation" in entry:  # equal, but perhaps of floats, 480.0, which the evaluator does not take
            entry["segmentation"]["size"] = list(image_sizes[entry["image_id"]])
    _check_runs(path, document, image_sizes)
    return document


def _problem(
    entry: Any, image_sizes: Mapping[int, tuple[int, int]], category_ids: frozenset[int]
) -> str | None:
    """What is wrong with one entry of a results file, or None."""
    if not isinstance(entry, dict):
        return f"a detection is a dict, this is {_short(entry)}"
    regions = () if "segmentation" in entry else ("bbox",)
    missing = [key for key in ("image_id", "category_id", *regions, "score") if key not in entry]
    if missing:
        return f"lacks {', '.join(map(repr, missing))}"
    if type(entry["image_id"]) is not int or entry["image_id"] not in image_sizes:
        return f"image id {_short(entry['image_id'])} is not in the data set; are these results of another split?"
    if type(entry["category_id"]) is not int or entry["category_id"] not in category_ids:
        known = ", ".join(map(str, sorted(category_ids)[:8])) + (", ..." if len(category_ids) > 8 else "")
        return f"category id {_short(entry['category_id'])} is not in the data set, whose ids are {known}"
    for key in ("score", "mask_score"):
        if key in entry and not _is_number(entry[key]):
            return f"the {key} is {_short(entry[key])}, not a finite number"
    box = entry.get("bbox", [0, 0, 0, 0])
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) >= 0):
        return f"the bbox is {_short(box)}, not [x, y, width, height] in pixels"
    if "segmentation" in entry:
        return _mask_problem(entry["segmentation"], image_sizes[entry["image_id"]])
    return None


def _mask_problem(mask: Any, image_size: tuple[int, int]) -> str | None:
    if not (isinstance(mask, dict) and isinstance(mask.get("counts"), str) and "size" in mask):
        return "the segmentation is not a compressed RLE, {'size': [height, width], 'counts': '...'}"
    if mask["size"] != list(image_size):
        return f"the mask's size is {_short(mask['size'])}, the image's [height, width] {list(image_size)}"
    return None


def _check_runs(path: Path, results: list[Result], image_sizes: Mapping[int, tuple[int, int]]) -> None:
    """Refuse RLEs whose runs do not fill their image: the evaluator would read past their end."""
    if not results or "segmentation" not in results[0]:
        return
    for start in range(0, len(results), _MASKS_AT_ONCE):
        part = results[start : start + _MASKS_AT_ONCE]
        strings = [entry["segmentation"]["counts"].encode("utf-8", "surrogatepass") for entry in part]
        runs, first, valid = decode_strings(strings)
        pixels = np.array([math.prod(image_sizes[entry["image_id"]]) for entry in part])
        # Of 60 bits each: sums of many may come round to any number.
        absurd = row_sums((runs < 0) | (runs >= 2**31), first) > 0
        broken = np.flatnonzero(~valid | absurd | (row_sums(runs, first) != pixels))
        if len(broken):
            raise InputError(
                f"{path}: entry {start + broken[0]}: the mask's runs do not add up to its image's pixels; "
                "the RLE is damaged or belongs to another image"
            )


def _is_number(value: Any) -> bool:
    """Whether it is one that a float can hold."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
