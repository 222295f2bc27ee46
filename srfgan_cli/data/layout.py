"""Where a data set keeps a split's images and annotations: its layout is recognised by what is there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from srfgan.models.errors import InputError
from srfgan_cli.data.foreign import advice
from srfgan_cli.data.split_files import SPLITS, Layout, Split, SplitFiles
from srfgan_cli.data.voc_layout import find_voc
from srfgan_cli.data.yolo_layout import find_yolo
from srfgan_cli.presets.config import SplitConfig

if TYPE_CHECKING:
    from srfgan_cli.data.records import Records

_JSON = {
    "train": ("instances_train2017.json",),
    "val": ("instances_val2017.json",),
    # COCO's tables are on test-dev, a part of test2017; where both lists are there, it is the one meant.
    "test": ("image_info_test-dev2017.json", "image_info_test2017.json"),
}
_ROBOFLOW: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
ROBOFLOW_JSON = "_annotations.coco.json"


def find_split(root: Path, split: Split) -> SplitFiles:
    """The files of one split.

    Raises:
        InputError: `root` has no layout that is known, several, or not this split; the message says what was looked for
            and what is there.
    """
    layout = find_layout(root)
    if layout is None:
        raise _unknown(root, split)
    if split in layout.splits:
        return layout.splits[split]
    if layout.name == "COCO":
        raise _unknown(root, split)
    if split in layout.absent:
        raise InputError(f"{root}: there is no {split} split, {layout.absent[split]}")
    there = ", ".join(layout.splits) or "none"
    raise InputError(f"{root}: {layout.name} ({layout.evidence}) without a {split} split; there is {there}")


def present_splits(root: Path) -> Layout:
    """The layout of a data set of which at least one split is there.

    Raises:
        InputError: no split is, or the layout is unknown or several.
    """
    layout = find_layout(root)
    if layout is None or not layout.splits:
        find_split(root, next(iter(layout.absent), "train") if layout else "train")
    assert layout is not None
    return layout


def find_layout(root: Path) -> Layout | None:
    """The layout of a folder; None where it is none that is known.

    Raises:
        InputError: it is no folder, or two layouts at once.
    """
    if not root.is_dir() and not (root.is_file() and root.suffix in (".yaml", ".yml")):
        raise InputError(
            f"{root}: no such folder; --data-root names a data set's folder, or a YOLO data.yaml"
        )
    ways = (_coco, _roboflow, find_yolo, find_voc)
    found = [layout for layout in (way(root) for way in ways) if layout is not None]
    whole = [layout for layout in found if layout.splits] or found[:1]
    if len(whole) > 1:
        both = " and ".join(f"{layout.name} ({layout.evidence})" for layout in whole)
        raise InputError(
            f"{root}: two layouts at once, {both}; name the one that is meant: its files with --train-json,"
            " --train-images, --val-json and --val-images, or its data.yaml with --data-root, or move the other away"
        )
    return whole[0] if whole else None


def named_split(split: Split, files: SplitConfig) -> SplitFiles:
    """A split whose json and images are named, by options or in a preset.

    Raises:
        InputError: they are not there.
    """
    path, images = Path(files.annotations), Path(files.images)
    if not path.exists():
        raise InputError(f"--{split}-json, data.{split}.annotations: {path}: no such annotation file")
    if not images.is_dir():
        raise InputError(f"--{split}-images, data.{split}.images: {images}: no such folder of images")
    check = f"--{split}-json {quote(str(path))} --{split}-images {quote(str(images))}"
    return SplitFiles(path, images, check, partial(_read_json, path), is_json=True)


def _coco(root: Path) -> Layout | None:
    splits: dict[Split, SplitFiles] = {}
    absent: dict[Split, str] = {}
    for split in SPLITS:
        path = _coco_json(root, split)
        images = root / f"{split}2017"
        if path is None:
            continue
        if images.is_dir():
            splits[split] = _json_split(root, path, images)
        else:
            absent[split] = f"which has annotations but no {images.name}/"
    if not splits and not absent:
        return None
    return Layout("COCO", "annotations/", splits, absent)


def _coco_json(root: Path, split: Split) -> Path | None:
    candidates = [root / "annotations" / name for name in _JSON[split]]
    return next((path for path in candidates if path.is_file()), None)


def _roboflow(root: Path) -> Layout | None:
    splits = {
        ours: _json_split(root, root / theirs / ROBOFLOW_JSON, root / theirs)
        for ours, theirs in _ROBOFLOW.items()
        if (root / theirs / ROBOFLOW_JSON).is_file()
    }
    if not splits:
        return None
    return Layout("Roboflow's COCO", f"{next(iter(splits.values())).images.name}/{ROBOFLOW_JSON}", splits)


def _json_split(root: Path, path: Path, images: Path) -> SplitFiles:
    return SplitFiles(path, images, quote(str(root)), partial(_read_json, path), is_json=True)


def _read_json(path: Path) -> Records:
    from srfgan_cli.data.records import read_records  # brings torch, which finding files does without

    return read_records(path)


def _unknown(root: Path, split: Split) -> InputError:
    """What of COCO's layout is not there, and what is."""
    images = root / f"{split}2017"
    names = [f"annotations/{name}" for name in reversed(_JSON[split])]
    lacking = [] if _coco_json(root, split) else [" or ".join(names)]
    lacking += [] if images.is_dir() else [f"{images.name}/"]
    there = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())[:8]
    told = advice(root)
    return InputError(
        f"{root}: the {split} split is not in COCO layout: no {' and no '.join(lacking)};"
        f" the folder holds {', '.join(there) or 'nothing'}" + (f"; {told}" if told else "")
    )
