"""Parity cases: published networks with weights filled by rule, and what they computed.

`data/<case>/spec.json` names the source, every parameter of the reference and what was changed in the
filling; `golden.npz` holds the reference's outputs. The weights are made here from the parameters' names,
written as a file in the reference's own format, and loaded by the code under test.
"""

from __future__ import annotations

import json
import math
import pickle
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers import DropPath

DATA = Path(__file__).parent / "data"


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
    name: str
    spec: dict = field(init=False)

    def __post_init__(self):
        self.spec = json.loads((DATA / self.name / "spec.json").read_text())

    @cached_property
    def golden(self) -> dict[str, np.ndarray]:
        with np.load(DATA / self.name / "golden.npz") as arrays:
            return dict(arrays)

    def weights(self) -> dict[str, np.ndarray]:
        """The reference's state dict, checked against the sums that were stored with it."""
        damping, offset = self.spec["damping"], self.spec["offset"]
        filled = {
            name: fill_array(name, tuple(shape)) * np.float32(damping.get(name, 1))
            + np.float32(offset.get(name, 0))
            for name, shape in self.spec["parameters"].items()
        }
        for name, stored in self.spec.get("overrides", {}).items():
            filled[name] = self.golden[stored]
        checksum = self.spec["fill_checksum"]
        total = sum(float(values.sum(dtype=np.float64)) for values in filled.values())
        magnitude = sum(float(np.abs(values).sum(dtype=np.float64)) for values in filled.values())
        assert total == pytest.approx(checksum["sum"], rel=1e-9)
        assert magnitude == pytest.approx(checksum["sum_of_abs"], rel=1e-9)
        return filled

    def rgb_image(self) -> torch.Tensor:
        """(3, H, W) uint8 RGB; the case's model reads its channels in `input_format`, BGR unless it says so."""
        shape = self.spec["image"]
        image = make_image(shape["height"], shape["width"], shape["seed"])
        assert zlib.crc32(image.tobytes()) == shape["crc32_of_uint8_hwc_bytes"]
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        return (pixels if self.spec.get("input_format") == "RGB" else pixels.flip(0)).contiguous()

    def train(self, model: torch.nn.Module) -> None:
        """Training mode, but without batch statistics and stochastic depth, as the references were run."""
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d | DropPath):
                module.eval()

    def assert_close(self, key: str, actual: torch.Tensor, tolerance: float = 1e-4) -> None:
        """Largest difference at most `tolerance` of the stored array's largest magnitude."""
        golden = self.golden[key]
        actual = actual.detach().numpy()
        assert actual.shape == golden.shape, key
        worst = np.abs(actual - golden).max() / np.abs(golden).max()
        assert worst <= tolerance, f"{key}: relative difference {worst:.2e}"


def write_detectron2_pkl(weights: dict[str, np.ndarray], path: Path) -> Path:
    """As detectron2's model zoo publishes weights."""
    with path.open("wb") as file:
        pickle.dump({"model": weights, "__author__": "parity"}, file, protocol=2)
    return path


def write_afi_pth(weights: dict[str, np.ndarray], path: Path) -> Path:
    """As AFI-GAN's and SRF-GAN's authors publish weights."""
    torch.save({"model": {name: torch.from_numpy(v) for name, v in weights.items()}, "iteration": 9}, path)
    return path


@pytest.fixture(scope="module")
def load_case():
    """Build nothing: read a case by name."""
    return ParityCase


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    """Write a case's weights in its reference's format; the file is removed with the module's tests."""
    paths = []

    def write(case: ParityCase) -> Path:
        folder = tmp_path_factory.mktemp(case.name)
        if "detectron2" in case.spec["source"]["repository"]:
            paths.append(write_detectron2_pkl(case.weights(), folder / "model_final.pkl"))
        else:
            paths.append(write_afi_pth(case.weights(), folder / "model_final.pth"))
        return paths[-1]

    yield write
    for path in paths:
        path.unlink()
