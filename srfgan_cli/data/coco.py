"""A checked COCO data set as a few arrays, not Python objects per annotation. Imports no torch.

Loader processes get the arrays by fork, or through torch's shared memory where they are spawned, and
never copy them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from srfgan.models.instance_masks import InstanceMask, Polygons
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.check import Checked, check_records
from srfgan_cli.data.findings import Report
from srfgan_cli.data.images import MAX_PIXELS
from srfgan_cli.data.places import ALLOW_OUTSIDE, file_kinds
from srfgan_cli.data.ragged import offsets
from srfgan_cli.data.records import Records, read_records
from srfgan_cli.data.rle import cut_out


@dataclass(frozen=True)
class CocoIndex:
    """Images in the order of their ids, with their usable annotations.

    Attributes:
        path: the json file.
        categories: the category map.
        annotated: False for test-style files.
        report: what was dropped or clipped.
        left_out: annotations that are not scored, though pycocotools counts them: of no area, or outside their image.
        image_ids: (N,) int64.
        sizes: (N, 2) int64, height and width.
        name_bytes, name_first: UTF-8 bytes of all file names, and (N + 1,) offsets.
        first: (N + 1,) int64, each image's first annotation.
        annotation_ids: (A,) int64.
        boxes: (A, 4) float32 xyxy in pixels of the file's image, clipped to it: what is trained on. Never empty, unless
            the index was loaded to count those.
        truth_boxes: (A, 4) float64 x, y, width, height as the json has them: what is scored. float32 would move
            scores in their last digits.
        labels: (A,) int64, contiguous and 0-based.
        areas: (A,) float64, the json's own, or the box's where the json has none.
        crowd: (A,) bool.
        has_mask: (A,) bool.
        vertices, part_first, parts_of: (V, 2) float64 polygon vertices, offsets of polygons, of annotations.
        runs, runs_of: (R,) int32 run lengths and (A + 1,) offsets.
    """

    path: Path
    categories: CategoryMap
    annotated: bool
    report: Report
    left_out: int
    image_ids: np.ndarray
    sizes: np.ndarray
    name_bytes: np.ndarray
    name_first: np.ndarray
    first: np.ndarray
    annotation_ids: np.ndarray
    boxes: np.ndarray
    truth_boxes: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    has_mask: np.ndarray
    vertices: np.ndarray
    part_first: np.ndarray
    parts_of: np.ndarray
    runs: np.ndarray
    runs_of: np.ndarray

    @classmethod
    def load(cls, path: Path, image_folder: Path | None = None, **options: Any) -> CocoIndex:
        """Read and check a json; arguments as for `of`."""
        return cls.of(read_records(path), image_folder, **options)

    @classmethod
    def of(
        cls,
        records: Records,
        image_folder: Path | None = None,
        *,
        check: str | None = None,
        outside: bool = False,
        max_pixels: int = MAX_PIXELS,
        cure: str = ALLOW_OUTSIDE,
        count_unusable: bool = False,
    ) -> CocoIndex:
        """Check what was read.

        Args:
            records: of one split.
            image_folder: where its images are; missing ones are an error. None: not looked at.
            check: the arguments of `srfgan data check` that show the whole list of what is wrong, if there are any.
            outside: images may be outside that folder.
            max_pixels: larger images are an error.
            cure: what the error of images outside the folder says to do.
            count_unusable: keep annotations of no area or outside their image, which is for scores alone.

        Raises:
            InputError: a file or data set that cannot be used, with the first offenders.
        """
        files = (
            []
            if image_folder is None
            else file_kinds(
                records.file_names,
                records.sizes,
                image_folder,
                outside=outside,
                max_pixels=max_pixels,
                cure=cure,
            )
        )
        checked = check_records(records, files, count_unusable=count_unusable)
        checked.report.raise_if_fatal(check)
        return build_index(records, checked, left_out=0 if count_unusable else int(checked.unusable.sum()))

    def __len__(self) -> int:
        return len(self.image_ids)

    def file_name(self, image: int) -> str:
        """Path of the image at this row, relative to the image folder."""
        start, end = self.name_first[image : image + 2].tolist()
        return bytes(self.name_bytes[start:end]).decode(errors="surrogatepass")

    def file_names(self) -> list[str]:
        """Paths of all images, relative to the image folder."""
        names = self.name_bytes.tobytes()
        bounds = pairwise(self.name_first.tolist())
        return [names[start:end].decode(errors="surrogatepass") for start, end in bounds]

    def digest(self) -> str:
        """A sha256 of the images' names and sizes, the annotations and the classes."""
        found = sha256(json.dumps(self.categories.to_records()).encode())
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                found.update(value.data)
        return found.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """For processes that are spawned: the arrays as tensors in shared memory, of which those here become views."""
        import torch  # which whoever loads images has; scores alone do without

        if "_shared" not in vars(self):
            arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
            shared = {name: torch.from_numpy(array).share_memory_() for name, array in arrays.items()}
            vars(self).update({name: tensor.numpy() for name, tensor in shared.items()}, _shared=shared)
        tensors: dict[str, Any] = vars(self)["_shared"]
        return vars(self) | tensors

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {name: tensor.numpy() for name, tensor in state["_shared"].items()})

    def rows(self, image: int) -> range:
        """The annotations of the image at this row."""
        start, end = self.first[image : image + 2].tolist()
        return range(start, end)

    def mask(self, annotation: int, height: int) -> InstanceMask:
        """The mask of the annotation at this row, whose image has `height` rows of pixels."""
        start, end = self.runs_of[annotation : annotation + 2].tolist()
        if end > start:
            return cut_out(self.runs[start:end], height)
        start, end = self.parts_of[annotation : annotation + 2].tolist()
        bounds = self.part_first[start : end + 1].tolist()
        return Polygons(tuple(self.vertices[a:b] for a, b in pairwise(bounds)))

    def segmentation(self, annotation: int, size: list[int]) -> list[list[float]] | dict[str, Any]:
        """COCO's polygons or run lengths of the annotation at this row, in an image of height and width."""
        start, end = self.runs_of[annotation : annotation + 2].tolist()
        if end > start:
            return {"size": size, "counts": self.runs[start:end].tolist()}
        start, end = self.parts_of[annotation : annotation + 2].tolist()
        bounds = self.part_first[start : end + 1].tolist()
        return [self.vertices[a:b].ravel().tolist() for a, b in pairwise(bounds)]


