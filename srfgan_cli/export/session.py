"""What `srfgan export` does: load, trace, write, run the file, compare, and keep it only if it agrees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from models.errors import InputError
from srfgan_cli.config import Config
from srfgan_cli.console import stderr, styled
from srfgan_cli.export.check import Difference, ExportMismatchError, agree, check_images, compare_on
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
from srfgan_cli.published import PUBLISHED
from srfgan_cli.trained import TrainedDetector, folder_beside, load_trained, weights_of

Format = Literal["onnx", "pt2", "detectron2"]

_SUFFIXES = {"onnx": ".onnx", "pt2": ".pt2", "detectron2": ".pth"}
_RUNTIMES = {"onnx": "onnxruntime", "pt2": "torch.export", "detectron2": "detectron2"}


@dataclass(frozen=True)
class ExportReport:
    """An exported file and how far it is from PyTorch.

    Attributes:
        preset: its name.
        weights: the file they came from.
        differences: one for each image of the check; none if detectron2 is not there to run its file.
    """

    preset: str
    weights: Path
    format: Format
    output: Path
    differences: list[Difference]

    def as_json(self) -> dict[str, Any]:
        """The document of `srfgan export --json`."""
        return {
            "preset": self.preset,
            "weights": str(self.weights),
            "format": self.format,
            "output": str(self.output),
            "bytes": self.output.stat().st_size,
            "config": str(config_beside(self.output)) if self.format == "detectron2" else None,
            "images": [difference.as_json() for difference in self.differences],
        }


def export_preset(config: Config, weights: Path | None, format: Format, output: Path | None) -> ExportReport:
    """Write a preset's detector as a file that agrees with PyTorch.

    The file takes its place only after it has been run: on three images (one blank) its detections are
    compared with the detector's own. The comparison is printed to stderr.

    Args:
        config: names the detector and, without `weights`, the run that trained it.
        weights: our checkpoint, or one of detectron2's or the authors'; `published` fetches the authors'.
        format: `onnx` for onnxruntime, `pt2` for `torch.export.load`, `detectron2` for weights and config of
            detectron2, which are not run where it is not installed.
        output: None: beside the weights, named like them; `runs/published/<preset>/` for the authors'.

    Raises:
        InputError: weights or output that cannot be used, packages that are not installed, or a detector that
            detectron2 does not have.
        ExportMismatchError: the file does not find what PyTorch finds; it is not kept.
    """
    if format == "onnx":
        require_onnx()
    if format == "detectron2":
        require_expressible(config.model)
    source = weights_of(config, weights)
    output = output or _default_output(config, weights, source, format)
    _check_output(output, format, source)
    trained = load_trained(config, source)
    stderr.print(f"Weights: {source}\nWriting {output.name} ...")
    unchecked = output.with_name(f"{output.stem}.{os.getpid()}.unchecked{output.suffix}")
    files = {unchecked: output}
    if format == "detectron2":
        files[config_beside(unchecked)] = config_beside(output)
    try:
        run = _write(config, trained, format, unchecked, output)
        differences = _compare(trained, run, format, output)
        for file, place in files.items():
            file.replace(place)
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    size = output.stat().st_size / 1e6
    names = " and ".join(str(place) for place in files.values())
    stderr.print(styled(("Done.", "bold"), f" {names}, {size:.1f} MB"))
    return ExportReport(config.name, source, format, output, differences)


def _write(
    config: Config, trained: TrainedDetector, format: Format, path: Path, output: Path
) -> Runtime | None:
    """Write the file and open it in the runtime that it is for, if that is here."""
    if format == "detectron2":
        require_expressible(trained.detector.config)
        write_detectron2(config, trained, path, output)
        return open_detectron2(path, trained.detector) if has_detectron2() else None
    program = trace(trained.detector)
    outputs = output_names(trained.detector.config)
    metadata = contract(config, trained.categories, outputs)
    if format == "onnx":
        write_onnx(program, outputs, metadata, path)
        return open_onnx(path)
    write_pt2(program, metadata, path)
    return open_pt2(path)


def _default_output(config: Config, weights: Path | None, source: Path, format: Format) -> Path:
    if weights != PUBLISHED:
        return source.with_suffix(_SUFFIXES[format])
    folder = folder_beside(config, weights, source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot write to {folder}: {error.strerror}.") from None
    return folder / f"model{_SUFFIXES[format]}"


def _compare(trained: TrainedDetector, run: Runtime | None, format: Format, output: Path) -> list[Difference]:
    """Run the file beside PyTorch and print how far they are apart."""
    if run is None:
        stderr.print("detectron2 is not installed, so its files were written without running them.")
        return []
    differences = compare_on(trained.detector, run, check_images(smallest_side(trained.detector.config)))
    stderr.print(_table(differences, _RUNTIMES[format]))
    _check_agreement(differences, output)
    return differences


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
    if not agree(differences):
        same, total = (sum(getattr(one, name) for one in differences) for name in ("same", "total"))
        raise ExportMismatchError(
            f"The exported file and PyTorch agree on {same} of {total} detections only; {output} was not written."
        )
    if not any(one.expected for one in differences):
        stderr.print(
            styled(
                ("Nothing is detected on these images, so only empty results were compared.", "yellow"),
                " --set model.inference.score_threshold=0.0 exports a file that can be compared.",
            )
        )


def _table(differences: list[Difference], runtime: str) -> Table:
    table = Table(title=f"{runtime} against PyTorch: largest differences")
    table.add_column("image", no_wrap=True)
    for heading in ("same", "boxes (px)", "scores", "masks"):
        table.add_column(heading, justify="right")
    for one in differences:
        values = ("" if x is None else f"{x:.1e}" for x in (one.boxes, one.scores, one.masks))
        table.add_row(one.image, f"{one.same} of {one.total}", *values)
    return table
