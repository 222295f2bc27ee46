"""`srfgan data split`: a split for validation taken off a data set, by a hash of names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from srfgan.models.errors import InputError
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.documents import coco_document
from srfgan_cli.data.images import ANY_SIZE
from srfgan_cli.data.json_file import UNREADABLE, parse_json, read_file
from srfgan_cli.data.records import Records, parse_records
from srfgan_cli.data.split_files import SplitFiles
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.machine.sole_writer import sole_writer
from srfgan_cli.screen.console import stderr

_DIVIDED = ("images", "annotations")


class _Image(msgspec.Struct):
    id: int
    file_name: str


class _Annotation(msgspec.Struct):
    image_id: int


@dataclass(frozen=True)
class _Texts:
    """A COCO json taken apart, its parts still or again as texts.

    Attributes:
        rest: what is not divided, by its key; anything for `images` and `annotations`, whose place this tells.
        images: of N images, in the file's order.
        names: their file names by their ids, in the same order.
        annotations: of A annotations.
        owners: the ids of their images.
    """

    rest: Mapping[str, bytes | msgspec.Raw]
    images: Sequence[bytes | msgspec.Raw]
    names: Mapping[int, str]
    annotations: Sequence[bytes | msgspec.Raw]
    owners: Sequence[int]


def split_data(files: SplitFiles, destination: Path, share: float, group: str | None) -> dict[str, int]:
    """Write `train.json` and `val.json`, of the images where they lie.

    An image goes by the hash of its name, or of its group's: it stays where it is when others are added.

    Args:
        files: what is split; a json keeps all that it has, another layout becomes COCO's.
        destination: the folder of both files, which must not be there.
        share: of images (or groups) for validation, 0 to 1.
        group: a regular expression; images of whose names it finds the same (its first group, if it has one) stay
            together.

    Returns:
        Images of each.

    Raises:
        InputError: data that cannot be used, a wrong expression or one that finds nothing, files that are there, or
            nothing on one side.
    """
    paths = {name: destination / f"{name}.json" for name in ("train", "val")}
    _check_free(paths.values())
    whole = _checked(files)
    pattern = _compiled(group)
    if pattern is not None:
        _check_groups(pattern, [*whole.names.values()])
    chosen = {id_: is_val(name, share, pattern) for id_, name in whole.names.items()}
    counts = {"train": len(chosen) - sum(chosen.values()), "val": sum(chosen.values())}
    for name, count in counts.items():
        if not count:
            see = "--val" if group is None else f"--val, and --group {group}, which keeps images together"
            raise InputError(
                f"{files.path}: all {len(chosen)} images would be on one side, none in {name}; see {see}"
            )
    with sole_writer(destination, "data"):
        _check_free(paths.values())
        for name, path in paths.items():
            text = _part(whole, {id_ for id_, val in chosen.items() if val == (name == "val")})
            write_atomically(path, lambda file, text=text: file.write(text))  # type: ignore[misc]
    return counts


def _check_free(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists():
            raise InputError(f"{path}: is there already; name another folder")


def is_val(name: str, share: float, group: re.Pattern[str] | None = None) -> bool:
    """Whether an image of this name is for validation."""
    found = group.search(name) if group else None
    key = name if found is None else (found[1] if found.re.groups and found[1] is not None else found[0])
    hashed = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8])
    return hashed < share * 2**64


def _compiled(group: str | None) -> re.Pattern[str] | None:
    try:
        return None if group is None else re.compile(group)
    except re.error as error:
        raise InputError(f"--group {group}: no regular expression ({error})") from None


def _check_groups(pattern: re.Pattern[str], names: Sequence[str]) -> None:
    """Say which images an expression leaves without a group; with a typo in it, it would be all of them.

    Raises:
        InputError: it is all of them.
    """
    alone = [name for name in names if not pattern.search(name)]
    if not alone:
        return
    told = f"--group {pattern.pattern}: it finds nothing in the names of {len(alone)} of {len(names)} images"
    if len(alone) == len(names):
        raise InputError(f"{told}, as {alone[0]}, and would keep none together")
    stderr.print(f"{told}, as {alone[0]}; each of these goes alone", style="yellow")


def _checked(files: SplitFiles) -> _Texts:
    """What is split; a json is read once, and only its records are parsed."""
    if not files.is_json:
        index = _index_of(files.read(), files)
        index.report.tell()
        return _written(coco_document(index))
    content = read_file(files.path, "annotation file")
    _index_of(parse_records(content, files.path), files).report.tell()
    try:
        return _cut(content)
    except UNREADABLE:
        return _written(parse_json(content, files.path))


def _index_of(records: Records, files: SplitFiles) -> CocoIndex:
    """Checked but for where images are and how large: they stay, unopened, and what uses them checks that."""
    return CocoIndex.of(records, files.images, check=files.check, outside=True, max_pixels=ANY_SIZE)


def _cut(content: bytes) -> _Texts:
    """A sound json's texts, as they stand in it."""
    every = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    images, annotations = every["images"], every.get("annotations", msgspec.Raw(b"[]"))
    return _Texts(
        rest=every,
        images=msgspec.json.decode(images, type=list[msgspec.Raw]),
        names={image.id: image.file_name for image in msgspec.json.decode(images, type=list[_Image])},
        annotations=msgspec.json.decode(annotations, type=list[msgspec.Raw]),
        owners=[one.image_id for one in msgspec.json.decode(annotations, type=list[_Annotation])],
    )


def _written(document: dict[str, Any]) -> _Texts:
    """The same of a document."""
    images, annotations = document["images"], document.get("annotations", [])
    return _Texts(
        rest={key: b"" if key in _DIVIDED else json.dumps(value).encode() for key, value in document.items()},
        images=[json.dumps(image).encode() for image in images],
        names={image["id"]: image["file_name"] for image in images},
        annotations=[json.dumps(one).encode() for one in annotations],
        owners=[one["image_id"] for one in annotations],
    )


def _part(whole: _Texts, ids: set[int]) -> bytes:
    """The json of these images."""
    images = [text for text, id_ in zip(whole.images, whole.names, strict=True) if id_ in ids]
    annotations = [text for text, owner in zip(whole.annotations, whole.owners, strict=True) if owner in ids]
    divided = {"images": _list(images)}
    # Without the key, images are not annotated; with an empty list they would be ones without an object.
    if "annotations" in whole.rest:
        divided["annotations"] = _list(annotations)
    members = [json.dumps(key).encode() + b": " + text for key, text in {**whole.rest, **divided}.items()]
    return b"{" + b", ".join(members) + b"}"


def _list(texts: Sequence[bytes | msgspec.Raw]) -> bytes:
    return b"[" + b", ".join(texts) + b"]"