def build_index(records: Records, checked: Checked, left_out: int) -> CocoIndex:
    """The index of checked records: images by id, the kept annotations grouped by image."""
    image_order = np.argsort(records.image_ids, kind="stable")
    place = np.empty_like(image_order)
    place[image_order] = np.arange(len(image_order))
    kept = np.flatnonzero(checked.keep)
    kept = kept[np.argsort(place[checked.image_rows[kept]], kind="stable")]
    counts = np.bincount(place[checked.image_rows[kept]], minlength=len(image_order))
    # Bytes of a file's name that are no UTF-8 are lone surrogates in Python's texts, which come back as they were.
    names = [records.file_names[row].encode(errors="surrogatepass") for row in image_order]
    masks = checked.masks.select(kept)
    arrays = {
        "image_ids": records.image_ids[image_order],
        "sizes": records.sizes[image_order],
        "name_bytes": np.frombuffer(b"".join(names), np.uint8).copy(),
        "name_first": offsets(np.array([len(name) for name in names])),
        "first": offsets(counts),
        "annotation_ids": records.annotation_ids[kept],
        "boxes": checked.boxes[kept].astype(np.float32),
        "truth_boxes": checked.truth[kept],
        "labels": checked.labels[kept],
        "areas": checked.areas[kept],
        "crowd": records.crowd[kept],
        "has_mask": masks.has_mask,
        "vertices": masks.vertices,
        "part_first": masks.part_first,
        "parts_of": masks.parts_of,
        "runs": masks.runs,
        "runs_of": masks.runs_of,
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return CocoIndex(records.path, records.categories, records.annotated, checked.report, left_out, **arrays)
