"""What `srfgan export` does: load, trace, write, run the file, compare, and keep it only if it agrees."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from rich.table import Table
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan_cli.data.images import list_images, read_image
from srfgan_cli.data.open import policy
from srfgan_cli.export.check import (
    FULL,
    HALF,
    Difference,
    ExportMismatchError,
    Tolerance,
    agree,
    check_images,
    compare_on,
    lower_threshold,
)
from srfgan_cli.export.contract import contract
from srfgan_cli.export.detectron2_config import require_expressible
from srfgan_cli.export.detectron2_file import (
    config_beside,
    has_detectron2,
    open_detectron2,
    refuse_other_config,
    write_detectron2,
)
from srfgan_cli.export.graph import Runtime, output_names, smallest_side, trace
from srfgan_cli.export.onnx_file import open_onnx, require_onnx, write_onnx
from srfgan_cli.export.pt2_file import open_pt2, write_pt2
from srfgan_cli.presets.config import Config
from srfgan_cli.runs.trained import TrainedDetector, folder_beside, load_trained, weights_of
from srfgan_cli.screen.console import stderr, styled

Format = Literal["onnx", "pt2", "detectron2"]

OF_FOLDER = 16
"""Images of a folder that files are compared on: evenly spaced in the order of their names."""

_SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "detectron2": ".pth"}
_RUNTIMES = {"onnx": "onnxruntime", "pt2": "torch.export", "detectron2": "detectron2"}


@dataclass(frozen=True)
class _Graph:
    """What kind of file is written; see `export_preset`."""

    format: Format
    half: bool
    batch: int | None

    @property
    def tolerance(self) -> Tolerance:
        """Of the comparison with PyTorch."""
        return HALF if self.half else FULL


@dataclass(frozen=True)
class ExportReport:
    """An exported file and how far it is from PyTorch.

    Attributes:
        preset: its name.
        half: whether its networks compute in float16.
        batch: how many images it takes at a time; None: one, without an axis for it.
        weights: the file they came from.
        differences: one for each image of the check; none if detectron2 is not there to run its file.
        threshold: the score from which detections were compared, below the preset's where nothing passed that.
    """

    preset: str
    weights: Path
    format: Format
    half: bool
    batch: int | None
    output: Path
    differences: list[Difference]
    threshold: float

    def as_json(self) -> dict[str, Any]:
        """The document of `srfgan export --json`."""
        return {
            "preset": self.preset,
            "weights": str(self.weights),
            "format": self.format,
            "half": self.half,
            "batch_size": self.batch,
            "output": str(self.output),
            "bytes": self.output.stat().st_size,
            "config": str(config_beside(self.output)) if self.format == "detectron2" else None,
            "compared": sum(one.total for one in self.differences),
            "score_threshold": self.threshold,
            "images": [difference.as_json() for difference in self.differences],
        }


def export_preset(
    config: Config,
    weights: Path | None,
    format: Format,
    output: Path | None,
    images: Sequence[Path] = (),
    *,
    half: bool = False,
    batch: int | None = None,
) -> ExportReport:
    """Write a preset's detector as a file that agrees with PyTorch.

    The file takes its place only after it has been run: its detections on some images are compared with the
    detector's own. Where PyTorch finds nothing on any of them, a second file with a lower score threshold, but else
    the same, is compared instead and not kept. The comparison is printed to stderr.

    Args:
        config: names the detector and, without `weights`, the run that trained it.
        weights: our checkpoint, or one of detectron2's or the authors'; `published` fetches the authors'.
        format: `onnx` for onnxruntime, `pt2` for `torch.export.load`, `detectron2` for weights and config of
            detectron2, which are not run where it is not installed.
        output: None: beside the weights, named like them; `runs/published/<preset>/` for the authors'.
        images: files to compare on, and folders, of whose images `OF_FOLDER` are taken; resized as the preset tests.
            None: two built-in scenes. A blank image comes to either.
        half: for `onnx`, networks that compute in float16; compared with float32 within wider tolerances.
        batch: for `onnx` and `pt2`, always so many images of one size at a time; None: one, without an axis for it.

    Raises:
        InputError: weights, images or output that cannot be used, packages that are not installed, or a detector
            that detectron2 does not have.
        ExportMismatchError: the file does not find what PyTorch finds; it is not kept.
    """
    if half and format != "onnx":
        raise InputError(f"--half is for --format onnx, not for {format}.")
    if batch is not None and format == "detectron2":
        raise InputError("--batch-size is for --format onnx and pt2, not for detectron2.")
    if format == "onnx":
        require_onnx()
    if format == "detectron2":
        require_expressible(config.model)
    graph = _Graph(format, half, batch)
    source = weights_of(config, weights)
    output = output or _default_output(config, weights, source, format)
    _check_output(output, format, source)
    trained = load_trained(config, source)
    # A checkpoint of ours may be of another model than the preset's.
    config = config.model_copy(update={"model": trained.detector.config})
    shown = _read_images(config, images)
    stderr.print(f"Weights: {source}\nWriting {output.name} ...")
    unchecked = output.with_name(f"{output.stem}.{os.getpid()}.unchecked{output.suffix}")
    files = {unchecked: output}
    if format == "detectron2":
        files[config_beside(unchecked)] = config_beside(output)
    threshold = trained.detector.head.inference.score_threshold
    try:
        run = _write(config, trained, graph, unchecked, output)
        if run is None:
            stderr.print("detectron2 is not installed, so its files were written without running them.")
            differences = []
        else:
            pictures = check_images(smallest_side(trained.detector.config), shown)
            differences = compare_on(trained.detector, run, pictures, graph.tolerance, graph.batch)
            lower = (
                None if any(one.total for one in differences) else lower_threshold(trained.detector, pictures)
            )
            if lower is not None:
                threshold = lower
                differences = _compare_lowered(config, trained, graph, output, pictures, lower)
            stderr.print(_table(differences, _RUNTIMES[format], graph.tolerance))
            _check_agreement(differences, output)
        for file, place in files.items():
            file.replace(place)
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    size = output.stat().st_size / 1e6
    names = " and ".join(str(place) for place in files.values())
    stderr.print(styled(("Done.", "bold"), f" {names}, {size:.1f} MB"))
    return ExportReport(config.name, source, format, half, batch, output, differences, threshold)


def _compare_lowered(
    config: Config,
    trained: TrainedDetector,
    graph: _Graph,
    output: Path,
    pictures: dict[str, Tensor],
    threshold: float,
) -> list[Difference]:
    """The comparison of a file of its own, the detector's with `threshold`, which does not stay."""
    own = trained.detector.head.inference.score_threshold
    stderr.print(
        f"Nothing on these images scores above {own:g}, the preset's threshold; comparing the same file with "
        f"{threshold:.2g} in its place ..."
    )
    path = output.with_name(f"{output.stem}.{os.getpid()}.lowered{output.suffix}")
    try:
        with trained.detector.at_threshold(threshold):
            lowered = config.model_copy(update={"model": trained.detector.config})
            run = _write(lowered, trained, graph, path, path)
            assert run is not None
            return compare_on(trained.detector, run, pictures, graph.tolerance, graph.batch)
    finally:
        for file in (path, *([config_beside(path)] if graph.format == "detectron2" else [])):
            file.unlink(missing_ok=True)


