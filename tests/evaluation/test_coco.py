"""Scores: the numbers of pycocotools, and every one of them for the asked limit of detections."""

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.evaluation.coco import score
from srfgan_cli.evaluation.report import METRICS, scores_as_dict

SIZE = 320
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 90, "name": "ghost"}]


def rle(box):
    """The mask of an ellipse in a box (x, y, w, h), so that masks and boxes score differently."""
    x, y, w, h = box
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    ellipse = ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1
    encoded = coco_mask.encode(np.asfortranarray(ellipse.astype(np.uint8)))
    return {"size": [SIZE, SIZE], "counts": encoded["counts"].decode()}


def random_box(rng):
    size = rng.choice([12, 20, 50, 80, 120], 2) + rng.integers(0, 8, 2)
    place = rng.integers(0, SIZE - size)
    return [int(v) for v in (*place, *size)]


def random_scene(seed, images=8):
    """Ground truth with crowds, an empty image and a class without objects; results that are half right."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(1, images):
        for _ in range(rng.integers(1, 12)):
            box, category = random_box(rng), int(rng.choice([3, 7]))
            mask = rle(box)
            crowd = int(rng.random() < 0.15)
            if crowd:  # crowd regions come as uncompressed runs
                mask = {"size": [SIZE, SIZE], "counts": runs(mask)}
            elif rng.random() < 0.5:
                box, mask = outlined(box, rng)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": category, "bbox": box,
                 "area": float(box[2] * box[3] * 0.785), "iscrowd": crowd, "segmentation": mask}
            )  # fmt: skip
            for _ in range(rng.integers(0, 3)):
                moved = [float(v) for v in np.array(box) + rng.normal(0, 3, 4).round()]
                moved[2:] = [max(v, 2.0) for v in moved[2:]]
                results.append(detection(image, category, moved, rng.random()))
    results += [detection(int(rng.integers(0, images)), 3, random_box(rng), rng.random()) for _ in range(40)]
    pictures = [{"id": i, "width": SIZE, "height": SIZE, "file_name": f"{i}.jpg"} for i in range(images)]
    return {"images": pictures, "categories": CATEGORIES, "annotations": annotations}, results


def outlined(box, rng):
    """The box moved by hundredths of pixels, maybe over the border, and polygons of that precision around it."""
    x, y, w, h = (round(float(v), 2) for v in np.array(box) + rng.normal(0, 8, 4).clip(-9))
    angles = np.linspace(0, 2 * np.pi, 17)[:-1]
    ring = np.stack([x + w / 2 * (1 + np.cos(angles)), y + h / 2 * (1 + np.sin(angles))], axis=1).round(1)
    return [x, y, w, h], [ring.ravel().tolist(), [x, y, x + w, y, x + w / 2, y + h / 3]]


def runs(mask):
    flat = coco_mask.decode(mask).ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return np.diff([0, *edges, len(flat)]).tolist()


def detection(image, category, box, value):
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "score": float(value),
        "segmentation": rle(box),
    }


def pycocotools_evaluated(truth, results, iou_type, limits):
    """The reference evaluator, with its precision and recall arrays filled."""
    reference = COCO()
    reference.dataset = copy.deepcopy(truth)
    reference.createIndex()
    dropped = "segmentation" if iou_type == "bbox" else "bbox"
    given = [{k: v for k, v in copy.deepcopy(r).items() if k != dropped} for r in results]
    evaluator = COCOeval(reference, reference.loadRes(given), iou_type)
    evaluator.params.maxDets = limits
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def pycocotools_scores(truth, results, iou_type, limit):
    """The same precisions, and the recalls at the limit, read from the reference evaluator's arrays."""
    found = pycocotools_evaluated(truth, results, iou_type, [limit]).eval
    precision, recall = found["precision"][..., 0], found["recall"][..., 0]
    parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0]]
    parts += [precision[..., area] for area in (1, 2, 3)]
    parts += [recall[..., area] for area in range(4)]
    return [100 * p[p > -1].mean() if (p > -1).any() else None for p in parts]


def pycocotools_printed(truth, results, iou_type, capsys):
    """COCO's twelve numbers as the reference evaluator prints them, fractions of three digits."""
    evaluator = pycocotools_evaluated(truth, results, iou_type, [1, 10, 100])
    capsys.readouterr()
    evaluator.summarize()
    return [float(line.split("=")[-1]) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def index_of(tmp_path):
    """The checked data set of a COCO document, through its file."""

    def build(truth, **options):
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(truth))
        return CocoIndex.load(path, **options)

    return build


