"""Where a data set in COCO layout keeps a split's images and annotations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from srfgan.models.errors import InputError
from srfgan_cli.data.foreign import advice

Split = Literal["train", "val", "test"]

_JSON = {
    "train": ("instances_train2017.json",),
    "val": ("instances_val2017.json",),
    # COCO's tables are on test-dev, a part of test2017; where both lists are there, it is the one meant.
    "test": ("image_info_test-dev2017.json", "image_info_test2017.json"),
}


@dataclass(frozen=True)
class SplitFiles:
    """A split's annotation file and image folder."""

    json: Path
    images: Path


def find_split(root: Path, split: Split) -> SplitFiles:
    """The files of one split.

    Raises:
        InputError: `root` has not the layout; the message says what was looked for and what is there.
    """
    candidates = [root / "annotations" / name for name in _JSON[split]]
    images = root / f"{split}2017"
    found = [path for path in candidates if path.is_file()]
    if found and images.is_dir():
        return SplitFiles(found[0], images)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; --data-root names a folder in COCO layout")
    lacking = [] if found else [" or ".join(f"annotations/{path.name}" for path in reversed(candidates))]
    lacking += [] if images.is_dir() else [f"{images.name}/"]
    there = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())[:8]
    told = advice(root)
    raise InputError(
        f"{root}: the {split} split is not in COCO layout: no {' and no '.join(lacking)};"
        f" the folder holds {', '.join(there) or 'nothing'}" + (f"; {told}" if told else "")
    )


def present_splits(root: Path) -> tuple[list[Split], list[Split]]:
    """The splits that are there, and those of which only the annotations are.

    COCO's annotations come in one archive for all splits, the images in one each.

    Raises:
        InputError: no split is there.
    """
    splits: tuple[Split, ...] = ("train", "val", "test")
    annotated = [
        split for split in splits if any((root / "annotations" / name).is_file() for name in _JSON[split])
    ]
    present = [split for split in annotated if (root / f"{split}2017").is_dir()]
    if not present:
        find_split(root, annotated[0] if annotated else "train")
    return present, [split for split in annotated if split not in present]
