"""Proposals as a GPU makes them, all images and levels at once, are those of a CPU, level by level."""

import pytest
import torch

from srfgan.models.config import AnchorConfig, RPNConfig
from srfgan.models.heads.rpn import RegionProposals

SIZES = [(100, 150), (70, 128)]


def candidates(counts, images):
    """Best first; some boxes lie outside of the image and are empty once they are clipped."""
    random = torch.Generator().manual_seed(sum(counts))
    made = []
    for count in counts:
        corners = torch.rand(images, count, 2, generator=random) * 180 - 20
        boxes = torch.cat([corners, corners + torch.rand(images, count, 2, generator=random) * 60], dim=2)
        scores = torch.randn(images, count, generator=random).sort(dim=1, descending=True).values
        made.append((scores, boxes))
    return made


@pytest.mark.parametrize("counts", [[200, 120, 7, 1, 0], [0, 0, 3, 0, 0]])
@pytest.mark.parametrize("after", [1000, 20])
def test_together_is_one_by_one(counts, after):
    rpn = RegionProposals(8, AnchorConfig(), ["p2", "p3", "p4", "p5", "p6"], RPNConfig())
    given = candidates(counts, len(SIZES))
    each = rpn._suppress_each(given, SIZES, after)
    together = rpn._suppress_together(given, SIZES, after)
    for one, other in zip(each, together, strict=True):
        assert torch.equal(one, other)
        assert len(one) <= after and (one[:, 2:] > one[:, :2]).all()
    assert len(each[0]) > 0 and (sum(counts) < 100 or min(after, 60) <= len(each[0]) < sum(counts))
