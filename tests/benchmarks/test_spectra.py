"""What `benchmarks/spectra.py` measures of a map: its power by frequency, and a grid of period two."""

import runpy
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "spectra.py"


@pytest.fixture(scope="module")
def spectrum():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        return runpy.run_path(str(SCRIPT))["spectrum"]


def test_noise_has_all_frequencies_alike_and_a_wave_its_own(spectrum):
    torch.manual_seed(0)
    noise = spectrum(torch.randn(64, 64, 96))
    assert noise.power[1:].max() < 1.2 * noise.power[1:].min() and noise.top == pytest.approx(
        noise.below, rel=0.1
    )
    wave = spectrum(torch.cos(2 * torch.pi * 0.25 * torch.arange(96.0)).expand(1, 64, 96))
    assert wave.power[11:13].sum() > 0.99 * wave.power.sum()


def test_a_grid_lifts_the_highest_frequencies_alone(spectrum):
    torch.manual_seed(0)
    maps = torch.randn(64, 64, 96)
    plain = spectrum(maps)
    maps[..., ::2] += 2
    grid = spectrum(maps)
    assert grid.top > 5 * plain.top and grid.below == pytest.approx(plain.below, rel=0.05)
