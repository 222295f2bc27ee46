import json
from itertools import islice

import numpy as np
import pytest
import torch

from srfgan.models.errors import InputError
from srfgan.models.instance_masks import MaskPatch, Polygons
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.loaders import build_train_loader
from srfgan_cli.data.open import check_same_categories, open_split
from srfgan_cli.data.repeats import repeat_factors, told
from srfgan_cli.presets.config import CropConfig, DataConfig

CONFIG = DataConfig(short_sides=[40, 60], max_side=100, test_short_side=50, test_max_side=70)
RUNS = {"size": [20, 30], "counts": [63, 5, 532]}  # column 3, rows 3 to 7


def test_ids_with_gaps_become_labels_and_come_back(tiny):
    tiny.content["categories"].reverse()
    tiny.write()
    dataset = open_split(CONFIG, tiny.root, "train", training=False)
    assert dataset.categories == CategoryMap((3, 90), ("cat", "dog"))
    labels = {
        sample.image_id: sample.target.labels.tolist()
        for sample in (dataset[(position, 0)] for position in range(3))
    }
    assert labels == {1: [0], 2: [1], 5: [1]}
    assert dataset.categories.category_ids([1, 0]) == [90, 3]
    assert CategoryMap.from_records(dataset.categories.to_records(), "checkpoint") == dataset.categories
    assert dataset.categories.labels(np.array([90, 4, 3, 100, -1])).tolist() == [1, -1, 0, -1, -1]


def test_training_leaves_out_crowds_and_images_without_targets(tiny, make_box, make_image):
    tiny.content["annotations"].append(make_box(20, 1, 90, segmentation=RUNS, iscrowd=1))
    tiny.content["annotations"][1]["iscrowd"] = 1
    tiny.content["images"] += [make_image(7), make_image(4, height=1, width=1)]
    tiny.content["annotations"].append(make_box(21, 4, 3, (0, 0, 1, 1)))
    tiny.write()
    training = open_split(CONFIG, tiny.root, "train", training=True)
    assert training.image_ids == [1, 5]
    assert training[(0, 0)].target.labels.tolist() == [0]
    everything = open_split(CONFIG, tiny.root, "train", training=False)
    keeping = open_split(CONFIG.model_copy(update={"skip_empty": False}), tiny.root, "train", training=True)
    assert keeping.image_ids == everything.image_ids
    assert everything.image_ids == [1, 2, 4, 5, 7]
    assert everything[(1, 0)].target.boxes.shape == (0, 4)


def test_an_image_repeats_as_its_rarest_class_does(tiny, make_box, make_image):
    """Of 5 images with objects, dog is in 1: sqrt(0.8 * 5) for it; cat in 4 and crowds do not count."""
    tiny.content["images"] += [make_image(7), make_image(8), make_image(9)]
    tiny.content["annotations"] = [make_box(10 + image, image, 3) for image in (2, 5, 7, 9)] + [
        make_box(30, 1, 90),
        make_box(31, 1, 90),
        make_box(32, 5, 90, segmentation=RUNS, iscrowd=1),
    ]
    tiny.write()
    dataset = open_split(CONFIG, tiny.root, "train", training=True)
    assert dataset.image_ids == [1, 2, 5, 7, 9]
    np.testing.assert_allclose(repeat_factors(dataset, 0.8), [2, 1, 1, 1, 1])
    np.testing.assert_allclose(repeat_factors(dataset, 1.0), [5**0.5] + [1.25**0.5] * 4)
    assert "an epoch is 6 images on average, 1.20 times as long" in told(repeat_factors(dataset, 0.8), 0.8)


def test_samples_at_the_test_size(tiny, make_box):
    tiny.content["annotations"].append(make_box(13, 1, 3, (3, 3, 1, 5), segmentation=RUNS))
    tiny.write()
    sample = open_split(CONFIG, tiny.root, "train", training=False)[(0, 123)]
    assert sample.image.shape == (3, 47, 70)  # the long side is limited to 70
    assert sample.image.dtype == torch.uint8
    assert (sample.image_id, sample.original_size, sample.index) == (1, (20, 30), 0)
    scale = torch.tensor([70 / 30, 47 / 20] * 2)
    torch.testing.assert_close(sample.target.boxes[0], torch.tensor([2.0, 3, 10, 13]) * scale)
    polygons, patch = sample.target.masks
    assert isinstance(polygons, Polygons)
    np.testing.assert_allclose(polygons.parts[0].max(axis=0), np.array([10, 13]) * scale[:2].numpy())
    assert isinstance(patch, MaskPatch)
    assert patch.pixels.tolist() == [[1]] * 5
    np.testing.assert_allclose(patch.span, np.array([3, 3, 4, 8]) * scale.numpy(), rtol=1e-6)


def test_a_reading_is_a_function_of_its_seed(tiny):
    tiny.write()
    dataset = open_split(CONFIG, tiny.root, "train", training=True)
    first, again = dataset[(0, 7)], dataset[(0, 7)]
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.target.boxes, again.target.boxes)
    seen = {(tuple(s.image.shape), s.target.boxes[0, 0].item()) for s in (dataset[(0, k)] for k in range(40))}
    assert len(seen) == 4  # two sizes, two sides


