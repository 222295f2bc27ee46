"""One pyramid level by several upsampling methods, side by side (SRF-GAN paper, figure 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image
from torch import Tensor

from srfgan_cli.visualization.sheet import Sheet


@dataclass(frozen=True)
class _Map:
    """One map: `strength` (h, w) is the channel mean of |activation|, `sharpness` its mean gradient."""

    method: str
    strength: np.ndarray
    sharpness: float


def p2_panel(image: Tensor, maps: Mapping[str, Tensor], *, level: str = "p2", note: str = "") -> Image.Image:
    """Draw an image and one pyramid level by each method.

    First row: the image, then each map (mean over channels of the absolute activation) on one colour scale.
    Second row: what was done, then each map minus the first method's, on one diverging scale around 0.

    Args:
        image: (3, H, W) uint8 RGB.
        maps: (C, h, w) float by method name, all of one size; the first is the one others are compared with.
        level: name of the pyramid level, for the titles.
        note: a sentence for the reader, such as which weights were used.
    """
    shown = [_summary(method, features) for method, features in maps.items()]
    compared = len(shown) > 1
    aspect = image.shape[2] / image.shape[1]
    sheet = Sheet(1 + len(shown), 2 if compared else 1, aspect, footer=0 if compared else 0.8)
    picture = sheet.panel(0, 0)
    picture.imshow(image.permute(1, 2, 0).cpu().numpy(), aspect="auto")
    picture.set_title(f"image, {image.shape[2]} x {image.shape[1]}", fontsize=11)
    _draw_strengths(sheet, shown, level)
    if compared:
        _draw_differences(sheet, shown)
        _explain(sheet, shown, level, note)
    else:
        sheet.foot(_how(shown, level, note))
    return sheet.rendered()


def _summary(method: str, features: Tensor) -> _Map:
    strength = features.detach().float().abs().mean(dim=0).cpu().numpy()
    steps_down, steps_right = np.diff(strength, axis=0)[:, :-1], np.diff(strength, axis=1)[:-1]
    sharpness = float(np.hypot(steps_down, steps_right).mean()) if steps_down.size else 0.0
    return _Map(method, strength, sharpness)


def _draw_strengths(sheet: Sheet, shown: list[_Map], level: str) -> None:
    # Percentiles, here and below: a few extreme pixels must not wash out the rest.
    values = np.concatenate([each.strength for each in shown], axis=None)
    low, high = (float(value) for value in np.percentile(values, [0.5, 99.5]))
    norm = Normalize(low, max(high, low + 1e-12))
    for column, each in enumerate(shown, start=1):
        axes = sheet.panel(0, column)
        axes.imshow(each.strength, cmap="viridis", norm=norm, aspect="auto", interpolation="nearest")
        size = f"{each.strength.shape[1]} x {each.strength.shape[0]}"
        axes.set_title(f"{level.upper()} with {each.method}, {size}", fontsize=11)
    sheet.colour_bar(0, ScalarMappable(norm, "viridis"))


def _draw_differences(sheet: Sheet, shown: list[_Map]) -> None:
    base = shown[0]
    differences = [each.strength - base.strength for each in shown[1:]]
    reach = max(float(np.percentile(np.abs(np.concatenate(differences, axis=None)), 99.5)), 1e-12)
    norm = Normalize(-reach, reach)
    for column, (each, difference) in enumerate(zip(shown[1:], differences, strict=True), start=2):
        axes = sheet.panel(1, column)
        axes.imshow(difference, cmap="RdBu_r", norm=norm, aspect="auto", interpolation="nearest")
        axes.set_title(f"{each.method} minus {base.method}", fontsize=11)
    sheet.colour_bar(1, ScalarMappable(norm, "RdBu_r"))


def _explain(sheet: Sheet, shown: list[_Map], level: str, note: str) -> None:
    """Write what the pictures show, and three numbers per method, under the first two pictures."""
    base = shown[0]
    cells = [
        [
            each.method,
            f"{each.strength.mean():.4g}",
            f"{each.sharpness / max(base.sharpness, 1e-12):.2f}",
            f"{np.abs(each.strength - base.strength).mean():.3g}",
        ]
        for each in shown
    ]
    header = ["method", "mean", "sharpness", f"|map - {base.method}|"]
    sheet.explain(1, _how(shown, level, note), header, cells, widths=[0.22, 0.22, 0.24, 0.32])


def _how(shown: list[_Map], level: str, note: str) -> list[str]:
    """What the pictures and numbers are."""
    sentences = [f"{level.upper()}: mean over channels of |activation|, one colour scale per row."]
    if len(shown) > 1:
        sentences.append(f"Sharpness: mean gradient of the map, relative to {shown[0].method}.")
    return sentences + ([note[0].upper() + note[1:]] if note else [])
