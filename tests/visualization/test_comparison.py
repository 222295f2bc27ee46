"""Two detectors side by side: who finds what, and how the panel marks it."""

import numpy as np
import pytest
import torch

from srfgan.models.structures import Detections
from srfgan_cli.visualization.agreement import Truth, agreement, match
from srfgan_cli.visualization.comparison import (
    BOTH,
    FALSE,
    FIRST,
    NEITHER,
    SECOND,
    Contest,
    comparison_panel,
)

ROOM = [(x, y, x + 60.0, y + 60.0) for y in (20.0, 180.0) for x in (20.0, 120.0, 220.0, 320.0)]
"""Places that do not overlap."""


def found(places, *, scores=None, labels=None, masks=None):
    boxes = torch.tensor([ROOM[p] if isinstance(p, int) else p for p in places], dtype=torch.float32).reshape(
        -1, 4
    )
    scores = torch.tensor([0.9] * len(boxes) if scores is None else scores)
    labels = torch.tensor([0] * len(boxes) if labels is None else labels, dtype=torch.int64)
    return Detections(boxes, scores, labels, masks)


def truth(places, labels=None, crowds=(), crowd_labels=()):
    boxes = torch.tensor([ROOM[p] if isinstance(p, int) else p for p in crowds], dtype=torch.float32).reshape(
        -1, 4
    )
    return Truth(found(places, labels=labels), boxes, torch.tensor(crowd_labels, dtype=torch.int64))


def shifted(place, by):
    x0, y0, x1, y1 = ROOM[place]
    return (x0 + by, y0, x1 + by, y1)


@pytest.mark.parametrize(
    ("detections", "objects", "expected"),
    [
        (found([0, 1]), found([1, 0]), [1, 0]),
        (found([0]), found([0], labels=[1]), [-1]),  # another class
        (found([shifted(0, 10)]), found([0]), [0]),  # IoU 5 / 7
        (found([shifted(0, 25)]), found([0]), [-1]),  # IoU 35 / 85
        (found([shifted(0, 10), 0], scores=[0.9, 0.8]), found([0]), [0, -1]),  # the best one first
        (found([shifted(0, 10), 0], scores=[0.5, 0.8]), found([0]), [-1, 0]),
        (
            found([0, 0]),
            found([shifted(0, 12), shifted(0, 4)]),
            [1, 0],
        ),  # the nearest first, then what is left
        (found([]), found([0]), []),
        (found([0]), found([]), [-1]),
    ],
)
def test_each_object_is_one_detections(detections, objects, expected):
    assert match(detections, objects).tolist() == expected


def test_with_the_truth():
    first = found([0, 1, 5, 0], scores=[0.9, 0.8, 0.7, 0.6])
    second = found([2, 0], scores=[0.9, 0.8])
    result = agreement(first, second, truth([0, 1, 2, 3]))
    assert result.counts == {"both": 1, "first": 1, "second": 1, "neither": 1}
    one, other = result.finders
    assert one.right.tolist() == [True, True, False, False], "one place of nothing, one object twice"
    assert one.alone.tolist() == [False, True, False, False] and other.alone.tolist() == [True, False]
    assert one.missed.tolist() == [list(ROOM[2])] and other.missed.tolist() == [list(ROOM[1])]


def test_without_the_truth_the_detectors_are_each_others():
    first, second = found([0, 1]), found([3, shifted(0, 6), 4])
    result = agreement(first, second, None)
    assert result.counts == {"both": 1, "first": 1, "second": 2, "neither": 0}
    one, other = result.finders
    assert one.alone.tolist() == [False, True] and other.alone.tolist() == [True, False, True]
    assert one.right.all() and other.right.all()
    assert one.missed.tolist() == [list(ROOM[3]), list(ROOM[4])] and other.missed.tolist() == [list(ROOM[1])]


def test_detections_in_a_crowd_count_neither_way():
    crowd = (0.0, 0.0, 400.0, 90.0)
    crowded = truth([0], crowds=[crowd], crowd_labels=[0])
    result = agreement(found([0, 1, 5]), found([1], labels=[1]), crowded)
    assert [len(finder.found) for finder in result.finders] == [2, 1]
    assert result.finders[0].right.tolist() == [True, False], "the object, and the one below the crowd"
    assert result.finders[1].right.tolist() == [False], "of another class than the crowd"


