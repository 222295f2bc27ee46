"""Any JSON value in any field: check, training set and evaluator all refuse, or all see the same objects."""

import copy
import faulthandler
import math
import os
import random

import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from spoilt_json import written

from srfgan.models.errors import InputError
from srfgan_cli.data.image_check import check_root
from srfgan_cli.data.open import open_split
from srfgan_cli.evaluation.coco import ground_truth
from srfgan_cli.evaluation.results import write_results
from srfgan_cli.evaluation.score_file import evaluate_results
from srfgan_cli.presets.config import DataConfig

INPUTS = 500 * int(os.environ.get("SRFGAN_FUZZ", "1"))
HEIGHT, WIDTH = 20, 30
CONFIG = DataConfig(short_sides=[40], max_side=80, test_short_side=40, test_max_side=80)
RUNS = {"size": [HEIGHT, WIDTH], "counts": [63, 5, 532]}
STRING = {"size": [HEIGHT, WIDTH], "counts": "o15fP1"}

NUMBERS = [
    0,
    1,
    -1,
    2,
    7,
    1.0,
    0.5,
    -3.7,
    12.3,
    29.999,
    1e-9,
    1e-300,
    40,
    1e4,
    1e9,
    -1e9,
    1e12,
    1e18,
    1e308,
    -1e308,
]
NUMBERS += [2**31, 2**32, 2**63, -(2**63), -(2**63) - 1, 10**400, math.nan, math.inf, -math.inf]
TEXTS = [
    "",
    " ",
    "0",
    "1",
    "true",
    "false",
    "8",
    "1e3",
    "nan",
    "null",
    "0x10",
    "[red]",
    "\ud800",
    "\x00",
    "é",
    "../a.png",
]
LISTS = [
    [],
    [[]],
    [None],
    [1],
    [1, 2, 3, 4],
    ["1", "2", "3", "4"],
    [[1, 2, 3, 4]],
    [[[1, 1], [5, 1], [5, 5]]],
]
POLYGONS = [
    [[2, 3, 10, 3, 10, 13, 2, 13]],
    [[2, 3, 10, 3, 1e9, 1e9]],
    [[-1e9, -1e9, 1e9, -1e9, 1e9, 1e9, -1e9, 1e9]],
    [[2, 3, 10, 3, 10, math.nan], [2, 3, 10, 3, 10, 13]],
    [[2, 3, 10, 3, 10, 13], [], [1, 1]],
    [["2", "3", "10", "3", "10", "13"]],
    [[5e8, 5e8, 6e8, 5e8, 6e8, 6e8]],
    [[0, 0, 1e18, 0, 0, 1e18] * 50],
    [[float(v) for k in range(40_000) for v in (k % 2 * 40, k % 3 * 30)]],
]
MASKS = [
    RUNS,
    STRING,
    RUNS | {"counts": [600]},
    RUNS | {"counts": [2**31, -(2**31), 600]},
    RUNS | {"counts": []},
]
MASKS += [
    RUNS | {"counts": [2**70]},
    RUNS | {"size": [10**9, 10**9]},
    STRING | {"counts": "oooooooooooooooooo0"},
]
MASKS += [
    STRING | {"counts": "P\ud800"},
    STRING | {"counts": ""},
    {"size": [HEIGHT, WIDTH]},
    RUNS | {"size": ["20", 30]},
]
VALUES = [None, True, False, {}, *NUMBERS, *TEXTS, *LISTS, *POLYGONS, *MASKS]


def annotation(id_, image, category, box, outline, **more):
    record = {"id": id_, "image_id": image, "category_id": category, "bbox": box, "segmentation": outline}
    return record | {"area": box[2] * box[3], "iscrowd": 0} | more