@pytest.mark.parametrize("limit", [2, 100])
@pytest.mark.parametrize("seed", range(3))
def test_the_numbers_are_those_of_pycocotools(seed, limit, index_of):
    truth, results = random_scene(seed)
    before = copy.deepcopy(results)
    scores = score(index_of(truth), results, max_detections=limit)
    for task, iou_type in (("box", "bbox"), ("mask", "segm")):
        measured = [getattr(scores[task].overall, metric) for metric in METRICS]
        measured += [scores[task].recall[name] for name in (f"AR@{limit}", "ARs", "ARm", "ARl")]
        assert measured == pytest.approx(pycocotools_scores(truth, results, iou_type, limit), abs=1e-9)
    assert results == before, "the caller's data was written into"
    assert 0 < scores["box"].overall.AP < 100
    assert scores["mask"].overall.AP != scores["box"].overall.AP


@pytest.mark.parametrize(("task", "iou_type"), [("box", "bbox"), ("mask", "segm")])
def test_all_twelve_are_those_that_pycocotools_prints_in_its_order(task, iou_type, index_of, capsys):
    """Objects have their masks' areas in the file, and masks are sized by theirs: pycocotools sizes by `area` too."""
    truth, results = random_scene(3, images=12)
    measured = scores_as_dict(score(index_of(truth), results)[task])
    printed = pycocotools_printed(truth, results, iou_type, capsys)
    assert [round(value / 100, 3) for value in measured.values()] == pytest.approx(printed, abs=1e-9)
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR@1", "AR@10", "AR@100", "ARs", "ARm", "ARl"]
    assert list(measured) == names
    assert measured["AR@1"] < measured["AR@10"] < measured["AR@100"]


@pytest.mark.parametrize(
    ("limit", "names"),
    [(1, ["AR@1"]), (5, ["AR@1", "AR@5"]), (10, ["AR@1", "AR@10"]), (400, ["AR@1", "AR@10", "AR@400"])],
)
def test_recalls_are_named_after_the_detections_that_count(limit, names, index_of):
    truth, results = random_scene(0)
    recall = score(index_of(truth), results, tasks=["box"], max_detections=limit)["box"].recall
    assert list(recall) == [*names, "ARs", "ARm", "ARl"]


def with_unusable(truth):
    """The scene with objects that nothing can find: of no area, of negative sides, outside, blank masks."""
    outline = [[40, 40, 60, 40, 60, 60]]
    outside = [[700, 40, 720, 40, 720, 60]]
    blank = {"size": [SIZE, SIZE], "counts": [SIZE * SIZE]}
    given = [
        ([40, 40, 0, 20], 0, outline),
        ([40, 40, 20, 0], 200.0, outline),
        ([60, 40, -20, 20], -400, outline),
        ([700, 40, 20, 20], 400, outside),
        ([-90, 40, 20, 20], 9000, [[-90, 40, -70, 40, -70, 60]]),
        ([1e6, 40, 20, 20], 400, outline),
        ([40, 40, 20, 20], 400, blank),
    ]
    first = len(truth["annotations"]) + 1
    more = [
        {"id": first + n, "image_id": 1 + n % 3, "category_id": 3, "bbox": box, "area": area, "iscrowd": 0,
         "segmentation": mask}
        for n, (box, area, mask) in enumerate(given)
    ]  # fmt: skip
    return truth | {"annotations": [*truth["annotations"], *more]}, len(given)


@pytest.mark.parametrize(("task", "iou_type"), [("box", "bbox"), ("mask", "segm")])
def test_ground_truth_that_nothing_can_find_counts_on_request_as_for_pycocotools(task, iou_type, index_of):
    """By default it stays out, which makes the scores higher, and the index says how many they are."""
    scene, results = random_scene(2)
    truth, count = with_unusable(scene)
    counting = index_of(truth, count_unusable=True)
    scores = score(counting, results)[task]
    measured = [getattr(scores.overall, metric) for metric in METRICS]
    measured += [scores.recall[name] for name in ("AR@100", "ARs", "ARm", "ARl")]
    assert measured == pytest.approx(pycocotools_scores(truth, results, iou_type, 100), abs=1e-9)
    assert counting.left_out == 0
    fates = {problem.kind: problem.fate for problem in counting.report.problems}
    assert fates["box outside the image"] == fates["mask without a pixel"] == "counted as missed"
    index = index_of(truth)
    assert index.left_out == count
    left_out = score(index, results)[task].overall
    assert left_out.AP > scores.overall.AP + 0.1
    if task == "mask":
        assert left_out == score(index_of(scene), results)[task].overall


def plain_iou(first, second):
    (x, y, w, h), (a, b, c, d) = first, second
    inside = max(min(x + w, a + c) - max(x, a), 0) * max(min(y + h, b + d) - max(y, b), 0)
    return inside / (w * h + c * d - inside)