@pytest.mark.parametrize("known", [None, truth([])])
def test_nothing_at_all(known):
    result = agreement(found([]), found([]), known)
    assert set(result.counts.values()) == {0}
    result = agreement(found([0]), found([]), known)
    assert result.counts["first"] == (known is None) and len(result.finders[0].found) == 1


IMAGE = torch.full((3, 320, 640), 40, dtype=torch.uint8)
CONTEST = Contest(("plain", "srf"), ["cat"], 0.5)
TOP, GAP = round(2.1 * round(640 / 36)), 12


def part(panel, column, box):
    """The pixels on the outline of a box in one of the panel's pictures, (P, 3)."""
    pixels = np.asarray(panel)
    x0, y0, x1, y1 = (round(value) for value in box)
    left = GAP + column * (640 + GAP)
    cut = pixels[TOP + y0 : TOP + y1 + 1, left + x0 : left + x1 + 1]
    inner = cut[8:-8, 8:-8]
    return {tuple(pixel) for pixel in cut.reshape(-1, 3).tolist()} - {
        tuple(p) for p in inner.reshape(-1, 3).tolist()
    }


def test_every_picture_marks_what_the_other_finds():
    pair = (found([0, 1, 5], scores=[0.9, 0.9, 0.6]), found([0, 2, 6], scores=[0.9, 0.9, 0.4]))
    panel = comparison_panel(IMAGE, pair, truth([0, 1, 2, 3]), CONTEST)
    assert panel.width == 3 * (640 + GAP) + GAP
    expected = {
        (0, 0): BOTH, (0, 1): FIRST, (0, 2): SECOND, (0, 3): NEITHER, (0, 5): None,
        (1, 0): BOTH, (1, 1): FIRST, (1, 2): SECOND, (1, 3): None, (1, 5): FALSE,
        (2, 0): BOTH, (2, 1): FIRST, (2, 2): SECOND, (2, 3): None, (2, 5): None, (2, 6): None,
    }  # fmt: skip
    for (column, place), colour in expected.items():
        shown = part(panel, column, ROOM[place])
        present = {c for c in (BOTH, FIRST, SECOND, NEITHER, FALSE) if c in shown}
        assert present == ({colour} if colour else set()), (column, place)


def test_what_is_missed_is_dashed():
    panel = comparison_panel(IMAGE, (found([0]), found([])), None, CONTEST)
    assert panel.width == 2 * (640 + GAP) + GAP
    x0, y0, x1, _ = (round(value) for value in ROOM[0])
    pixels = np.asarray(panel)
    top_edges = [pixels[TOP + y0, GAP + column * (640 + GAP) + x0 :][: x1 - x0] for column in range(2)]
    shares = [float((edge == FIRST).all(-1).mean()) for edge in top_edges]
    assert shares[0] > 0.95 and 0.3 < shares[1] < 0.8


def test_masks_are_outlined_and_tinted_where_one_finds_them_alone():
    masks = torch.zeros(2, 320, 640, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, (ROOM[0], ROOM[1]), strict=True):
        mask[int(y0) + 10 : int(y1) - 10, int(x0) + 10 : int(x1) - 10] = True
    panel = comparison_panel(IMAGE, (found([0, 1], masks=masks), found([0])), None, CONTEST)
    middle = [
        panel.getpixel((GAP + int(ROOM[place][0]) + 30, TOP + int(ROOM[place][1]) + 30)) for place in (0, 1)
    ]
    assert middle[0] == (40, 40, 40)
    assert middle[1] == tuple(round(40 + 0.25 * (value - 40)) for value in FIRST)
    corner = [panel.getpixel((GAP + int(ROOM[place][0]), TOP + int(ROOM[place][1]) + 30)) for place in (0, 1)]
    assert corner == [(40, 40, 40)] * 2, "no box around an outline"


@pytest.mark.parametrize("size", [(1, 1), (30, 2000), (2500, 20)])
def test_images_of_any_size_are_drawn(size):
    image = torch.zeros(3, *size, dtype=torch.uint8)
    whole = found([(0.0, 0.0, float(size[1]), float(size[0]))], labels=[1])
    contest = Contest(("a " * 200, "b"), ["cat $", "\U0010ffff"], 0.0)
    panel = comparison_panel(image, (whole, found([])), None, contest)
    assert max(panel.size) < 4000
