"""Whatever is drawn at random, boxes and masks are where the image has the objects."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import max_pool2d

from srfgan.models.errors import InputError
from srfgan.models.instance_masks import MaskPatch, Polygons
from srfgan.models.structures import Target
from srfgan_cli.data.copy_paste import pasted
from srfgan_cli.data.drawn import as_boxes, whole_mask
from srfgan_cli.data.loaders import build_train_loader
from srfgan_cli.data.mosaic import mosaic
from srfgan_cli.data.open import open_split
from srfgan_cli.data.placement import Placement
from srfgan_cli.data.rle import encode_mask
from srfgan_cli.data.rotation import Rotation, RotationPolicy
from srfgan_cli.data.scale_jitter import ScaleJitterPolicy
from srfgan_cli.presets.config import DataConfig
from srfgan_cli.training.pairs import halve, halve_targets

EACH = {
    "mosaic": {"probability": 0.8},
    "copy_paste": {"probability": 0.8},
    "rotation": {"degrees": 30, "quarter_turns": True},
    "scale_jitter": {"smallest": 0.3, "largest": 2.0, "size": 128},
    "colour": {"brightness": 0.1, "contrast": 0.1, "hue": 0.05},
}


def config(**changes):
    return DataConfig(short_sides=[96, 128], max_side=200, skip_empty=False, **changes)


def outlines(image_id):
    """Outlines in an image of 120 by 160: one across its border, an L, a square, and one of a crowd."""
    shift = 3 * image_id
    corner = [[-12, -9], [40, -9], [40, 30], [-12, 30]]
    angle = [[60, 20], [110, 20], [110, 45], [90, 45], [90, 100], [60, 100]]
    square = [[125, 70 + shift], [150, 70 + shift], [150, 95 + shift], [125, 95 + shift]]
    crowd = [[10, 60], [50, 60], [50, 110], [10, 110]]
    return [np.array(points, np.float64) for points in (corner, angle, square, crowd)]


@pytest.fixture
def scenes(tiny, make_box, make_image):
    """White objects on black in three images: polygons and run lengths, a crowd in grey, and one image without any."""
    tiny.content["images"] = [make_image(number, height=120, width=160) for number in (1, 2, 3)]
    tiny.content["annotations"] = annotations = []
    for image_id in (1, 2):
        for kind, outline in enumerate(outlines(image_id)):
            low, high = outline.min(axis=0).clip(0), outline.max(axis=0)
            pixels = whole_mask(Polygons((outline,)), (120, 160)).numpy()
            codes = [[outline.ravel().tolist()], encode_mask(pixels, (0, 0), (120, 160))]
            code = codes[kind == 3 or (kind + image_id) % 2]
            number = len(annotations) + 1
            area = (*low.tolist(), *(high - low).tolist())
            annotations.append(make_box(number, image_id, 3, area, code, iscrowd=int(kind == 3)))
    tiny.write()
    for image_id in (1, 2, 3):
        pixels = np.zeros((120, 160, 3), np.uint8)
        for kind, outline in enumerate(outlines(image_id) if image_id < 3 else []):
            pixels[whole_mask(Polygons((outline,)), (120, 160)).numpy()] = 60 if kind == 3 else 255
        Image.fromarray(pixels).save(tiny.images / f"{image_id}.png")
    return tiny.root


def grown(mask, pixels):
    return max_pool2d(mask[None].float(), 2 * pixels + 1, 1, pixels)[0] > 0


def check_against_pixels(image, target, smallest=1.0):
    """Objects are white, and nothing else is; a box is its mask's within a pixel."""
    size = (image.shape[1], image.shape[2])
    white = image.float().mean(dim=0) > 160
    masks = [whole_mask(mask, size) for mask in target.masks]
    objects = torch.stack(masks).any(dim=0) if masks else torch.zeros(size, dtype=torch.bool)
    for only, other in ((white, objects), (~white, ~objects)):
        # Besides two pixels along outlines: seams where a pasted object's blurred edge crosses another one.
        assert (only & ~grown(other, 2))[2:-2, 2:-2].sum() < 12, "masks and objects differ"
    limit = np.array([size[1], size[0]] * 2)
    for box, mask, drawn in zip(target.boxes.numpy(), target.masks, masks, strict=True):
        assert np.abs(mask.extent.clip(0, limit) - box).max() <= 1
        if (box[2:] - box[:2]).min() < 4:
            continue
        rows, columns = drawn.any(dim=1).nonzero(), drawn.any(dim=0).nonzero()
        around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # Drawing has lost tips of less than half a pixel.
        assert np.abs(np.array(around) - box).max() <= 2
        assert (box[2:] - box[:2] >= smallest).all() and (box >= 0).all() and (box <= limit + 0.5).all()


