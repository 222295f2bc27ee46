"""`srfgan eval`: score a detector beside the paper's row, or write a results file for the COCO server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from srfgan.models.errors import InputError
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
    from srfgan_cli.presets import load_preset

    if preset is None and weights is None:
        raise InputError(NOTHING_NAMED)
    if from_ is not None and weights is not None:
        raise InputError("--from scores a file of results: --weights would not be used. Give one of the two.")
    overrides = data_overrides(
        data_root, dataset, train=(train_json, train_images), val=(val_json, val_images)
    )
    if max_detections is not None:
        overrides += [f"evaluation.max_detections={max_detections}"]
        overrides += [f"model.inference.detections_per_image={max_detections}"]
    if tta:
        overrides += ["evaluation.tta.enabled=true"]
    overrides += set_ or []
    if preset is not None:
        config = load_preset(preset, overrides)  # without torch: a launcher may follow
    else:
        from srfgan_cli.runs.trained import config_of

        config = config_of(weights, None, overrides)

    from srfgan_cli.evaluation.evaluate_preset import EvaluationOptions, evaluate_preset, open_scored
    from srfgan_cli.machine.devices import parse_devices
    from srfgan_cli.machine.launcher import launch

    chosen = parse_devices(devices)
    if from_ is None:
        code = launch(chosen, launcher, nnodes, rdzv_endpoint)
        if code is not None:
            raise typer.Exit(code)
    options = EvaluationOptions(
        split=split,
        data_root=data_root,
        weights=weights,
        results_from=from_,
        output_dir=output_dir,
        batch_size=batch_size or config.evaluation.batch_size,
        precision=precision or "fp32",
    )
    data = open_scored(config, options)
    judged = report or against is not None
    if judged:
        from srfgan_cli.analysis.judge_results import judge_results, run_to_compare

        other = run_to_compare(data.index, against)
    scored = evaluate_preset(config, chosen, options, data)
    if scored is None:
        return
    from srfgan_cli.evaluation.table import report_table
    from srfgan_cli.screen.console import print_json, stderr, stdout

    (stderr if json else stdout).print(report_table(scored, per_class=per_class))
    if json:
        print_json(scored.as_json(per_class=per_class))
    if judged:
        stderr.print(f"Report: {judge_results(data, scored, other)}")
