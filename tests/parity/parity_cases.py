"""Parity cases: published networks with weights filled by rule, and what they computed.

`<case>/spec.json` names the source, every parameter of the reference and what was changed in the filling; `golden.npz`
holds the reference's outputs. The weights are made here from the parameters' names, written as a file in the
reference's own format, and loaded by the code under test. Nothing here knows a case: sizes, seeds and counts are the
spec's.

**Ties.** Where two boxes are equal but for rounding, NMS, a top-k or a threshold keeps either. A case says how far its
own reference wavers: `robustness_of_detections` (or `robustness`) has what 1e-6 of relative noise on the input did to
it. A case whose reference kept all of its detections must be met in all of them; one that lost some may be missed in
twice as many, as noise shows each tie about every other time. Values may be off by ten times what the noise did, if
that is more than the usual tolerance.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from timm.layers import DropPath

from srfgan.models import Polygons, Target
from srfgan.models.structures import Detections
from srfgan.models.weights.names import to_ours

BOX_TOLERANCE, SCORE_TOLERANCE = 0.05, 1e-3
"""Pixels; and of scores and mask probabilities."""
TOLERANCES = {
    "features": 1e-4,
    "losses": 1e-4,
    "gradients": 1e-3,
    "boxes": BOX_TOLERANCE,
    "scores": SCORE_TOLERANCE,
}

measured: list[tuple[str, str, str, float]] = []
"""(case, what, where, error) of everything compared since the list was last emptied."""


def fill_array(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Values of the reference's parameter `name`: seeded by the name, spread by its kind."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    kind = name.rsplit(".", 1)[-1]
    if kind == "running_mean":
        values = 0.1 * rng.standard_normal(shape)
    elif len(shape) >= 2 and kind != "running_var":
        values = rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))
    elif kind == "bias":
        values = 0.05 * rng.standard_normal(shape)
    else:
        values = 0.5 + rng.random_sample(shape)
    return np.asarray(values, dtype=np.float32)


def make_image(height: int, width: int, seed: int) -> np.ndarray:
    """(H, W, 3) uint8: blurred blobs over a gradient; channels in the order that the case names."""
    rng = np.random.RandomState(seed)
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float64)
    image = np.stack([ys / height, xs / width, (ys + xs) / (height + width)], axis=-1) * 120.0
    for _ in range(24):
        centre_y, centre_x = rng.uniform(0, height), rng.uniform(0, width)
        radius = rng.uniform(4, min(height, width) / 4)
        colour = rng.uniform(-120, 135, size=3)
        distance = (ys - centre_y) ** 2 + (xs - centre_x) ** 2
        image += np.exp(-distance / (2 * radius**2))[..., None] * colour
    return np.clip(image, 0, 255).round().astype(np.uint8)


@dataclass
class ParityCase:
    folder: Path
    spec: dict[str, Any] = field(init=False)

    def __post_init__(self):
        self.spec = json.loads((self.folder / "spec.json").read_text(encoding="utf-8"))

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def golden(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "golden.npz") as arrays:
            return dict(arrays)

    def weights(self) -> dict[str, np.ndarray]:
        """The reference's state dict, checked against the sums that were stored with it."""
        damping, offset = self.spec.get("damping", {}), self.spec.get("offset", {})
        filled = {
            name: fill_array(name, tuple(shape)) * np.float32(damping.get(name, 1))
            + np.float32(offset.get(name, 0))
            for name, shape in self.spec["parameters"].items()
        }
        for name, stored in self.spec.get("overrides", {}).items():
            # The name of an array, or words that tell how it was made.
            filled[name] = self.golden[stored if stored in self.golden else name.rsplit(".", 1)[0]]
        checksum = self.spec.get("fill_checksum")
        if checksum:
            total = sum(float(values.sum(dtype=np.float64)) for values in filled.values())
            magnitude = sum(float(np.abs(values).sum(dtype=np.float64)) for values in filled.values())
            found, wanted = (total, magnitude), (checksum["sum"], checksum["sum_of_abs"])
            assert np.allclose(found, wanted, rtol=1e-9, atol=0), (
                f"{self.name}: the weights' sums {found}, not {wanted}"
            )
        return filled

    def rgb_images(self) -> list[torch.Tensor]:
        """(3, H, W) uint8 RGB each; the case's model reads its channels in `input_format`, BGR unless it says so."""
        images = self.spec.get("images", self.spec.get("image"))
        return [self._rgb_image(image) for image in (images if isinstance(images, list) else [images])]

    def _rgb_image(self, shape: dict[str, Any]) -> torch.Tensor:
        image = make_image(shape["height"], shape["width"], shape["seed"])
        stored = shape.get("crc32_of_uint8_hwc_bytes")
        assert stored in (None, zlib.crc32(image.tobytes())), (
            f"{self.name}: not the image that the case was made with"
        )
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        return (pixels if self.spec.get("input_format") == "RGB" else pixels.flip(0)).contiguous()

    def of_image(self, key: str, index: int, count: int) -> np.ndarray:
        """The rows of the array `key` that belong to one of `count` images.

        Several images have an array each (`det_boxes_0`, `det_boxes_image0`, `image0_det_boxes`), or one whose rows
        `det_image` tells apart, `det` being what the key begins with.
        """
        if count == 1 and key in self.golden:
            return self.golden[key]
        prefix = key.split("_")[0]
        for name in (
            f"{key}_{index}",
            f"{key}{index}",
            f"{key}_image{index}",
            f"image{index}_{key}",
            f"{index}_{key}",
        ):
            if name in self.golden:
                return self.golden[name]
        for name in (f"{prefix}_image", f"{prefix}_images", f"{prefix}_image_index"):
            if name in self.golden:
                return self.golden[key][self.golden[name] == index]
        raise AssertionError(
            f"{self.name}: which rows of '{key}' belong to image {index} of {count}? See `of_image`"
        )

    def has(self, key: str) -> bool:
        """Whether the case stores `key`, for one image or for each of several."""
        return any(key in name for name in self.golden)

    def targets(self, count: int, *, masks: bool = False) -> list[Target]:
        """The ground truth of the training check."""
        targets = []
        for index in range(count):
            boxes, classes = (self.of_image(f"gt_{key}", index, count) for key in ("boxes", "classes"))
            outlines = self.of_image("gt_polygons", index, count) if masks else []
            polygons = [Polygons((np.asarray(outline, np.float64).reshape(-1, 2),)) for outline in outlines]
            labels = torch.from_numpy(classes).long()
            targets.append(Target(torch.from_numpy(boxes).float(), labels, polygons if masks else None))
        return targets

    def train(self, model: torch.nn.Module) -> None:
        """Training mode, but without batch statistics and stochastic depth, as the references were run."""
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d | DropPath):
                module.eval()

    @cached_property
    def wavers(self) -> int:
        """How many of its detections the reference loses, or gains, by noise on its input."""
        worst = 0
        for noise in self.spec.get("robustness_of_detections", {}).values():
            if isinstance(noise, dict):
                count = noise["reference_detections"]
                lost = count - round(noise.get("matched_fraction", 1.0) * count)
                worst = max(worst, lost, abs(noise.get("perturbed_detections", count) - count))
        same = re.match(r"(\d+) of (\d+)", str(self._noise.get("same_detections", "")))
        return max(worst, int(same[2]) - int(same[1])) if same else worst

    @property
    def may_miss(self) -> int:
        """How many detections may be others than the reference's, by chance."""
        return 2 * self.wavers

    def tolerance(self, what: str, least: float | None = None) -> float:
        """The largest error that `what` may have, relative but for boxes (pixels) and scores."""
        robust = self.spec.get("robustness_of_detections", {})
        noise = robust.get("relative_noise_1e-06", {})
        moved = {
            "features": self._noise.get("largest_change_relative_to_array_maximum", 0),
            "losses": max(
                self._noise.get("largest_relative_change_of_a_loss", 0),
                robust.get("losses_max_relative_change_under_relative_noise_1e-06", 0),
            ),
            "gradients": self._noise.get("largest_relative_change_of_a_gradient_norm", 0),
            "boxes": noise.get("max_box_change_px", 0),
            "scores": noise.get("max_score_change", 0),
        }
        # The largest change is of whatever array: an area in pixels of a mask may be it.
        if self._noise.get("array", "").endswith("areas"):
            moved["features"] = 0
        return max(TOLERANCES[what] if least is None else least, 10 * moved[what])

    @property
    def _noise(self) -> dict[str, Any]:
        return self.spec.get("robustness", {}).get("input_noise_1e-6", {})

    def check(self, what: str, where: str, error: float, least: float | None = None) -> None:
        """Note an error for the table at the end, and refuse one above the tolerance."""
        measured.append((self.name, what, where, float(error)))
        limit = self.tolerance(what, least)
        assert error <= limit, (
            f"{self.name}: {where}: {what} off by {error:.2e}, at most {limit:.0e} expected"
        )

    def assert_close(self, key: str, actual: torch.Tensor, least: float | None = None) -> None:
        """Largest difference relative to the stored array's largest magnitude; the case may store every n-th value."""
        self.assert_equal(key, actual, self.golden[key], least)

    def assert_equal(
        self, key: str, actual: torch.Tensor, golden: np.ndarray, least: float | None = None
    ) -> None:
        """As `assert_close`, with an array that is not stored under `key`."""
        found = every_nth(actual.detach(), golden.shape)
        assert found is not None, (
            f"{self.name}: {key} has shape {tuple(actual.shape)}, stored is {golden.shape}"
        )
        scale = np.abs(golden).max() if golden.size else 1.0
        difference = np.abs(found.numpy() - golden).max() if golden.size else 0.0
        error = difference / scale if scale else difference
        self.check("features", key, error if np.isfinite(error) else math.inf, least)

    def assert_losses(self, losses: dict[str, torch.Tensor]) -> None:
        """The training losses, by name."""
        expected = self.spec["training_check"]["losses"]
        assert set(losses) == set(expected), (
            f"{self.name}: losses {sorted(losses)}, stored are {sorted(expected)}"
        )
        for name, value in expected.items():
            self.check("losses", name, _relative(losses[name].item(), value))

    def assert_gradients(
        self,
        parameters: dict[str, torch.Tensor],
        least: Any = None,
        prefix: str = "",
        named: Callable[[str], str] = to_ours,
    ) -> None:
        """The gradients' norms, by the reference's names; `least` is a tolerance for each name, `named` ours."""
        for name, value in self.spec["training_check"]["gradient_norms"].items():
            gradient = parameters[named(name).removeprefix(prefix)].grad
            assert gradient is not None, f"{self.name}: {name} has no gradient"
            # In float64: over eight million values, float32 sums lose four digits.
            error = _relative(gradient.double().norm().item(), value)
            self.check("gradients", name, error, None if least is None else least(name))

    def assert_rows(
        self, key: str, errors: dict[str, np.ndarray], equal: np.ndarray, may_miss: int
    ) -> np.ndarray:
        """Pair the stored rows with found ones, each with one of its own, whatever their order.

        Args:
            key: what the rows are.
            errors: (G, F) by `boxes` and `scores`: differences of each stored row to each found one.
            equal: (G, F) bool, whether the rest is equal, as the class.
            may_miss: how many stored rows, and how many found ones, may be left over.

        Returns:
            (G,) the found row of each stored one, -1 where it has none.
        """
        fits = equal.copy()
        for what, error in errors.items():
            fits &= error <= self.tolerance(what)
        partner = pair(fits)
        paired = np.flatnonzero(partner >= 0)
        for what, error in errors.items():
            if len(paired):
                self.check(what, key, error[paired, partner[paired]].max())
        missing, extra = int((partner < 0).sum()), fits.shape[1] - len(paired)
        assert max(missing, extra) <= may_miss, (
            f"{self.name}: {key}: {missing} of the reference's {len(partner)} are not found (rows "
            f"{np.flatnonzero(partner < 0)[:8].tolist()}), and {extra} are found that it does not have; "
            + (
                f"its own waver by {self.wavers} under noise, so {may_miss} could be ties"
                if may_miss
                else "its own stay the same under noise, so none is a tie"
            )
        )
        if missing or extra:
            measured.append((self.name, "ties", key, float(max(missing, extra))))
        return partner

    def assert_detections(self, index: int, count: int, found: Detections) -> np.ndarray:
        """The final detections of one of `count` images, whatever their order; returns `assert_rows`' pairs."""
        key = "detections" if count == 1 else f"detections of image {index}"
        boxes, scores, classes = (
            self.of_image(f"det_{what}", index, count) for what in ("boxes", "scores", "classes")
        )
        errors = {"boxes": box_errors(boxes, found.boxes), "scores": score_errors(scores, found.scores)}
        order = found.scores.numpy()
        assert (order[1:] <= order[:-1] + 1e-6).all(), f"{self.name}: the {key} are not sorted by score"
        return self.assert_rows(key, errors, classes[:, None] == found.labels.numpy(), self.may_miss)


