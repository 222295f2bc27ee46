"""Matches, curves and kinds of errors: COCO's AP50, TIDE's numbers, and what each means in a scene of a few boxes."""

import json

import numpy as np
import pytest
from scenes import IMAGES

from srfgan_cli.analysis.against import FEWEST, Change, difference
from srfgan_cli.analysis.curves import class_curves, mean_ap, pooled_curve
from srfgan_cli.analysis.errors import KINDS, errors
from srfgan_cli.analysis.matches import match
from srfgan_cli.analysis.slices import by_crowding, by_image, by_size, confusion
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.rle import encode_mask
from srfgan_cli.evaluation.coco import score
from srfgan_cli.evaluation.crowding import CROWDED

TIDE = {
    False: ([7, 55, 4, 26, 44, 22], [2.474585, 24.635030, 0.833726, 1.593546, 5.771241, 7.125962]),
    True: (None, [4.777277, 14.588932, 1.066732, 0.866796, 13.843733, 4.334414]),
}
"""What TIDE's own code (tidecv 1.0.1) says of the scene without and with crowds; it counts what lies in crowds too."""


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_ap50_is_cocos(scene, crowds, limit):
    index, results = scene(crowds)
    expected = score(index, results, tasks=["box"], max_detections=limit)["box"]
    curves = class_curves(match(index, results, "box", limit))
    assert mean_ap(curves) == pytest.approx(expected.overall.AP50, abs=1e-9)


def test_masks_are_matched_by_their_pixels_and_ranked_by_their_own_scores(scene):
    index, results = scene()
    document = json.loads(index.path.read_text())
    for one in document["annotations"]:
        x, y, w, h = one["bbox"]
        one["segmentation"] = [[x, y, x + w, y, x + w, y + h]]  # a triangle
    index.path.write_text(json.dumps(document))
    index = CocoIndex.load(index.path)
    masked = []
    for result in results:
        x, y, w, h = (max(0, round(side)) for side in result["bbox"])
        window = np.triu(np.ones((max(1, min(h, 200 - y)), max(1, min(w, 240 - x))), bool))
        code = encode_mask(window, (x, y), (200, 240))
        masked.append(result | {"segmentation": code, "mask_score": 1 - result["score"]})
    expected = score(index, masked, tasks=["mask"])["mask"].overall.AP50
    assert 0 < expected != score(index, masked, tasks=["box"])["box"].overall.AP50
    assert mean_ap(class_curves(match(index, masked, "mask"))) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("crowds", [False, True])
def test_errors_cost_what_tide_says(scene, crowds):
    found = errors(match(*scene(crowds)))
    counts, cost = TIDE[crowds]
    assert [found.cost[kind] for kind in KINDS] == pytest.approx(cost, abs=2e-6)
    if counts is not None:
        assert [found.counts[kind] for kind in KINDS] == counts


def few(tmp_path, truth, found, crowds=0):
    """Objects and detections, each (category, box[, score]), in one image; the last `crowds` are crowd regions."""
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(number > len(truth) - crowds),
        }
        for number, (category, box) in enumerate(truth, start=1)
    ]
    path = tmp_path / "few.json"
    image = {"id": 1, "file_name": "a.png", "height": 200, "width": 200}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path.write_text(json.dumps({"images": [image], "annotations": annotations, "categories": categories}))
    return CocoIndex.load(path), [
        {"image_id": 1, "category_id": category, "bbox": box, "score": score}
        for category, box, score in found
    ]


TWO = [(1, [0, 0, 100, 100]), (1, [40, 0, 100, 100])]


@pytest.mark.parametrize(
    ("truth", "crowds", "boxes"),
    [
        (TWO, 0, [[20, 0, 100, 100], [0, 0, 100, 100]]),  # the first one is as near to both
        (TWO, 0, [[20, 0, 100, 100], [40, 0, 100, 100]]),
        (TWO, 1, [[90, 0, 100, 100], [0, 0, 100, 100]]),  # half in the crowd
    ],
)
def test_where_overlaps_are_equal_ap50_is_cocos_too(tmp_path, truth, crowds, boxes):
    found = [(1, box, score) for box, score in zip(boxes, (0.9, 0.8), strict=True)]
    index, results = few(tmp_path, truth, found, crowds)
    expected = score(index, results, tasks=["box"])["box"].overall.AP50
    assert mean_ap(class_curves(match(index, results))) == pytest.approx(expected, abs=1e-9)


