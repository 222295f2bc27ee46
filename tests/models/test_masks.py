"""Mask targets and pasting against independent formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from srfgan.models.instance_masks import MaskPatch, Polygons
from srfgan.models.ops import masks
from srfgan.models.ops.masks import mask_targets, paste_masks

SIZE = (90, 120)


def rectangle(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def test_polygon_target_covers_its_share_of_the_box():
    left_half = Polygons((rectangle(10, 20, 30, 60),))
    target = mask_targets([left_half], torch.tensor([[10.0, 20.0, 50.0, 60.0]]), torch.tensor([0]), 28)
    expected = torch.zeros(28, 28, dtype=torch.bool)
    expected[:, :14] = True
    assert torch.equal(target[0], expected)


@pytest.mark.parametrize("far", [1e9, 1e18, -1e9])
def test_a_vertex_far_away_is_no_endless_outline(far):
    """Drawing takes as long as an outline is long: this one took memory without end."""
    outline = Polygons((np.array([[10, 20], [30, 20], [far, far], [10, 60]], dtype=np.float64),))
    target = mask_targets([outline], torch.tensor([[10.0, 20.0, 50.0, 60.0]]), torch.tensor([0]), 28)
    assert target.any() == (far > 0) and not target.all()


def test_targets_of_polygons_and_patches_keep_their_order():
    two_parts = Polygons((rectangle(0, 0, 10, 40), rectangle(30, 0, 40, 40)))
    disc = np.hypot(*np.mgrid[-10:10, -15:15]) < 9
    patch = MaskPatch(disc.astype(np.uint8), np.array([50.0, 30.0, 80.0, 50.0]))
    boxes = torch.tensor([[45.0, 25.0, 85.0, 55.0], [0.0, 0.0, 40.0, 40.0], [50.0, 30.0, 80.0, 50.0]])
    targets = mask_targets([two_parts, patch], boxes, torch.tensor([1, 0, 1]), 28)
    assert targets[1, :, :7].all() and targets[1, :, -7:].all() and not targets[1, :, 8:-8].any()
    image = torch.zeros(1, 1, *SIZE)
    image[0, 0, 30:50, 50:80] = torch.from_numpy(disc)
    for row in (0, 2):
        whole = roi_align(image, [boxes[row : row + 1]], 28, 1.0, 0, aligned=True)[0, 0] >= 0.5
        assert torch.equal(targets[row], whole), "a patch must pool as the whole image's bitmap does"


def test_a_patch_at_the_images_border_pools_as_the_whole_image_does_for_boxes_beyond_it():
    """RoIAlign goes on with the image's last pixels for half a pixel, and then there is nothing (detectron2)."""
    generator = np.random.default_rng(0)
    height, width = 40, 60
    spans = [(0, 0, 25, 20), (35, 5, 60, 30), (20, 22, 50, 40), (0, 0, 60, 40), (10, 10, 30, 30)]
    patches, images = [], []
    for x0, y0, x1, y1 in spans:
        pixels = (generator.random((y1 - y0, x1 - x0)) < 0.8).astype(np.uint8)
        at_border = (x0 == 0, y0 == 0, x1 == width, y1 == height)
        patches.append(MaskPatch(pixels, np.array([x0, y0, x1, y1], np.float64), at_border))
        images.append(np.pad(pixels, ((y0, height - y1), (x0, width - x1))))
    corner = torch.from_numpy(generator.uniform(-12, 45, (200, 2))).float()
    boxes = torch.cat([corner, corner + torch.from_numpy(generator.uniform(3, 40, (200, 2))).float()], dim=1)
    matched = torch.arange(200) % len(spans)
    whole = torch.from_numpy(np.stack(images)).float()[:, None]
    rois = torch.cat([matched[:, None].float(), boxes], dim=1)
    expected = roi_align(whole, rois, 28, 1.0, 0, aligned=True)[:, 0] >= 0.5
    outside = (boxes < 0).any(dim=1) | (boxes[:, 2:] > torch.tensor([width, height])).any(dim=1)
    assert 50 < outside.sum() < 190 and expected[outside].any()
    different = mask_targets(patches, boxes, matched, 28) != expected
    assert different.float().mean() < 1e-5, "pixels of one half within rounding"


def test_patch_targets_follow_a_resized_span():
    pixels = np.zeros((10, 20), np.uint8)
    pixels[:, 10:] = 1
    patch = MaskPatch(pixels, np.array([100.0, 50.0, 180.0, 90.0]))
    target = mask_targets([patch], torch.tensor([[100.0, 50.0, 180.0, 90.0]]), torch.tensor([0]), 28)[0]
    assert target[:, 14:].all() and not target[:, :14].any()


def test_no_boxes_no_targets():
    assert mask_targets([], torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 28).shape == (0, 28, 28)


@pytest.mark.parametrize("paste", [paste_masks, masks._paste_together])
def test_pasting_equals_grid_sample_over_the_whole_image(paste, monkeypatch):
    monkeypatch.setattr(masks, "_MAX_PASTED_PIXELS", 3 * SIZE[0] * SIZE[1])
    generator = torch.Generator().manual_seed(0)
    count = 20
    corner = torch.rand(count, 2, generator=generator) * 100 - 10
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 60 + 0.5], dim=1)
    probs = torch.rand(count, 28, 28, generator=generator)
    ys = (torch.arange(SIZE[0]) + 0.5 - boxes[:, 1:2]) / (boxes[:, 3:4] - boxes[:, 1:2]) * 2 - 1
    xs = (torch.arange(SIZE[1]) + 0.5 - boxes[:, 0:1]) / (boxes[:, 2:3] - boxes[:, 0:1]) * 2 - 1
    grid = torch.stack([xs[:, None].expand(-1, *SIZE), ys[:, :, None].expand(-1, *SIZE)], dim=-1)
    smooth = F.grid_sample(probs[:, None], grid, align_corners=False)[:, 0]
    pasted = paste(probs, boxes, SIZE, 0.5)
    assert pasted.dtype == torch.bool and pasted.any()
    # Only where the probability is one half within rounding may the two differ.
    assert ((smooth - 0.5).abs()[pasted != (smooth >= 0.5)] < 1e-5).all()


@pytest.mark.parametrize("paste", [paste_masks, masks._paste_together])
def test_pasting_nothing(paste):
    assert paste(torch.zeros(0, 28, 28), torch.zeros(0, 4), SIZE, 0.5).shape == (0, *SIZE)