def with_groups(truth, results):
    """Each annotation and result with its group, 0 to 2, for an area."""
    objects = [one for one in truth["annotations"] if not one["iscrowd"]]

    def near(one, pool):
        own = [o for o in pool if o["image_id"] == one["image_id"] and o["category_id"] == one["category_id"]]
        return max(
            ((plain_iou(one["bbox"], o["bbox"]), -o["id"]) for o in own if o is not one), default=(0, 0)
        )

    groups = {}
    for one in objects:
        iou, _ = near(one, objects)
        groups[one["id"]] = 2 if iou >= 0.1 else 1 if iou > 0 else 0
    found = [near(one, objects) for one in results]
    annotations = [one | {"area": groups.get(one["id"], 0)} for one in truth["annotations"]]
    placed = [
        one | {"area": groups[-at] if iou else 0} for one, (iou, at) in zip(results, found, strict=True)
    ]
    return truth | {"annotations": annotations}, placed


@pytest.mark.parametrize("limit", [2, 100])
@pytest.mark.parametrize(("task", "iou_type"), [("box", "bbox"), ("mask", "segm")])
def test_crowding_is_scored_as_pycocotools_scores_areas(task, iou_type, limit, index_of):
    truth, results = random_scene(4, images=12)
    placed, found = with_groups(truth, results)
    reference = COCO()
    reference.dataset = placed
    reference.createIndex()
    detections = reference.loadRes(copy.deepcopy(found))
    for one in detections.anns.values():
        one["area"] = found[one["id"] - 1]["area"]
    evaluator = COCOeval(reference, detections, iou_type)
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 0], [1, 1], [2, 2]], ["0", "1", "2"]
    evaluator.params.maxDets = [limit]
    evaluator.evaluate()
    evaluator.accumulate()
    precision = evaluator.eval["precision"][..., -1]
    expected = [100 * part[part > -1].mean() for part in np.moveaxis(precision, -1, 0)]
    scored = score(index_of(truth), results, tasks=[task], max_detections=limit, by_group=True)
    measured = {name: scored[task].groups[name] for name in ("alone", "touching", "crowded")}
    assert [group.AP for group in measured.values()] == pytest.approx(expected, abs=1e-9)
    counted = [one["area"] for one in placed["annotations"] if not one["iscrowd"]]
    assert [group.objects for group in measured.values()] == [counted.count(group) for group in range(3)]
    assert min(counted.count(group) for group in range(3)) > 5


def drawn_images(truth, results, times):
    """The data set and results where each image stands so often (I,), which may be never."""
    copies = [
        (image["id"], image["id"] + 100 * copy)
        for image, count in zip(truth["images"], times, strict=True)
        for copy in range(count)
    ]

    def copied(entries, key):
        return [one | {key: new} for old, new in copies for one in entries if one[key] == old]

    annotations = copied(truth["annotations"], "image_id")
    drawn = {
        "images": copied(truth["images"], "id"),
        "annotations": [one | {"id": number} for number, one in enumerate(annotations, start=1)],
    }
    return truth | drawn, copied(results, "image_id")


@pytest.mark.parametrize("limit", [2, 100])
@pytest.mark.parametrize(("task", "iou_type"), [("box", "bbox"), ("mask", "segm")])
def test_of_images_drawn_at_will_every_precision_is_that_of_pycocotools(task, iou_type, limit, index_of):
    """Over all, at IoUs of 0.5 and 0.75, and small, medium and large; areas at the ends of ranges count in both."""
    truth, results = random_scene(6, images=12)
    for one, side in zip(
        [one for one in truth["annotations"] if not one["iscrowd"]], (32, 96, 32, 96), strict=False
    ):
        one["area"] = side**2
    truth["annotations"][-1]["area"] = 0.0
    scored = score(index_of(truth), results, tasks=[task], max_detections=limit, by_group=True)[task]
    whole = scored.groups["all"]
    objects = [one for one in truth["annotations"] if not one["iscrowd"]]
    sizes = [scored.groups[name] for name in ("small", "medium", "large")]
    assert whole.objects == len(objects) < sum(one.objects for one in sizes)
    draws = np.random.default_rng(0).multinomial(12, [1 / 12] * 12, size=5)
    draws = np.concatenate([np.ones((1, 12), np.int64), draws]).astype(np.int32)
    by_class = whole.outcomes.by_class(draws.T)
    measured = [whole.outcomes.ap(draws.T), *(np.nanmean(by_class[..., place], axis=1) for place in (0, 5))]
    measured += [one.outcomes.ap(draws.T) for one in sizes]
    for number, times in enumerate(draws):
        expected = pycocotools_scores(*drawn_images(truth, results, times), iou_type, limit)[: len(METRICS)]
        assert [one[number] for one in measured] == pytest.approx(expected, abs=1e-9)
    alone = [one.AP for one in (whole, *sizes)]
    assert alone == pytest.approx([one[0] for one in (measured[0], *measured[3:])], abs=1e-9)


