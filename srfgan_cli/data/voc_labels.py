"""A split in Pascal VOC's layout as records: one XML file for each image.

A file's pixels are counted from 1 and its `xmax` and `ymax` are of the last pixel within, so that 1 is taken off `xmin`
and `ymin` only, as detectron2 does: a box from 1 to 30 is 30 pixels wide. `difficult` objects are taken for crowd
regions: neither trained on nor missed, and what finds them is no error.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.findings import Fate
from srfgan_cli.data.images import MISSING, is_image_name
from srfgan_cli.data.label_files import (
    LOST_LINK,
    NO_LABELS,
    NO_NUMBERS,
    Findings,
    Labelled,
    LabelledImage,
    image_sizes,
    read_text,
    to_records,
    walk_images,
)
from srfgan_cli.data.records import Records
from srfgan_cli.data.voc_layout import NAME

_BROKEN = "annotation file that cannot be read"
_SAME_STEM = "image whose annotation file is another image's: the names differ only in their suffix"
_OF_A_CLASS = re.compile(r"^(.*?)\s+-?[01]$")
"""A line of a class's list: an image, and whether it has one."""


class VocObject(NamedTuple):
    """An `object` of an annotation: where it begins, its class, its box x, y, width, height in pixels.

    `odd` is whether what it says of its difficulty is neither 0 nor 1.
    """

    line: int
    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    odd: bool


class VocAnnotation(NamedTuple):
    """A file of annotations; the size, height and width, is None where the file does not say it."""

    size: tuple[int, int] | None
    objects: list[VocObject]


def read_voc(path: Path, images: Path, labels: Path, root: Path, every: Sequence[Path]) -> Records:
    """Read a split.

    Args:
        path: the list of its images, or the folder of all of them.
        images: the folder of the images.
        labels: the folder of the annotations.
        root: the data set's folder; a `classes.txt` in it gives the classes, in its order.
        every: the folders of all splits' annotations: otherwise all classes that occur there are the data set's, by
            the alphabet, so that every split has the same.

    Raises:
        InputError: files that cannot be read, or no image.
    """
    findings = Findings()

    def tell_lost(link: Path) -> None:
        findings.add(LOST_LINK, "dropped", _shown(link, root))

    names = list(walk_images(images, is_image_name, tell_lost))
    files = {_stem(name): name for name in reversed(names)}
    stems = sorted(files) if path.is_dir() else _listed(path, files)
    wanted = set(stems)
    for name in names:
        if files[_stem(name)] != name and _stem(name) in wanted:
            findings.add(_SAME_STEM, "dropped", f"{_shown(images, root)}/{name}")
    if path.is_dir():
        for name in walk_images(labels, _is_xml):
            if _stem(name) not in files:
                findings.add("annotation file without an image", "dropped", f"{_shown(labels, root)}/{name}")
    read: dict[str, VocAnnotation] = {}
    for stem in stems:
        if stem not in files:
            findings.add(MISSING, "stops", f"{_shown(images, root)}/{stem}.*, which {path.name} lists")
        elif not (labels / f"{stem}.xml").is_file():
            findings.add(NO_LABELS, "used as it is", f"{_shown(images, root)}/{files[stem]}")
            read[stem] = VocAnnotation(None, [])
        else:
            read |= _read_one(labels / f"{stem}.xml", stem, root, findings)
    classes = _classes(root, every, {labels / f"{stem}.xml": one for stem, one in read.items()})
    unknown = [stem for stem, one in read.items() if one.size is None]
    sizes = dict(zip(unknown, image_sizes([images / files[stem] for stem in unknown], findings), strict=True))
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    found = []
    for stem, one in read.items():
        size = one.size or sizes[stem]
        if size is None:
            continue
        file = f"{_shown(labels, root)}/{stem}.xml"
        _tell_of(one.objects, numbers, file, findings)
        objects = [
            Labelled(each.line, numbers[each.name], each.box, crowd=each.difficult)
            for each in one.objects
            if each.name in numbers
        ]
        found.append(LabelledImage(files[stem], file, size, objects))
    if not classes:
        raise InputError(f"{path}: no annotation file has an object, so there are no classes")
    categories = CategoryMap(tuple(numbers.values()), tuple(numbers))
    return to_records(path, NAME, categories, found, findings)


