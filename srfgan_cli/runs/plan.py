"""From command-line options to a training run's resolved plan; `--dry-run` prints it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan.models.upsamplers import GENERATORS
from srfgan_cli.data.split_files import Split
from srfgan_cli.downloads.hub import is_on_hub
from srfgan_cli.machine.launcher import is_worker
from srfgan_cli.presets.config import (
    AdversarialConfig,
    Config,
    DistillConfig,
    SelfTrainingConfig,
    SolverConfig,
)
from srfgan_cli.presets.graph import SourceName, needed_sources, option_of, require_distilled, source_presets
from srfgan_cli.presets.library import called, dump_yaml, load_preset
from srfgan_cli.runs.folder import Run
from srfgan_cli.runs.given import weight_file
from srfgan_cli.runs.published import PUBLISHED, published_file
from srfgan_cli.runs.trackers import require_trackers
from srfgan_cli.screen.console import print_json, stderr, stdout, styled
from srfgan_cli.screen.options import StageName, TrainOptions, data_overrides

_WHAT = {
    "guide": "the trained plain detector F",
    "generator": "stage 1's generator",
    "extractor": "stage 2's extractor",
    "distill": "the generator to learn from",
}


@dataclass(frozen=True)
class Plan:
    """Everything that one training run needs to know before it starts.

    Attributes:
        guide, generator, extractor, distill: checkpoints of other stages that this run reads; None where it
            does not need them.
        weights: the detector that this run starts from; None where it does not start from one.
        teacher: the detector that labels images for it, if any.
        finished: there is nothing left to do (`--auto-resume`).
    """

    stage: StageName
    config: Config
    run: Run
    options: TrainOptions
    guide: Path | None = None
    generator: Path | None = None
    extractor: Path | None = None
    distill: Path | None = None
    weights: Path | None = None
    teacher: Path | None = None
    finished: bool = False

    @property
    def solver(self) -> SolverConfig:
        """The stage's schedule."""
        solver: SolverConfig = getattr(self.config, self.stage).solver
        return solver

    @property
    def files(self) -> dict[str, Path]:
        """The checkpoints that the run reads, by the options that name them."""
        named = {name: getattr(self, name) for name in (*_WHAT, "weights", "teacher")}
        return {name: path for name, path in named.items() if path is not None}

    @cached_property
    def unlabeled(self) -> dict[str, tuple[Path, str]]:
        """The folder whose images a teacher labels, and a digest of it, as `Run.check_data` takes them; or nothing.

        Raises:
            InputError: it is gone.
        """
        folder = self.options.unlabeled
        if folder is None:
            return {}
        from srfgan_cli.data.images import file_sizes  # brings Pillow, which other plans do without

        return {"unlabeled": (folder, sha256(json.dumps(file_sizes(folder)).encode()).hexdigest())}


def make_plan(options: TrainOptions) -> Plan:
    """Resolve the config, the run's folder and the files of earlier stages.

    Raises:
        InputError: an option, preset or source that cannot be used.
    """
    as_written = _config(options)
    config = _shortened(as_written, options)
    if config.sources.detector is not None:
        raise InputError(
            f"Preset '{config.name}' only evaluates the detector of '{config.sources.detector}': train that one "
            f"(srfgan {options.stage} --preset {config.sources.detector})."
        )
    if options.stage not in config.stages:
        raise InputError(
            f"Preset '{config.name}' has no stage '{options.stage}' (it runs {', '.join(config.stages)})."
        )
    if options.stage != "finetune" and config.model.neck.upsampler not in GENERATORS:
        raise InputError(
            f"Preset '{config.name}' upsamples by '{config.model.neck.upsampler}': there is no generator to train. "
            "Choose a preset with srf or afi, or --set model.neck.upsampler=srf."
        )
    require_trackers(config.trackers)
    config = _with_distillation(_with_self_training(config, options), options)
    run = Run(options.output_dir) if options.output_dir else Run.default(options.stage, config.name)
    options = _decided(options, run)
    finished = options.auto_resume and run.model.is_file()
    if finished:
        run.check_same(config)
        run.check_whole()
        _check_finished(config, options, run)
    else:
        run.check_free(options.resume, options.overwrite)
    if not finished and not options.resume:
        check_schedule(as_written, options.stage)
    sources = {} if finished else _sources(config, options)
    return Plan(options.stage, config, run, options, **sources, finished=finished)


