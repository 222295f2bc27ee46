"""Any JSON value in any field of a results file: refused in one sentence, or scored as pycocotools scores it."""

import copy
import faulthandler
import io
import json
import math
import os
import random
from contextlib import redirect_stdout

import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from spoilt_json import written

from srfgan.models.errors import InputError
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.evaluation.report import METRICS
from srfgan_cli.evaluation.results import only_masks
from srfgan_cli.evaluation.score_file import evaluate_results

INPUTS = 400 * int(os.environ.get("SRFGAN_FUZZ", "1"))
HEIGHT, WIDTH = 40, 60
SQUARES = [
    (4, 3, [2, 3, 8, 10]),
    (4, 90, [20.5, 5.25, 30, 30]),
    (9, 3, [10, 10, 20, 20]),
    (9, 3, [30, 2, 12, 9]),
]

NUMBERS = [0, 1, -1, 2, 4, 9, 3, 90, 0.5, 1e-300, 1e4, 1e9, -1e9, 1e18, 1e308, -1e308, 2**31, 2**63, 10**400]
NUMBERS += [math.nan, math.inf, -math.inf]
TEXTS = ["", "0", "4", "nan", "[red]", "\ud800", "\x00", "é"]
COUNTS = [
    "",
    "0",
    "P",
    "oooooooooooooooooo0",
    "\ud800",
    "é",
    "?",
    [0, 2400],
    "o15fP1",
    "PPYo2",
    "PPPPPPPPPPP0" * 20,
]
OTHERS = [
    [],
    [1],
    [1, 2, 3, 4],
    ["1", "2", "3", "4"],
    [2, 3, 8, 10],
    {},
    [[2, 3, 9, 3, 9, 9]],
    [HEIGHT, WIDTH],
    [WIDTH, HEIGHT],
]
VALUES = [None, True, False, *NUMBERS, *TEXTS, *COUNTS, *OTHERS]


def outline(box):
    x, y, w, h = box
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def rle(box):
    code = coco_mask.merge(coco_mask.frPyObjects(outline(box), HEIGHT, WIDTH))
    return {"size": [HEIGHT, WIDTH], "counts": code["counts"].decode()}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    annotations = [
        {"id": i, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3],
         "iscrowd": int(i == 4), "segmentation": outline(box)}
        for i, (image, category, box) in enumerate(SQUARES, start=1)
    ]  # fmt: skip
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (4, 9)],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}],
    }
    path = tmp_path_factory.mktemp("truth") / "instances_val2017.json"
    path.write_text(json.dumps(document))
    return CocoIndex.load(path)


def sound(rng):
    """Results that are partly right: boxes, masks or both; with scores of the masks, or without."""
    keys = rng.choice(
        [("bbox",), ("segmentation",), ("bbox", "segmentation"), ("bbox", "segmentation", "mask_score")]
    )
    found = []
    for image, category, box in SQUARES * 2:
        moved = [value + rng.choice([0, 0, 0.5, 3]) for value in box]
        entry = {"bbox": moved, "segmentation": rle(moved), "mask_score": round(rng.random(), 3)}
        entry = {key: entry[key] for key in keys}
        found.append({"image_id": image, "category_id": category, "score": round(rng.random(), 3)} | entry)
    return found


def spoiled(rng):
    results = sound(rng)
    if rng.random() < 0.03:
        return rng.choice([{"annotations": results}, [], None, 3, [results], [*results, 7]])
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        entry = rng.choice(results)
        key = rng.choice([*entry, "bbox", "segmentation", "x"])
        if rng.random() < 0.1:
            entry.pop(key, None)
        elif isinstance(entry.get(key), dict) and rng.random() < 0.8:
            part = rng.choice(["size", "counts"])
            entry[key][part] = copy.deepcopy(rng.choice(COUNTS if part == "counts" else VALUES))
        elif isinstance(entry.get(key), list) and rng.random() < 0.7:
            entry[key][rng.randrange(4)] = rng.choice(NUMBERS if rng.random() < 0.6 else VALUES)
        else:
            entry[key] = copy.deepcopy(rng.choice(VALUES))
    return results


def pycocotools_scores(truth, results, iou_type):
    """The precisions and the recalls at 100 by the reference evaluator, for the truth's own file."""
    given = only_masks(results) if iou_type == "segm" else results
    given = [
        {k: v for k, v in result.items() if iou_type == "segm" or k != "segmentation"} for result in given
    ]
    with redirect_stdout(io.StringIO()):
        reference = COCO(str(truth))
        evaluator = COCOeval(reference, reference.loadRes(copy.deepcopy(given)), iou_type)
        evaluator.params.maxDets = [100]
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"][..., 0], evaluator.eval["recall"][..., 0]
    parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0]]
    parts += [precision[..., area] for area in (1, 2, 3)]
    parts += [recall[..., area] for area in range(4)]
    return [float(p[p > -1].mean()) * 100 if (p > -1).any() else None for p in parts]


def holds(path, index):
    """The file is refused, or scored as it should be; whether it was scored."""
    try:
        report = evaluate_results(path, index, preset="x")
    except InputError as error:
        assert str(error).startswith(str(path)) and len(str(error)) < 1000
        return False
    results = json.loads(path.read_bytes().decode("utf-8-sig"))
    for task, scores in report.scores.items():
        measured = [getattr(scores.overall, metric) for metric in METRICS]
        measured += [scores.recall[name] for name in ("AR@100", "ARs", "ARm", "ARl")]
        if results:
            expected = pycocotools_scores(index.path, results, {"box": "bbox", "mask": "segm"}[task])
            assert measured == pytest.approx(expected, abs=1e-9), task
    return True


def try_inputs(index, path, seeds):
    scored = 0
    for seed in seeds:
        rng = random.Random(seed)
        content = written(spoiled(rng), rng, 0.1)
        path.write_bytes(content)
        faulthandler.dump_traceback_later(120, exit=True)
        try:
            scored += holds(path, index)
        except BaseException:
            print(f"seed {seed}: {content[:20_000]!r}")
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()
    return scored


def test_a_few_results_are_refused_or_scored_as_pycocotools_scores_them(index, tmp_path):
    assert try_inputs(index, tmp_path / "results.json", range(30)) >= 5


@pytest.mark.fuzz
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_many_results_are_refused_or_scored_as_pycocotools_scores_them(index, tmp_path):
    assert try_inputs(index, tmp_path / "results.json", range(1000, 1000 + INPUTS)) >= INPUTS // 5
