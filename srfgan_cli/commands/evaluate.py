"""`srfgan eval`: score a detector beside the paper's row, or write a results file for the COCO server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from srfgan.models.errors import InputError
from srfgan_cli.runs.given import is_exported
from srfgan_cli.screen.options import (
    NOTHING_NAMED,
    DataRoot,
    Dataset,
    Devices,
    Json,
    Launcher,
    Nodes,
    OutputDir,
    Precision,
    Preset,
    Rendezvous,
    Set,
    TrainImages,
    TrainJson,
    ValImages,
    ValJson,
    Weights,
    data_overrides,
)

if TYPE_CHECKING:
    from srfgan_cli.analysis.judge_results import Run
    from srfgan_cli.data.coco import CocoIndex
    from srfgan_cli.evaluation.evaluate_preset import EvaluationOptions
    from srfgan_cli.evaluation.report import Report as Scored
    from srfgan_cli.evaluation.results import Result
    from srfgan_cli.export.exported_detector import ExportedDetector
    from srfgan_cli.machine.devices import Devices as ChosenDevices
    from srfgan_cli.presets.config import Config

Split = Annotated[
    Literal["train", "val", "test"],
    typer.Option(
        "--split", help="`test` has no annotations: writes the results file only.", rich_help_panel="Data"
    ),
]
MaxDetections = Annotated[
    int | None,
    typer.Option(
        "--max-detections", min=1, help="Detections per image that AP counts; COCO's is 100.", metavar="N"
    ),
]
PerClass = Annotated[bool, typer.Option("--per-class", help="Add every category's AP.")]
From = Annotated[
    Path | None, typer.Option("--from", help="Score this results.json; no model is needed.", metavar="FILE")
]
TTA = Annotated[
    bool, typer.Option("--tta", help="Multi-scale testing: short sides 400 to 1200, each also mirrored.")
]
Report = Annotated[
    bool,
    typer.Option("--report", help="Also a page of what is right and wrong: report.html beside the results."),
]
Against = Annotated[
    Path | None,
    typer.Option(
        "--against", help="Another run's results.json to compare with, on that page.", metavar="FILE"
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, help="Images at a time on each device; default: the preset's, 1.", metavar="N"
    ),
]


def evaluate(
    preset: Preset = None,
    weights: Weights = None,
    from_: From = None,
    set_: Set = None,
    split: Split = "val",
    data_root: DataRoot = None,
    train_json: TrainJson = None,
    train_images: TrainImages = None,
    val_json: ValJson = None,
    val_images: ValImages = None,
    dataset: Dataset = None,
    max_detections: MaxDetections = None,
    per_class: PerClass = False,
    tta: TTA = False,
    report: Report = False,
    against: Against = None,
    batch_size: BatchSize = None,
    devices: Devices = "auto",
    launcher: Launcher = "auto",
    nnodes: Nodes = 1,
    rdzv_endpoint: Rendezvous = None,
    precision: Precision = None,
    output_dir: OutputDir = None,
    json: Json = False,
) -> None:
    """Evaluate a detector: COCO AP beside the paper's numbers, and a results.json."""
    if preset is None and weights is None:
        raise InputError(NOTHING_NAMED)
    judged = report or against is not None
    if from_ is not None:
        _check_from(weights, output_dir, judged=judged)
        _tell_unused(
            {
                "--batch-size": batch_size,
                "--precision": precision,
                "--devices": devices != "auto",
                "--launcher": launcher != "auto",
                "--nnodes": nnodes != 1,
                "--rdzv-endpoint": rdzv_endpoint,
            }
        )
    overrides = data_overrides(
        data_root, dataset, train=(train_json, train_images), val=(val_json, val_images)
    )
    exported = is_exported(weights)
    if max_detections is not None and not exported:
        overrides += [f"evaluation.max_detections={max_detections}"]
        overrides += [f"model.inference.detections_per_image={max_detections}"]
    if tta:
        overrides += ["evaluation.tta.enabled=true"]
    overrides += set_ or []
    if exported:
        devices = _for_exported(weights, devices, changed=bool(preset or set_ or tta or precision))
    config, detector = _named(preset, weights, overrides, max_detections)
    if from_ is not None:
        done: _Done | None = _score_file(from_, config, data_root, split, against, judged=judged)
    else:
        chosen = _launched(devices, launcher, nnodes, rdzv_endpoint)
        from srfgan_cli.evaluation.evaluate_preset import EvaluationOptions

        options = EvaluationOptions(
            split=split,
            data_root=data_root,
            weights=weights,
            output_dir=output_dir,
            batch_size=batch_size or config.evaluation.batch_size,
            precision=precision or "fp32",
            by_group=judged,
        )
        done = _score_model(config, detector, chosen, options, against)
    if done is not None:
        _show(done, output_dir, judged=judged, per_class=per_class, as_json=json)


@dataclass(frozen=True)
class _Done:
    """What was scored, on what data, and what a page of it needs: the results, where they are read, and others."""

    scored: Scored
    index: CocoIndex
    folder: Path
    results: list[Result] | None
    other: Run | None