def test_a_cropped_reading_is_a_function_of_its_seed_too(tiny):
    """A box's left border is where its crop and mirror put it; the images are 20 by 30."""
    tiny.write()
    crop = CropConfig(probability=0.9, short_sides=[60, 90], smallest=32, largest=50)
    dataset = open_split(CONFIG.model_copy(update={"crop": crop}), tiny.root, "train", training=True)
    for seed in range(20):
        first, again = dataset[(0, seed)], dataset[(0, seed)]
        assert torch.equal(first.image, again.image) and first.original_size == (20, 30)
        assert torch.equal(first.target.boxes, again.target.boxes)
        assert len(first.target.masks) == len(first.target.boxes)
        assert min(first.image.shape[1:]) in (40, 60) or max(first.image.shape[1:]) == 100
    assert len({len(dataset[(0, seed)].target.boxes) for seed in range(40)}) > 1, "some objects are cut off"
    whole = build_train_loader(dataset, batch_size=2, seed=4)
    tail = build_train_loader(dataset, batch_size=2, seed=4, start=2)
    for left, right in zip(list(islice(whole, 4))[2:], islice(tail, 2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(left.images, right.images, strict=True))
    testing = open_split(CONFIG.model_copy(update={"crop": crop}), tiny.root, "train", training=False)
    assert testing[(0, 3)].image.shape == (3, 47, 70)


def test_box_only_data_needs_a_detector_without_masks(tiny):
    for annotation in tiny.content["annotations"]:
        del annotation["segmentation"]
    path = tiny.write()
    with pytest.raises(InputError) as caught:
        open_split(CONFIG, tiny.root, "train", training=True, masks=True)
    assert str(caught.value) == (
        f"{path}: no annotation has a usable 'segmentation', but a detector with masks needs them;"
        " use a faster_rcnn preset, or add masks"
    )
    dataset = open_split(CONFIG, tiny.root, "train", training=True, masks=False)
    assert len(dataset) == 3
    assert dataset[(0, 0)].target.masks is None


def test_an_instance_without_a_mask_counts_only_where_boxes_do(tiny):
    tiny.content["annotations"][0]["segmentation"] = []
    tiny.write()
    assert open_split(CONFIG, tiny.root, "train", training=True).image_ids == [2, 5]
    assert open_split(CONFIG, tiny.root, "train", training=True, masks=False).image_ids == [1, 2, 5]


def test_nothing_left_to_train_on(tiny):
    tiny.content["annotations"] = []
    path = tiny.write()
    with pytest.raises(InputError) as caught:
        open_split(CONFIG, tiny.root, "train", training=True)
    assert str(caught.value) == f"{path}: no image has an annotation to train on"


def test_test_images_have_no_annotations(tiny):
    path = tiny.write("test")
    del tiny.content["annotations"]
    path.unlink()
    path = path.with_name("image_info_test2017.json")
    path.write_text(json.dumps(tiny.content))
    dataset = open_split(CONFIG, tiny.root, "test", training=False)
    assert len(dataset) == 3
    assert not dataset.index.annotated
    assert dataset[(2, 0)].target.boxes.shape == (0, 4)
    with pytest.raises(InputError, match="there is no 'annotations' key, so nothing to train on"):
        open_split(CONFIG, tiny.root, "test", training=True)


def test_images_in_sub_folders(tiny):
    tiny.write()
    (tiny.images / "a").mkdir()
    (tiny.images / "5.png").rename(tiny.images / "a" / "5é.png")
    tiny.content["images"][2]["file_name"] = "a/5é.png"
    tiny.json.write_text(json.dumps(tiny.content))
    dataset = open_split(CONFIG, tiny.root, "train", training=False)
    assert dataset.image_path(2) == tiny.images / "a" / "5é.png"
    assert dataset[(2, 0)].image_id == 5


def test_splits_must_list_the_same_categories(tiny):
    tiny.write()
    train = open_split(CONFIG, tiny.root, "train", training=True)
    path = tiny.write("val")
    check_same_categories(train, open_split(CONFIG, tiny.root, "val", training=False))
    tiny.content["categories"].append({"id": 4, "name": "cow"})
    tiny.write("val")
    with pytest.raises(InputError) as caught:
        check_same_categories(train, open_split(CONFIG, tiny.root, "val", training=False))
    assert str(caught.value) == (
        f"{path} has the category 4 'cow', but {tiny.json} has not;"
        " the splits of a data set must list the same categories"
    )


def test_coco_needs_a_root():
    with pytest.raises(InputError) as caught:
        open_split(CONFIG, None, "train", training=True)
    assert str(caught.value) == (
        "no data: give --data-root DIR, a folder in COCO layout (train2017/, val2017/,"
        " annotations/instances_*.json), --train-json FILE and --train-images DIR, or --dataset shapes"
    )
