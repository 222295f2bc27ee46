"""What `benchmarks/adversary.py` measures of a stage 1's end: the adversarial term's share, and who is right."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from srfgan_cli.presets import load_preset

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "adversary.py"


class Scaled(nn.Module):
    """A generator of one weight."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.factor * F.interpolate(x, scale_factor=2)


@pytest.mark.parametrize("loss", ["logistic", "hinge", "least_squares"])
def test_the_share_follows_the_weight_and_a_discriminator_that_knows_is_right(loss):
    script = runpy.run_path(str(SCRIPT))
    maps = torch.ones(2, 4, 6, 8)
    discriminator = nn.Conv2d(4, 1, 1)
    nn.init.constant_(discriminator.weight, 0.25)
    nn.init.constant_(discriminator.bias, 0.5 if loss == "least_squares" else 0)

    def found(weight, low):
        changes = [f"pretrain.adversarial={{weight: {weight}, loss: {loss}}}"]
        opponents = script["Opponents"](Scaled(), discriminator, load_preset("upsamplers_srf", changes))
        return script["measured"](opponents, {"p2": low}, {"p2": F.interpolate(maps, scale_factor=2)})

    told, strong = found(0.1, -maps), found(1, -maps)
    assert told["fake"] == told["real"] == 1
    assert strong["gradient"] == pytest.approx(10 * told["gradient"]) and told["gradient"] > 0
    # L1 and D ask the same of the one weight: maps of -1 want to be 1.
    assert told["along"] == pytest.approx(1)
    assert found(0.1, 2 * maps)["fake"] == 0
