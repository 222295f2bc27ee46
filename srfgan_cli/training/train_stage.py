"""One training command from its plan to its finished run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from srfgan.models.detector import Detector
from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap, few
from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.data.loaders import Batch, build_train_loader
from srfgan_cli.data.open import check_same_categories, open_split
from srfgan_cli.data.repeats import repeat_factors, told
from srfgan_cli.evaluation.evaluate import evaluate
from srfgan_cli.evaluation.reference import reference_of
from srfgan_cli.evaluation.report import Report
from srfgan_cli.evaluation.table import report_table
from srfgan_cli.evaluation.tta import MultiScale
from srfgan_cli.machine.devices import Devices
from srfgan_cli.machine.distributed import World, open_world
from srfgan_cli.machine.files import first_line, write_atomically
from srfgan_cli.machine.launcher import is_worker
from srfgan_cli.machine.precision import cpu_has_bfloat16
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.library import flatten
from srfgan_cli.runs.folder import Run, logged
from srfgan_cli.runs.lock import require_idle, sole_use
from srfgan_cli.runs.plan import Plan, announce
from srfgan_cli.runs.scores import ap_of, without_gain
from srfgan_cli.runs.trackers import Trackers
from srfgan_cli.screen.console import print_json, stderr, styled
from srfgan_cli.training.build import build_stage
from srfgan_cli.training.checkpoint import header, load_checkpoint, save_checkpoint
from srfgan_cli.training.engine import Hooks, Scored, Trainer
from srfgan_cli.training.metrics import MetricsLog
from srfgan_cli.training.progress import TrainingProgress
from srfgan_cli.training.self_training import open_pseudo_labels
from srfgan_cli.training.stage import Stage
from srfgan_cli.training.watch import Nobody, Pictures, Watch


@dataclass(frozen=True)
class Splits:
    """The data of a run.

    Attributes:
        train: what it trains on.
        val: what it is scored on; None where the stage has no detector.
        pseudo: pseudo-labelled images to train on as well, if any.
        repeats: how often each training image comes in an epoch (`repeat_factors`); None: once.
    """

    train: DetectionDataset
    val: DetectionDataset | None
    pseudo: DetectionDataset | None = None
    repeats: np.ndarray | None = None


def train_stage(plan: Plan, devices: Devices, watch: Watch | None = None) -> Report | None:
    """Train one stage and score its detector; every process of the run calls it.

    Args:
        watch: looks on, where this is the main process.

    Returns:
        The final evaluation on the main process, None for stage 1.

    Raises:
        InputError: data, weights or output that cannot be used, or a loss that is not finite.
        Interrupted: a signal asked to stop; the checkpoint is saved.
    """
    with open_world(devices, plan.config.sync_bn) as world:
        if world.is_main:
            announce(plan)
            require_idle(plan.run.folder)
            _warn_of_separate_norms(world)
            _warn_of_slow_bfloat16(plan, world)
        _check_same_folder(plan, world)
        if world.is_main and plan.options.resume:
            plan.run.check_same(plan.config)
            plan.run.check_sources(plan.files)
            plan.run.check_data(plan.unlabeled)  # before a teacher labels other images
        splits = _open_data(plan, world)
        config = _fitted(plan.config, splits.train.categories)
        torch.manual_seed(config.seed)
        stage = build_stage(plan, config.model, splits.train.categories, world)
        torch.manual_seed(config.seed + 1 + world.rank)
        with sole_use(plan.run.folder) if world.is_main else nullcontext():
            with _replacing(plan) if world.is_main else nullcontext():
                if world.is_main:
                    _take_up(plan, config, splits)
                watch = watch if watch is not None and world.is_main else Nobody()
                report = _run(plan, stage, splits, world, watch)
            if world.is_main:
                _conclude(plan, report)
        return report


@contextmanager
def _replacing(plan: Plan) -> Iterator[None]:
    """A run that comes to nothing, before it has a checkpoint, leaves the one that it was to replace.

    Raises:
        InputError: there is one, and it is not to be replaced.
    """
    plan.run.check_free(plan.options.resume, plan.options.overwrite)
    try:
        yield
    except BaseException:
        # Where all processes are started again, their launcher sees to it in the end.
        if not plan.options.resume and not (plan.options.max_restarts and is_worker()):
            plan.run.bring_back()
        raise


def _take_up(plan: Plan, config: Config, splits: Splits) -> None:
    """Make the run's folder, or see that the one that is there was begun with this data.

    Raises:
        InputError: it was not, or the folder cannot be made.
    """
    indices = {"train": splits.train.index} | ({} if splits.val is None else {"val": splits.val.index})
    data = {name: (index.path, index.digest()) for name, index in indices.items()} | plan.unlabeled
    if plan.options.resume:
        plan.run.check_data(data)
    else:
        plan.run.begin(config, plan.files, data)


def _check_same_folder(plan: Plan, world: World) -> None:
    """Every process reads the checkpoint that the main one writes.

    Raises:
        InputError: only some of them see it.
    """
    seen = world.gather(plan.options.resume)
    if len(set(seen)) > 1:
        blind = ", ".join(str(rank) for rank, sees in enumerate(seen) if not sees)
        raise InputError(
            f"Process(es) {blind} do not see the checkpoint in {plan.run.folder.absolute()}, which others see. "
            "All nodes need the same file system there."
        )


def _warn_of_separate_norms(world: World) -> None:
    if world.sync_bn and world.size > 1 and world.device.type == "cpu":
        stderr.print("sync_bn: torch has none for CPUs; each process's batch norms see its own images only.")


def _warn_of_slow_bfloat16(plan: Plan, world: World) -> None:
    if world.device.type == "cpu" and plan.solver.precision == "bf16" and not cpu_has_bfloat16():
        stderr.print(
            "bf16: this CPU has no instructions for it, and takes many times as long as in fp32: --precision fp32",
            soft_wrap=True,
        )


def _fitted(config: Config, categories: CategoryMap) -> Config:
    """The preset with the classes that the data set has."""
    model = config.model.model_copy(update={"num_classes": len(categories)})
    data = config.data.model_copy(update={"categories": list(categories.names)})
    return config.model_copy(update={"model": model, "data": data})


def _open_data(plan: Plan, world: World) -> Splits:
    """Open and check the splits; the main process first, so that `shapes` is made once and problems said once."""
    config, root = plan.config, plan.options.data_root
    if not world.is_main:
        world.barrier()
    masks = config.model.has_masks and plan.stage != "pretrain"
    train = open_split(config.data, root, "train", training=True, masks=masks)
    val = None
    if plan.stage != "pretrain":
        counting = config.evaluation.count_unusable
        val = open_split(config.data, root, "val", training=False, masks=False, count_unusable=counting)
        check_same_categories(train, val)
        _check_scored(plan, val)
    if world.is_main:
        world.barrier()
        _describe(train, val)
    repeats, threshold = None, config.data.repeat_threshold
    if threshold is not None:
        repeats = repeat_factors(train, threshold)
        if world.is_main:
            stderr.print(told(repeats, threshold))
    return Splits(train, val, open_pseudo_labels(plan, train, world), repeats)


def _check_scored(plan: Plan, val: DetectionDataset) -> None:
    """Whether there are scores for `patience` to wait for: without any, none would ever be better.

    Raises:
        InputError: there is nothing to find.
    """
    if plan.solver.patience is not None and bool(val.index.crowd.all()):
        raise InputError(
            f"{plan.stage}.solver.patience waits for a better AP, and {val.index.path} has no object to find. Name val "
            f"data that has, or --set {plan.stage}.solver.patience=null to train to the end."
        )


def _describe(train: DetectionDataset, val: DetectionDataset | None) -> None:
    for split in (train, val):
        if split is not None:
            split.index.report.tell()
    train.tell_left_out("of the training")
    names = ", ".join(train.categories.names[:8]) + (", ..." if len(train.categories) > 8 else "")
    stderr.print(f"{len(train)} training images, {len(train.categories)} categories: {names}", soft_wrap=True)


def _run(plan: Plan, stage: Stage, splits: Splits, world: World, watch: Watch) -> Report | None:
    """Train from the start or from the checkpoint, write the finished model, and give its evaluation."""
    reports: list[Report | None] = []
    state: dict[str, Any] | None = _last_state(plan.run) if plan.options.resume else None
    trainer = Trainer(
        stage,
        plan.solver,
        world,
        _batches(plan, splits, world, state),
        _hooks(plan, stage, splits, world, reports, watch),
    )
    if state is not None:
        _continue(trainer, state, splits, plan)
        if world.is_main:
            stderr.print(f"Continuing after iteration {trainer.iteration}.")
    if world.is_main:
        _run_logged(trainer, plan, watch.begin(splits.train, splits.val))
    else:
        trainer.run()
    if stage.detector is None:
        world.barrier()
        report = None
    elif reports and not plan.config.evaluation.tta.enabled:
        report = reports[-1]
    else:
        # A run that was killed in its last evaluation has nothing left to train, but still to score.
        report = _evaluate(plan, trainer.average.modules["detector"], splits, world, last=True)
    if world.is_main:
        _finish(plan, stage, splits, trainer, report)
    return report


def _last_state(run: Run) -> dict[str, Any]:
    """What the run's checkpoint holds.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return load_checkpoint(run.checkpoint)
    except InputError as error:
        best = (
            f" Its best weights so far, {run.best}, can be named with --weights."
            if run.best.is_file()
            else ""
        )
        raise InputError(
            f"--resume: {error}. Put a whole one back, or --overwrite to start anew.{best}"
        ) from None


