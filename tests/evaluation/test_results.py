"""Detections to COCO results and back through a file."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from srfgan.models.errors import InputError
from srfgan.models.ops.masks import paste_masks
from srfgan.models.structures import Detections
from srfgan_cli.data.rle import encode_mask
from srfgan_cli.evaluation.encode import to_coco_results
from srfgan_cli.evaluation.results import only_masks, read_results, write_results

SIZES = {1: (40, 60), 2: (30, 30)}
CATEGORY_IDS = (3, 7, 90)


def detections(boxes, **more):
    count = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.linspace(0.9, 0.1, count) if count else torch.zeros(0),
        torch.arange(count) % 3,
        **more,
    )


def test_boxes_return_to_the_original_image_with_the_data_sets_ids():
    found = detections([[10, 5, 30, 25], [110, 70, 140, 90], [121, 3, 130, 9]])
    results = to_coco_results(
        found, (80, 120), image_id=17, original_size=(40, 60), category_ids=CATEGORY_IDS
    )
    assert [r["image_id"] for r in results] == [17, 17], "the third lies outside the image"
    assert [r["category_id"] for r in results] == [3, 7]
    assert results[0]["bbox"] == [5.0, 2.5, 10.0, 10.0]
    assert results[1]["bbox"] == [55.0, 35.0, 5.0, 5.0], "clipped to the image"
    assert results[1]["score"] == pytest.approx(0.5, abs=1e-6)
    assert "segmentation" not in results[0]
    assert json.loads(json.dumps(results)) == results


def test_masks_are_pasted_at_the_original_size():
    torch.manual_seed(0)
    boxes = torch.tensor([[-3.0, 5, 30, 25], [10.3, 8.7, 119.5, 79.2], [50, 60, 51, 61.5]])
    probs = torch.nn.functional.interpolate(torch.rand(3, 1, 5, 5), size=28, mode="bicubic")[:, 0].clamp(0, 1)
    found = detections(boxes.tolist(), mask_probs=probs)
    results = to_coco_results(
        found, (80, 120), image_id=1, original_size=(160, 180), category_ids=CATEGORY_IDS
    )
    clipped = boxes * torch.tensor([1.5, 2.0, 1.5, 2.0])
    clipped[0, 0] = 0
    expected = paste_masks(probs, clipped, (160, 180)).numpy()
    pasted = np.stack([coco_mask.decode(r["segmentation"]) for r in results])
    assert pasted.shape == expected.shape
    assert (pasted != expected).mean() < 1e-5  # the threshold may fall on a rounding error
    assert 0.2 < expected[1].mean() < 0.8


def test_pasted_masks_are_encoded_as_they_are():
    masks = torch.zeros(2, 40, 60, dtype=torch.bool)
    masks[0, 3:20, 5:50] = True
    results = to_coco_results(
        detections([[5, 3, 50, 20], [0, 0, 9, 9]], masks=masks), (40, 60),
        image_id=1, original_size=(40, 60), category_ids=CATEGORY_IDS,
    )  # fmt: skip
    for result, mask in zip(results, masks, strict=True):
        assert np.array_equal(coco_mask.decode(result["segmentation"]), mask)


def test_masks_with_scores_of_their_own():
    """The second detection lies outside the image; a mask's score may be negative or above 1."""
    masks = torch.ones(3, 40, 60, dtype=torch.bool)
    found = detections(
        [[0, 0, 9, 9], [70, 3, 80, 9], [0, 0, 5, 9]],
        masks=masks,
        mask_scores=torch.tensor([-0.25, 0.5, 1.125]),
    )
    results = to_coco_results(found, (40, 60), image_id=2, original_size=(40, 60), category_ids=CATEGORY_IDS)
    assert [(r["score"], r["mask_score"]) for r in results] == [
        (pytest.approx(0.9), -0.25),
        (pytest.approx(0.1), 1.125),
    ]
    alone = only_masks(results)
    assert [r["score"] for r in alone] == [-0.25, 1.125]
    assert all(set(r) == {"image_id", "category_id", "segmentation", "score"} for r in alone)
    del results[0]["mask_score"]
    assert only_masks(results[:1])[0]["score"] == results[0]["score"]


def test_an_image_without_detections_gives_no_results():
    empty = detections([], mask_probs=torch.zeros(0, 28, 28))
    assert to_coco_results(empty, (8, 8), image_id=1, original_size=(8, 8), category_ids=(1,)) == []


