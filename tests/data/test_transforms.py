import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from srfgan.models.structures import MaskPatch, Polygons, Target
from srfgan_cli.data.transforms import Placement, ResizePolicy, _resize, resized


@pytest.mark.parametrize(
    ("size", "short", "longest", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1067)),  # detectron2's numbers for COCO's usual images
        ((640, 480), 800, 1333, (1067, 800)),
        ((427, 640), 800, 1333, (800, 1199)),
        ((200, 640), 800, 1333, (417, 1333)),
        ((1, 1), 800, 1333, (800, 800)),
        ((1, 2000), 800, 1333, (2, 1333)),
    ],
)
def test_sizes(size, short, longest, expected):
    assert resized(size, short, longest) == expected


@pytest.mark.parametrize("size", [(300, 400), (48, 61), (97, 130)])
def test_resizing_is_pillows_bilinear(size):
    pixels = np.random.default_rng(0).integers(0, 256, (97, 130, 3), np.uint8)
    image = Placement((97, 130), size, False).image(torch.from_numpy(pixels).permute(2, 0, 1))
    expected = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    assert image.is_contiguous()
    assert np.abs(image.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1


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
    placements = [policy.draw((10, 20), torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert {placement.size for placement in placements} == {(32, 64), (48, 96)}
    assert 70 < sum(placement.flipped for placement in placements) < 130
    assert not ResizePolicy((32,), 100).draw((10, 20), torch.Generator()).flipped


def test_a_target_without_instances_or_masks_passes():
    empty = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), None)
    moved = Placement((10, 10), (20, 30), True).target(empty)
    assert moved.boxes.shape == (0, 4)
    assert moved.masks is None


def test_a_mask_of_one_column_can_be_flipped():
    """numpy calls such an array contiguous whatever its stride; torch does not take a negative one."""
    patch = MaskPatch(np.array([[1], [0], [1]], np.uint8), np.array([2, 0, 3, 3], np.float64))
    target = Target(torch.tensor([[2.0, 0, 3, 3]]), torch.tensor([0]), [patch])
    (mirrored,) = Placement((3, 8), (3, 8), flipped=True).target(target).masks
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
