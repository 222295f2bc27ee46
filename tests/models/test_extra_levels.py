"""Levels above the coarsest that a backbone gives."""

import torch
import torch.nn.functional as F

from srfgan.models.necks.extra_levels import ConvLevels


def test_maps_of_one_column_are_halved_like_any_other():
    """In bfloat16 too, where a processor's kernel may read beyond them."""
    levels = ConvLevels("p5", 16, 16)
    x = torch.randn(2, 16, 5, 1)
    found = levels({"p5": x})
    p6 = F.conv2d(x, levels.p6.weight, levels.p6.bias, stride=2, padding=1)
    p7 = F.conv2d(p6.relu(), levels.p7.weight, levels.p7.bias, stride=2, padding=1)
    torch.testing.assert_close(found, {"p6": p6, "p7": p7})
    for _ in range(10):
        junk = [torch.full((2**power,), torch.nan, dtype=torch.bfloat16) for power in range(4, 16)]
        del junk  # what the next allocations find
        with torch.autocast("cpu", torch.bfloat16):
            total = torch.stack([y.sum() for y in levels({"p5": x}).values()]).sum()
        gradients = torch.autograd.grad(total, list(levels.parameters()))
        assert all(gradient.isfinite().all() for gradient in gradients)
