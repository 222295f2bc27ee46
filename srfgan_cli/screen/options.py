"""Command-line options that several commands share, each defined once. Imports no torch and no pydantic."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from typer import BadParameter, Option

from srfgan.models.errors import InputError
from srfgan_cli.screen import complete

DatasetName = Literal["coco", "shapes"]
PrecisionName = Literal["fp32", "tf32", "bf16", "fp16"]
LauncherName = Literal["auto", "none", "torchrun", "slurm"]
StageName = Literal["pretrain", "extract", "finetune"]


NOTHING_NAMED = (
    "Name the experiment with --preset, as --preset mask_rcnn_r50_fpn, or with --weights a checkpoint of a training "
    "here, which knows its own."
)

Command = TypeVar("Command", bound=Callable[..., Any])


def utf8_path(path: Path | None) -> Path | None:
    """A path that runs can have or name: TensorBoard hangs on one that is not UTF-8, and YAML cannot hold it.

    Raises:
        BadParameter: the name is not.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise BadParameter(
            f"'{path}' is not UTF-8, in which runs are written; choose another name."
        ) from None
    return path


Preset = Annotated[
    str | None,
    Option(
        "--preset",
        help="Preset name, or your own YAML file.",
        metavar="NAME",
        autocompletion=complete.presets,
        rich_help_panel="Recipe",
    ),
]
Set = Annotated[
    list[str] | None,
    Option(
        "--set",
        help="Change one key, as finetune.solver.lr=0.01. Repeatable.",
        metavar="KEY=VALUE",
        rich_help_panel="Recipe",
    ),
]
DataRoot = Annotated[
    Path | None,
    Option(
        "--data-root",
        help="A data set in the layout of COCO, YOLO, Pascal VOC or Roboflow, or a YOLO data.yaml.",
        metavar="DIR",
        rich_help_panel="Data",
    ),
]
TrainJson = Annotated[
    Path | None,
    Option(
        "--train-json",
        help="The training images' annotations, in COCO's format, of any name.",
        metavar="FILE",
        callback=utf8_path,
        rich_help_panel="Data",
    ),
]
TrainImages = Annotated[
    Path | None,
    Option(
        "--train-images",
        help="The folder of --train-json's images.",
        metavar="DIR",
        callback=utf8_path,
        rich_help_panel="Data",
    ),
]
ValJson = Annotated[
    Path | None,
    Option(
        "--val-json",
        help="The annotations to score on, as --train-json.",
        metavar="FILE",
        callback=utf8_path,
        rich_help_panel="Data",
    ),
]
ValImages = Annotated[
    Path | None,
    Option(
        "--val-images",
        help="The folder of --val-json's images.",
        metavar="DIR",
        callback=utf8_path,
        rich_help_panel="Data",
    ),
]
Dataset = Annotated[
    DatasetName | None,
    Option("--dataset", help="`coco`: the folder --data-root; `shapes`: built in.", rich_help_panel="Data"),
]
Devices = Annotated[
    str,
    Option(
        "--devices", help="auto, cpu, a number of devices, or GPU numbers (0,1).", rich_help_panel="Machine"
    ),
]
Launcher = Annotated[
    LauncherName, Option("--launcher", help="How several processes are started.", rich_help_panel="Machine")
]
JobLauncher = Annotated[
    LauncherName,
    Option("--launcher", help="How runs start their processes; `slurm`: by srun.", rich_help_panel="Machine"),
]
Nodes = Annotated[int, Option("--nnodes", min=1, help="Nodes of a torchrun run.", rich_help_panel="Machine")]
Rendezvous = Annotated[
    str | None,
    Option(
        "--rdzv-endpoint",
        help="The first node, for several nodes.",
        metavar="HOST:PORT",
        rich_help_panel="Machine",
    ),
]
Restarts = Annotated[
    int,
    Option(
        "--max-restarts",
        min=0,
        help="How often a run whose process died goes on from its checkpoint by itself (torchrun).",
        metavar="N",
        rich_help_panel="Machine",
    ),
]
Precision = Annotated[
    PrecisionName | None,
    Option(
        "--precision",
        help="How the networks compute: fp32 exactly; tf32 on GPUs that have it; bf16 and fp16 mixed.",
        rich_help_panel="Machine",
    ),
]
Compile = Annotated[
    bool | None,
    Option("--compile", help="Compile the networks: slow to start, then faster.", rich_help_panel="Machine"),
]
BatchSize = Annotated[
    int | None,
    Option(
        "--batch-size",
        min=1,
        help="Images per step over all devices; the learning rate scales with it.",
        rich_help_panel="Schedule",
    ),
]
Iterations = Annotated[
    int | None,
    Option(
        "--iterations",
        min=1,
        help="Length of the stage; warm-up and steps keep their share.",
        rich_help_panel="Schedule",
    ),
]
Scale = Annotated[
    float,
    Option(
        "--scale", min=1e-6, max=1000, help="Factor on every schedule, as 0.01.", rich_help_panel="Schedule"
    ),
]
Seed = Annotated[
    int | None, Option("--seed", min=0, rich_help_panel="Schedule", help="Seed of every random choice.")
]
OutputDir = Annotated[
    Path | None,
    Option(
        "--output-dir",
        help="Default: runs/<stage>/<preset>.",
        metavar="DIR",
        callback=utf8_path,
        rich_help_panel="Output",
    ),
]
Resume = Annotated[
    bool, Option("--resume", help="Continue from the last checkpoint.", rich_help_panel="Output")
]
AutoResume = Annotated[
    bool,
    Option(
        "--auto-resume",
        help="For job scripts: continue, start, or leave a finished run as it is.",
        rich_help_panel="Output",
    ),
]
Overwrite = Annotated[
    bool, Option("--overwrite", help="Replace a run that is there.", rich_help_panel="Output")
]
DryRun = Annotated[
    bool, Option("--dry-run", help="Print the resolved plan and stop.", rich_help_panel="Output")
]
Json = Annotated[
    bool, Option("--json", help="One JSON document on stdout, all else on stderr.", rich_help_panel="Output")
]
Weights = Annotated[
    Path | None,
    Option(
        "--weights",
        help="Checkpoint: ours, detectron2's .pkl or .pth, safetensors; or `published`: the authors', fetched.",
        metavar="FILE",
        autocompletion=complete.weights,
        rich_help_panel="Recipe",
    ),
]
Guide = Annotated[
    Path | None,
    Option(
        "--guide",
        help="The trained plain detector F, or `published`; default: the run of <preset>_nn.",
        metavar="FILE",
        rich_help_panel="Recipe",
    ),
]
Generator = Annotated[
    Path | None,
    Option(
        "--generator",
        help="Stage 1's result, or `published`; default: the preset's pretrain run.",
        metavar="FILE",
        rich_help_panel="Recipe",
    ),
]
Extractor = Annotated[
    Path | None,
    Option(
        "--extractor",
        help="Stage 2's result, or `published`; default: the preset's extract run.",
        metavar="FILE",
        rich_help_panel="Recipe",
    ),
]

