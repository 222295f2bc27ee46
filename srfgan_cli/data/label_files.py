"""Data sets with a label file for each image, as records: what YOLO's and Pascal VOC's have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.findings import SHOWN, Fate, Problem
from srfgan_cli.data.images import ANY_SIZE, ImageError, read_size
from srfgan_cli.data.json_file import collector_paused
from srfgan_cli.data.outlines import clip_polygon
from srfgan_cli.data.records import Lines, Records
from srfgan_cli.data.segmentations import parse_segmentations
from srfgan_cli.screen.progress import progress_bar

_MANY = 2000
"""From so many images on, reading their headers takes long enough for a progress bar."""

NO_LABELS = "image without a label file: no object in it"
LOST_LINK = "link to a file or folder that is not there"
NO_NUMBERS = (float("nan"),) * 4


class Labelled(NamedTuple):
    """An object as a label file has it.

    Attributes:
        line: in the file, from 1.
        category: its id; -1 for none that is known.
        box: x, y, width, height in pixels; not numbers where the file has none.
        outline: x, y, x, y, ... in pixels, if the file has one.
        crowd: it is left out of training and scores as crowd regions are.
    """

    line: int
    category: int
    box: tuple[float, float, float, float]
    outline: list[float] | None = None
    crowd: bool = False


@dataclass
class Findings:
    """What is wrong, collected while files are read."""

    found: dict[tuple[str, Fate], list[str]] = field(default_factory=dict)

    def add(self, kind: str, fate: Fate, where: str) -> None:
        """One more of a kind."""
        self.found.setdefault((kind, fate), []).append(where)

    def problems(self) -> tuple[Problem, ...]:
        """All kinds, with the first offenders of each."""
        return tuple(
            Problem(kind, fate, len(places), tuple(places[:SHOWN]))
            for (kind, fate), places in self.found.items()
        )


@dataclass
class LabelledImage:
    """An image and its objects.

    Attributes:
        name: of its file, relative to the image folder.
        labels: its label file, as messages name it.
        size: height and width in pixels.
        objects: in the order of the file.
    """

    name: str
    labels: str
    size: tuple[int, int]
    objects: Sequence[Labelled]


def image_sizes(paths: Sequence[Path], findings: Findings) -> list[tuple[int, int] | None]:
    """Height and width of image files, from their headers, in threads; None for those that cannot be read."""

    def size_of(path: Path) -> tuple[int, int] | ImageError:
        try:
            return read_size(path, max_pixels=ANY_SIZE)  # what is too large is found with everything else
        except ImageError as error:
            return error

    sizes: list[tuple[int, int] | None] = []
    shown = len(paths) >= _MANY and os.environ.get("RANK", "0") == "0"
    with progress_bar(show=shown) as progress, ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        task = progress.add_task("reading sizes", total=len(paths))
        for size in threads.map(size_of, paths):
            progress.advance(task)
            if isinstance(size, ImageError):
                findings.add(size.kind, "stops", str(size))
            sizes.append(None if isinstance(size, ImageError) else size)
    return sizes


def to_records(
    path: Path,
    layout: str,
    categories: CategoryMap,
    images: Sequence[LabelledImage],
    findings: Findings,
) -> Records:
    """Images with their objects as COCO's records; ids are places in the order of `images`, from 1.

    Raises:
        InputError: there is no image.
    """
    problems = findings.problems()
    if not images:
        why = f": {problems[0].kind} ({problems[0].first[0]})" if problems else ""
        raise InputError(f"{path}: no image that can be read{why}")
    with collector_paused():
        rows = np.repeat(np.arange(len(images)), [len(image.objects) for image in images])
        objects = [labelled for image in images for labelled in image.objects]
        areas = np.array(
            [_area(one.outline, image.size) for image in images for one in image.objects], np.float64
        )
        return Records(
            path=path,
            categories=categories,
            annotated=True,
            image_ids=np.arange(1, len(images) + 1),
            sizes=np.array([image.size for image in images], np.int64),
            file_names=[image.name for image in images],
            annotation_ids=np.arange(1, len(objects) + 1),
            annotation_images=rows + 1,
            annotation_categories=np.array([one.category for one in objects], np.int64),
            boxes=np.array([one.box for one in objects], np.float64).reshape(-1, 4),
            areas=areas,
            area_stated=np.isfinite(areas),
            crowd=np.array([one.crowd for one in objects], bool),
            odd_crowd=np.zeros(len(objects), bool),
            segmentations=parse_segmentations(
                [None if one.outline is None else [one.outline] for one in objects]
            ),
            layout=layout,
            problems=problems,
            lines=Lines(
                tuple(image.labels for image in images), np.array([one.line for one in objects], np.int64)
            ),
        )


def read_text(path: Path) -> str:
    """A label file's text.

    Raises:
        InputError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: label files must be UTF-8 text, but byte {error.start} is none of it"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def walk_images(
    folder: Path, is_wanted: Callable[[str], bool], tell_lost: Callable[[Path], None] | None = None
) -> Iterable[str]:
    """The names of wanted files in a folder and those below it, relative to it, in order.

    Linked folders are followed to those that are below no other way, so each once, whatever circles links make.

    Args:
        folder: where to look.
        is_wanted: whether a file is, by its name.
        tell_lost: gets each link to what is not there that may have been a folder: one whose name is not wanted. Those
            of wanted names are found missing by whoever opens them.

    Raises:
        InputError: a folder that is there cannot be read.
    """
    found, waiting, seen = [], [folder], set()
    for top in waiting:
        # Itself it lists linked folders, but leaves them out.
        for place, below, names in os.walk(top, onerror=_stop_at):
            real = os.path.realpath(place)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            inner = Path(place).relative_to(folder)
            found += [(inner / name).as_posix() for name in names if is_wanted(name)]
            if tell_lost is not None:
                others = (Path(place, name) for name in sorted(names) if not is_wanted(name))
                for path in others:
                    if not path.name.startswith(".") and _leads_nowhere(path):
                        tell_lost(path)
            waiting += [path for name in sorted(below) if (path := Path(place, name)).is_symlink()]
    return sorted(found)


def _stop_at(error: OSError) -> None:
    """What `os.walk` would leave out without a word; a folder that is not there holds nothing."""
    if not isinstance(error, FileNotFoundError):
        raise InputError(f"{error.filename}: the folder cannot be read ({error.strerror})")


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not os.path.exists(path)  # noqa: PTH110 - which is False for a link to itself


def _area(outline: list[float] | None, size: tuple[int, int]) -> float:
    """Pixels of an image of `size` (height, width) within an outline; not a number without one that is whole."""
    if outline is None or not np.isfinite(outline).all():
        return float("nan")
    points = np.array(outline).reshape(-1, 2)  # (V, 2)
    if _returns(points):
        return _drawn_area(points, size)
    x, y = points.T
    with np.errstate(all="ignore"):
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _returns(points: np.ndarray) -> bool:
    """Whether an outline (V, 2) passes a point again, as that of several parts, joined by lines without width, does.

    The parts may go round in opposite senses, which would take the area of one off the other's.
    """
    distinct = len(set(map(tuple, points.tolist())))
    if distinct == len(points):
        return False
    moves = (points != np.roll(points, 1, axis=0)).any(axis=1)
    return distinct < int(moves.sum())


def _drawn_area(points: np.ndarray, size: tuple[int, int]) -> float:
    height, width = size
    within = clip_polygon(points, np.zeros(2), np.array([width, height], np.float64))
    if not len(within):
        return 0.0
    (area,) = coco_mask.area(coco_mask.frPyObjects([within.ravel().tolist()], height, width)).tolist()
    return float(area)
