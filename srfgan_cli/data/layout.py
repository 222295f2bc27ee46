"""Where a data set keeps a split's images and annotations: its layout is recognised by what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

from srfgan.models.errors import InputError
from srfgan_cli.data.foreign import advice
from srfgan_cli.presets.config import SplitConfig

if TYPE_CHECKING:
    from srfgan_cli.data.records import Records

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

_JSON = {
    "train": ("instances_train2017.json",),
    "val": ("instances_val2017.json",),
    # COCO's tables are on test-dev, a part of test2017; where both lists are there, it is the one meant.
    "test": ("image_info_test-dev2017.json", "image_info_test2017.json"),
}
_ROBOFLOW: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
_ROBOFLOW_JSON = "_annotations.coco.json"


@dataclass(frozen=True)
class SplitFiles:
    """A split's annotations and images.

    Attributes:
        path: the file or folder that has the annotations, as messages name it.
        images: the folder that names of image files are relative to.
        check: what shows all that is wrong with it: the arguments of `srfgan data check`, as a shell takes them.
        read: gives the annotations, unchecked.
    """

    path: Path
    images: Path
    check: str
    read: Callable[[], Records]


@dataclass(frozen=True)
class Layout:
    """A folder whose layout is recognised.

    Attributes:
        name: of the layout.
        evidence: what is there that tells it.
        splits: those that are there.
        absent: those of which only a part is, and what is lacking.
    """

    name: str
    evidence: str
    splits: dict[Split, SplitFiles]
    absent: dict[Split, str] = field(default_factory=dict)


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
    raise InputError(
        f"{root}: {layout.name} ({layout.evidence}) without a {split} split; there is {', '.join(layout.splits)}"
    )


def present_splits(root: Path) -> Layout:
    """The layout of a data set of which at least one split is there.

    Raises:
        InputError: no split is, or the layout is unknown or several.
    """
    layout = find_layout(root)
    if layout is None or not layout.splits:
        raise _unknown(root, next(iter(layout.absent), "train") if layout else "train")
    return layout


def find_layout(root: Path) -> Layout | None:
    """The layout of a folder; None where it is none that is known.

    Raises:
        InputError: it is no folder, or two layouts at once.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; --data-root names a data set's folder")
    found = [layout for layout in (_coco(root), _roboflow(root)) if layout is not None]
    whole = [layout for layout in found if layout.splits] or found[:1]
    if len(whole) > 1:
        both = " and ".join(f"{layout.name} ({layout.evidence})" for layout in whole)
        raise InputError(
            f"{root}: two layouts at once, {both}; move one away, or name the files: --train-json, --train-images,"
            " --val-json, --val-images"
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
    return SplitFiles(path, images, check, partial(_read_json, path))


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
        ours: _json_split(root, root / theirs / _ROBOFLOW_JSON, root / theirs)
        for ours, theirs in _ROBOFLOW.items()
        if (root / theirs / _ROBOFLOW_JSON).is_file()
    }
    if not splits:
        return None
    return Layout("Roboflow's COCO", f"{next(iter(splits.values())).images.name}/{_ROBOFLOW_JSON}", splits)


def _json_split(root: Path, path: Path, images: Path) -> SplitFiles:
    return SplitFiles(path, images, quote(str(root)), partial(_read_json, path))


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