def _run_logged(trainer: Trainer, plan: Plan, pictures: Pictures) -> None:
    """Train in the main process, with what it logs and shows; `pictures` are of what it begins with."""
    solver, run = plan.solver, plan.run
    title = f"{plan.stage} {plan.config.name}"
    trackers = Trackers(plan.config.trackers, run, title, flatten(plan.config))
    with TrainingProgress(plan.stage, solver.iterations, trainer.iteration) as progress:
        trainer.log, trainer.progress = MetricsLog(run.folder, trainer.iteration, trackers), progress
        if trainer.iteration == 0:
            trainer.log.show(0, pictures)
        try:
            trainer.run()
        finally:
            trainer.log.close()
    if trainer.iteration < solver.iterations:
        stderr.print(
            f"Stopped early, after iteration {trainer.iteration} of {solver.iterations}: no better AP in "
            f"{solver.patience} evaluation(s). The best is in {run.best}."
        )


def _continue(trainer: Trainer, state: dict[str, Any], splits: Splits, plan: Plan) -> None:
    """Go on from a checkpoint.

    Raises:
        InputError: it is of other classes, or of a version of this program that kept something else.
    """
    began, now = state.get("categories"), splits.train.categories.to_records()
    if began != now:
        had = CategoryMap.from_records(began, str(plan.run.checkpoint))
        raise InputError(
            f"--resume: {plan.run.folder} was started with other classes ({few(had)}) than the data set's "
            f"({few(splits.train.categories)}). Train on the same data, or --overwrite to start anew."
        )
    try:
        trainer.load_state(state)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise InputError(
            f"--resume: {plan.run.checkpoint} is not what this run saves ({type(error).__name__}: "
            f"{first_line(error)}). --overwrite starts anew."
        ) from None


