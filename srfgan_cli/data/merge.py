"""`srfgan data merge`: several data sets as one, with one list of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap, names_in
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.documents import coco_document
from srfgan_cli.data.layout import present_splits
from srfgan_cli.data.new_folder import (
    check_new,
    index_to_copy,
    names_below,
    new_folder,
    place_images,
    write_coco,
)
from srfgan_cli.data.split_files import SPLITS, Split
from srfgan_cli.screen.console import stderr


@dataclass(frozen=True)
class Source:
    """One of the data sets.

    Attributes:
        root: its folder, or its data.yaml.
        name: of the folder that its images get.
        splits: each with its folder of images.
    """

    root: Path
    name: str
    splits: dict[Split, tuple[CocoIndex, Path]]

    def names(self, renamed: Mapping[str, str]) -> set[str]:
        """Its classes, by their new names."""
        return {renamed.get(n, n) for index, _ in self.splits.values() for n in index.categories.names}


@dataclass(frozen=True)
class Merged:
    """What came of it.

    Attributes:
        classes: by id, from 1.
        images, objects: of all splits.
        left_out: objects of other classes.
    """

    classes: tuple[str, ...]
    images: int
    objects: int
    left_out: int


def merge(
    roots: Sequence[Path],
    destination: Path,
    *,
    renamed: Mapping[str, str],
    only: str | None = None,
    partial: bool = False,
    link: bool = False,
) -> Merged:
    """Write data sets of any layouts as one in COCO's: `train` and `val` of all, images in a folder by data set.

    Classes are the same if their names are. Images and annotations get new ids.

    Args:
        roots: two or more.
        destination: a new or empty folder.
        renamed: new names of classes, by the old ones, in all data sets.
        only: new names of the classes to keep, with commas; None: all.
        partial: allow classes that not every data set has labelled.
        link: hard links instead of copies of the images.

    Raises:
        InputError: data that cannot be used, a class that does not occur, classes that not all have, or a folder
            that cannot be written.
    """
    check_new(destination)
    sources = _read(roots)
    classes = _classes(sources, renamed, only)
    if not partial:
        _check_labelled(sources, classes, renamed)
    with new_folder(destination):
        return _write(sources, classes, renamed, destination, link=link)


def _write(
    sources: Sequence[Source],
    classes: CategoryMap,
    renamed: Mapping[str, str],
    destination: Path,
    *,
    link: bool,
) -> Merged:
    images = objects = left_out = 0
    for split in SPLITS:
        parts = [source for source in sources if split in source.splits]
        if not parts:
            continue
        document: dict[str, Any] = {"images": [], "annotations": [], "categories": classes.to_records()}
        for source in parts:
            index, folder = source.splits[split]
            index.report.tell()
            names = names_below(index, folder)
            place_images(index, names, folder, destination / f"{split}2017" / source.name, link=link)
            part = coco_document(index, names)
            left_out += _add(document, part, source.name, classes, renamed)
        write_coco(document, destination, split)
        images += len(document["images"])
        objects += len(document["annotations"])
    return Merged(classes.names, images, objects, left_out)


def _read(roots: Sequence[Path]) -> list[Source]:
    sources: list[Source] = []
    read: set[Path] = set()
    for root in roots:
        layout = present_splits(root)
        files_of = {files.path.resolve() for files in layout.splits.values()}
        if files_of & read:
            stderr.print(f"{root}: named before; its images and objects are in it twice", style="yellow")
        read |= files_of
        absent = layout.absent | ({"test": "only train and val are"} if "test" in layout.splits else {})
        for split, why in absent.items():
            stderr.print(f"{root}: not merged: {split}, {why}")
        splits: dict[Split, tuple[CocoIndex, Path]] = {
            split: (index_to_copy(files), files.images)
            for split, files in layout.splits.items()
            if split != "test"
        }
        for index, _ in splits.values():
            if not index.annotated:
                raise InputError(f"{index.path}: there is no 'annotations' key, so nothing to merge")
        folder = (root if root.is_dir() else root.parent).resolve().name
        taken = {source.name for source in sources}
        name = next(
            n for n in (folder, *(f"{folder}-{k}" for k in range(2, len(roots) + 2))) if n not in taken
        )
        sources.append(Source(root, name, splits))
    return sources


def _classes(sources: Sequence[Source], renamed: Mapping[str, str], only: str | None) -> CategoryMap:
    """In the order in which the data sets have them."""
    old = [n for s in sources for index, _ in s.splits.values() for n in index.categories.names]
    new = list(dict.fromkeys(renamed.get(name, name) for name in old))
    chosen = new if only is None else names_in(only, new)
    for option, asked, there in (("--rename", renamed, old), ("--only", chosen, new)):
        for name in asked:
            if name not in there:
                known = ", ".join(sorted(set(there)))
                raise InputError(f"{option}: no data set has a class {name!r}; there are {known}")
    if not chosen:
        raise InputError(f"--only {only}: it names no class; there are {', '.join(sorted(new))}")
    kept = [name for name in new if name in chosen]
    return CategoryMap(tuple(range(1, len(kept) + 1)), tuple(kept))


def _check_labelled(sources: Sequence[Source], classes: CategoryMap, renamed: Mapping[str, str]) -> None:
    """A detector learns that what is not labelled is background."""
    lacking = {
        str(source.root): [name for name in classes.names if name not in source.names(renamed)]
        for source in sources
    }
    if not any(lacking.values()):
        return
    told = "; ".join(f"{root} has no {_few(names)}" for root, names in lacking.items() if names)
    raise InputError(
        f"not every data set has every class: {told}. Objects of a class that are not labelled are trained as "
        "background. Are names different? --rename OLD=NEW; leave classes out: --only A,B; or, where such objects do "
        "not occur in those images: --partial"
    )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(names[:5])}{more}"


def _add(
    document: dict[str, Any],
    part: dict[str, Any],
    folder: str,
    classes: CategoryMap,
    renamed: Mapping[str, str],
) -> int:
    """Add the document of a split under new ids; returns how many objects are left out."""
    ids = dict(zip(classes.names, classes.ids, strict=True))
    category = {
        record["id"]: ids.get(renamed.get(record["name"], record["name"])) for record in part["categories"]
    }
    first = len(document["images"]) + 1
    image = {record["id"]: first + place for place, record in enumerate(part["images"])}
    for record in part["images"]:
        document["images"].append(
            {**record, "id": image[record["id"]], "file_name": f"{folder}/{record['file_name']}"}
        )
    kept = [record for record in part["annotations"] if category[record["category_id"]] is not None]
    for number, record in enumerate(kept, start=len(document["annotations"]) + 1):
        new = {
            "id": number,
            "image_id": image[record["image_id"]],
            "category_id": category[record["category_id"]],
        }
        document["annotations"].append({**record, **new})
    return len(part["annotations"]) - len(kept)
