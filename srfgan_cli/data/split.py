"""`srfgan data split`: a split for validation taken off a data set, by a hash of names."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.documents import coco_document
from srfgan_cli.data.json_file import read_json
from srfgan_cli.data.split_files import SplitFiles
from srfgan_cli.machine.files import write_atomically


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
        InputError: data that cannot be used, a wrong expression, files that are there, or nothing on one side.
    """
    paths = {name: destination / f"{name}.json" for name in ("train", "val")}
    for path in paths.values():
        if path.exists():
            raise InputError(f"{path}: is there already; name another folder")
    index = CocoIndex.of(files.read(), files.images, check=files.check)
    whole = read_json(files.path, "annotation file") if files.path.suffix == ".json" else coco_document(index)
    pattern = _compiled(group)
    chosen = {image["id"]: is_val(image["file_name"], share, pattern) for image in whole["images"]}
    counts = {"train": len(chosen) - sum(chosen.values()), "val": sum(chosen.values())}
    for name, count in counts.items():
        if not count:
            raise InputError(
                f"{files.path}: all {len(chosen)} images would be on one side, none in {name}; see --val"
            )
    for name, path in paths.items():
        text = json.dumps(_part(whole, {id_ for id_, val in chosen.items() if val == (name == "val")}))
        write_atomically(path, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    return counts


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


def _part(whole: dict[str, Any], ids: set[int]) -> dict[str, Any]:
    images = [image for image in whole["images"] if image["id"] in ids]
    annotations = [one for one in whole.get("annotations", []) if one["image_id"] in ids]
    return {**whole, "images": images, "annotations": annotations}