def _named(
    preset: str | None, weights: Path | None, overrides: list[str], max_detections: int | None
) -> tuple[Config, ExportedDetector | None]:
    """The config that was named, and an exported file's detector; a preset needs no torch, as a launcher may follow."""
    from srfgan_cli.presets import load_preset

    if preset is not None:
        return load_preset(preset, overrides), None
    assert weights is not None
    if not is_exported(weights):
        from srfgan_cli.runs.trained import config_of

        return config_of(weights, None, overrides), None
    from srfgan_cli.export.exported_detector import ExportedDetector
    from srfgan_cli.prediction.evaluate_exported import config_of_exported

    detector = ExportedDetector(weights)
    return config_of_exported(detector, overrides, max_detections), detector


def _score_file(
    path: Path, config: Config, data_root: Path | None, split: Split, against: Path | None, *, judged: bool
) -> _Done:
    """Score a file of results."""
    from srfgan_cli.data.open_index import open_index
    from srfgan_cli.evaluation.reference import reference_of
    from srfgan_cli.evaluation.score_file import evaluate_results, read_results_of

    evaluation = config.evaluation
    index, folder = open_index(config.data, data_root, split, count_unusable=evaluation.count_unusable)
    other = _run_to_compare(index, against) if judged else None
    index.report.tell()
    results = read_results_of(index, path)
    scored = evaluate_results(
        path,
        index,
        results,
        preset=config.name,
        max_detections=evaluation.max_detections,
        reference=reference_of(config, split, published=False),
        tta=evaluation.tta.enabled,
        by_group=judged,
    )
    return _Done(scored, index, folder, results, other)


def _score_model(
    config: Config,
    detector: ExportedDetector | None,
    devices: ChosenDevices,
    options: EvaluationOptions,
    against: Path | None,
) -> _Done | None:
    """Score a detector, an exported one if given; None where there is nothing to show in this process."""
    from srfgan_cli.evaluation.evaluate_preset import evaluate_preset, open_scored

    data = open_scored(config, options)
    other = _run_to_compare(data.index, against) if options.by_group else None
    if other is not None:
        from srfgan_cli.analysis.judge_results import tasks_compared
        from srfgan_cli.evaluation.score_file import tasks_of

        has_masks = config.model.has_masks if detector is None else detector.has_masks
        # Now, as the scoring may take hours.
        tasks_compared(tasks_of(data.index, has_boxes=True, has_masks=has_masks), other)
    if detector is None:
        scored = evaluate_preset(config, devices, options, data)
    else:
        from srfgan_cli.prediction.evaluate_exported import evaluate_exported

        scored = evaluate_exported(detector, config, devices, options, data)
    return None if scored is None else _Done(scored, data.index, data.folder, None, other)


def _show(done: _Done, output_dir: Path | None, *, judged: bool, per_class: bool, as_json: bool) -> None:
    """The table on the screen, the page of `--report`, and the numbers of `--json`."""
    from srfgan_cli.evaluation.table import report_table
    from srfgan_cli.screen.console import print_json, stderr, stdout

    screen = stderr if as_json else stdout
    screen.print(report_table(done.scored, per_class=per_class))
    document = done.scored.as_json(per_class=per_class)
    if judged:
        from srfgan_cli.analysis.compared import comparison_table
        from srfgan_cli.analysis.judge_results import judge_results

        page, judgements = judge_results(
            done.index, done.folder, done.scored, done.results, done.other, output_dir=output_dir
        )
        compared = [(one, one.other) for one in judgements if one.other is not None]
        if compared:
            screen.print(comparison_table(done.scored.scores, compared))
            document["against"] = {one.task: run.as_json(one.names) for one, run in compared}
        stderr.print(f"Report: {page}")
    if as_json:
        print_json(document)


def _launched(devices: str, launcher: Launcher, nnodes: int, rendezvous: str | None) -> ChosenDevices:
    """This process's devices; where others do the work, they have done it, and the command ends here."""
    from srfgan_cli.machine.devices import parse_devices
    from srfgan_cli.machine.launcher import launch

    chosen = parse_devices(devices)
    code = launch(chosen, launcher, nnodes, rendezvous)
    if code is not None:
        raise typer.Exit(code)
    return chosen


def _check_from(weights: Path | None, output_dir: Path | None, *, judged: bool) -> None:
    if weights is not None:
        raise InputError("--from scores a file of results: --weights would not be used. Give one of the two.")
    if output_dir is not None and not judged:
        raise InputError(
            "--from writes nothing but the page of --report: add that, or leave --output-dir out."
        )


def _tell_unused(of_models: Mapping[str, object]) -> None:
    """Say which options of how a model runs are given where none runs; not an error, as scripts give them always.

    Args:
        of_models: the options, true where they are given.
    """
    given = [option for option, value in of_models.items() if value]
    if given:
        from srfgan_cli.screen.console import stderr

        stderr.print(f"Not used, as --from scores a file and no model runs: {', '.join(given)}.")


def _for_exported(weights: Path | None, devices: str, *, changed: bool) -> str:
    """The `--devices` on which an exported file runs."""
    if changed:
        raise InputError(
            f"{weights}: an exported file is used as it is; --preset, --set, --tta and --precision need a checkpoint."
        )
    if devices != "auto" and not devices.startswith("cpu"):
        raise InputError(f"{weights}: exported files run on the CPU here: leave --devices {devices} out.")
    return "cpu" if devices == "auto" else devices


def _run_to_compare(index: CocoIndex, against: Path | None) -> Run | None:
    from srfgan_cli.analysis.judge_results import run_to_compare

    return run_to_compare(index, against)
