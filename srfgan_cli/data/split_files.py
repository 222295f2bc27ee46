"""What is known of a split before anything of it is read. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from srfgan_cli.data.records import Records

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
"""What tools other than COCO's call a split's folder."""


@dataclass(frozen=True)
class SplitFiles:
    """A split's annotations and images.

    Attributes:
        path: the file or folder that has the annotations, as messages name it.
        images: the folder that names of image files are relative to.
        check: what shows all that is wrong with it: the arguments of `srfgan data check`, as a shell takes them.
        read: gives the annotations, unchecked; raises InputError for files that cannot be read at all.
        is_json: `path` is a json file in COCO's format, whatever its name.
    """

    path: Path
    images: Path
    check: str
    read: Callable[[], Records]
    is_json: bool = False


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