@pytest.mark.parametrize("changes", [*({key: EACH[key]} for key in EACH), EACH], ids="+".join)
def test_boxes_and_masks_are_where_the_objects_are(scenes, changes):
    """In images and in the halves that stages 1 and 2 pair with them: both share every random choice."""
    dataset = open_split(config(**changes), scenes, "train", training=True)
    without_masks = open_split(config(**changes), scenes, "train", training=True, masks=False)
    for position in range(3):
        for seed in range(5):
            sample = dataset[(position, seed)]
            check_against_pixels(sample.image, sample.target)
            (half,), (half_target,) = halve([sample.image], "bilinear"), halve_targets([sample.target])
            check_against_pixels(half, half_target, smallest=0.5)
            alone = without_masks[(position, seed)].target
            assert alone.masks is None and torch.equal(alone.boxes, sample.target.boxes)
            assert sample.original_size == (120, 160)
            assert "scale_jitter" not in changes or sample.image.shape == (3, 128, 128)


def test_every_choice_is_a_function_of_the_samples_seed(scenes):
    """So that workers, and a resumed run, make the same images."""
    dataset = open_split(config(**EACH), scenes, "train", training=True)
    plain, tail, with_workers = (
        build_train_loader(dataset, batch_size=2, seed=4, start=start, workers=workers)
        for start, workers in ((0, 0), (2, 0), (2, 1))
    )
    for batches in zip(list(islice(plain, 4))[2:], islice(tail, 2), islice(with_workers, 2), strict=True):
        for other in batches[1:]:
            assert all(torch.equal(a, b) for a, b in zip(batches[0].images, other.images, strict=True))
            for a, b in zip(batches[0].targets, other.targets, strict=True):
                assert torch.equal(a.boxes, b.boxes) and torch.equal(a.labels, b.labels)