CAT, DOG, FAR = (1, [10, 10, 40, 40]), (2, [100, 100, 50, 50]), [150, 10, 20, 20]


@pytest.mark.parametrize(
    ("found", "kinds", "missed"),
    [
        ([(1, CAT[1], 0.9), (2, DOG[1], 0.8)], [None, None], 0),
        ([(1, CAT[1], 0.9), (1, [12, 10, 40, 40], 0.8)], [None, "duplicate"], 1),
        ([(2, CAT[1], 0.9)], ["classification"], 1),
        ([(1, [30, 10, 40, 40], 0.9)], ["localisation"], 1),
        ([(2, [30, 10, 40, 40], 0.9)], ["both"], 2),
        ([(1, FAR, 0.9)], ["background"], 2),
        ([], [], 2),
    ],
)
def test_each_kind_of_error(tmp_path, found, kinds, missed):
    judged = errors(match(*few(tmp_path, [CAT, DOG], found)))
    assert [None if kind < 0 else KINDS[kind] for kind in judged.of] == kinds
    assert int(judged.missed.sum()) == judged.counts["missed"] == missed


def test_which_class_is_taken_for_which(tmp_path):
    """Two dogs' places are said to be cats, one of them beside a right dog; one cat is found, one missed."""
    truth = [CAT, (1, [10, 120, 30, 30]), DOG, (2, [100, 10, 40, 40])]
    found = [
        (1, CAT[1], 0.9),
        (1, DOG[1], 0.8),
        (1, [102, 100, 50, 50], 0.7),
        (2, [100, 10, 40, 40], 0.6),
        (1, [101, 10, 40, 40], 0.5),
        (2, FAR, 0.4),
        (2, [10, 120, 30, 30], 0.1),
    ]
    matches = match(*few(tmp_path, truth, found))
    table = confusion(matches, errors(matches), threshold=0.3)
    #          cat dog nothing
    expected = [[1, 0, 1], [1, 1, 0], [2, 1, 0]]
    assert table.tolist() == expected
    (image,) = by_image(matches, 1, threshold=0.3)
    assert (image.right, image.missed, image.false) == (2, 2, 4)


def test_every_object_is_in_one_slice_and_in_one_row(scene):
    index, results = scene(crowds=True)
    matches = match(index, results)
    threshold = float(np.median(matches.score))
    table = confusion(matches, errors(matches), threshold)
    found = sum(one.right for one in by_image(matches, IMAGES, threshold))
    assert table[:-1].sum() == len(matches.found) and np.trace(table) == found
    for slices in (by_size(matches, threshold), by_crowding(matches, threshold)):
        assert sum(one.objects for one in slices) == len(matches.found)
        assert sum(one.found for one in slices) == found
    curve = pooled_curve(matches)
    at = int((curve.score >= threshold).sum()) - 1
    assert curve.recall[at] == pytest.approx(found / len(matches.found))


MANY = 72
"""Images, so that each class and group is in enough of them for an interval."""


def groups_of(index, *runs):
    return [score(index, found, tasks=["box"], by_group=True)["box"].groups for found in runs]


def test_a_run_does_not_differ_from_itself_and_drawn_images_count_as_often(scene):
    index, results = scene(number=MANY)
    (groups,) = groups_of(index, results)
    none = difference(groups, groups, MANY)
    assert list(none.groups) == ["all", "small", "medium", "large", "alone", "touching", "crowded"]
    assert groups.pop("large").objects == 0 and none.groups.pop("large") is None
    for change in (*none.groups.values(), none.AP50, none.AP75, *none.per_class):
        assert change == Change(0.0, (0.0, 0.0)) and not change.sure
    # AP of drawn images is that of a data set in which they stand so often.
    drawn = np.random.default_rng(1).integers(MANY, size=MANY)
    times = np.bincount(drawn, minlength=MANY).astype(np.int32)[:, None]
    copies = [(int(image), 1000 + number) for number, image in enumerate(index.image_ids[np.sort(drawn)])]
    document = json.loads(index.path.read_text())
    for key, name in (("images", "id"), ("annotations", "image_id")):
        document[key] = [
            one | {name: new} for old, new in copies for one in document[key] if one[name] == old
        ]
    for number, one in enumerate(document["annotations"], start=1):
        one["id"] = number
    index.path.write_text(json.dumps(document))
    again = CocoIndex.load(index.path)
    found = [one | {"image_id": new} for old, new in copies for one in results if one["image_id"] == old]
    expected = score(again, found, tasks=["box"], by_group=True)["box"]
    assert groups["all"].outcomes.by_class(times)[0, :, 0].mean() == pytest.approx(expected.overall.AP50)
    for name, group in groups.items():
        assert group.outcomes.ap(times) == pytest.approx(expected.groups[name].AP) != group.AP
    by_class = groups["all"].outcomes.by_class(times)[0].mean(axis=1)
    assert by_class.tolist() == pytest.approx(list(expected.per_class.values()))