def _read_images(config: Config, paths: Sequence[Path]) -> dict[str, Tensor]:
    """The images (3, H, W) float32 by file name, at the size that the preset tests at."""
    images: dict[str, Tensor] = {}
    smallest = smallest_side(config.model)
    for path in (file for named in paths for file in _files(named)):
        image = read_image(path)
        size = (image.shape[1], image.shape[2])
        resized = policy(config.data, training=False).draw(size, torch.Generator()).image(image)
        if min(resized.shape[1:]) < smallest:
            raise InputError(
                f"--image {path}: {resized.shape[1]} x {resized.shape[2]} pixels at the preset's test size, and an "
                f"exported file takes {smallest} or more of either side; choose another image"
            )
        images[str(path)] = resized.float()
    return images


def _files(named: Path) -> list[Path]:
    """The file itself, or some of a folder's images."""
    if not named.is_dir():
        return [named]
    files = list_images(named)
    chosen = [files[at * len(files) // OF_FOLDER] for at in range(OF_FOLDER)]
    if len(files) > OF_FOLDER:
        stderr.print(f"Comparing on {OF_FOLDER} of the {len(files)} images of {named}.")
    return list(dict.fromkeys(chosen))


def _write(
    config: Config, trained: TrainedDetector, graph: _Graph, path: Path, output: Path
) -> Runtime | None:
    """Write the file and open it in the runtime that it is for, if that is here."""
    if graph.format == "detectron2":
        require_expressible(trained.detector.config)
        write_detectron2(config, trained, path, output)
        return open_detectron2(path, trained.detector) if has_detectron2() else None
    program = trace(trained.detector, graph.batch)
    outputs = output_names(trained.detector.config, graph.batch)
    metadata = contract(config, trained.categories, outputs, half=graph.half, batch=graph.batch)
    if graph.format == "onnx":
        write_onnx(program, outputs, metadata, path, half=graph.half)
        return open_onnx(path)
    write_pt2(program, metadata, path)
    return open_pt2(path)


def _default_output(config: Config, weights: Path | None, source: Path, format: Format) -> Path:
    folder = folder_beside(config, weights, source)
    if folder == source.parent:
        return source.with_suffix(_SUFFIXES[format])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error.strerror}.") from None
    return folder / f"model{_SUFFIXES[format]}"


def _check_output(output: Path, format: Format, source: Path) -> None:
    suffix = _SUFFIXES[format]
    if output.suffix != suffix:
        raise InputError(f"--output {output}: a file of --format {format} is named *{suffix}.")
    if not output.parent.is_dir():
        raise InputError(f"--output {output}: the folder {output.parent} does not exist.")
    if output.is_dir():
        raise InputError(f"--output {output} is a folder; name a file.")
    if output.resolve() == source.resolve():
        raise InputError(f"{output} holds the weights themselves; name another --output.")
    if format == "detectron2":
        refuse_other_config(output)


def _check_agreement(differences: list[Difference], output: Path) -> None:
    same, total = (sum(getattr(one, name) for one in differences) for name in ("same", "total"))
    if not agree(differences):
        raise ExportMismatchError(
            f"The exported file and PyTorch agree on {same} of {total} detections only; {output} was not written."
        )
    if total:
        stderr.print(f"Compared {total} detections on {len(differences)} images; {same} are the same.")
    else:
        stderr.print(
            styled(
                ("PyTorch and the file find nothing on these images, whatever the threshold: ", "yellow"),
                "only empty results were compared. Name others by --image.",
            )
        )


def _table(differences: list[Difference], runtime: str, tolerance: Tolerance) -> Table:
    allowed = f"{tolerance.boxes:g} px, {tolerance.scores:g} and {tolerance.masks:g} are allowed"
    table = Table(title=f"{runtime} against PyTorch: largest differences", caption=allowed)
    table.add_column("image", no_wrap=True)
    for heading in ("same", "boxes (px)", "scores", "masks"):
        table.add_column(heading, justify="right")
    for one in differences:
        values = ("" if x is None else f"{x:.1e}" for x in (one.boxes, one.scores, one.masks))
        table.add_row(one.image, f"{one.same} of {one.total}", *values)
    return table