def _check_finished(config: Config, options: TrainOptions, run: Run) -> None:
    """Whether a finished run is of the files and the data that are named now; what is gone is not asked for.

    Raises:
        InputError: it is of others.
    """
    sources = _sources(config, replace(options, dry_run=True, resume=True))
    named = Plan(options.stage, config, run, options, **sources, finished=True)
    run.check_sources({name: path for name, path in named.files.items() if path.is_file()})
    try:
        data = _splits(config, options) | named.unlabeled
    except InputError as error:
        stderr.print(f"The run is finished; whether with this data, nothing tells: {error}", soft_wrap=True)
        return
    run.check_data(data)


def _splits(config: Config, options: TrainOptions) -> dict[str, tuple[Path, str]]:
    """The data of a run, as `Run.check_data` takes it; the built-in shapes are what the config says."""
    if config.data.dataset == "shapes":
        return {}
    from srfgan_cli.data.open_index import open_index  # brings numpy, which other plans do without

    counting = {"train": False, "val": config.evaluation.count_unusable}
    names: tuple[Split, ...] = ("train",) if options.stage == "pretrain" else ("train", "val")
    indices = {
        name: open_index(config.data, options.data_root, name, count_unusable=counting[name])[0]
        for name in names
    }
    return {name: (index.path, index.digest()) for name, index in indices.items()}


def show_plan(plan: Plan, as_json: bool) -> None:
    """Print what would run."""
    if as_json:
        print_json(_as_dict(plan))
        return
    facts = _as_dict(plan)
    del facts["config"]
    width = max(map(len, facts))
    for key, value in facts.items():
        stdout.print(styled((f"{key:{width}}", "bold"), f"  {value}"))
    stdout.print(styled("\n", ("config", "bold")))
    stdout.print(dump_yaml(plan.config, stdout.encoding), end="")


def announce(plan: Plan) -> None:
    """Say what is about to run, and how the learning rate follows the batch size."""
    solver = plan.solver
    stderr.print(
        styled(
            (plan.stage, "bold"),
            f" {plan.config.name}: {solver.iterations} iterations of {solver.batch_size} images, "
            f"{solver.optimizer}, lr {solver.scaled_lr:.3g}, {solver.precision} -> {plan.run.folder}",
        )
    )
    accumulated = accumulation(plan)
    if accumulated is not None:
        stderr.print(f"Accumulation: {accumulated}.")
    if solver.batch_size != solver.lr_batch_size:
        stderr.print(
            f"Batch size {solver.batch_size} instead of {solver.lr_batch_size}: "
            f"learning rate {solver.lr:.3g} -> {solver.scaled_lr:.3g}."
        )
    for unused in _unused(plan.config, plan.stage):
        stderr.print(f"{unused}.", soft_wrap=True)


def _unused(config: Config, stage: StageName) -> Iterator[str]:
    """Settings of a stage that change nothing beside its others, and why."""
    every = config.pretrain.solver.evaluate_every
    if stage == "pretrain" and every:
        yield f"pretrain.solver.evaluate_every {every} is not used: stage 1 trains nothing that is scored"
    if stage == "pretrain" and config.sources.distill and config.pretrain.distill is None:
        yield f"sources.distill {config.sources.distill} is not used without pretrain.distill"
    if stage != "finetune":
        yield from _unused_without_a_judge(config, stage)
    if stage == "extract" and config.extract.reduction and config.extract.pairing == "different":
        yield f"extract.reduction {config.extract.reduction} is not used: pairing different reduces no map"


def _unused_without_a_judge(config: Config, stage: StageName) -> Iterator[str]:
    adversarial, usual = getattr(config, stage).adversarial, AdversarialConfig()
    if adversarial.judged:
        return
    for key in ("loss", "r1", "window"):
        if (value := getattr(adversarial, key)) != getattr(usual, key):
            yield f"{stage}.adversarial.{key} {value} is not used: with a weight of 0 there is no discriminator"


def accumulation(plan: Plan) -> str | None:
    """In what a step of several passes is not one pass over the whole batch; None where it is one pass.

    A pass has to end before the next begins, or nothing would be saved, and what the losses are divided by is often
    known only at its end: which proposals are sampled, which boxes are foreground. Steps of as many processes share
    this, but for the counts that these average.
    """
    solver = plan.solver
    if solver.accumulate == 1:
        return None
    own = ["is padded to its own largest image", "has its own batch statistics"]
    own += [] if plan.stage == "finetune" else ["takes means over its own maps"]
    own += [] if plan.stage == "pretrain" else [f"divides losses by its own {plan.config.model.counted}"]
    share = solver.batch_size / solver.accumulate
    return (
        f"{solver.accumulate} passes over {share:g} images each, not quite one over {solver.batch_size}: each "
        f"{', '.join(own[:-1])} and {own[-1]}"
    )


