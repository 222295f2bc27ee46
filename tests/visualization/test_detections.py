"""Drawn detections: the right pixels get colour, labels stay apart, pictures have a readable size."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from srfgan.models.structures import Detections
from srfgan_cli.visualization.colours import distinct_colour, text_colour
from srfgan_cli.visualization.detections import _caption, _outline, draw
from srfgan_cli.visualization.labels import Label, draw_labels
from srfgan_cli.visualization.text import Lettering

GREY = torch.full((3, 480, 640), 90, dtype=torch.uint8)


def found(boxes, *, scores=None, labels=None, masks=None):
    count = len(boxes)
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.full((count,), 0.9) if scores is None else torch.tensor(scores),
        torch.zeros(count, dtype=torch.int64) if labels is None else torch.tensor(labels),
        masks,
    )


def changed(picture, image=GREY):
    """(H, W) bool: which of the image's pixels were drawn on."""
    return (picture[:, : image.shape[1], : image.shape[2]] != image).any(0)


def test_masks_are_tinted_in_their_class_colour_and_nothing_else_is():
    masks = torch.zeros(1, 480, 640, dtype=torch.bool)
    masks[0, 200:300, 100:220] = True
    picture = draw(GREY, found([[100, 200, 220, 300]], labels=[1], masks=masks), ["cat", "dog"])
    drawn = changed(picture)
    assert drawn[200:300, 100:220].all()
    assert not drawn[:, 260:].any() and not drawn[330:].any()
    inside = picture[:, 250, 160].float()
    expected = 90 + 0.4 * (torch.tensor(distinct_colour(1)) - 90)
    assert torch.allclose(inside, expected, atol=1.0)
    assert picture.dtype == torch.uint8 and GREY.eq(90).all()


