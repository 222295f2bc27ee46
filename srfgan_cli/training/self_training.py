"""Self-training: a trained teacher labels images that have no annotations, once, for a student to train on.

As in STAC (Sohn et al., arXiv 2005.04757): hard labels above a high score, made before the training. The labels
are a COCO json in `runs/pseudo_labels/`, named after all that decides them, so that a run that resumes, another
seed or another student finds them again, and a labelling that was cut off leaves nothing to be mistaken for one.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from srfgan.models.errors import InputError
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.data.images import file_sizes, list_images, read_size
from srfgan_cli.data.loaders import build_test_loader
from srfgan_cli.data.open import check_same_categories, policy
from srfgan_cli.evaluation.evaluate import predict
from srfgan_cli.evaluation.results import Result
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.files import file_hash, write_atomically
from srfgan_cli.presets.config import Config, SelfTrainingConfig
from srfgan_cli.runs.folder import RUNS_DIR
from srfgan_cli.runs.plan import Plan
from srfgan_cli.runs.trained import load_trained
from srfgan_cli.screen.console import stderr

_VERSION = 1
"""Part of a file's name; goes up with every change of what is labelled."""


def open_pseudo_labels(plan: Plan, train: DetectionDataset, world: World) -> DetectionDataset | None:
    """The unlabelled images in which the teacher finds something; None where the recipe trains without.

    Every process of the run calls it; images that are not labelled yet are shared out among them.

    Args:
        plan: of a `finetune` run.
        train: the labelled data, whose categories the teacher must have.
        world: this process among all.

    Raises:
        InputError: a folder without images, an unreadable one, or a teacher that does not fit or finds nothing.
    """
    settings, folder = plan.config.finetune.self_training, plan.options.unlabeled
    if plan.stage != "finetune" or settings is None:
        return None
    assert folder is not None
    path = Path(world.gather(str(_labels_path(plan, train)) if world.is_main else "")[0])
    if not world.any(path.is_file() and world.is_main):
        _label(plan, settings, path, train, world)
    elif world.is_main:
        stderr.print(f"Pseudo-labels are there: {path}", soft_wrap=True)
    index = CocoIndex.load(path, folder, outside=True, max_pixels=plan.config.data.max_pixels)
    if not len(index.boxes):
        raise InputError(
            f"The teacher {plan.teacher} finds nothing above {settings.threshold} in {folder}. "
            "Lower finetune.self_training.threshold."
        )
    if train.masks and not index.has_mask.any():
        raise _no_masks(plan)
    labelled = DetectionDataset(
        index, folder, policy(plan.config.data, training=True), masks=train.masks, skip_empty=True
    )
    check_same_categories(train, labelled)
    if world.is_main:
        stderr.print(
            f"{len(labelled)} of {len(index)} unlabelled images have {len(index.boxes)} pseudo-labels "
            f"of a score from {settings.threshold}."
        )
    return labelled


def _labels_path(plan: Plan, train: DetectionDataset) -> Path:
    """The labels' place, named after teacher, images, categories, test size, threshold and `model.inference`."""
    data, options, settings = plan.config.data, plan.options, plan.config.finetune.self_training
    assert options.unlabeled is not None and plan.teacher is not None and settings is not None
    decisive = {
        "version": _VERSION,
        "teacher": file_hash(plan.teacher),
        "images": file_sizes(options.unlabeled),
        "categories": train.categories.to_records(),
        "size": (data.test_short_side, data.test_max_side),
        "precision": plan.solver.precision,
        "threshold": settings.threshold,
        "inference": plan.config.model.inference.model_dump(),
    }
    key = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()
    return RUNS_DIR / "pseudo_labels" / f"{key[:16]}.json"


def _label(
    plan: Plan, settings: SelfTrainingConfig, path: Path, train: DetectionDataset, world: World
) -> None:
    """Run the teacher over the folder and write its labels."""
    folder, teacher = plan.options.unlabeled, plan.teacher
    assert folder is not None and teacher is not None
    detector = load_trained(
        _with_threshold(plan.config, settings.threshold), teacher, train.categories, any_model=True
    ).detector
    if train.masks and not detector.config.has_masks:
        raise _no_masks(plan)
    # Another run may be labelling the same.
    listing = path.with_suffix(f".{world.gather(os.getpid())[0]}.images")
    document = {"images": [], "categories": train.categories.to_records()}
    if world.is_main:
        document["images"] = _image_records(folder, plan.config.data.max_pixels)
        _write(listing, document)
    world.barrier()
    # The folder was named by the user, not by somebody's json: links in it may lead anywhere.
    index = CocoIndex.load(listing, folder, outside=True, max_pixels=plan.config.data.max_pixels)
    dataset = DetectionDataset(
        index, folder, policy(plan.config.data, training=False), masks=False, skip_empty=False
    )
    found = predict(
        detector.to(world.device),
        build_test_loader(
            dataset,
            rank=world.rank,
            world_size=world.size,
            workers=plan.config.data.workers,
            device=world.device,
        ),
        category_ids=train.categories.ids,
        world=world,
        precision=plan.solver.precision,
        title="labelling",
        min_score=settings.threshold,
    )
    if found is not None:
        info = {"teacher": str(teacher), "folder": str(folder), "threshold": settings.threshold}
        _write(path, {"info": info, **document, "annotations": _annotations(found)})
        listing.unlink(missing_ok=True)
    world.barrier()


def _no_masks(plan: Plan) -> InputError:
    return InputError(
        f"The teacher {plan.teacher} gives no masks, which preset '{plan.config.name}' trains on. Give a "
        "teacher with masks."
    )


def _with_threshold(config: Config, threshold: float) -> Config:
    """The config with a score threshold that spares the work on what will not be a label.

    FCOS compares it with the class probability, of whose product with the centre-ness the score is the root:
    that is at least the squared score.
    """
    inference = config.model.inference.model_copy(update={"score_threshold": threshold**2})
    return config.model_copy(update={"model": config.model.model_copy(update={"inference": inference})})


def _image_records(folder: Path, max_pixels: int) -> list[dict[str, Any]]:
    paths = list_images(folder)
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        sizes = list(threads.map(partial(read_size, max_pixels=max_pixels), paths))
    return [
        {"id": number, "file_name": path.name, "height": height, "width": width}
        for number, (path, (height, width)) in enumerate(zip(paths, sizes, strict=True), start=1)
    ]


def _annotations(found: list[Result]) -> list[dict[str, Any]]:
    """The detections as a COCO json's annotations, which keep the score; masks without a pixel are left out."""
    drawn = [result | {"iscrowd": 0, "area": _area(result)} for result in found]
    kept = [result for result in drawn if result["area"] > 0]
    return [{"id": number, **result} for number, result in enumerate(kept, start=1)]


def _area(result: Result) -> float:
    if "segmentation" in result:
        return float(coco_mask.area(result["segmentation"]))
    return float(result["bbox"][2] * result["bbox"][3])


def _write(path: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, separators=(",", ":"))
    write_atomically(path, lambda file: file.write(text.encode()))