def check_schedule(config: Config, stage: StageName) -> None:
    """Whether a stage warms up and lowers its learning rate before it ends, as its schedule says.

    Raises:
        InputError: it does not, as where only its iterations were changed.
    """
    solver: SolverConfig = getattr(config, stage).solver
    if solver.misfit:
        raise InputError(
            f"{stage}.solver of '{config.name}' has {solver.misfit}. Leave its iterations as they were and give "
            f"--iterations {solver.iterations}, which scales the whole schedule, or set its milestones and "
            "warmup_iterations too."
        )


def _config(options: TrainOptions) -> Config:
    if options.preset and options.backbone:
        raise InputError("--preset and --backbone exclude each other: a preset names its backbone.")
    if not options.preset and not options.backbone:
        example = "mask_rcnn_r50_fpn_nn" if options.stage == "finetune" else "mask_rcnn_r50_fpn"
        raise InputError(
            f"Name the experiment with --preset, as --preset {example}. `srfgan presets list` shows all."
        )
    name = options.preset or f"mask_rcnn_{options.backbone}_fpn"
    return load_preset(name, [*_overrides(options), *(options.set_ or [])])


def _shortened(config: Config, options: TrainOptions) -> Config:
    """The config with its stage as long as `--iterations` says."""
    if options.iterations is None:
        return config
    stage = getattr(config, options.stage)
    shortened = stage.model_copy(update={"solver": stage.solver.shortened(options.iterations)})
    return config.model_copy(update={options.stage: shortened})


def _decided(options: TrainOptions, run: Run) -> TrainOptions:
    """The options with `resume` as `--auto-resume` finds the run's folder.

    A process that torchrun may have started again does the same: its command line is that of the first start, for
    which the launcher has found the folder free, or cleared it.
    """
    if options.auto_resume and (options.resume or options.overwrite):
        other = "--resume" if options.resume else "--overwrite"
        raise InputError(f"--auto-resume and {other} exclude each other.")
    if options.resume and options.overwrite:
        raise InputError(
            "--resume and --overwrite exclude each other: one goes on with a run, one replaces it."
        )
    started_again = options.max_restarts > 0 and is_worker()
    if not options.auto_resume and not started_again:
        return options
    resume = run.checkpoint.is_file() and not run.model.is_file()
    return replace(options, auto_resume=True, resume=resume, overwrite=False)


def _with_self_training(config: Config, options: TrainOptions) -> Config:
    """The config with the default self-training where the options ask for it and the preset says nothing."""
    given = {"--unlabeled": options.unlabeled, "--teacher": options.teacher}
    absent = [name for name, path in given.items() if path is None]
    wanted = options.stage == "finetune" and config.finetune.self_training is not None
    if len(absent) == 1 or (absent and wanted and not options.dry_run):
        raise InputError(
            f"Self-training needs {' and '.join(absent)}: a folder of images and the trained detector that labels "
            "them." + (" --set finetune.self_training=null trains without." if wanted else "")
        )
    if absent:
        return config
    if wanted:
        return config
    settings = SelfTrainingConfig()
    try:
        settings.shares(config.finetune.solver.batch_size)
    except ValueError as error:
        raise InputError(f"{error}, got {config.finetune.solver.batch_size}.") from None
    return config.model_copy(
        update={"finetune": config.finetune.model_copy(update={"self_training": settings})}
    )


def _with_distillation(config: Config, options: TrainOptions) -> Config:
    """The config with the default distillation where `--distill` asks for it and the preset says nothing."""
    if options.distill is None or config.pretrain.distill is not None:
        return config
    distilled = config.pretrain.model_copy(update={"distill": DistillConfig()})
    return config.model_copy(update={"pretrain": distilled})


def _overrides(options: TrainOptions) -> list[str]:
    values: dict[str, Any] = {
        "seed": options.seed,
        f"{options.stage}.solver.batch_size": options.batch_size,
        f"{options.stage}.solver.precision": options.precision,
        f"{options.stage}.solver.compile": options.compile,
    }
    data = data_overrides(
        options.data_root,
        options.dataset,
        train=(options.train_json, options.train_images),
        val=(options.val_json, options.val_images),
    )
    return [*data, *(f"{key}={value}" for key, value in values.items() if value is not None)]