def _finish(plan: Plan, stage: Stage, splits: Splits, trainer: Trainer, report: Report | None) -> None:
    """Write the evaluation, then the model, which marks the run as finished."""
    if report is not None:
        document = json.dumps(report.as_json(), indent=2) + "\n"
        write_atomically(plan.run.evaluation, lambda file: file.write(document.encode()))
    weights = {name: module.state_dict() for name, module in trainer.average.modules.items()}
    said = _header(plan, stage, splits) | {"iteration": trainer.iteration}
    save_checkpoint(plan.run.model, said | {"modules": weights})


def _batches(plan: Plan, splits: Splits, world: World, state: dict[str, Any] | None) -> Iterator[Batch]:
    solver, mixture = plan.solver, plan.config.finetune.self_training
    labelled, pseudo = solver.batch_size, None
    if splits.pseudo is not None and mixture is not None:
        labelled, share = mixture.shares(solver.batch_size)
        pseudo = (splits.pseudo, share)
    loader = build_train_loader(
        splits.train,
        batch_size=labelled,
        pseudo=pseudo,
        repeats=splits.repeats,
        group_factor=plan.config.data.aspect_ratio_group_factor,
        accumulate=solver.accumulate,
        rank=world.rank,
        world_size=world.size,
        seed=plan.config.seed,
        start=state["iteration"] if state else 0,
        workers=plan.config.data.workers,
        device=world.device,
    )
    return iter(loader)


