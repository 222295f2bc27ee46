import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.transforms.v2 import functional

from srfgan.models.instance_masks import MaskPatch, Polygons
from srfgan.models.structures import Target
from srfgan_cli.data.colours import ColourPolicy
from srfgan_cli.data.crop import Crop, CropPolicy
from srfgan_cli.data.placement import Placement, _resize, resized
from srfgan_cli.data.transforms import ResizePolicy, Steps

ADJUST = [getattr(functional, f"adjust_{what}") for what in ("brightness", "contrast", "saturation", "hue")]


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),  # detectron2's numbers for COCO's usual images
        ((640, 480), 800, 1333, (1067, 800)),
        ((427, 640), 800, 1333, (800, 1199)),
        ((200, 640), 800, 1333, (417, 1333)),
        ((1, 1), 800, 1333, (800, 800)),
        ((1, 2000), 800, 1333, (2, 1333)),
        ((105, 310), 800, 1333, (451, 1333)),  # not 452, as by the long side alone
    ],
)
def test_sizes(size, short, longest, expected):
    assert resized(size, short, longest) == expected


@pytest.mark.parametrize("size", [(300, 400), (48, 61), (97, 130)])
def test_resizing_is_pillows_bilinear(size):
    pixels = np.random.default_rng(0).integers(0, 256, (97, 130, 3), np.uint8)
    image = Placement((97, 130), size, False).image(torch.from_numpy(pixels).permute(2, 0, 1))
    expected = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize("size", [(97, 130), (300, 400), (48, 61)])
