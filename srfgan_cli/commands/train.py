"""`srfgan pretrain`, `extract`, `finetune`: the three stages of the method."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

from srfgan_cli.screen.options import TrainOptions, with_train_options

if TYPE_CHECKING:
    from srfgan_cli.runs.plan import Plan


@with_train_options(without=("generator", "extractor", "weights", "unlabeled", "teacher"))
def pretrain(**given: Any) -> None:
    """Stage 1: train the generator G and the discriminator D against a frozen detector's pyramid."""
    _train(TrainOptions("pretrain", **given))


@with_train_options(without=("backbone", "extractor", "distill", "unlabeled", "teacher"))
def extract(**given: Any) -> None:
    """Stage 2: train the multi-scale SRF extractor M, a detector on half-size images with G inside."""
    _train(TrainOptions("extract", **given))


@with_train_options(without=("backbone", "guide", "distill"))
def finetune(**given: Any) -> None:
    """Stage 3: train the target detector T; `_nn` presets train plain baselines."""
    _train(TrainOptions("finetune", **given))


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
    from srfgan_cli.runs.lock import FolderInUse, sole_use
    from srfgan_cli.screen.console import stderr
    from srfgan_cli.training.train_stage import train_stage
    from srfgan_cli.visualization.training_page import TrainingPage

    devices = parse_devices(options.devices)
    replacing = options.max_restarts > 0 and options.overwrite and not is_worker()
    if replacing:
        with sole_use(plan.run.folder):
            plan.run.set_aside()  # once, and not by every process that is started again
    try:
        code = launch(devices, options.launcher, options.nnodes, options.rdzv_endpoint, options.max_restarts)
    finally:
        if replacing:
            # Where it is in use, another node's launcher does the same now.
            with suppress(FolderInUse), sole_use(plan.run.folder):
                plan.run.bring_back()
    if code is not None:
        raise typer.Exit(code)
    try:
        train_stage(plan, devices, TrainingPage(plan.run, plan.config, plan.stage))
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
    from srfgan_cli.screen.console import print_json, stderr

    stderr.print(f"The run in {plan.run.folder} is finished. Weights: {plan.run.model}", soft_wrap=True)
    if plan.options.json:
        evaluation = plan.run.scored() or None
        document = {"stage": plan.stage, "preset": plan.config.name, "weights": str(plan.run.model)}
        print_json(document | {"evaluation": evaluation})