def _hooks(
    plan: Plan, stage: Stage, splits: Splits, world: World, reports: list[Report | None], watch: Watch
) -> Hooks:
    """What the loop calls back; every evaluation's report is kept in `reports`."""
    said = _header(plan, stage, splits)

    def save(state: dict[str, Any]) -> None:
        if world.is_main:
            save_checkpoint(plan.run.checkpoint, said | state)
            plan.run.let_go()

    def score(detector: nn.Module, iteration: int) -> Scored:
        report = _evaluate(plan, detector, splits, world)
        reports.append(report)
        pictures: Pictures = {}
        if world.is_main:
            assert isinstance(detector, Detector)
            pictures = watch.scored(iteration, detector)
        document = report.as_json() if report else {}
        scores = {task: document[task] for task in ("box", "mask") if document.get(task)}
        if world.is_main and plan.solver.evaluate_every and _is_best(plan.run, scores):
            weights = {"detector": detector.state_dict()}
            save_checkpoint(plan.run.best, said | {"iteration": iteration, "modules": weights})
        return Scored(scores, pictures)

    def enough() -> bool:
        return without_gain(logged(plan.run.metrics)) >= (plan.solver.patience or 0)

    return Hooks(save, score if stage.detector is not None else None, watch.refresh, enough)


def _is_best(run: Run, scores: Mapping[str, Mapping[str, float | None]]) -> bool:
    """Whether no evaluation that the run has logged has as high an AP."""
    return ap_of(scores) is not None and without_gain([*logged(run.metrics), {"evaluation": scores}]) == 0


def _header(plan: Plan, stage: Stage, splits: Splits) -> dict[str, Any]:
    categories = splits.train.categories
    model = stage.detector.config if stage.detector is not None else None
    return header(plan.stage, _fitted(plan.config, categories), model, categories)


def _evaluate(
    plan: Plan, detector: nn.Module, splits: Splits, world: World, *, last: bool = False
) -> Report | None:
    """Score as `srfgan eval` does, in fp32 whatever the training's precision.

    Args:
        last: with multi-scale testing, where the preset has it; the loop's own scores are at one scale.
    """
    assert isinstance(detector, Detector) and splits.val is not None
    world.share_buffers(detector)
    tta = plan.config.evaluation.tta
    several = last and tta.enabled
    return evaluate(
        MultiScale(detector, tta) if several else detector,
        splits.val.at_original_size() if several else splits.val,
        preset=plan.config.name,
        max_detections=plan.config.evaluation.max_detections,
        # A row of multi-scale testing is none to hold scores at one scale against.
        reference=reference_of(plan.config, "val", published=False) if several == tta.enabled else None,
        results_path=plan.run.results,
        workers=plan.config.data.workers,
        batch_size=plan.config.evaluation.batch_size,
        world=world,
    )


def _conclude(plan: Plan, report: Report | None) -> None:
    """Show the last evaluation and say where everything is."""
    if report is not None:
        stderr.print(report_table(report))
    if torch.cuda.is_initialized():
        stderr.print(f"Peak memory of the first GPU: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    stderr.print(styled(("Done.", "bold"), f" Weights: {plan.run.model}"))
    if plan.options.json:
        document = {"stage": plan.stage, "preset": plan.config.name, "weights": str(plan.run.model)}
        print_json(document | {"evaluation": report.as_json() if report else None})
