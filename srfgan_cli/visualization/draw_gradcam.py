"""What `srfgan visualize gradcam` does: one object, and where each method has its evidence for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from srfgan.models.errors import InputError
from srfgan_cli.data.shapes import example_image
from srfgan_cli.presets.library import did_you_mean
from srfgan_cli.visualization.feature_maps import (
    check_level,
    check_methods,
    check_pyramid,
    swaps_of,
)
from srfgan_cli.visualization.gradcam import Evidence, View, best_detection, evidence, same_object, views
from srfgan_cli.visualization.gradcam_panel import Shown, gradcam_panel
from srfgan_cli.visualization.pictures import save_panel, the_one_image
from srfgan_cli.visualization.request import (
    Request,
    Subject,
    check_same_classes,
    class_names,
    generators,
    read,
    resized,
    trained_subject,
    untrained_note,
)


def draw_gradcam(request: Request, methods: Sequence[str], class_name: str | None, layer: str | None) -> Path:
    """Write the panel of the best detection (of a class) by several methods, and return its path.

    The object is the best detection of all methods; each shows its own detection there. One file of weights serves
    all methods, swapped into its detector's neck; or each method has a detector of its own.

    Args:
        request: its weights may be several, one for each method.
        methods: names of upsamplers.
        class_name: of the object; None for any.
        layer: a level of the pyramid; None for all together.

    Raises:
        InputError: a method, class or level that is not there, no detection, or a detector or image that cannot be
            read.
    """
    check_methods(methods)
    images = the_one_image(request)
    subjects = _subjects(request, methods)
    first = subjects[0]
    level = None if layer is None else layer.lower()
    if level is not None:
        for subject in subjects:
            check_level(subject.detector, level)
    label = None if class_name is None else _label(class_name, first)
    image = resized(first.config, read(images[0], first.config) if images else example_image())
    seen, note = _seen(request, subjects, methods, image)
    best = best_detection(seen, label)
    if best is None:
        what = "anything" if class_name is None else f"a {class_name}"
        where = images[0] if images else "the built-in image"
        raise InputError(f"No method detects {what} in {where}: name another image or class.")
    method, index = best
    found = seen[method].found
    box, of = found.boxes[index].detach(), int(found.labels[index])
    places = {name: same_object(view, box, of) for name, view in seen.items()}
    shown = {
        name: None if place is None else evidence(seen[name], place, level) for name, place in places.items()
    }
    _check_any(shown, level)
    about = Shown(class_names(first.trained)[of], box.cpu(), level, note)
    return save_panel(gradcam_panel(image, shown, about), "gradcam", request, images)


def _subjects(request: Request, methods: Sequence[str]) -> list[Subject]:
    """The detector of all methods, or one for each.

    Raises:
        InputError: another number of them, of other upsamplers, or of different classes; or a generator beside several.
    """
    files = request.weight_files
    if len(files) not in (1, len(methods)):
        raise InputError(
            f"--weights names {len(files)} files and --methods {len(methods)} methods: "
            "name one file for all, or one for each in the same order."
        )
    if len(files) > 1 and request.generator is not None:
        raise InputError("--generator would not be used: each method has weights of its own. Leave it out.")
    subjects = [trained_subject(request, path) for path in files]
    for subject in subjects:
        check_pyramid(subject.detector)
    if len(files) > 1:
        for method, subject in zip(methods, subjects, strict=True):
            own = subject.detector.config.neck.upsampler
            if own != method:
                raise InputError(f"{subject.trained.path} upsamples by {own}, not by {method}.")
    check_same_classes(subjects)
    return subjects


def _seen(
    request: Request, subjects: Sequence[Subject], methods: Sequence[str], image: Tensor
) -> tuple[dict[str, View], str]:
    """What each method's detector sees in the image, and which methods are untrained."""
    if len(subjects) > 1:
        found = [
            views(subject.detector, image, {method: subject.detector.upsample})
            for method, subject in zip(methods, subjects, strict=True)
        ]
        return {method: view for each in found for method, view in each.items()}, ""
    (subject,) = subjects
    given = generators(request, subject.config, subject.detector, methods)
    swaps = swaps_of(subject.detector, methods, given)
    return views(subject.detector, image, swaps.modules), untrained_note(
        swaps.untrained, subject.trained.path
    )


def _label(name: str, subject: Subject) -> int:
    """The label of a class by its name, or by its number where the weights do not know names.

    Raises:
        InputError: there is no such class.
    """
    categories, count = subject.trained.categories, subject.detector.config.num_classes
    names = list(categories.names) if categories is not None else [str(label) for label in range(count)]
    if name in names:
        return names.index(name)
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    raise InputError(
        f"--class: {subject.trained.path} has no class {name!r}.{did_you_mean(name, names)} It knows {listed}."
    )


def _check_any(shown: dict[str, Evidence | None], level: str | None) -> None:
    """Whether there is evidence on a level at all.

    Raises:
        InputError: there is none; says where it is.
    """
    there = [each for each in shown.values() if each is not None]
    if level is None or any(each.levels[level] > 0 for each in there):
        return
    levels = [name for name in there[0].levels if any(each.levels[name] > 0 for each in there)]
    listed = ", ".join(name.upper() for name in levels)
    raise InputError(
        f"--layer {level.upper()}: the detection does not rest on that level, but on {listed or 'none'}; "
        "name that, or leave --layer out for all levels together."
    )
