"""Pascal VOC's layout: an XML file per image, and lists of the images of each split. Imports no torch.

`JPEGImages/`, `Annotations/` and `ImageSets/Main/*.txt`, or Roboflow's: a folder per split with the XML files beside
the images.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from srfgan.models.errors import InputError
from srfgan_cli.data.split_files import FOLDERS, Layout, Split, SplitFiles

if TYPE_CHECKING:
    from srfgan_cli.data.records import Records

NAME = "Pascal VOC"
_LISTS: dict[Split, tuple[str, ...]] = {
    "train": ("train.txt", "trainval.txt"),
    "val": ("val.txt",),
    "test": ("test.txt",),
}


def find_voc(root: Path) -> Layout | None:
    """The layout of a folder, if it is Pascal VOC's.

    Raises:
        InputError: several years of it.
    """
    if not root.is_dir():
        return None
    years = [root] if _is_voc(root) else [path for path in _below(root) if _is_voc(path)]
    if len(years) > 1:
        raise InputError(
            f"{root}: Pascal VOC of several years ({', '.join(path.name for path in years)}); name one of these folders"
        )
    return _official(years[0]) if years else _flat(root)


def _below(root: Path) -> list[Path]:
    return sorted([*root.glob("VOC*/"), *root.glob("VOCdevkit/VOC*/")])


def _is_voc(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir()


def _official(root: Path) -> Layout:
    splits = {}
    for split, names in _LISTS.items():
        lists = [root / "ImageSets" / "Main" / name for name in names]
        listed = next((path for path in lists if path.is_file()), None)
        if listed is not None:
            splits[split] = _split(
                listed, root / "JPEGImages", root / "Annotations", root, [root / "Annotations"]
            )
    return Layout(NAME, "JPEGImages/, Annotations/", splits)


def _flat(root: Path) -> Layout | None:
    folders = {
        split: root / name for split, names in FOLDERS.items() for name in names if _has_xml(root / name)
    }
    if not folders:
        return None
    every = sorted(folders.values())
    splits = {split: _split(folder, folder, folder, root, every) for split, folder in folders.items()}
    return Layout(NAME, f"{next(iter(folders.values())).name}/*.xml", splits)


def _has_xml(folder: Path) -> bool:
    return folder.is_dir() and any(name.endswith(".xml") for name in os.listdir(folder))  # noqa: PTH208


def _split(path: Path, images: Path, labels: Path, root: Path, every: list[Path]) -> SplitFiles:
    return SplitFiles(path, images, quote(str(root)), partial(_read_split, path, images, labels, root, every))


def _read_split(path: Path, images: Path, labels: Path, root: Path, every: list[Path]) -> Records:
    from srfgan_cli.data.voc_labels import read_voc  # brings torch, which finding files does without

    return read_voc(path, images, labels, root, every)
