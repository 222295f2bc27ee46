"""The comparison that decides whether an exported file is kept."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from srfgan.models.structures import Detections
from srfgan_cli.export.check import agree, compare, compare_on

COUNT = 40


def detections(masks=True):
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(COUNT, 2, generator=generator) * 100
    boxes = torch.cat([corner, corner + 20], dim=1)
    scores = torch.rand(COUNT, generator=generator).sort(descending=True).values
    probs = torch.rand(COUNT, 4, 4, generator=generator)
    labels = torch.arange(COUNT) % 3
    return Detections(boxes, scores, labels, mask_probs=probs if masks else None)


def outputs(found):
    values = {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}
    if found.mask_probs is not None:
        values["masks"] = found.mask_probs
    if found.mask_scores is not None:
        values["mask_scores"] = found.mask_scores
    return {name: value.clone() for name, value in values.items()}


def test_order_does_not_matter_and_the_largest_differences_are_reported():
    expected = detections()
    found = outputs(expected)
    found["boxes"][3, 2] += 0.03
    found["scores"][5] -= 5e-4
    found["masks"][7, 1, 2] += 4e-3
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))
    one = compare(expected, {name: value[order] for name, value in found.items()}, "x")
    assert (one.expected, one.found, one.same) == (COUNT, COUNT, COUNT)
    assert one.boxes == pytest.approx(0.03, rel=1e-3)
    assert one.scores == pytest.approx(5e-4, rel=1e-3)
    assert one.masks == pytest.approx(4e-3, rel=1e-3)
    assert agree([one])


def test_the_scores_of_masks_count_as_scores():
    expected = replace(detections(), mask_scores=torch.linspace(1, -1, COUNT))
    found = outputs(expected)
    found["mask_scores"][4] += 7e-4
    found["mask_scores"][5:8] += 0.01
    one = compare(expected, found, "x")
    assert one.same == COUNT - 3 and one.scores == pytest.approx(7e-4, rel=1e-3)


def change(name, value):
    def apply(found, rows):
        found[name][rows] += value

    return apply


@pytest.mark.parametrize(
    "change",
    [
        change("boxes", 0.1),
        change("scores", 0.01),
        change("masks", 0.05),
        change("labels", 1),
        change("boxes", float("nan")),
    ],
)
def test_one_in_forty_may_differ_and_three_may_not(change):
    """A tie decided otherwise passes; anything systematic does not."""
    for rows, passes in ((1, True), (3, False)):
        found = outputs(detections())
        change(found, slice(0, rows))
        one = compare(detections(), found, "x")
        assert one.same == COUNT - rows
        assert agree([one]) == passes


def test_missing_and_additional_detections_count():
    everything = detections()
    few = Detections(everything.boxes[:30], everything.scores[:30], everything.labels[:30])
    for expected, found in ((few, detections(masks=False)), (detections(masks=False), few)):
        one = compare(expected, outputs(found), "x")
        assert (one.same, one.total, one.masks) == (30, COUNT, None)
        assert not agree([one])


def test_two_that_stand_for_one_are_not_both_the_same():
    expected = detections(masks=False)
    found = outputs(expected)
    for value in found.values():
        value[:4] = value[4]
    assert compare(expected, found, "x").same == COUNT - 4


def test_nothing_found_on_either_side():
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert agree([compare(nothing, outputs(nothing), "blank")])
    assert not agree([compare(nothing, outputs(detections(masks=False)), "blank")])


def test_every_place_of_a_batch_is_compared():
    """Each with its own detections, those of the image or of its mirror image."""

    def detect(images):
        left = images[0][0, 0, 0]
        return [Detections(left.expand(1, 4), left[None] / 255, torch.zeros(1, dtype=torch.int64))]

    def run(images, shift):
        found = [outputs(detect([image])[0]) for image in images]
        found[1]["boxes"] += shift
        joined = {name: torch.cat([one[name] for one in found]) for name in found[0]}
        return joined | {"image_index": torch.arange(len(images))}

    image = torch.arange(4.0).expand(3, 5, 4)
    detector = SimpleNamespace(detect=detect)
    for shift, same in ((0.0, [1, 1, 1]), (0.1, [1, 0, 1])):
        found = compare_on(detector, lambda x, shift=shift: run(x, shift), {"own.png": image}, batch=3)
        assert [one.same for one in found] == same
    assert [one.image for one in found] == [f"own.png, 5 x 4, place {place}" for place in range(3)]