@pytest.mark.parametrize("density", [0.0, 0.3, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("window", [(0, 0, 13, 9), (0, 4, 13, 5), (3, 0, 7, 9), (4, 2, 1, 1), (12, 8, 1, 1)])
def test_windowed_encoding_equals_pycocotools(window, density):
    x, y, width, height = window
    rng = np.random.default_rng(7)
    for _ in range(20):
        full = np.zeros((9, 13), bool)
        full[y : y + height, x : x + width] = rng.random((height, width)) < density
        expected = coco_mask.encode(np.asfortranarray(full.astype(np.uint8)))["counts"].decode()
        rle = encode_mask(full[y : y + height, x : x + width], (x, y), (9, 13))
        assert rle == {"size": [9, 13], "counts": expected}


def result(**changed):
    entry = {"image_id": 1, "category_id": 7, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    return {**entry, **changed}


def without(key):
    entry = result()
    del entry[key]
    return entry


def mask(size):
    return {"size": size, "counts": coco_mask.encode(np.zeros(size, np.uint8, order="F"))["counts"].decode()}


def test_results_survive_their_file(tmp_path):
    path = tmp_path / "new" / "results.json"
    results = [result(segmentation=mask([40, 60])), result(image_id=2, segmentation=mask([30, 30]))]
    write_results(path, results)
    assert read_results(path, image_sizes=SIZES, category_ids=CATEGORY_IDS) == results
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_sizes_of_masks_may_be_floats(tmp_path):
    path = tmp_path / "results.json"
    exact = [result(segmentation=mask([40, 60]))]
    write_results(path, [result(segmentation=mask([40, 60]) | {"size": [40.0, 60.0]})])
    read = read_results(path, image_sizes=SIZES, category_ids=CATEGORY_IDS)
    assert repr(read) == repr(exact)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_results(path, [result()])

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("srfgan_cli.machine.files.os.fsync", fail)
    with pytest.raises(
        InputError, match=r"results\.json: No space left on device\. The last complete one is kept"
    ):
        write_results(path, [result(), result()])
    monkeypatch.undo()
    assert read_results(path, image_sizes=SIZES, category_ids=CATEGORY_IDS) == [result()]
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"annotations": []}, "COCO results are a list of detections, this is a json dict"),
        ([result(), 3], "entry 1: a detection is a dict, this is 3"),
        ([without("score")], "entry 0: lacks 'score'"),
        (
            [result(), result(image_id=9)],
            "entry 1: image id 9 is not in the data set; are these results of an",
        ),
        ([result(image_id="1")], "entry 0: image id '1' is not in the data set"),
        ([result(category_id=1)], "entry 0: category id 1 is not in the data set, whose ids are 3, 7, 90"),
        ([result(score=None)], "entry 0: the score is None, not a finite number"),
        ([result(score=float("nan"))], "entry 0: the score is nan, not a finite number"),
        ([result(mask_score="1")], "entry 0: the mask_score is '1', not a finite number"),
        ([result(bbox=[1, 2, 3])], "entry 0: the bbox is [1, 2, 3], not [x, y, width, height] in pixels"),
        ([result(bbox=[1, 2, -3, 4])], "entry 0: the bbox is [1, 2, -3, 4], not [x, y, width, height]"),
        ([result(segmentation=[[1, 2, 3, 4, 5, 6]])], "entry 0: the segmentation is not a compressed RLE"),
        (
            [result(segmentation=mask([60, 40]))],
            "entry 0: the mask's size is [60, 40], the image's [height, ",
        ),
        ([result(segmentation={"size": [40, 60], "counts": "1"})], "entry 0: the mask's runs do not add up"),
        ([result(segmentation={"size": [40, 60], "counts": "é%"})], "entry 0: the mask's runs do not add up"),
        (
            [result(segmentation=mask([40, 60])), result()],
            "entry 1: has no 'segmentation', but other entries",
        ),
    ],
)
def test_what_does_not_fit_the_data_set_is_refused(tmp_path, document, message):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError) as error:
        read_results(path, image_sizes=SIZES, category_ids=CATEGORY_IDS)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file of results"), ('[{"image_id": 1,', "not valid json")]
)
def test_missing_and_truncated_files_are_refused(tmp_path, content, message):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_results(path, image_sizes=SIZES, category_ids=CATEGORY_IDS)
