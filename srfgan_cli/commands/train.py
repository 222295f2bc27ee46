"""`srfgan pretrain`, `extract`, `finetune`: the three stages of the method."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from srfgan_cli.console import stderr
from srfgan_cli.options import (
    BatchSize,
    Compile,
    DataRoot,
    Dataset,
    Devices,
    DryRun,
    Extractor,
    Generator,
    Guide,
    Iterations,
    Json,
    Launcher,
    Nodes,
    OutputDir,
    Overwrite,
    Precision,
    Preset,
    Rendezvous,
    Resume,
    Seed,
    Set,
    Teacher,
    TrainOptions,
    Unlabeled,
    Weights,
)

Backbone = Annotated[
    Literal["r18", "r50", "r101"] | None,
    typer.Option("--backbone", help="Short for --preset mask_rcnn_<backbone>_fpn.", rich_help_panel="Recipe"),
]


def pretrain(
    preset: Preset = None,
    backbone: Backbone = None,
    guide: Guide = None,
    set_: Set = None,
    data_root: DataRoot = None,
    dataset: Dataset = None,
    iterations: Iterations = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    devices: Devices = "auto",
    launcher: Launcher = "auto",
    nnodes: Nodes = 1,
    rdzv_endpoint: Rendezvous = None,
    precision: Precision = None,
    compile: Compile = None,
    output_dir: OutputDir = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Stage 1: train the generator G and the discriminator D against a frozen detector's pyramid."""
    _train(TrainOptions(stage="pretrain", **locals()))


def extract(
    preset: Preset = None,
    guide: Guide = None,
    generator: Generator = None,
    weights: Weights = None,
    set_: Set = None,
    data_root: DataRoot = None,
    dataset: Dataset = None,
    iterations: Iterations = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    devices: Devices = "auto",
    launcher: Launcher = "auto",
    nnodes: Nodes = 1,
    rdzv_endpoint: Rendezvous = None,
    precision: Precision = None,
    compile: Compile = None,
    output_dir: OutputDir = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Stage 2: train the multi-scale SRF extractor M, a detector on half-size images with G inside."""
    _train(TrainOptions(stage="extract", **locals()))


def finetune(
    preset: Preset = None,
    generator: Generator = None,
    extractor: Extractor = None,
    weights: Weights = None,
    set_: Set = None,
    data_root: DataRoot = None,
    dataset: Dataset = None,
    unlabeled: Unlabeled = None,
    teacher: Teacher = None,
    iterations: Iterations = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    devices: Devices = "auto",
    launcher: Launcher = "auto",
    nnodes: Nodes = 1,
    rdzv_endpoint: Rendezvous = None,
    precision: Precision = None,
    compile: Compile = None,
    output_dir: OutputDir = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Stage 3: train the target detector T; `_nn` presets train plain baselines."""
    _train(TrainOptions(stage="finetune", **locals()))


def _train(options: TrainOptions) -> None:
    from srfgan_cli.plan import make_plan, show_plan

    plan = make_plan(options)
    if options.dry_run:
        show_plan(plan, as_json=options.json)
        return
    from srfgan_cli.devices import parse_devices
    from srfgan_cli.launcher import INTERRUPTED, launch
    from srfgan_cli.training.interrupt import Interrupted
    from srfgan_cli.training.session import train_stage

    devices = parse_devices(options.devices)
    code = launch(devices, options.launcher, options.nnodes, options.rdzv_endpoint)
    if code is not None:
        raise typer.Exit(code)
    try:
        train_stage(plan, devices)
    except Interrupted:
        if os.environ.get("RANK", "0") == "0":
            stderr.print(
                f"Interrupted; saved to {plan.run.checkpoint}. The same command with --resume continues.",
                soft_wrap=True,
            )
        raise typer.Exit(INTERRUPTED) from None