def test_what_counts_with_lone_and_what_with_crowded_objects(index_of):
    """Cats: one alone, two that touch, two on each other, one of them not found; a dog lies on the lone cat."""
    boxes = [[10, 10, 40, 40], [100, 10, 40, 40], [138, 10, 40, 40], [10, 100, 40, 40], [20, 100, 40, 40]]
    annotations = [
        {"id": number, "image_id": 1, "category_id": 7 if number == 6 else 3, "bbox": box, "iscrowd": 0}
        for number, box in enumerate([*boxes, boxes[0]], start=1)
    ]
    picture = {"id": 1, "width": SIZE, "height": SIZE, "file_name": "1.jpg"}
    index = index_of({"images": [picture], "categories": CATEGORIES[:2], "annotations": annotations})
    found = [{"image_id": 1, "category_id": 3, "bbox": box, "score": 0.5} for box in boxes[:4]]
    found.append({"image_id": 1, "category_id": 7, "bbox": boxes[0], "score": 0.5})

    def scored(*more):
        extra = [found[0] | {"bbox": box, "score": 0.9} for box in more]
        groups = score(index, [*found, *extra], tasks=["box"], by_group=True)["box"].groups
        return [
            (groups[name].objects, round(groups[name].AP, 1)) for name in ("alone", "touching", "crowded")
        ]

    half = round(100 * 51 / 101, 1)  # of 101 recalls, those up to one of two objects
    assert scored() == [(2, 100), (2, 100), (2, half)]
    assert scored([250, 250, 40, 40]) == [(2, 75), (2, 100), (2, half)]  # of cats 50, of dogs 100
    assert scored([10, 130, 40, 40]) == [(2, 100), (2, 100), (2, round(half / 2, 1))]


def test_classes_are_scored_apart_and_absent_ones_are_none(index_of):
    truth, _ = random_scene(0)
    results = [
        detection(a["image_id"], a["category_id"], a["bbox"], 1.0)
        for a in truth["annotations"]
        if a["category_id"] == 7 and not a["iscrowd"]
    ]
    scores = score(index_of(truth), results, tasks=("box",))
    assert scores["box"].per_class == pytest.approx({"cat": 0.0, "dog": 100.0, "ghost": None})
    assert pytest.approx(50.0) == scores["box"].overall.AP
    assert list(scores) == ["box"]


def test_ground_truth_fed_back_is_perfect_whatever_its_ids_and_number(index_of):
    """120 objects of one class in one image, annotation ids from 0 (the evaluator's mark for "no match")."""
    boxes = [[24 * (i % 12), 30 * (i // 12), 20, 20] for i in range(120)]
    truth = {
        "images": [{"id": 5, "width": SIZE, "height": SIZE, "file_name": "5.jpg"}],
        "categories": CATEGORIES,
        "annotations": [
            {"id": i, "image_id": 5, "category_id": 90, "bbox": box, "segmentation": rle(box)}
            for i, box in enumerate(boxes)
        ],
    }
    results = [detection(5, 90, box, 0.9) for box in boxes]
    for task, scores in score(index_of(truth), results, max_detections=120).items():
        assert scores.overall.AP == 100.0, task
        assert (scores.overall.APs, scores.overall.APm) == (100.0, None)
    assert (
        pytest.approx(100 * 84 / 101) == score(index_of(truth), results)["mask"].overall.AP
    )  # recall 100 of 120


def test_no_results_score_zero(index_of):
    truth, _ = random_scene(1)
    scores = score(index_of(truth), [])
    assert scores["box"].overall.AP == scores["mask"].overall.AP == 0.0


def test_classes_of_one_name_stay_apart(index_of):
    truth, _ = random_scene(1)
    truth["categories"] = [{"id": 3, "name": "cat"}, {"id": 7, "name": "cat"}]
    assert list(score(index_of(truth), [], tasks=["box"])["box"].per_class) == ["cat (3)", "cat (7)"]
    truth["categories"] += [{"id": 8, "name": "cat (3)"}, {"id": 9, "name": "dog"}]
    named = score(index_of(truth), [], tasks=["box"])["box"].per_class
    assert list(named) == ["cat (3) (3)", "cat (7)", "cat (3)", "dog"], (
        "a class may be called what another becomes"
    )
