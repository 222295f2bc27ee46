"""`srfgan data`: look at a data set before training on it, split it, convert it, merge it with others."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from srfgan_cli.screen.options import (
    Dataset,
    Json,
    Preset,
    Set,
    TrainImages,
    TrainJson,
    ValImages,
    ValJson,
    data_overrides,
)

DEFAULT_PRESET = "mask_rcnn_r50_fpn"
"""Whose `data` says which image files may be used: what the base of all presets says."""

Root = Annotated[
    Path | None,
    typer.Argument(help="A data set's folder, as other commands have it at --data-root.", metavar="DIR"),
]

app = typer.Typer(
    help="Check, show, split, convert and merge data sets.", no_args_is_help=True, add_completion=False
)


@app.command()
def check(
    root: Root = None,
    train_json: TrainJson = None,
    train_images: TrainImages = None,
    val_json: ValJson = None,
    val_images: ValImages = None,
    preset: Preset = DEFAULT_PRESET,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Check every annotation, open every image, count what is there; exit code 2 if it cannot be used."""
    from srfgan_cli.data.given import all_splits
    from srfgan_cli.data.image_check import check_layout
    from srfgan_cli.presets import load_preset
    from srfgan_cli.screen.console import print_json, stderr, stdout

    where = data_overrides(root, train=(train_json, train_images), val=(val_json, val_images))
    data = load_preset(preset or DEFAULT_PRESET, [*where, *(set_ or [])]).data
    reports = check_layout(all_splits(data, root), data)
    for report in reports:
        (stderr if json else stdout).print(report.table())
        if report.overview is not None:
            (stderr if json else stdout).print(report.overview.table())
    if json:
        print_json([report.as_json() for report in reports])
    if any(report.fatal for report in reports):
        raise typer.Exit(2)


@app.command()
def show(
    root: Root = None,
    preset: Preset = None,
    set_: Set = None,
    train_json: TrainJson = None,
    train_images: TrainImages = None,
    val_json: ValJson = None,
    val_images: ValImages = None,
    dataset: Dataset = None,
    split: Annotated[
        Literal["train", "val"],
        typer.Option("--split", help="`train`: as training gets it.", rich_help_panel="Data"),
    ] = "train",
    images: Annotated[int, typer.Option("--images", min=1, max=200, help="How many.", metavar="N")] = 12,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The picture.", show_default="a new data.png", metavar="FILE"),
    ] = None,
) -> None:
    """A sheet of images with their targets, augmented as a preset's training gets them."""
    from srfgan_cli.data.open import open_split
    from srfgan_cli.presets import load_preset
    from srfgan_cli.screen.console import print_path
    from srfgan_cli.visualization.contact_sheet import contact_sheet
    from srfgan_cli.visualization.outputs import check_output, save_where_wanted

    if output is not None:
        check_output(output, [])
    where = data_overrides(root, dataset, train=(train_json, train_images), val=(val_json, val_images))
    config = load_preset(preset or DEFAULT_PRESET, [*where, *(set_ or [])])
    training = split == "train"
    masks = None if preset is None else config.model.has_masks
    data = open_split(config.data, root, split, training=training, masks=masks)
    if output is not None:
        check_output(output, [data.folder / name for name in data.index.file_names()])
    data.index.report.tell()
    data.tell_left_out("of the picture, as a detector with masks is not trained on them")
    sheet = contact_sheet(data, config, training=training, count=images)
    of = f"data {data.index.path} {split}"
    print_path(save_where_wanted(sheet, output, Path("data.png"), of=of, images=()))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A data set in any layout that is read.", metavar="SOURCE")],
    destination: Annotated[Path, typer.Argument(help="A new folder.", metavar="DEST")],
    to: Annotated[Literal["coco", "yolo"], typer.Option("--to", help="The layout to write.")] = "coco",
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies of the images.")] = False,
) -> None:
    """Write a data set in COCO's or YOLO's layout, and say what that cannot express."""
    from srfgan_cli.data.convert import convert as write
    from srfgan_cli.data.layout import present_splits
    from srfgan_cli.screen.console import print_path

    write(present_splits(source), destination, to, link=link)
    print_path(destination)


@app.command()
def split(
    destination: Annotated[
        Path, typer.Argument(help="The folder of train.json and val.json.", metavar="DEST")
    ],
    source: Annotated[
        Path | None,
        typer.Option("--data-root", help="A data set, whose train split is split.", metavar="DIR"),
    ] = None,
    train_json: TrainJson = None,
    train_images: TrainImages = None,
    val: Annotated[float, typer.Option("--val", min=0.001, max=0.999, help="Share for validation.")] = 0.2,
    group: Annotated[
        str | None,
        typer.Option(
            "--group", help="Keep images together whose names share what this finds.", metavar="REGEX"
        ),
    ] = None,
) -> None:
    """Take a part of the images for validation, by a hash of names: what is added later moves no image."""
    from srfgan_cli.data.given import split_files
    from srfgan_cli.data.split import split_data
    from srfgan_cli.presets import load_preset
    from srfgan_cli.screen.console import print_path, stderr

    where = data_overrides(source, train=(train_json, train_images))
    files = split_files(load_preset(DEFAULT_PRESET, where).data, source, "train")
    counts = split_data(files, destination, val, group)
    paths = {name: shlex.quote(str(destination / f"{name}.json")) for name in counts}
    images = shlex.quote(str(files.images))
    stderr.print(f"{counts['train']} images for training, {counts['val']} for validation. Use them by")
    stderr.print(
        f"  --train-json {paths['train']} --train-images {images} --val-json {paths['val']} --val-images {images}"
    )
    print_path(destination)


@app.command()
def merge(
    destination: Annotated[Path, typer.Argument(help="A new folder.", metavar="DEST")],
    sources: Annotated[
        list[Path],
        typer.Argument(help="Two or more data sets, in any layouts that are read.", metavar="SOURCE..."),
    ],
    rename: Annotated[
        list[str] | None,
        typer.Option("--rename", help="A class's name in the new data set. Repeatable.", metavar="OLD=NEW"),
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", help="Keep only these classes, with commas.", metavar="A,B")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Allow classes that not every data set has labelled.")
    ] = False,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies of the images.")] = False,
) -> None:
    """Write several data sets as one in COCO's layout, with one list of classes, by name."""
    from srfgan.models.errors import InputError
    from srfgan_cli.data.merge import merge as write
    from srfgan_cli.screen.console import print_path, stderr

    if len(sources) < 2:
        raise InputError("data merge: name two data sets or more after the new folder")
    pairs = [pair.partition("=") for pair in rename or []]
    for old, equals, new in pairs:
        if not (old and equals and new):
            raise InputError(f"--rename {old}{equals}{new}: must be OLD=NEW, the names of a class")
    renamed = {old: new for old, _, new in pairs}
    for old, equals, new in pairs:
        if renamed[old] != new:
            raise InputError(
                f"--rename {old}{equals}{new}: {old} is renamed {renamed[old]} too; name it once"
            )
    done = write(
        sources,
        destination,
        renamed=renamed,
        only=only,
        partial=partial,
        link=link,
    )
    names = ", ".join(done.classes)
    kinds = "1 class" if len(done.classes) == 1 else f"{len(done.classes)} classes"
    stderr.print(f"{done.images} images, {done.objects} objects of {kinds}: {names}")
    if done.left_out:
        stderr.print(f"{done.left_out} objects of other classes left out")
    print_path(destination)
