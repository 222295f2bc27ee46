import numpy as np
import pytest
from pycocotools import mask as coco_mask

from srfgan_cli.data.rle import cut_out, decode_strings
from srfgan_cli.data.segmentations import parse_segmentations

SHAPES = [(1, 1), (7, 5), (40, 33), (480, 640)]


def random_masks(seed=0):
    """Noise, full, empty, blocks and single corners; long runs need several characters each."""
    rng = np.random.default_rng(seed)
    masks = []
    for height, width in SHAPES:
        masks += [rng.random((height, width)) < p for p in (0, 0.02, 0.5, 1)]
        block = np.zeros((height, width), bool)
        block[height // 3 :, width // 2 : width // 2 + 2] = True
        corner = np.zeros((height, width), bool)
        corner[-1, -1] = True
        masks += [block, corner]
    return [mask.astype(np.uint8) for mask in masks]


def encode(mask):
    return coco_mask.encode(np.asfortranarray(mask))["counts"]


def dense(runs, shape):
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    return values.reshape(shape[::-1]).T.astype(np.uint8)


def test_strings_decode_to_the_masks_that_pycocotools_encoded():
    masks = random_masks()
    runs, first, valid = decode_strings([encode(mask) for mask in masks])
    assert valid.all()
    for mask, start, end in zip(masks, first, first[1:], strict=False):
        np.testing.assert_array_equal(dense(runs[start:end], mask.shape), mask)


def test_cut_out_keeps_exactly_the_masks_own_pixels():
    masks = random_masks(1)
    runs, first, _ = decode_strings([encode(mask) for mask in masks])
    for mask, start, end in zip(masks, first, first[1:], strict=False):
        patch = cut_out(runs[start:end], mask.shape[0])
        edges = (mask[:, 0], mask[0], mask[:, -1], mask[-1])
        assert patch.at_border == tuple(bool(edge.any()) for edge in edges)
        x1, y1, x2, y2 = patch.span.astype(int)
        pasted = np.zeros_like(mask)
        pasted[y1:y2, x1:x2] = patch.pixels
        np.testing.assert_array_equal(pasted, mask)
        if mask.any():
            ys, xs = np.nonzero(mask)
            assert (x1, y1, x2, y2) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        else:
            assert patch.pixels.size == 0


@pytest.mark.parametrize("bad", [b" ", b"\x80\x80", b"P", b"oooooooooooooooooo0"])
def test_strings_that_no_encoder_writes_are_told_and_leave_others_alone(bad):
    good = random_masks()[8]
    runs, first, valid = decode_strings([encode(good), bad, b"", encode(good)])
    assert valid.tolist() == [True, False, True, True]
    for row in (0, 3):
        np.testing.assert_array_equal(dense(runs[first[row] : first[row + 1]], good.shape), good)


def test_lists_strings_and_polygons_side_by_side():
    mask = random_masks()[10]
    height, width = mask.shape
    string = {"size": [height, width], "counts": encode(mask).decode()}
    runs, _, _ = decode_strings([encode(mask)])
    listed = {"size": [height, width], "counts": runs.tolist()}
    square = [1, 2, 9, 2, 9, 7, 1.5, 7]
    parsed = parse_segmentations([listed, [square, [1, 2, 3, 4]], None, string, [[0, 0, 4, 0, 4, 4]]])
    np.testing.assert_array_equal(parsed.runs, np.tile(runs, 2))
    assert np.diff(parsed.runs_of).tolist() == [len(runs), 0, 0, len(runs), 0]
    assert parsed.parts_of.tolist() == [0, 0, 1, 1, 1, 2]
    np.testing.assert_array_equal(parsed.vertices[:4].ravel(), square)
    assert parsed.bad_polygon.tolist() == [False, True, False, False, False]
    assert parsed.has_mask.tolist() == [True, True, False, True, True]
    assert not parsed.malformed.any()
    swapped = parsed.select(np.array([4, 3, 1]))
    assert swapped.vertices[0].tolist() == [0, 0]
    np.testing.assert_array_equal(swapped.runs, runs)
    assert swapped.parts_of.tolist() == [0, 1, 1, 2]