def test_pixels_do_not_depend_on_their_order_in_memory_nor_on_when_they_are_mirrored(size):
    channels = torch.randint(
        0, 256, (3, 97, 130), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pixels = channels.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    upright, mirrored = (Placement((97, 130), size, flipped) for flipped in (False, True))
    assert torch.equal(upright.image(channels), upright.image(pixels))
    assert (mirrored.image(pixels).int() - upright.image(pixels).flip(2).int()).abs().max() <= 1


def draw(mask, height, width):
    """A mask on its image, whatever its kind: polygons by COCO's rule, patches pixel by pixel."""
    if isinstance(mask, Polygons):
        rles = coco_mask.frPyObjects([part.ravel().tolist() for part in mask.parts], height, width)
        return coco_mask.decode(coco_mask.merge(rles)).astype(bool)
    y, x = np.mgrid[:height, :width] + 0.5
    x1, y1, x2, y2 = mask.span
    rows, columns = mask.pixels.shape
    i = np.floor((y - y1) / (y2 - y1) * rows).astype(int)
    j = np.floor((x - x1) / (x2 - x1) * columns).astype(int)
    inside = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
    return inside & (mask.pixels[i.clip(0, rows - 1), j.clip(0, columns - 1)] > 0)


def scene():
    """An L on a (40, 60) image, as pixels, polygon and patch."""
    outline = np.array([[10, 5], [30, 5], [30, 15], [20, 15], [20, 35], [10, 35]], np.float64)
    pixels = draw(Polygons((outline,)), 40, 60)
    patch = MaskPatch(pixels[5:35, 10:30].astype(np.uint8), np.array([10, 5, 30, 35], np.float64))
    boxes = torch.tensor([[10.0, 5, 30, 35]] * 2)
    return pixels, Target(boxes, torch.tensor([0, 1]), [Polygons((outline,)), patch])


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("size", [(40, 60), (80, 120), (120, 150), (30, 90)])
def test_masks_and_boxes_follow_the_image(size, flipped):
    """The reference is dense: the mask painted into the image is resized and flipped as pixels."""
    pixels, target = scene()
    placement = Placement((40, 60), size, flipped)
    picture = torch.from_numpy(pixels * np.uint8(255)).repeat(3, 1, 1)
    seen = placement.image(picture)[0].numpy() >= 128
    moved = placement.target(target)
    for mask, box in zip(moved.masks, moved.boxes.numpy(), strict=True):
        drawn = draw(mask, *size)
        overlap = (drawn & seen).sum() / (drawn | seen).sum()
        assert overlap == 1 if size == (40, 60) else overlap > 0.95
        ys, xs = np.nonzero(seen)
        expected = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        np.testing.assert_allclose(box, expected, atol=1e-4 if size == (40, 60) else 1)
    assert moved.labels.tolist() == [0, 1]


def test_flipping_twice_gives_the_target_back():
    _, target = scene()
    flip = Placement((40, 60), (40, 60), True)
    again = flip.target(flip.target(target))
    torch.testing.assert_close(again.boxes, target.boxes)
    np.testing.assert_allclose(again.masks[0].parts[0], target.masks[0].parts[0])
    np.testing.assert_array_equal(again.masks[1].pixels, target.masks[1].pixels)
    np.testing.assert_allclose(again.masks[1].span, target.masks[1].span)


def test_all_sizes_and_both_sides_are_drawn():
    policy = ResizePolicy((32, 48), 100, flip=0.5)
    placements = [policy.draw((10, 20), torch.Generator().manual_seed(seed)).steps[0] for seed in range(200)]
    assert {placement.size for placement in placements} == {(32, 64), (48, 96)}
    assert 70 < sum(placement.flipped for placement in placements) < 130
    assert not ResizePolicy((32,), 100).draw((10, 20), torch.Generator()).steps[0].flipped


CROPS = CropPolicy(0.5, (400, 500, 600), 384, 600)


def drawn(policy, size, count=300):
    return [policy.draw(size, torch.Generator().manual_seed(seed)) for seed in range(count)]


def test_half_of_the_images_are_cropped_to_a_window_within_the_resized_image():
    """DETR's rule: sides of 384 to 600, each for itself, in an image whose short side is 400, 500 or 600."""
    crops = [crop for crop in drawn(CROPS, (480, 640)) if crop is not None]
    assert 120 < len(crops) < 180
    assert {crop.first.size for crop in crops} == {(400, 533), (500, 667), (600, 800)}
    sides = [side for crop in crops for side in crop.size]
    assert min(sides) < 390 and max(sides) > 590 and min(sides) >= 384 and max(sides) <= 600
    assert len({(h > 500, w > 500) for crop in crops for h, w in [crop.size]}) == 4
    for crop in crops:
        (top, left), (height, width), (whole_height, whole_width) = crop.corner, crop.size, crop.first.size
        assert top >= 0 and top + height <= whole_height and left >= 0 and left + width <= whole_width
    at_the_end = [c.corner[1] + c.size[1] == c.first.size[1] for c in crops]
    assert any(at_the_end) and not all(at_the_end)


def test_an_image_that_is_smaller_than_a_crop_stays_whole_in_that_direction():
    narrow = CropPolicy(1.0, (100,), 384, 600)
    crops = drawn(narrow, (100, 700), 50)
    assert {crop.size[0] for crop in crops} == {100} and min(crop.size[1] for crop in crops) >= 384
    strip = CropPolicy(1.0, (600,), 384, 600)
    assert [max(crop.first.size) for crop in drawn(strip, (1, 20_000), 1)] == [32_768]


def test_crops_leave_sizes_and_sides_as_they_are_drawn_without_them():
    plain, cropping = ResizePolicy((32, 48), 100, 0.5), ResizePolicy((32, 48), 100, 0.5, crop=CROPS)
    both = list(zip(drawn(plain, (480, 640)), drawn(cropping, (480, 640)), strict=True))
    uncropped = [(a, b) for a, b in both if len(b.steps) == 1]
    assert 120 < len(uncropped) < 180 and all(a == b for a, b in uncropped)
    for a, b in both:
        if len(b.steps) == 2:
            (whole,), (crop, placement) = a.steps, b.steps
            assert placement.flipped == whole.flipped and placement.source == crop.size
            assert min(placement.size) == min(whole.size) or max(placement.size) == 100


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize(
    ("corner", "size"), [((0, 0), (80, 120)), ((8, 15), (50, 40)), ((6, 30), (60, 70)), ((20, 0), (60, 90))]
)
def test_masks_and_boxes_follow_the_crop(corner, size, flipped):
    """The reference is dense: the mask painted into the image is resized, cut and mirrored as pixels."""
    pixels, target = scene()
    crop = Crop(Placement((40, 60), (80, 120), flipped=False), corner, size)
    placement = Steps((crop, Placement(size, (100, 120), flipped)))
    picture = torch.from_numpy(pixels * np.uint8(255)).repeat(3, 1, 1)
    image = placement.image(picture)
    assert image.shape == (3, 100, 120) and image.dtype == torch.uint8
    seen, moved = image[0].numpy() >= 128, placement.target(target)
    ys, xs = np.nonzero(seen)
    for mask, box in zip(moved.masks, moved.boxes.numpy(), strict=True):
        pixels_of_mask = draw(mask, 100, 120)
        assert (pixels_of_mask & seen).sum() / (pixels_of_mask | seen).sum() > 0.95
        assert (box >= 0).all() and (box <= [120, 100, 120, 100]).all()
        # The box is cut, not drawn anew: the L's may be larger than what is seen of it.
        assert box[0] <= xs.min() + 2 and box[1] <= ys.min() + 2
        assert box[2] >= xs.max() - 1 and box[3] >= ys.max() - 1
    whole = Target(torch.tensor([[20.0, 10, 60, 70]]), target.labels[:1])
    cut = np.clip(whole.boxes[0].numpy() - [corner[1], corner[0]] * 2, 0, [size[1], size[0]] * 2)
    expected = Placement(size, (100, 120), flipped).boxes(torch.tensor(cut[None], dtype=torch.float32))
    torch.testing.assert_close(moved.boxes, expected.expand(2, 4))


def test_objects_that_a_crop_leaves_out_are_dropped():
    boxes = torch.tensor(
        [[0, 0, 10, 10], [10, 10, 20, 20], [5, 5, 30, 10.0005], [12, 3, 30, 11], [30, 9, 40, 30]]
    )
    masks = [Polygons((np.full((3, 2), float(n)),)) for n in range(5)]
    target = Target(boxes.float(), torch.arange(5), masks)
    crop = Crop(Placement((40, 40), (40, 40), flipped=False), (10, 10), (20, 20))
    seen = crop.target(target)
    assert seen.labels.tolist() == [1, 3], (
        "touching the border, or within a thousandth of a pixel, is not inside"
    )
    assert seen.boxes.tolist() == [[0, 0, 10, 10], [2, 0, 20, 1]]
    assert [mask.parts[0][0, 0] + 10 for mask in seen.masks] == [1, 3]
    assert crop.target(Target(boxes[:1].float(), torch.arange(1))).boxes.shape == (0, 4)


def test_a_target_without_instances_or_masks_passes():
    empty = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), None)
    moved = Placement((10, 10), (20, 30), True).target(empty)
    assert moved.boxes.shape == (0, 4)
    assert moved.masks is None


