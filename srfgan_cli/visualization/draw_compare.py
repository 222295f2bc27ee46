"""What `srfgan visualize compare` does: two detectors in the same images, and the truth where it is known."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan_cli.data.images import read_image
from srfgan_cli.data.shapes import example_image
from srfgan_cli.data.split_files import Layout
from srfgan_cli.visualization.agreement import Truth
from srfgan_cli.visualization.comparison import Contest, comparison_panel
from srfgan_cli.visualization.known_truth import open_truth
from srfgan_cli.visualization.pictures import images_of, save_pictures
from srfgan_cli.visualization.request import (
    Request,
    check_same_classes,
    class_names,
    detect,
    pasted,
    read,
    trained_subject,
)


def draw_comparisons(request: Request, score_threshold: float, data: Layout | None) -> list[Path]:
    """Draw what two trained detectors find into every image side by side, and return the pictures' paths.

    Args:
        request: names two files of weights.
        score_threshold: of the detections that are drawn.
        data: the data set of the images, for the truth.

    Raises:
        InputError: not two detectors of the same classes, images of another data set, or an image that cannot be
            read, after the others are drawn.
    """
    files = request.weight_files
    if len(files) != 2 or files[0] is None:
        raise InputError("visualize compare: name two detectors, --weights FILE,FILE.")
    found = images_of(request)
    known = None if data is None else open_truth(data, found.paths)
    subjects = [trained_subject(request, path, known.categories if known else None) for path in files]
    check_same_classes(subjects)
    first, second = subjects
    names = _names(first.trained.path, second.trained.path)
    masks = any(subject.detector.config.has_masks for subject in subjects)
    contest = Contest(names, class_names(first.trained), score_threshold)

    def image_of(path: Path | None) -> tuple[Tensor, Truth | None]:
        if path is None:
            return example_image(), None
        size = known.size(path) if known else None
        if known is None or size is None:
            return read(path, first.config), None
        return read_image(path, size), known.truth(path, masks=masks)

    def drawn(what: tuple[Tensor, Truth | None]) -> Image.Image:
        image, truth = what
        pair = [pasted(detect(subject, image), image) for subject in (first, second)]
        return comparison_panel(image, (pair[0], pair[1]), truth, contest)

    return save_pictures(found, "compare", request, image_of, drawn)


def _names(first: Path, second: Path) -> tuple[str, str]:
    """What pictures call two files of weights: their runs, or what tells the runs' folders apart."""
    runs = [
        path.parent.name if (path.parent / "config.yaml").is_file() else path.stem for path in (first, second)
    ]
    if runs[0] != runs[1]:
        return runs[0], runs[1]
    paths = [path.resolve() for path in (first, second)]
    shared = len(Path(os.path.commonpath(paths)).parts)
    own = [path.parts[shared:-1] or (path.name,) for path in paths]
    return "/".join(own[0]), "/".join(own[1])