def _tell_of(objects: Sequence[VocObject], numbers: Mapping[str, int], file: str, findings: Findings) -> None:
    for each in objects:
        if not each.name:
            findings.add("object without a name of its class", "stops", f"{file}:{each.line}")
        elif each.name not in numbers:
            findings.add(
                "class that classes.txt does not list", "stops", f"{file}:{each.line}: {each.name!r}"
            )
        if each.odd:
            read_as: Fate = "read as 1" if each.difficult else "read as 0"
            findings.add("difficult is neither 0 nor 1", read_as, f"{file}:{each.line}")


def parse_annotation(content: bytes) -> VocAnnotation:
    """What an annotation file says.

    Raises:
        ValueError: it is no XML, no annotation, or XML with a document type, which can make a small file unfold to
            gigabytes; the message begins with the line.
    """
    builder, lines = TreeBuilder(), {}
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise ValueError(f"{parser.CurrentLineNumber}: a DOCTYPE, which is not read; annotations need none")

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = builder.start(tag, attributes)
        if tag == "object":
            lines[element] = parser.CurrentLineNumber

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ValueError(f"{error.lineno}: {expat.ErrorString(error.code)}") from None
    except LookupError:
        raise ValueError("1: its encoding is not known; save it as UTF-8") from None
    except ValueError as error:
        said = str(error)
        raise ValueError(said if said[:1].isdigit() else f"1: {said}; save it as UTF-8") from None
    tree = builder.close()
    if tree.tag != "annotation":
        raise ValueError(f"1: <{tree.tag:.40}> instead of <annotation>")
    size = [_number(tree.find("size"), key) for key in ("height", "width")]
    stated = all(1 <= side < 2**31 and side == int(side) for side in size)
    objects = [_object(element, lines[element]) for element in tree.findall("object")]
    return VocAnnotation((int(size[0]), int(size[1])) if stated else None, objects)


def _object(element: Element, line: int) -> VocObject:
    bounds = element.find("bndbox")
    left, top, right, bottom = (_number(bounds, key) for key in ("xmin", "ymin", "xmax", "ymax"))
    box = (left - 1, top - 1, right - left + 1, bottom - top + 1)
    finite = all(map(math.isfinite, box))
    said, number = (element.findtext("difficult") or "").strip().lower(), _number(element, "difficult")
    difficult, odd = number == 1 or said in ("true", "yes"), bool(said) and number not in (0, 1)
    name = (element.findtext("name") or "").strip()
    return VocObject(line, name, box if finite else NO_NUMBERS, difficult, odd)


def _number(element: Element | None, key: str) -> float:
    """The number in a part of an element; not a number where there is none."""
    try:
        return float((element.findtext(key) if element is not None else None) or "nan")
    except ValueError:
        return math.nan


def _read_one(path: Path, stem: str, root: Path, findings: Findings) -> dict[str, VocAnnotation]:
    try:
        return {stem: parse_annotation(path.read_bytes())}
    except ValueError as error:
        findings.add(_BROKEN, "stops", f"{_shown(path, root)}:{error}")
    except OSError as error:
        findings.add(_BROKEN, "stops", f"{_shown(path, root)}: {error.strerror}")
    return {}


def _classes(root: Path, every: Sequence[Path], read: dict[Path, VocAnnotation]) -> list[str]:
    listed = root / "classes.txt"
    if listed.is_file():
        names = [line.strip() for line in read_text(listed).splitlines()]
        return list(dict.fromkeys(name for name in names if name))
    found: set[str] = set()
    for folder in every:
        for name in walk_images(folder, _is_xml):
            path = folder / name
            one = read[path] if path in read else _other(path)
            found |= {labelled.name for labelled in one.objects if labelled.name}
    return sorted(found)


def _other(path: Path) -> VocAnnotation:
    """A file of another split; what is wrong with it is said where that split is read."""
    try:
        return parse_annotation(path.read_bytes())
    except (OSError, ValueError):
        return VocAnnotation(None, [])


def _listed(path: Path, there: Collection[str]) -> list[str]:
    """The images of a list; a name may end as a class's list says whether one is in it, so one that is there counts."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    names = [
        of_a_class[1] if line not in there and (of_a_class := _OF_A_CLASS.match(line)) else line
        for line in lines
        if line
    ]
    return list(dict.fromkeys(names))


def _is_xml(name: str) -> bool:
    return name.endswith(".xml")


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122 - a name with folders in it


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