def _sources(config: Config, options: TrainOptions) -> dict[str, Path]:
    """The checkpoints that this stage reads: those of earlier stages, what it starts from, and its teacher."""
    files: dict[str, Path] = {which: _source(which, config, options) for which in _chosen(config, options)}
    # A run that goes on has them already: they may be gone, but not be others.
    if options.weights is not None and (not options.resume or options.weights.exists()):
        files["weights"] = _file(options.weights, config, options)
    if options.teacher is not None:
        files["teacher"] = _file(options.teacher, config, options)
        if not files["teacher"].is_file() and not options.dry_run:
            raise InputError(f"--teacher: {options.teacher} does not exist.")
    return files


def _chosen(config: Config, options: TrainOptions) -> tuple[SourceName, ...]:
    """Whose results this stage reads; an option can name another than it reads by default."""
    default = needed_sources(config, options.stage)
    if options.stage != "finetune":
        return default
    reuse = config.finetune.reuse
    if (reuse == "none" and (options.generator or options.extractor)) or (reuse == "M" and options.generator):
        given = "--generator" if options.generator else "--extractor"
        wanted = "G" if options.generator else "M"
        raise InputError(
            f"{given} would not be used: preset '{config.name}' says finetune.reuse: {reuse}. "
            f"Add --set finetune.reuse={wanted}."
        )
    if options.generator is not None and options.extractor is not None:
        raise InputError(
            "--generator and --extractor exclude each other: with finetune.reuse G, G is taken from one of them."
        )
    # F, whose weights T would start from, gives way to those of --weights.
    start: tuple[SourceName, ...] = ("guide",) if "guide" in default and options.weights is None else ()
    if options.extractor is not None:
        return (*start, "extractor")
    if options.generator is not None:
        return (*start, "generator")
    return (*start, *(which for which in default if which != "guide"))


def _source(which: SourceName, config: Config, options: TrainOptions) -> Path:
    """The file that an option names, the authors' for `published`, or an earlier run's of the same preset."""
    stage, preset = source_presets(config)[which]
    given: Path | None = getattr(options, which)
    if which == "distill" and given is None:
        require_distilled(config, "--distill FILE, or --set sources.distill=PRESET")
    if given == PUBLISHED:
        return _file(given, config if preset == config.name else load_preset(preset), options)
    path = _file(given, config, options) if given else Run.default(stage, preset).model
    if path.is_file() or options.dry_run:
        return path
    if path.exists():
        from srfgan.models.weights.files import require_file  # brings torch

        require_file(path)
    option = option_of(which, options.stage)
    command = (
        "" if given else f" {_how_to_train(stage, preset, config, options)}, or name a file with --{option}."
    )
    raise InputError(f"{options.stage} needs {_WHAT[which]}: {path} does not exist.{command}")


def _how_to_train(stage: StageName, preset: str, config: Config, options: TrainOptions) -> str:
    """What gives the run of a preset's stage, as the beginning of a sentence; a preset of one's own is a file."""
    own = Path(options.preset or config.name)
    if called(preset) == preset or not own.suffix:
        return f"Train it first (srfgan {stage} --preset {preset})"
    file = own if preset == config.name else own.with_name(called(preset))
    first = f"srfgan {stage} --preset {file}"
    if preset == f"{config.name}_nn" and not file.is_file():
        return (
            f"`srfgan fit --preset {own}` trains it and all that rests on it; by hand, write {file}, which is "
            f"`base: [{own.name}, plain]`, and train that first ({first})"
        )
    return f"Train it first ({first})"


def _file(given: Path, config: Config, options: TrainOptions) -> Path:
    """The file that is meant; a plan that is only shown fetches nothing."""
    if given == PUBLISHED:
        return published_file(config, download=not options.dry_run)
    return given if options.dry_run and is_on_hub(given) else weight_file(given)


def _as_dict(plan: Plan) -> dict[str, Any]:
    solver = plan.solver
    files = plan.files | ({"unlabeled": plan.options.unlabeled} if plan.options.unlabeled else {})
    return {
        "stage": plan.stage,
        "preset": plan.config.name,
        "output_dir": str(plan.run.folder),
        **{name: f"{path}{'' if path.exists() else ' (missing)'}" for name, path in files.items()},
        "iterations": solver.iterations,
        "batch_size": solver.batch_size,
        "lr": solver.scaled_lr,
        **({"accumulation": said} if (said := accumulation(plan)) else {}),
        "devices": plan.options.devices,
        "launcher": plan.options.launcher,
        "config": plan.config.model_dump(),
    }