def sound():
    images = [{"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (4, 9)]
    annotations = [
        annotation(1, 4, 3, [2, 3, 8, 10], [[2, 3, 10, 3, 10, 13, 2, 13]]),
        annotation(2, 4, 90, [3, 3, 1, 5], RUNS),
        annotation(
            3, 9, 3, [12.3, 4.1, 9.4, 6.2], [[12.3, 4.1, 21.7, 4.1, 21.7, 10.3], [13, 5, 20, 5, 13, 10]]
        ),
        annotation(5, 9, 90, [0, 0, 30, 20], STRING, iscrowd=1),
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def places(value):
    """Every container and key below a value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from places(value[key])


def spoiled(rng):
    """A document of which a few places hold something else, are missing or stand there twice."""
    document = copy.deepcopy(sound())  # of which no change may reach the values above
    for _ in range(rng.choice([1, 1, 2, 3, 5])):
        # Mostly where the structure survives: in the fields of an annotation.
        records = document.get("annotations")  # which may be spoiled already
        inside = rng.random() < 0.8 and isinstance(records, list) and records
        start = rng.choice(records) if inside else document
        if not isinstance(start, dict):
            continue
        if start is not document:
            field = rng.choice(["bbox", "segmentation", "area", "iscrowd", rng.choice([*start, "x"])])
            if rng.random() < 0.6:
                start[field] = copy.deepcopy(rng.choice(VALUES))
                continue
        found = list(places(start))
        if not found:
            continue
        container, key = rng.choice(found)
        action = rng.random()
        if action < 0.75:
            container[key] = copy.deepcopy(rng.choice(VALUES))
        elif action < 0.9:
            del container[key]
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
    return document


@pytest.mark.parametrize("seed", [3371, 3640])
def test_a_place_that_is_spoiled_already_is_spoiled_again(seed):
    assert isinstance(spoiled(random.Random(seed)), dict)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / "annotations").mkdir()
    (root / "train2017").mkdir()
    for image in (4, 9):
        Image.new("RGB", (WIDTH, HEIGHT), (90, 120, image)).save(root / "train2017" / f"{image}.png")
    return root


def outcome(call):
    """What a call gives, or None where it refuses; anything else than a refusal goes through."""
    try:
        return call()
    except InputError as error:
        assert str(error).strip()
        return None


def encoded(outline, size):
    codes = coco_mask.frPyObjects(outline, *size)
    code = coco_mask.merge(codes) if isinstance(codes, list) else codes
    return {"size": size, "counts": code["counts"].decode()}


def truth_as_results(index, folder):
    """Two files of results that find every object: its box, and its mask."""
    files = {}
    for task in ("box", "mask"):
        document = ground_truth(index, task)
        found = []
        for record in document["annotations"]:
            image = document["images"][record["image_id"] - 1]
            region = {"bbox": record["bbox"]}
            if task == "mask":
                region = {"segmentation": encoded(record["segmentation"], [image["height"], image["width"]])}
            ids = {
                "image_id": index.image_ids[record["image_id"] - 1].item(),
                "category_id": index.categories.ids[record["category_id"] - 1],
            }
            found.append(ids | region | {"score": 1.0, "crowd": record["iscrowd"]})
        objects = [result for result in found if not result.pop("crowd")]
        files[task] = folder / f"{task}.json", objects
        write_results(*files[task])
    return files


def agree(root, folder):
    """All three see the same; returns whether they see anything at all."""
    report = outcome(lambda: check_root(root)[0])
    plain = outcome(lambda: open_split(CONFIG, root, "train", training=False))
    boxes = outcome(lambda: open_split(CONFIG, root, "train", training=True, masks=False))
    masks = outcome(lambda: open_split(CONFIG, root, "train", training=True, masks=True))
    if report is None or report.fatal:
        assert plain is boxes is masks is None
        return False
    counts = report.overview
    without_masks = outcome(lambda: open_split(CONFIG, root, "train", training=False, masks=False))
    assert without_masks is not None
    index = without_masks.index
    assert [problem.kind for problem in index.report.problems] == [
        problem.kind for problem in report.problems
    ]
    for dataset, number in ((boxes, counts.objects), (masks, counts.masks)):
        targets = (
            [dataset.read(position)[1] for position in range(len(dataset))] if dataset is not None else []
        )
        assert sum(len(target.boxes) for target in targets) == number, (number, targets)
        assert all(target.boxes.isfinite().all() for target in targets)
    for task, (file, objects) in truth_as_results(index, folder).items():
        assert len(objects) == {"box": counts.objects, "mask": counts.masks}[task]
        if not objects:
            continue
        score = evaluate_results(file, index, preset="x").scores[task].overall.AP
        seen = task == "box" or all(coco_mask.area(result["segmentation"]) for result in objects)
        assert score == 100.0 or not seen, (task, score)
    return True


def try_inputs(root, folder, seeds):
    path = root / "annotations" / "instances_train2017.json"
    agreed = 0
    for seed in seeds:
        rng = random.Random(seed)
        content = written(spoiled(rng), rng, 0.05)
        path.write_bytes(content)
        faulthandler.dump_traceback_later(120, exit=True)
        try:
            agreed += agree(root, folder)
        except BaseException:
            print(f"seed {seed}: {content[:20_000]!r}")
            raise
        finally:
            faulthandler.cancel_dump_traceback_later()
    return agreed


def test_check_training_and_scoring_agree_about_a_few_records(root, tmp_path):
    assert try_inputs(root, tmp_path, range(30)) >= 10


@pytest.mark.fuzz
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_check_training_and_scoring_agree_about_many_records(root, tmp_path):
    assert try_inputs(root, tmp_path, range(1000, 1000 + INPUTS)) >= INPUTS // 4
