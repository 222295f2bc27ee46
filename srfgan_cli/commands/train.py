"""`srfgan pretrain`, `extract`, `finetune`: the three stages of the method."""

from __future__ import annotations

import json as jsonlib
import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from srfgan_cli.screen.console import print_json, stderr
from srfgan_cli.screen.options import (
    AutoResume,
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
    Restarts,
    Resume,
    Seed,
    Set,
    Teacher,
    TrainOptions,
    Unlabeled,
    Weights,
)

if TYPE_CHECKING:
    from srfgan_cli.runs.plan import Plan

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
    max_restarts: Restarts = 0,
    precision: Precision = None,
    compile: Compile = None,
    output_dir: OutputDir = None,
    resume: Resume = False,
    auto_resume: AutoResume = False,
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
    max_restarts: Restarts = 0,
    precision: Precision = None,
    compile: Compile = None,
    output_dir: OutputDir = None,
    resume: Resume = False,
    auto_resume: AutoResume = False,
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
    max_restarts: Restarts = 0,
    precision: Precision = None,
    compile: Compile = None,
    output_dir: OutputDir = None,
    resume: Resume = False,
    auto_resume: AutoResume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Stage 3: train the target detector T; `_nn` presets train plain baselines."""
    _train(TrainOptions(stage="finetune", **locals()))


def _train(options: TrainOptions) -> None:
    from srfgan_cli.runs.plan import make_plan, show_plan

    plan = make_plan(options)
    if options.dry_run:
        show_plan(plan, as_json=options.json)
        return
    if plan.finished:
        _say_finished(plan)
        return
    from srfgan_cli.machine.devices import parse_devices
    from srfgan_cli.machine.interrupt import Interrupted
    from srfgan_cli.machine.launcher import INTERRUPTED, is_worker, launch
    from srfgan_cli.runs.lock import sole_use
    from srfgan_cli.training.train_stage import train_stage

    devices = parse_devices(options.devices)
    if options.max_restarts and options.overwrite and not is_worker():
        with sole_use(plan.run.folder):
            plan.run.clear()  # once, and not by every process that is started again
    code = launch(devices, options.launcher, options.nnodes, options.rdzv_endpoint, options.max_restarts)
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


def _say_finished(plan: Plan) -> None:
    """A job script that runs once more finds nothing to do, which is no error."""
    if os.environ.get("RANK", "0") != "0":
        return
    stderr.print(f"The run in {plan.run.folder} is finished. Weights: {plan.run.model}", soft_wrap=True)
    if plan.options.json:
        scores = plan.run.evaluation
        evaluation = jsonlib.loads(scores.read_bytes()) if scores.is_file() else None
        document = {"stage": plan.stage, "preset": plan.config.name, "weights": str(plan.run.model)}
        print_json(document | {"evaluation": evaluation})