def test_a_mask_of_one_column_can_be_flipped():
    """numpy calls such an array contiguous whatever its stride; torch does not take a negative one."""
    at_border = (True, True, False, False)
    patch = MaskPatch(np.array([[1], [0], [1]], np.uint8), np.array([2, 0, 3, 3], np.float64), at_border)
    target = Target(torch.tensor([[2.0, 0, 3, 3]]), torch.tensor([0]), [patch])
    (mirrored,) = Placement((3, 8), (3, 8), flipped=True).target(target).masks
    assert mirrored.at_border == (False, True, True, False)
    assert torch.from_numpy(mirrored.pixels).tolist() == [[1], [0], [1]] and mirrored.span[0] == 5


@pytest.mark.parametrize("size", [(31, 47), (90, 140)])
def test_a_gpus_resizing_is_a_cpus_within_a_grey_level(size):
    """It has no resizing of bytes, so it resizes floats; these are what it resizes, here on the CPU."""
    image = torch.randint(0, 256, (3, 60, 91), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    bytes_, floats = _resize(image, size), _resize(image.float(), size)
    assert floats.dtype == torch.uint8 and floats.shape == (3, *size)
    # Bytes are rounded twice, after the rows and after the columns.
    different = (floats.int() - bytes_.int()).float()
    assert different.abs().max() == 1 and different.mean().abs() < 0.15


def test_colours_change_as_colorjitter_changes_them_and_nothing_else_does():
    image = torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    target = Target(torch.tensor([[2.0, 3, 20, 18]]), torch.tensor([1]))
    colours = ColourPolicy(probability=0.5, brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
    plain, coloured = (ResizePolicy((24, 48), 100, 0.5, colours=given) for given in (None, colours))
    changed = 0
    for seed in range(200):
        without, with_ = (
            policy.draw((24, 32), torch.Generator().manual_seed(seed)) for policy in (plain, coloured)
        )
        assert torch.equal(without.target(target).boxes, with_.target(target).boxes)
        if len(with_.steps) == 2:
            changed += 1
            drawn = with_.steps[1]
            assert abs(drawn.brightness - 1) <= 0.4 and abs(drawn.contrast - 1) <= 0.3
            assert abs(drawn.saturation - 1) <= 0.2 and abs(drawn.hue) <= 0.1
            if changed == 1:
                expected = without.image(image)
                for adjust, amount in zip(ADJUST, vars(drawn).values(), strict=True):
                    expected = adjust(expected, amount)
                assert torch.equal(with_.image(image), expected) and expected.dtype == torch.uint8
        else:
            assert torch.equal(without.image(image), with_.image(image))
    assert 70 < changed < 130