def scene():
    """A polygon and a patch at the image's left border, in a noisy (3, 40, 60) image."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 60), np.uint8)
    patch = MaskPatch(
        np.array([[1, 0], [1, 1], [1, 1]], np.uint8), np.array([0, 5, 2, 8.0]), (True, False, False, False)
    )
    outline = Polygons((np.array([[10, 5], [30, 5], [30, 25.0]]),))
    boxes = torch.tensor([[10.0, 5, 30, 25], [0, 5, 2, 8]])
    return torch.from_numpy(pixels), Target(boxes, torch.tensor([4, 7]), [outline, patch])


def test_nothing_changes_by_a_turn_of_0_degrees_or_a_factor_of_1():
    image, target = scene()
    generator = torch.Generator().manual_seed(0)
    still = RotationPolicy(quarter_turns=False, degrees=0).draw((40, 60), generator)
    fitting = ScaleJitterPolicy(1, 1, 60).draw((40, 60), flipped=False, generator=generator)
    for step, height in ((still, 40), (fitting, 60)):
        after, moved = step.image(image), step.target(target)
        assert after.shape == (3, height, 60) and torch.equal(after[:, :40], image)
        assert after[:, 40:].unique().tolist() in ([], [104, 116, 124])
        assert torch.equal(moved.boxes, target.boxes) and torch.equal(moved.labels, target.labels)
        np.testing.assert_array_equal(moved.masks[0].parts[0], target.masks[0].parts[0])
        np.testing.assert_array_equal(moved.masks[1].pixels, target.masks[1].pixels)
        assert moved.masks[1].at_border == target.masks[1].at_border


def test_four_quarters_are_none_and_each_is_exact():
    image, target = scene()
    turned = target
    for size in [(40, 60), (60, 40)] * 2:
        image = Rotation(size, 1, 0.0).image(image)
        turned = Rotation(size, 1, 0.0).target(turned)
        if size == (40, 60):
            assert (
                image.shape == (3, 60, 40)
                and turned.masks[1].at_border[3] is not turned.masks[1].at_border[1]
            )
    assert torch.equal(image, scene()[0]) and torch.equal(turned.boxes, target.boxes)
    np.testing.assert_array_equal(turned.masks[1].pixels, target.masks[1].pixels)
    np.testing.assert_array_equal(turned.masks[0].parts[0], target.masks[0].parts[0])
    assert turned.masks[1].at_border == target.masks[1].at_border
    # Against the clock, what was at the left is at the bottom.
    once = Rotation((40, 60), 1, 0.0).target(target)
    assert once.boxes.tolist() == [[5, 30, 25, 50], [5, 58, 8, 60]]
    assert once.masks[1].at_border == (False, False, False, True)


def test_objects_that_leave_the_image_or_shrink_below_a_pixel_are_dropped():
    image, target = scene()
    turned = Rotation((40, 60), 0, -45.0).target(target)
    assert turned.labels.tolist() == [4], "the patch was in a corner that is cut off"
    window = ScaleJitterPolicy(0.4, 0.4, 60).draw((40, 60), flipped=False, generator=torch.Generator())
    small = window.target(target)
    assert small.labels.tolist() == [4] and len(small.masks) == 1
    none = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), [])
    assert window.target(none).boxes.shape == (0, 4)
    assert Rotation((40, 60), 1, 5.0).target(none).boxes.shape == (0, 4)
    assert window.first == Placement((40, 60), (16, 24), flipped=False) and window.image(image).shape == (
        3,
        60,
        60,
    )


def square(x, y, side):
    return Polygons((np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], np.float64),))


def of(*masks):
    boxes = as_boxes([mask.extent for mask in masks])
    return Target(boxes, torch.arange(len(masks)), list(masks))


def test_pasted_objects_hide_what_is_below_them():
    """Untouched objects stay as they are; a covered one has the box of its rest, or goes with it."""
    image, other = torch.zeros(3, 60, 80, dtype=torch.uint8), torch.full((3, 40, 40), 255, dtype=torch.uint8)
    target = of(square(5, 5, 20), square(32, 30, 5), square(60, 40, 10), square(12, 28, 10))
    objects = of(square(2, 0, 20), square(20, 15, 10), square(35, 30, 20))
    after, both = pasted(image, target, other, objects, (15, 10))
    assert both.labels.tolist() == [0, 2, 3, 0, 1, 2], "the second was covered"
    assert both.boxes.tolist() == [
        *([5, 5, 25, 25], [60, 40, 70, 50], [12, 35, 22, 38]),
        *([12, 15, 32, 35], [30, 30, 40, 40], [45, 45, 50, 55]),  # the last one is cut by its own image
    ]
    assert both.masks[1] is target.masks[2] and both.masks[0].pixels.sum() == 400 - 130
    white = torch.zeros(60, 80, dtype=torch.bool)
    for mask in both.masks[3:]:
        white |= whole_mask(mask, (60, 80))
    assert torch.equal(after[0] == 255, white) and not image.any()


def test_a_mosaic_of_quarters_of_the_images_size_is_the_four_images():
    image, target = scene()
    images = [(image + 20 * number, replace(target, labels=target.labels + number)) for number in range(4)]
    canvas, both = mosaic(images, (80, 120), (40, 60))
    assert torch.equal(canvas[:, 40:, :60], images[2][0]) and torch.equal(canvas[:, :40, 60:], images[1][0])
    assert both.labels.tolist() == [4, 7, 5, 8, 6, 9, 7, 10]
    assert both.boxes[6:].tolist() == [[70, 45, 90, 65], [60, 45, 62, 48]]
    borders = [mask.at_border for mask in both.masks[1::2]]
    assert [border[0] for border in borders] == [True, False, True, False], (
        "inside, an image's border is none"
    )
    strip = (torch.zeros(3, 1, 20_000, dtype=torch.uint8), of())
    assert mosaic([strip] * 4, (2, 40_000), (1, 20_000))[0].shape == (3, 2, 40_000)
    assert mosaic([strip, images[0], strip, strip], (80, 120), (30, 70))[1].labels.tolist() == [4, 7]


def test_copy_paste_needs_masks(tiny, make_box):
    """A detector of boxes has the masks of its data; an object without one is pasted over, but not pasted."""
    changes = config(copy_paste={"probability": 1.0}, flip=0)
    tiny.content["annotations"][1]["segmentation"] = tiny.content["annotations"][2]["segmentation"] = []
    tiny.write()
    dataset = open_split(changes, tiny.root, "train", training=True, masks=False)
    counts = [len(dataset[(position, seed)].target.boxes) for position in range(3) for seed in range(20)]
    assert set(counts) == {1, 2}
    assert all(set(dataset[(1, seed)].target.labels.tolist()) <= {0, 1} for seed in range(20))
    for annotation in tiny.content["annotations"]:
        del annotation["segmentation"]
    path = tiny.write()
    with pytest.raises(InputError) as caught:
        open_split(changes, tiny.root, "train", training=True, masks=False)
    assert str(caught.value) == (
        f"{path}: no annotation has a usable 'segmentation', but data.copy_paste cuts objects out by their masks;"
        " leave it out, or add masks"
    )


def test_box_only_data_turns_with_the_boxes_corners(tiny, make_box):
    for annotation in tiny.content["annotations"]:
        del annotation["segmentation"]
    tiny.write()
    dataset = open_split(config(rotation={"degrees": 10}), tiny.root, "train", training=True, masks=False)
    target = dataset[(0, 1)].target
    plain = open_split(config(), tiny.root, "train", training=True, masks=False)[(0, 1)].target
    assert target.masks is None and len(target.boxes) == 1
    sides, before = (boxes[0, 2:] - boxes[0, :2] for boxes in (target.boxes, plain.boxes))
    assert (sides > before).all() and (sides < 1.4 * before).all()