Unlabeled = Annotated[
    Path | None,
    Option(
        "--unlabeled",
        help="Self-training: a folder of images for the teacher to label.",
        metavar="DIR",
        rich_help_panel="Data",
    ),
]
Teacher = Annotated[
    Path | None,
    Option(
        "--teacher",
        help="Self-training: the trained detector that labels --unlabeled, or `published`.",
        metavar="FILE",
        rich_help_panel="Data",
    ),
]
Distill = Annotated[
    Path | None,
    Option(
        "--distill",
        help="A trained generator, or a detector with one, whose maps G comes near too; or `published`.",
        metavar="FILE",
        rich_help_panel="Recipe",
    ),
]


Backbone = Annotated[
    Literal["r18", "r50", "r101"] | None,
    Option("--backbone", help="Short for --preset mask_rcnn_<backbone>_fpn.", rich_help_panel="Recipe"),
]


def recipe_overrides(
    batch_size: int | None = None, precision: str | None = None, seed: int | None = None
) -> list[str]:
    """Options that reach every stage of an experiment, as `--set` would say them."""
    values: dict[str, Any] = {"seed": seed}
    for stage in get_args(StageName):
        values |= {f"{stage}.solver.batch_size": batch_size, f"{stage}.solver.precision": precision}
    return [f"{key}={value}" for key, value in values.items() if value is not None]


@dataclass(frozen=True)
class TrainOptions:
    """The options of a training command, as typed on the command line; not every stage has all of them."""

    stage: StageName
    preset: Preset = None
    backbone: Backbone = None
    guide: Guide = None
    generator: Generator = None
    extractor: Extractor = None
    distill: Distill = None
    weights: Weights = None
    set_: Set = None
    data_root: DataRoot = None
    train_json: TrainJson = None
    train_images: TrainImages = None
    val_json: ValJson = None
    val_images: ValImages = None
    dataset: Dataset = None
    unlabeled: Unlabeled = None
    teacher: Teacher = None
    iterations: Iterations = None
    batch_size: BatchSize = None
    seed: Seed = None
    devices: Devices = "auto"
    launcher: Launcher = "auto"
    nnodes: Nodes = 1
    rdzv_endpoint: Rendezvous = None
    max_restarts: Restarts = 0
    precision: Precision = None
    compile: Compile = None
    output_dir: OutputDir = None
    resume: Resume = False
    auto_resume: AutoResume = False
    overwrite: Overwrite = False
    dry_run: DryRun = False
    json: Json = False


NamedSplit = tuple[Path | None, Path | None]
"""A split's json and images, as `--train-json` and `--train-images` name them."""
UNNAMED: NamedSplit = (None, None)


def data_overrides(
    data_root: Path | None = None,
    dataset: DatasetName | None = None,
    *,
    train: NamedSplit = UNNAMED,
    val: NamedSplit = UNNAMED,
) -> list[str]:
    """What the options of a command that say where its data is change in `data` of its preset.

    A data set that is given on the command line takes the place of the files that a preset names.

    Raises:
        InputError: a json without its folder of images, or a folder without its json.
    """
    overrides = [] if dataset is None else [f"data.dataset={dataset}"]
    elsewhere = data_root is not None or dataset is not None
    for split, (file, images) in (("train", train), ("val", val)):
        if (file is None) != (images is None):
            given, lacking = ("json", "images") if images is None else ("images", "json")
            raise InputError(
                f"--{split}-{given} needs --{split}-{lacking}: a split is a COCO json and the folder of its images."
            )
        if file is not None:
            # JSON is YAML, whatever characters the paths have.
            named = jsonlib.dumps({"annotations": str(file), "images": str(images)})
            overrides.append(f"data.{split}={named}")
        elif elsewhere:
            overrides.append(f"data.{split}=null")
    return overrides


def with_train_options(*, without: Sequence[str]) -> Callable[[Command], Command]:
    """Give a command the fields of `TrainOptions`, but `stage` and those it is `without`, as its parameters.

    Typer reads signatures; the command itself takes `**given`.
    """
    hints = get_type_hints(TrainOptions, include_extras=True)
    parameters = [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(TrainOptions)
        if field.name not in ("stage", *without)
    ]

    def signed(command: Command) -> Command:
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return command

    return signed
