"""What a prediction leaves in its folder: pictures, COCO results, a table, crops."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap, told_apart
from srfgan_cli.evaluation.encode import as_results
from srfgan_cli.evaluation.results import Result, write_results
from srfgan_cli.machine.files import shortened, write_atomically
from srfgan_cli.machine.sole_writer import sole_writer
from srfgan_cli.prediction.found import Prediction
from srfgan_cli.screen.console import visible
from srfgan_cli.visualization.detections import draw
from srfgan_cli.visualization.outputs import numbered

Kind = Literal["pictures", "results", "csv", "crops"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_QUALITY = 92
_COLUMNS = ("file", "image_id", "class", "category_id", "score", "x0", "y0", "x1", "y1")


def parse_kinds(text: str) -> tuple[Kind, ...]:
    """What `--save` names, with commas.

    Raises:
        InputError: one of them does not exist.
    """
    asked = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in asked if part not in KINDS]
    if unknown or not asked:
        raise InputError(f"--save {text}: choose from {', '.join(KINDS)}, with commas.")
    return tuple(kind for kind in KINDS if kind in asked)


@contextmanager
def new_folder(wanted: Path | None) -> Iterator[Path]:
    """The folder to write to, made: the one named, or the first that is free of predictions, predictions-2, ...

    It is this process's own until the block ends.

    Raises:
        InputError: it holds something already, another process writes there, or it cannot be made.
    """
    folder = _first_free() if wanted is None else wanted
    with sole_writer(folder, "predict", "--output"):
        if any(folder.iterdir()):
            raise InputError(f"--output {folder}: holds files already; name a new folder.")
        yield folder


def _first_free() -> Path:
    """The first of predictions, predictions-2, ... that this process could make."""
    for path in map(Path, numbered("predictions")):
        try:
            path.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"--output {path}: cannot be made a folder ({error.strerror}).") from None
        return path
    raise AssertionError("names are endless")


class Outputs:
    """Writes what was found, image by image; `finish` writes what is about all of them.

    Attributes:
        folder: where.
        counts: detections by class.
    """

    def __init__(
        self, folder: Path, kinds: Collection[Kind], categories: CategoryMap, score_threshold: float
    ) -> None:
        self.folder = folder
        self._threshold = score_threshold
        self.counts: Counter[str] = Counter()
        self._kinds = kinds
        self._categories = categories
        self._crops = _crop_folders(categories)
        self._images: list[dict[str, Any]] = []
        self._results: list[Result] = []
        self._rows: list[Sequence[Any]] = []
        self._taken: set[str] = set()

    def add(
        self,
        file: str,
        image_id: int,
        image: Tensor,
        found: Prediction,
        *,
        name: str,
        has_picture: bool = True,
    ) -> None:
        """One image's detections.

        Args:
            file: as the results call it.
            image_id: in the results.
            image: (3, H, W) uint8 RGB.
            name: of its picture and crops, without a suffix.
            has_picture: whether it has one of its own; those of a video's frames are a video.
        """
        self.counts.update(found.names)
        height, width = found.size
        self._images.append({"id": image_id, "file_name": file, "width": width, "height": height})
        self._results += as_results(
            found.to_detections(masks=False),
            found.segmentations,
            image_id=image_id,
            category_ids=self._categories.ids,
        )
        for label, score, box in zip(
            found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True
        ):
            sides = [f"{side:.2f}" for side in box]
            names = (_encodable(self._categories.names[label]), self._categories.ids[label])
            self._rows.append((file, image_id, *names, f"{score:.4f}", *sides))
        if has_picture and "pictures" in self._kinds:
            _save(to_pil_image(self.drawn(image, found)), self._free("pictures", name, ".jpg"))
        if "crops" in self._kinds:
            self._save_crops(image, found, name)

    def video(self, name: str) -> Path | None:
        """Where a video's annotated frames go; None where no pictures are wanted."""
        return self._free("pictures", name, ".mp4") if "pictures" in self._kinds else None

    def drawn(self, image: Tensor, found: Prediction, *, enlarge: bool = True) -> Tensor:
        """The image (3, H, W) uint8 with what was found; see `visualization.detections.draw`."""
        return draw(
            image,
            found.to_detections(masks=False),
            self._categories.names,
            score_threshold=self._threshold,
            enlarge=enlarge,
            masks=found.each_mask,
        )

    def finish(self) -> None:
        """Write the results and the table of all images.

        Raises:
            InputError: they cannot be written.
        """
        if "results" in self._kinds:
            write_results(self.folder / "results.json", self._results)
            about = {"images": self._images, "categories": self._categories.to_records()}
            text = json.dumps(about, separators=(",", ":"))
            write_atomically(self.folder / "image_info.json", lambda file: file.write(text.encode()))
        if "csv" in self._kinds:
            table = io.StringIO(newline="")
            lines = csv.writer(table)
            lines.writerow(_COLUMNS)
            lines.writerows(self._rows)
            content = table.getvalue().encode("utf-8", "surrogateescape")
            write_atomically(self.folder / "predictions.csv", lambda file: file.write(content))

    def _save_crops(self, image: Tensor, found: Prediction, name: str) -> None:
        """Each detection's box, in whole pixels, in a folder of its class."""
        height, width = found.size
        for label, box in zip(found.labels.tolist(), found.boxes.tolist(), strict=True):
            x0, y0 = (max(0, int(side)) for side in box[:2])
            x1, y1 = min(width, int(-(-box[2] // 1))), min(height, int(-(-box[3] // 1)))
            picture = to_pil_image(image[:, y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])
            _save(picture, self._free(f"crops/{self._crops[label]}", name, ".jpg"))

    def _free(self, folder: str, name: str, suffix: str) -> Path:
        """A path in the folder that nothing else has: `a.jpg`, `a-2.jpg`, ..."""
        place = self.folder / folder
        free = next(
            path for path in numbered(f"{name}{suffix}") if f"{folder}/{path}".casefold() not in self._taken
        )
        self._taken.add(f"{folder}/{free}".casefold())
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot write to {place}: {error.strerror}.") from None
        return place / free


def _crop_folders(categories: CategoryMap) -> list[str]:
    """A folder's name for each class, all different, also where case does not count."""
    plain = [re.sub(r"[^\w.-]+", "_", visible(name)).strip(".") or "class" for name in categories.names]
    cut = [shortened(name, "") for name in plain]
    return told_apart(cut, [f"-{id_}" for id_ in categories.ids], joined=shortened, folded=str.casefold)


def _encodable(name: str) -> str:
    """A class's name for a table in UTF-8: halves of surrogate pairs, which JSON can hold, as their escapes.

    Those in a file's name are its bytes that are not UTF-8, and stay these.
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _save(picture: Image.Image, path: Path) -> None:
    write_atomically(path, lambda file: picture.save(file, "JPEG", quality=_QUALITY))