def test_a_better_run_is_better_by_an_interval_without_zero(scene):
    index, results = scene(number=MANY)
    truth = [
        {
            "image_id": int(index.image_ids[image]),
            "category_id": index.categories.ids[int(index.labels[row])],
            "bbox": index.truth_boxes[row].tolist(),
            "score": 0.5,
        }
        for image in range(MANY)
        for row in index.rows(image)
    ]
    differs = difference(*groups_of(index, truth, results), MANY)
    assert differs.groups.pop("large") is None
    changes = [*differs.groups.values(), differs.AP50, differs.AP75, *differs.per_class]
    for better in changes:
        low, high = better.interval
        assert 0 < low < better.value < high <= 100 and better.sure
    worse = difference(*groups_of(index, results, truth), MANY).groups["all"]
    assert (
        worse.sure and worse.value == -changes[0].value and worse.surety == pytest.approx(changes[0].surety)
    )


def test_a_run_that_is_better_on_crowded_objects_is_so_there_and_nowhere_else(scene):
    index, results = scene(number=MANY)
    truth = match(index, [])
    right = [
        {"image_id": int(index.image_ids[truth.truth_image[row]]), "score": 1.0}
        | {"category_id": index.categories.ids[truth.truth_label[row]], "bbox": truth.truth_box[row].tolist()}
        for row in np.flatnonzero(truth.nearest >= CROWDED)
    ]
    old, new = groups_of(index, results, [*right, *results])
    changes = difference(new, old, MANY).groups
    better = changes["crowded"]
    ends = better.interval
    assert 0 < ends[0] < better.value == new["crowded"].AP - old["crowded"].AP < ends[1] <= 100
    for name in ("alone", "touching"):
        low, high = changes[name].interval
        assert low <= 0 <= high and not changes[name].sure
    # More draws, of another generator, give nearly the same.
    draws = np.random.default_rng(2).multinomial(MANY, [1 / MANY] * MANY, size=2000).T.astype(np.int32)
    drawn = new["crowded"].outcomes.ap(draws) - old["crowded"].outcomes.ap(draws)
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    assert ends == pytest.approx((low, high), abs=0.15 * (high - low))


@pytest.mark.parametrize(("images", "interval"), [(FEWEST - 1, None), (FEWEST, (50, 50))])
def test_what_is_in_few_images_has_no_interval_and_what_is_in_none_no_difference(tmp_path, images, interval):
    """Cats and dogs, of which one run finds the cats: each image says the same, which a few say of no others."""
    index, results = few(tmp_path, [CAT, DOG], [(1, CAT[1], 0.9)])
    document = json.loads(index.path.read_text())
    for key, name in (("images", "id"), ("annotations", "image_id")):
        document[key] = [one | {name: number} for number in range(1, images + 1) for one in document[key]]
    for number, one in enumerate(document["annotations"], start=1):
        one["id"] = number
    index.path.write_text(json.dumps(document))
    found = [one | {"image_id": number} for number in range(1, images + 1) for one in results]
    differs = difference(*groups_of(CocoIndex.load(index.path), found, []), images)
    assert differs.groups["alone"] == differs.groups["all"] == differs.AP50 == Change(50.0, interval)
    assert differs.groups["touching"] is differs.groups["crowded"] is differs.groups["small"] is None
    assert [change.value for change in differs.per_class] == [100, 0]
    assert differs.groups["all"].sure == (interval is not None)


def test_without_any_object_nothing_differs(tmp_path):
    index, results = few(tmp_path, [], [(1, CAT[1], 0.9)])
    differs = difference(*groups_of(index, results, []), 1)
    assert not any([*differs.groups.values(), differs.AP50, differs.AP75, *differs.per_class])