def every_nth(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor | None:
    """Every n-th value along each axis, as an array of `shape` was taken from `x`; None if it cannot be."""
    if x.ndim != len(shape):
        return None
    for axis, (full, kept) in enumerate(zip(x.shape, shape, strict=True)):
        steps = [step for step in range(1, full + 1) if len(range(0, full, step)) == kept]
        if full != kept and not steps:
            return None
        if full != kept:
            # Several steps can give as many values: cases take powers of two.
            step = max((s for s in steps if s & (s - 1) == 0), default=steps[0])
            x = x[(slice(None),) * axis + (slice(None, None, step),)]
    return x


def pair(fits: np.ndarray) -> np.ndarray:
    """(G,) a column for each row of `fits` (G, F), one of its own where it fits, for as many rows as can be; or -1."""
    partner = np.full(len(fits), -1)
    rows, columns = linear_sum_assignment(~fits)
    kept = fits[rows, columns]
    partner[rows[kept]] = columns[kept]
    return partner


def box_errors(golden: np.ndarray, found: torch.Tensor) -> np.ndarray:
    """(G, F) the largest difference of a side in pixels."""
    return np.abs(found.detach().numpy()[None] - golden[:, None]).max(-1, initial=0)


def score_errors(golden: np.ndarray, found: torch.Tensor) -> np.ndarray:
    """(G, F) absolute differences."""
    return np.abs(found.detach().numpy()[None] - golden[:, None])


def _relative(found: float, expected: float) -> float:
    error = abs(found - expected) / abs(expected) if expected else abs(found)
    return error if math.isfinite(error) else math.inf


def write_detectron2_pkl(weights: dict[str, np.ndarray], path: Path) -> Path:
    """As detectron2's model zoo publishes weights."""
    with path.open("wb") as file:
        pickle.dump({"model": weights, "__author__": "parity"}, file, protocol=2)
    return path


def write_afi_pth(weights: dict[str, np.ndarray], path: Path) -> Path:
    """As AFI-GAN's and SRF-GAN's authors publish weights."""
    torch.save({"model": {name: torch.from_numpy(v) for name, v in weights.items()}, "iteration": 9}, path)
    return path