def test_masks_that_come_one_by_one_are_drawn_as_all_at_once():
    """As `predict` has them: those of a thousand objects in an image of 4000 pixels would be 16 GB."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 300, (40, 2))
    boxes = np.concatenate([corners, corners + rng.integers(20, 120, (40, 2))], 1).tolist()
    masks = torch.zeros(40, 480, 640, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    scores = rng.random(40).tolist()
    whole = draw(GREY, found(boxes, scores=scores, masks=masks), ["cat"], score_threshold=0.3)
    single = draw(GREY, found(boxes, scores=scores), ["cat"], score_threshold=0.3, masks=list(masks))
    assert torch.equal(whole, single)


def test_labels_of_a_crowd_are_no_larger_than_its_objects():
    """In a large picture, where letters that suit it hid what they named."""
    image = torch.full((3, 2000, 2000), 90, dtype=torch.uint8)
    boxes = [[x, y, x + 20, y + 20] for x in range(100, 1900, 300) for y in range(100, 1900, 300)]
    masks = torch.zeros(len(boxes), 1, 1, dtype=torch.bool).expand(-1, 2000, 2000)
    drawn = changed(draw(image, found(boxes, masks=masks), ["cat"]), image)
    assert 0 < drawn.sum() < 36 * 40 * 20, "letters of 10 pixels, and not of 29"


def test_low_scores_are_left_out():
    boxes = [[50, 60, 150, 160], [400, 200, 500, 300]]
    drawn = changed(draw(GREY, found(boxes, scores=[0.4, 0.6]), ["cat"], score_threshold=0.5))
    assert not drawn[:, :300].any()
    assert drawn[200, 400:500].all()


def test_instances_of_a_single_class_differ_in_colour():
    boxes = [[50, 100, 150, 200], [300, 100, 400, 200]]
    alone = draw(GREY, found(boxes), ["nucleus"])
    together = draw(GREY, found(boxes), ["cat", "dog"])
    assert not torch.equal(alone[:, 150, 50], alone[:, 150, 300])
    assert torch.equal(together[:, 150, 50], together[:, 150, 300])


def test_the_better_detection_lies_on_top():
    masks = torch.ones(2, 480, 640, dtype=torch.bool)
    both = draw(
        GREY, found([[0, 0, 640, 480]] * 2, scores=[0.6, 0.9], labels=[0, 1], masks=masks), ["a", "b"]
    )
    assert torch.equal(both[:, 240, 1], torch.tensor(distinct_colour(1), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("size", "box", "factor"),
    [
        ((480, 640), [10, 10, 200, 200], 1),
        ((128, 128), [10, 10, 60, 60], 5),  # a small image
        ((480, 640), [10, 10, 20, 20], 2),  # small objects, as far as 1600 pixels allow
        ((1040, 1388), [10, 10, 20, 20], 1),
    ],
)
def test_small_images_and_objects_are_enlarged(size, box, factor):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    picture = draw(image, found([box]), ["cat"])
    assert picture.shape[2] == size[1] * factor
    assert size[0] * factor < picture.shape[1] < size[0] * factor * 1.08 + 30, "a caption below"
    x1, y1, *_ = (factor * value for value in box)
    assert (picture[:, y1 + 2 : y1 + 8, x1] != 0).any()


def test_nothing_found_and_odd_boxes_are_drawn_without_failing():
    assert not changed(draw(GREY, found([]), ["cat"])).any()
    odd = found([[0, 0, 640, 480], [630, 470, 640, 480], [5, 5, 5.2, 5.2]], labels=[0, 1, 1])
    blank = torch.zeros(3, 480, 640, dtype=torch.bool)
    odd.masks = blank
    assert draw(GREY, odd, ["cat", "dog"]).shape[0] == 3
    assert _caption(found([]), ["cat"], 0.5) == ["score at least 50 %: nothing found"]
    assert _caption(found([]), ["cat"], None) == ["no objects"], "of ground truth nobody has looked for"


def test_labels_never_overlap_and_most_find_a_place():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 560, (150, 2))
    labels = [Label("cat 97", (x, y, x + 60, y + 60), (200, 200, 0)) for x, y in corners]
    picture = Image.new("RGB", (640, 640))
    boxes = []
    pen = ImageDraw.Draw(picture, "RGBA")
    rectangle = pen.rectangle
    pen.rectangle = lambda place, **more: (boxes.append(place), rectangle(place, **more))
    drawn = draw_labels(pen, labels, Lettering(12), picture.size)
    assert drawn == len(boxes) > 75
    places = np.array(boxes)
    assert (places[:, :2] >= 0).all() and (places[:, 2:] <= 640).all()
    left, right = (
        np.maximum(places[:, None, :2], places[:, :2]),
        np.minimum(places[:, None, 2:], places[:, 2:]),
    )
    overlap = (right - left).clip(min=0).prod(axis=2)
    assert (overlap - np.diag(np.diag(overlap)) < 1e-6).all()


def test_colours_are_distinct_bright_and_readable():
    colours = np.array([distinct_colour(index) for index in range(80)], dtype=float)
    assert len(np.unique(colours, axis=0)) == 80
    assert (np.abs(np.diff(colours[:20], axis=0)).sum(axis=1) > 100).all(), "neighbours differ"
    assert (colours @ [0.299, 0.587, 0.114] > 110).all(), "visible on a black image"
    assert text_colour((255, 255, 255)) == (0, 0, 0)
    assert text_colour((0, 0, 90)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (1, 5000)])
def test_a_crowd_in_a_tiny_image_is_drawn(size):
    """Enlarged by hundreds: lines as wide, by a window of their square, took hours."""
    height, width = size
    boxes = [[0, 0, width, height]] * 40
    picture = draw(
        torch.zeros(3, height, width, dtype=torch.uint8),
        found(boxes, masks=torch.ones(40, height, width, dtype=torch.bool)),
        ["thing", "other"],
    )
    factor = max(1, 640 // width)
    shown = picture[:, : height * factor]
    assert shown.shape[2] == width * factor and (shown.amax(0) > 0).float().mean() > 0.9


def test_a_box_that_ends_anywhere_is_drawn_as_what_is_seen_of_it():
    """Lines of billions of pixels took a minute each, and infinite ones ended in a traceback."""
    far = draw(GREY, found([[50, 60, torch.inf, 300], [-torch.inf, -torch.inf, 500, 400]]), ["a", "b"])
    near = draw(GREY, found([[50, 60, 1280, 300], [-640, -480, 500, 400]]), ["a", "b"])
    assert torch.equal(far, near)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_an_outline_is_what_is_within_its_width_of_the_border(width):
    mask = torch.from_numpy(np.random.default_rng(width).random((30, 40)) < 0.97)
    padded = torch.zeros(30 + 2 * width, 40 + 2 * width, dtype=torch.bool)
    padded[width:-width, width:-width] = mask
    side = 2 * width + 1
    inner = padded.unfold(0, side, 1).unfold(1, side, 1).flatten(2).all(2)
    assert torch.equal(_outline(mask, width), mask & ~inner)
