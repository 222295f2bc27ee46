"""Scenes of the built-in data set: overlapping textured shapes on textured ground, drawn by numpy and Pillow.

A class is told by outline alone: colour, texture, size, rotation and shading are drawn independently of it,
and irregular polygons and strokes of no class lie among the shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Generator = np.random.Generator
Outline = np.ndarray
"""(V, 2) float64 x, y."""

_SUPERSAMPLING = 4
_VISIBLE = 0.4  # share of a shape's pixels that no later shape may go below
_SMALLEST_AREA = 20  # pixels


@dataclass
class Instance:
    """One shape of a scene.

    Attributes:
        kind: its class, a key of `KINDS`.
        outline: its vertices in image pixels.
        area: its pixels before anything covers it.
        simple: whether `outline` is the whole visible shape: no hole, inside the image, nothing in front.
        mask: (size, size) bool, the visible pixels.
    """

    kind: str
    outline: Outline
    area: int
    simple: bool
    mask: np.ndarray


def draw_scene(rng: Generator, size: int) -> tuple[np.ndarray, list[Instance]]:
    """Draw one scene.

    Args:
        rng: everything random comes from it.
        size: side in pixels.

    Returns:
        (size, size, 3) uint8 RGB, and the instances from back to front.
    """
    canvas = _ground(rng, size)
    owner = np.full((size, size), -1, np.int64)
    instances: list[Instance] = []
    for _ in range(rng.integers(0, 4)):
        _paint(canvas, _coverage([_blob(rng, size)], size), rng)
    for _ in range(rng.integers(3, 11)):
        for _attempt in range(4):
            kind = str(rng.choice(list(KINDS)))
            outlines = _place(KINDS[kind](rng), rng, size)
            coverage = _coverage(outlines, size)
            if _fits(coverage[0] >= 0.5, coverage[1], owner, instances, outlines[0]):
                _add(instances, owner, kind, outlines, coverage, size)
                _paint(canvas, coverage, rng)
                break
    _strokes(canvas, owner, rng)
    canvas += rng.normal(0, rng.uniform(2, 14), canvas.shape).astype(np.float32)
    for number, instance in enumerate(instances):
        instance.mask = owner == number
    return canvas.clip(0, 255).astype(np.uint8), instances


Coverage = tuple[np.ndarray, tuple[slice, slice]]
"""Share of each pixel that an outline covers, (h, w) float32 in 0..1, and the window it is for."""


def _coverage(outlines: list[Outline], size: int) -> Coverage:
    """Antialiased fill of the first outline; the others are holes in it."""
    low = np.floor(outlines[0].min(axis=0)).clip(0, size - 1).astype(int)
    high = np.ceil(outlines[0].max(axis=0)).clip(low + 1, size).astype(int)
    width, height = (high - low) * _SUPERSAMPLING
    picture = Image.new("L", (int(width), int(height)))
    pen = ImageDraw.Draw(picture)
    for number, outline in enumerate(outlines):
        # Pillow's coordinates are pixel centres.
        points = (outline - low) * _SUPERSAMPLING - 0.5
        pen.polygon(list(map(tuple, points.tolist())), fill=0 if number else 255)
    share = np.asarray(picture.reduce(_SUPERSAMPLING), np.float32) / 255
    return share, (slice(low[1], high[1]), slice(low[0], high[0]))


def _fits(
    mask: np.ndarray,
    window: tuple[slice, slice],
    owner: np.ndarray,
    instances: list[Instance],
    outline: Outline,
) -> bool:
    """Whether enough of the new shape is in the image and enough of every earlier one stays visible."""
    x, y = outline.T
    whole = abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
    if mask.sum() < max(_SMALLEST_AREA, 0.3 * whole):
        return False
    count = len(instances)
    visible = np.bincount(owner[owner >= 0], minlength=count)
    hidden = np.bincount(owner[window][mask] + 1, minlength=count + 1)[1:]
    needed = np.array([max(_SMALLEST_AREA, _VISIBLE * instance.area) for instance in instances])
    return bool((visible - hidden >= needed).all())


def _add(
    instances: list[Instance],
    owner: np.ndarray,
    kind: str,
    outlines: list[Outline],
    coverage: Coverage,
    size: int,
) -> None:
    share, window = coverage
    mask = share >= 0.5
    for covered in np.unique(owner[window][mask]):
        if covered >= 0:
            instances[covered].simple = False
    owner[window][mask] = len(instances)
    inside = bool((outlines[0] >= 0).all() and (outlines[0] <= size).all())
    simple = inside and len(outlines) == 1
    instances.append(Instance(kind, outlines[0], int(mask.sum()), simple, mask))


def _place(outlines: list[Outline], rng: Generator, size: int) -> list[Outline]:
    """Unit outlines (radius 1) at a random place, turned, 8 to 200 pixels across (small ones more often)."""
    largest = min(200, 0.7 * size)
    across = 8 * (largest / 8) ** (rng.uniform() ** 0.75)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = rng.uniform(0, size, 2)
    return [outline @ turn * across / 2 + centre for outline in outlines]


def _regular(corners: int, radii: tuple[float, ...] = (1.0,)) -> Outline:
    angles = np.arange(corners) * 2 * np.pi / corners
    radius = np.resize(radii, corners)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def _rectangle(rng: Generator) -> list[Outline]:
    slope = rng.uniform(np.arctan(0.4), np.pi / 4)
    x, y = np.cos(slope), np.sin(slope)
    return [np.array([[x, y], [-x, y], [-x, -y], [x, -y]])]


def _ring(rng: Generator) -> list[Outline]:
    return [_regular(40), _regular(40) * rng.uniform(0.5, 0.7)]


def _cross(rng: Generator) -> list[Outline]:
    arm = rng.uniform(0.25, 0.4)
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]]) / np.hypot(1, arm)
    turns = [np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), k) for k in range(4)]
    return [np.concatenate([quarter @ turn for turn in turns])]


KINDS: dict[str, Callable[[Generator], list[Outline]]] = {
    "circle": lambda rng: [_regular(40)],
    "rectangle": _rectangle,
    "triangle": lambda rng: [_regular(3)],
    "star": lambda rng: [_regular(10, (1.0, rng.uniform(0.4, 0.5)))],
    "ring": _ring,
    "cross": _cross,
}
"""Class names, and their outlines in the unit circle; holes follow the first outline."""


def _blob(rng: Generator, size: int) -> Outline:
    """An irregular polygon of no class."""
    corners = int(rng.integers(5, 9))
    radii = tuple(rng.uniform(0.35, 1.0, corners))
    return _place([_regular(corners, radii)], rng, size)[0]


def _paint(canvas: np.ndarray, coverage: Coverage, rng: Generator) -> None:
    """Fill a shape with a texture of two colours, shaded along one direction."""
    share, window = coverage
    height, width = share.shape
    under = canvas[window].mean(axis=(0, 1))
    first = rng.uniform(0, 255, 3)
    while np.abs(first - under).max() < 40:
        first = rng.uniform(0, 255, 3)
    second = first + rng.uniform(-70, 70, 3)
    mix = _texture(rng, height, width)[:, :, None]
    left, right = rng.uniform(-25, 25, 2).tolist()
    shade = np.linspace(left, right, width)[None, :, None]
    paint = first * mix + second * (1 - mix) + shade
    canvas[window] += share[:, :, None] * (paint.astype(np.float32) - canvas[window])


def _ground(rng: Generator, size: int) -> np.ndarray:
    """(size, size, 3) float32: soft clouds of colour under a faint texture."""
    cells = int(rng.integers(2, 7))
    base = rng.uniform(50, 205) + rng.normal(0, 22, 3)
    clouds = base + rng.normal(0, rng.uniform(3, 25), (cells, cells, 1)) + rng.normal(0, 8, (cells, cells, 3))
    soft = Image.fromarray(clouds.clip(0, 255).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    grain = (_texture(rng, size, size) - 0.5) * rng.uniform(0, 60)
    return np.asarray(soft, np.float32) + grain[:, :, None]


def _texture(rng: Generator, height: int, width: int) -> np.ndarray:
    """(height, width) float32 in 0..1: plain, stripes, checks, dots or clouds."""
    kind = int(rng.integers(5))
    if kind == 0:
        return np.ones((height, width), np.float32)
    if kind == 4:
        cells = rng.uniform(0, 255, (max(2, height // 6), max(2, width // 6))).astype(np.uint8)
        return (
            np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR), np.float32)
            / 255
        )
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 24)
    x = np.arange(width, dtype=np.float32)[None] * (2 * np.pi / period)
    y = np.arange(height, dtype=np.float32)[:, None] * (2 * np.pi / period)
    along = np.sin(np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y)
    if kind == 1:
        return along / 2 + 0.5
    across = np.sin(np.float32(np.cos(angle)) * y - np.float32(np.sin(angle)) * x)
    return ((along * across) > (0 if kind == 2 else 0.4)).astype(np.float32)


def _strokes(canvas: np.ndarray, owner: np.ndarray, rng: Generator) -> None:
    """Thin lines over the ground; they pass behind the shapes."""
    size = len(canvas)
    picture = Image.new("L", (size, size))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 5)):
        pen.line(rng.uniform(0, size, 6).tolist(), fill=255, width=int(rng.integers(1, 4)))
    drawn = (np.asarray(picture) > 0) & (owner < 0)
    canvas[drawn] = canvas[drawn] * 0.4 + rng.uniform(0, 255, 3).astype(np.float32) * 0.6
