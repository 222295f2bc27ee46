"""YOLO's layout: `data.yaml`, which names the classes and where each split's images are, and a text file per image.

As Ultralytics documents it and Roboflow and others write it. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import yaml

from srfgan.models.errors import InputError
from srfgan_cli.data.split_files import FOLDERS, Layout, Split, SplitFiles
from srfgan_cli.presets.yaml_text import Loader, UnreadableYamlError, load_yaml

if TYPE_CHECKING:
    from srfgan_cli.data.records import Records

NAME = "YOLO"
_DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_CLASS_LISTS = ("classes.txt", "labels/classes.txt")
_LARGEST = 1_000_000
"""Bytes of a description; Ultralytics' longest has some thirty thousand."""

Classes = list[tuple[int, str]]
"""Numbers of classes and their names."""


class _Loader(Loader):
    """Keys may be numbers, as of classes; a number that is not written as usual is the text that stands there.

    To YAML, classes called 010, 1:30 and 0x1F would be 8, 90 and 31.
    """

    keys = (str, int)


def _usual(loader: _Loader, node: yaml.ScalarNode) -> Any:
    kind = "int" if node.tag.endswith(":int") else "float"
    number = getattr(loader, f"construct_yaml_{kind}")(node)
    return number if str(number) == node.value else node.value


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _usual)
_Loader.add_constructor("!exponent", lambda loader, node: node.value)


def find_yolo(root: Path) -> Layout | None:
    """The layout of a folder or of a `data.yaml`, if it is YOLO's.

    Raises:
        InputError: a `data.yaml` that cannot be read, or folders of labels without the classes' names.
    """
    if root.is_file():
        return _described(root, _read(root), root)
    for name in _DESCRIPTIONS:
        path = root / name
        if path.is_file():
            content = _read(path)
            if {"names", "nc"} & set(content):
                return _described(path, content, root)
    return _undescribed(root)


def _described(path: Path, content: dict[str, Any], root: Path) -> Layout:
    if "kpt_shape" in content:
        raise InputError(
            f"{path}: 'kpt_shape': labels of keypoints are not read here; export boxes or outlines"
        )
    classes = _classes(content, path)
    base = path.parent
    if isinstance(content.get("path"), str) and (base / content["path"]).is_dir():
        base = Path(os.path.normpath(base / content["path"]))
    splits: dict[Split, SplitFiles] = {}
    absent: dict[Split, str] = {}
    for split, keys in FOLDERS.items():
        given = next((content[key] for key in keys if content.get(key)), None)
        if given is None:
            continue
        places = [_place(base, entry, path) for entry in (given if isinstance(given, list) else [given])]
        lost = [place for place in places if not place.exists()]
        if lost:
            absent[split] = f"for which {path.name} names {lost[0]}, which is not there"
        else:
            splits[split] = _split(base, places, classes, quote(str(root)))
    return Layout(NAME, path.name, splits, absent)


def _undescribed(root: Path) -> Layout | None:
    """Folders `images` and `labels` without a `data.yaml`: what tools for labelling write."""
    splits = {}
    names = next((root / name for name in _CLASS_LISTS if (root / name).is_file()), None)
    evidence = ""
    for split, folders in FOLDERS.items():
        for images, labels in _pairs(folders):
            if (root / images).is_dir() and _has_labels(root / labels):
                evidence = evidence or f"{labels}/*.txt"
                classes = _listed(names) if names else []
                splits[split] = _split(root, [root / images], classes, quote(str(root)))
    if not splits:
        return None
    if names is None:
        raise InputError(
            f"{root}: YOLO ({evidence}) without the classes' names: there is neither data.yaml nor classes.txt; write"
            " a classes.txt with a name a line, in the order of the classes' numbers"
        )
    return Layout(NAME, evidence, splits)


def _pairs(folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    for folder in folders:
        yield f"images/{folder}", f"labels/{folder}"
        yield f"{folder}/images", f"{folder}/labels"


def _has_labels(folder: Path) -> bool:
    return folder.is_dir() and any(name.endswith(".txt") for name in os.listdir(folder))  # noqa: PTH208


def _split(base: Path, places: list[Path], classes: Classes, check: str) -> SplitFiles:
    first = places[0]
    images = base if len(places) > 1 else first if first.is_dir() else first.parent
    return SplitFiles(first, images, check, partial(_read_split, base, places, images, classes))


def _read_split(base: Path, places: list[Path], images: Path, classes: Classes) -> Records:
    from srfgan_cli.data.yolo_labels import read_yolo  # brings torch, which finding files does without

    return read_yolo(base, places, images, classes)


def _place(base: Path, entry: Any, path: Path) -> Path:
    if not isinstance(entry, str):
        raise InputError(f"{path}: train, val and test must be texts or lists of texts, got {entry!r:.80}")
    place = base / entry
    # Roboflow writes ../train/images for what is in train/images.
    if not place.exists() and entry.startswith("../"):
        place = base / entry.removeprefix("../")
    return Path(os.path.normpath(place))


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path}: more than {_LARGEST:,} bytes; that is no description of a data set")
        content = load_yaml(path.read_bytes(), _Loader)
    except UnreadableYamlError as error:
        line = f", line {error.line}" if error.line else ""
        raise InputError(f"{path}{line}: the description of a data set cannot be read ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: the description of a data set cannot be read ({error.strerror})") from None
    return content if isinstance(content, dict) else {}


def _classes(content: dict[str, Any], path: Path) -> Classes:
    names, count = content.get("names"), content.get("nc")
    if names is None and type(count) is int and 0 < count <= 100_000:
        return [(number, f"class_{number}") for number in range(count)]
    pairs: list[tuple[Any, Any]] = []
    if isinstance(names, list):
        pairs = list(enumerate(names))
    elif isinstance(names, dict):
        pairs = list(names.items())
    if not pairs:
        raise InputError(
            f"{path}: 'names' must list the classes' names, or give them by number, got {names!r:.80}"
        )
    for number, name in pairs:
        if (
            type(number) is not int
            or number < 0
            or not isinstance(name, str | int | float)
            or type(name) is bool
        ):
            raise InputError(
                f"{path}: 'names': {number!r:.40}: {name!r:.40} is no number of a class and its name; names like yes,"
                " no, on and off need quotes"
            )
    if count is not None and count != len(pairs):
        raise InputError(
            f"{path}: 'nc' is {count!r:.40}, but 'names' has {len(pairs)} classes; which is right?"
        )
    return [(number, str(name)) for number, name in pairs]


def _listed(path: Path) -> Classes:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the classes' names cannot be read ({error})") from None
    return [(number, name) for number, name in enumerate(lines) if name]
