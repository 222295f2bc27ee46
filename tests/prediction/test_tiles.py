"""Tiles: they cover the image, and what lies on their seams comes out whole, once."""

import itertools
import random

import pytest
import torch

from srfgan.models.structures import Detections
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.transforms import OriginalSize
from srfgan_cli.prediction.predictor import Predictor
from srfgan_cli.prediction.tiles import Tile, cut

CLASSES = CategoryMap((3, 7), ("odd", "even"))
SIZE = (350, 450)


class ColourFinder:
    """Finds what is seen of every object, each of a red of its own: its box and mask; of class red % 2."""

    def detect(self, images):
        return [self.found(image[0]) for image in images]

    def found(self, red):
        reds = [int(value) for value in red.unique() if value]
        masks = torch.stack([red == value for value in reds]) if reds else torch.zeros(0, *red.shape).bool()
        boxes = torch.zeros(len(reds), 4)
        for box, mask in zip(boxes, masks, strict=True):
            rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
            box[:] = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        labels = torch.tensor([value % 2 for value in reds], dtype=torch.int64)
        scores = torch.tensor([1 - value / 1000 for value in reds])
        return Detections(boxes, scores, labels, masks)


def predictor(model=None):
    return Predictor(model or ColourFinder(), CLASSES, OriginalSize(), torch.device("cpu"))


def scene(seed):
    """Ellipses of all sizes, some larger than a tile, that do not touch each other."""
    draw = random.Random(seed)
    rows, columns = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    image, taken = torch.zeros(3, *SIZE, dtype=torch.uint8), torch.zeros(SIZE, dtype=torch.bool)
    for red in range(1, 200):
        height, width = (draw.choice([6, 12, 30, 75, 200]) * draw.uniform(0.7, 1.3) for _ in range(2))
        y, x = draw.uniform(0, SIZE[0]), draw.uniform(0, SIZE[1])
        distance = ((rows - y) / height * 2) ** 2 + ((columns - x) / width * 2) ** 2
        near = ((rows - y).abs() < height / 2 + 6) & ((columns - x).abs() < width / 2 + 6)
        if (distance <= 1).sum() >= 20 and not taken[near].any():
            image[0][distance <= 1] = red
            taken |= near
    return image


@pytest.mark.parametrize(
    ("size", "side", "overlap"), [((700, 900), 256, 0.2), ((64, 5000), 640, 0.5), ((100, 100), 128, 0)]
)
def test_tiles_cover_the_image_and_overlap(size, side, overlap):
    tiles = cut(size, side, overlap)
    seen = torch.zeros(size, dtype=torch.int32)
    for tile in tiles:
        assert 0 <= tile.left < tile.right <= size[1] and 0 <= tile.top < tile.bottom <= size[0]
        assert (tile.bottom - tile.top, tile.right - tile.left) == (min(side, size[0]), min(side, size[1]))
        seen[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert seen.min() == 1
    columns = sorted({(tile.left, tile.right) for tile in tiles})
    for (_, right), (left, _) in itertools.pairwise(columns):
        assert right - left >= int(overlap * side)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("side", "overlap"), [(128, 0.25), (150, 0.1), (64, 0.5)])
def test_objects_of_all_sizes_come_out_as_from_the_whole_image(seed, side, overlap):
    image = scene(seed)
    (whole,) = predictor().predict(image, score_threshold=0)
    (parts,) = predictor().predict(image, score_threshold=0, tiles=side, overlap=overlap, batch_size=4)
    assert len(whole) > 15
    order = [
        sorted(range(len(one)), key=lambda at, one=one: one.boxes[at].tolist()) for one in (whole, parts)
    ]
    whole, parts = whole.select(order[0]), parts.select(order[1])
    assert torch.equal(parts.boxes, whole.boxes)
    assert parts.names == whole.names and torch.equal(parts.scores, whole.scores)
    assert torch.equal(parts.masks, whole.masks) and parts.size == SIZE


def test_neighbours_of_one_class_on_a_seam_stay_two():
    image = torch.zeros(3, 200, 400, dtype=torch.uint8)
    image[0, 40:80, 150:260], image[0, 84:120, 150:260] = 1, 3
    (found,) = predictor().predict(image, score_threshold=0, tiles=200, overlap=0.2)
    assert found.boxes.tolist() == [[150, 40, 260, 80], [150, 84, 260, 120]]


class PartsToo(ColourFinder):
    """Finds, of what its tile cuts, a piece that its neighbour's whole box does not match."""

    def found(self, red):
        seen = super().found(red)
        at_border = seen.boxes[:, 0] == 0
        seen.boxes[at_border, 3] -= (seen.boxes[at_border, 3] - seen.boxes[at_border, 1]) * 0.6
        return seen


def test_a_cut_piece_inside_a_whole_box_of_its_class_is_no_object():
    image = torch.zeros(3, 200, 400, dtype=torch.uint8)
    image[0, 40:140, 130:195] = 1
    (found,) = predictor(PartsToo()).predict(image, score_threshold=0, tiles=200, overlap=0.2)
    assert found.boxes.tolist() == [[130, 40, 195, 140]]


class Nervous(ColourFinder):
    """Takes every left border of a tile for an object, besides."""

    def found(self, red):
        seen = super().found(red)
        strip = torch.zeros(1, *red.shape, dtype=torch.bool)
        strip[:, 90:100, :4] = True
        return Detections(
            torch.cat([seen.boxes, torch.tensor([[0.0, 90, 4, 100]])]),
            torch.cat([seen.scores, torch.tensor([0.9])]),
            torch.cat([seen.labels, torch.tensor([0])]),
            torch.cat([seen.masks, strip]),
        )


def test_what_a_tile_finds_at_its_border_counts_only_if_no_other_sees_it_better():
    image = torch.zeros(3, 200, 600, dtype=torch.uint8)
    (found,) = predictor(Nervous()).predict(image, score_threshold=0, tiles=200, overlap=0.2)
    assert found.boxes.tolist() == [[0, 90, 4, 100]]  # the image's own border


def test_an_image_no_larger_than_a_tile_is_seen_whole():
    image = scene(0)[:, :200, :250]
    (whole,), (part,) = (predictor().predict(image, score_threshold=0, tiles=tiles) for tiles in (None, 256))
    assert torch.equal(whole.boxes, part.boxes) and whole.segmentations == part.segmentations
    assert cut((200, 250), 256, 0.2) == [Tile(0, 0, 250, 200)]
