"""`srfgan fit` and `srfgan demo`: the whole method beside a plain detector, with a page that shows both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srfgan_cli.screen import complete
from srfgan_cli.screen.options import (
    BatchSize,
    DataRoot,
    Dataset,
    Devices,
    DryRun,
    JobLauncher,
    Json,
    Overwrite,
    Precision,
    Scale,
    Seed,
    Set,
    TrainImages,
    TrainJson,
    ValImages,
    ValJson,
    data_overrides,
    recipe_overrides,
    utf8_path,
)

if TYPE_CHECKING:
    from srfgan_cli.fit.experiment import Experiment
    from srfgan_cli.reproduction.graph import Settings
    from srfgan_cli.reproduction.jobs import Machine

Preset = Annotated[
    str,
    typer.Option(
        "--preset",
        help="The method's preset, or your own YAML file.",
        metavar="NAME",
        autocompletion=complete.presets,
        rich_help_panel="Recipe",
    ),
]
FitDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir",
        help="Default: runs/fit/<preset>.",
        metavar="DIR",
        callback=utf8_path,
        rich_help_panel="Output",
    ),
]
DemoDir = Annotated[
    Path,
    typer.Option(
        "--output-dir",
        help="Where everything goes.",
        metavar="DIR",
        callback=utf8_path,
        rich_help_panel="Output",
    ),
]


def fit(
    preset: Preset,
    set_: Set = None,
    data_root: DataRoot = None,
    train_json: TrainJson = None,
    train_images: TrainImages = None,
    val_json: ValJson = None,
    val_images: ValImages = None,
    dataset: Dataset = None,
    scale: Scale = 1.0,
    batch_size: BatchSize = None,
    seed: Seed = None,
    devices: Devices = "auto",
    launcher: JobLauncher = "auto",
    precision: Precision = None,
    output_dir: FitDir = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train the method and its plain twin on your data, and show gain and price. The same command continues."""
    from srfgan_cli.fit.experiment import plan_experiment
    from srfgan_cli.presets import load_preset
    from srfgan_cli.reproduction.graph import Settings
    from srfgan_cli.reproduction.identity import data_identity
    from srfgan_cli.reproduction.jobs import Machine

    where = data_overrides(data_root, dataset, train=(train_json, train_images), val=(val_json, val_images))
    overrides = (*where, *recipe_overrides(batch_size, precision, seed), *(set_ or []))
    data = load_preset(preset, overrides).data
    identity = data_identity(data, data_root)
    settings = Settings(scale=scale, evaluations=1, overrides=overrides, data=identity)
    experiment = plan_experiment(preset, settings)
    folder = output_dir or Path("runs/fit") / experiment.method
    machine = Machine.asked_for(data_root, None, devices, launcher)
    if dry_run:
        from srfgan_cli.reproduction.dry_run import show_planned

        show_planned(experiment.graph, experiment.folders(folder), machine, as_json=json)
    else:
        _run(experiment, settings, machine, folder, overwrite=overwrite, json=json)


def demo(
    output_dir: DemoDir = Path("srfgan-demo"),
    seed: Seed = None,
    devices: Devices = "auto",
    overwrite: Overwrite = False,
) -> None:
    """The whole method in about six minutes on a CPU: `srfgan fit` on built-in data, shortened as it must be."""
    from srfgan_cli.fit.experiment import plan_experiment
    from srfgan_cli.fit.pace import demo_scale, one_device
    from srfgan_cli.fit.record import recorded
    from srfgan_cli.reproduction.graph import Settings
    from srfgan_cli.reproduction.jobs import Machine
    from srfgan_cli.screen.console import stderr

    device = one_device(devices)
    began = {} if overwrite else recorded(output_dir)
    scale = began.get("scale") or demo_scale(device)
    if scale < 1:
        stderr.print(
            f"To take about six minutes on this machine, every schedule is {scale:.0%} of the demo's."
        )
    settings = Settings(
        scale=scale, evaluations=1, overrides=tuple(recipe_overrides(seed=seed)), data="shapes"
    )
    # Layers so small mostly make threads wait for each other: two made a step 3 to 20 times slower than one (measured).
    machine = Machine(devices=device.spelled, threads=1 if device.kind == "cpu" else None)
    _run(plan_experiment("demo", settings), settings, machine, output_dir, overwrite=overwrite, json=False)


def _run(
    experiment: Experiment, settings: Settings, machine: Machine, folder: Path, *, overwrite: bool, json: bool
) -> None:
    from srfgan_cli.fit.documents import comparison_table, write_report
    from srfgan_cli.fit.numbers import summarize
    from srfgan_cli.fit.run_fit import Unfinished, run_fit
    from srfgan_cli.machine.launcher import INTERRUPTED
    from srfgan_cli.screen.console import print_json, print_path, stderr

    try:
        fitted = run_fit(experiment, settings, machine, folder, overwrite=overwrite)
    except Unfinished as ended:
        stderr.print(str(ended), soft_wrap=True)
        raise typer.Exit(INTERRUPTED if ended.interrupted else 1) from None
    page = write_report(fitted, folder)
    if json:
        print_json(summarize(fitted))
        return
    stderr.print(comparison_table(fitted))
    print_path(page)
