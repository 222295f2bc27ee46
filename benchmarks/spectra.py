"""What frequencies generated maps have: those of a half-size image made as large as the whole image's, beside the real.

    python benchmarks/spectra.py --guide F.pt --generator adversarial=STAGE1.pt --generator l1=OTHER.pt \
        --images DIR --out spectra

Stage 1's own setting: F's maps of the half-size image go through each generator, `nn` and `bilinear`, and are compared
with F's maps of the whole image. Writes spectra.png and spectra.json, and prints:

    L1      mean absolute difference to the real maps, of their mean absolute value
    high    power above half of the highest frequency, of the real maps'
    grid    power at the highest frequencies of either axis, of that a little below: a grid of period two lifts it
            above the real maps'
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from named_upsampling import named_upsampling
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from srfgan_cli.data.images import list_images, read_image
from srfgan_cli.prediction.load import load_detector
from srfgan_cli.training.pairs import halve
from srfgan_cli.training.pretrain import guide_maps
from srfgan_cli.visualization.chart_style import as_png, tidy

BINS = 24
"""Of radial frequency, up to the highest of an axis."""


@dataclass(frozen=True)
class Spectrum:
    """Of one map, its channels' mean.

    Attributes:
        power: (BINS,) by radial frequency, 0 to 0.5 cycles a pixel.
        top, below: mean power of the two highest frequencies of either axis, and of four a little lower.
    """

    power: np.ndarray
    top: float
    below: float


def spectrum(maps: Tensor) -> Spectrum:
    """Of (C, H, W) float maps, at least 32 pixels on a side, without their means, under a Hann window."""
    height, width = maps.shape[-2:]
    window = torch.outer(torch.hann_window(height), torch.hann_window(width))
    power = torch.fft.fft2((maps - maps.mean((-2, -1), keepdim=True)) * window).abs().square().mean(0).numpy()
    rows, columns = (np.abs(np.fft.fftfreq(side)) for side in (height, width))
    radius = np.hypot(rows[:, None], columns)
    place = np.minimum((radius / 0.5 * BINS).astype(int), BINS)
    sums, counts = (np.bincount(place.ravel(), w, BINS + 1)[:BINS] for w in (power.ravel(), None))
    bands = [
        (rows[:, None] > 0.5 - (high + 0.5) / height) & (rows[:, None] < 0.5 - (low - 0.5) / height)
        | (columns > 0.5 - (high + 0.5) / width) & (columns < 0.5 - (low - 0.5) / width)
        for low, high in ((0, 1), (5, 8))
    ]
    return Spectrum(sums / counts, *(float(power[band].mean()) for band in bands))


@torch.inference_mode()
def measured(guide: nn.Module, made: dict[str, nn.Module], image: Tensor, level: str) -> dict[str, tuple]:
    """By method and for `real`: the spectrum, and the relative L1 to the real maps."""
    image = image[:, : image.shape[1] // 64 * 64, : image.shape[2] // 64 * 64]
    real = guide_maps(guide, [image], [level])[level]
    low = guide_maps(guide, halve([image], "bilinear"), [level])[level]
    maps = {"real": real} | {name: module(low) for name, module in made.items()}
    scale = real.abs().mean()
    return {
        name: (spectrum(x[0].float().cpu()), float((x - real).abs().mean() / scale))
        for name, x in maps.items()
    }


def drawn(curves: dict[str, np.ndarray], level: str) -> bytes:
    """PNG: power by frequency, of the real maps'."""
    figure = Figure(figsize=(7.6, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots()
    at = (np.arange(BINS) + 0.5) / BINS / 2
    for name, power in curves.items():
        black = {"color": "black", "linewidth": 1} if name == "real" else {"linewidth": 1.8}
        axes.semilogy(at, power / curves["real"], label=name, **black)
    axes.set_xlabel(f"frequency in {level.upper()}, cycles a pixel", fontsize=9)
    axes.set_ylabel("power, of the real maps'", fontsize=9)
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    return as_png(figure)


def main() -> None:
    """Print the table, and write the picture and the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guide", required=True, help="the plain detector F of stage 1")
    parser.add_argument("--generator", action="append", default=[], metavar="NAME=FILE", help="repeatable")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=64, help="of the images, the first")
    parser.add_argument("--level", default="p2")
    parser.add_argument("--out", type=Path, default=Path("spectra"), help="without .png and .json")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    predictor = load_detector(given.guide, device=given.device)
    guide = predictor.model
    channels = guide.config.neck.channels
    named = ("nn", "bilinear", *given.generator)
    made = {
        name: module.to(given.device) for name, module in (named_upsampling(one, channels) for one in named)
    }
    found: dict[str, list] = {}
    for path in list_images(given.images)[: given.count]:
        image = predictor.resized(read_image(path))
        for name, one in measured(guide, made, image.to(given.device), given.level).items():
            found.setdefault(name, []).append(one)
    curves = {name: np.mean([one.power for one, _ in each], axis=0) for name, each in found.items()}
    high = {name: float(power[BINS // 2 :].sum()) for name, power in curves.items()}
    rows = {
        name: {
            "L1": float(np.mean([far for _, far in each])),
            "high": high[name] / high["real"],
            "grid": float(np.mean([one.top for one, _ in each]) / np.mean([one.below for one, _ in each])),
        }
        for name, each in found.items()
    }
    table = Table("maps", "L1", "high", "grid", title=f"{given.level}, {len(found['real'])} images")
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in row.values()))
    Console().print(table)
    given.out.with_suffix(".png").write_bytes(drawn(curves, given.level))
    power = {name: curve.tolist() for name, curve in curves.items()}
    given.out.with_suffix(".json").write_text(json.dumps({"methods": rows, "power": power}, indent=1))


if __name__ == "__main__":
    main()
