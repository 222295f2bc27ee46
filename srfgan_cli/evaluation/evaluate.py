"""A detector over a data set: detection on every process, scoring on the main one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from srfgan.models.detector import Detector, recorded
from srfgan.models.modes import evaluating
from srfgan.models.structures import Detections
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.data.loaders import Loader, build_test_loader
from srfgan_cli.evaluation.coco import score
from srfgan_cli.evaluation.encode import to_coco_results
from srfgan_cli.evaluation.report import Report
from srfgan_cli.evaluation.results import Result, only_masks, write_results
from srfgan_cli.evaluation.score_file import split_name, tasks_of
from srfgan_cli.evaluation.tta import MultiScale
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.precision import autocast, float32_products
from srfgan_cli.presets.config import Precision
from srfgan_cli.presets.facts import Row
from srfgan_cli.screen.progress import progress_bar


class Exported(Protocol):
    """A detector that is no module any more.

    Attributes:
        has_masks, has_mask_scores: whether its detections have those.
    """

    has_masks: bool
    has_mask_scores: bool

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """As `Detector.detect`, of images on the CPU."""


Scored = Detector | MultiScale | Exported
"""What finds things in a data set."""


def evaluate(
    model: Scored,
    dataset: DetectionDataset,
    *,
    preset: str,
    world: World,
    split: str | None = None,
    max_detections: int = 100,
    reference: Row | None = None,
    results_path: Path | None = None,
    precision: Precision = "fp32",
    batch_size: int = 1,
    workers: int = 0,
    by_group: bool = False,
    progress: bool = True,
) -> Report | None:
    """Run `model` over `dataset` and score what it finds. Every process of the run must call it.

    Args:
        model: on the world's device, or an exported file, which is on the CPU; modules are left in the mode (training
            or not) they were in.
        dataset: a split opened without training augmentation; for `MultiScale`, without resizing.
        preset: the preset's name, or the path of the user's own.
        world: this process among all; each detects on its share of the images.
        split: its name in the report; by default from the json's name (`split_name`).
        max_detections: detections per image and category that count. The model must give as many.
        reference: the paper's row to show beside the numbers.
        results_path: where the results file goes, if anywhere; see `results_name`. Detectors that score their
            masks get a second one, `segm/` of the same name, with masks and their scores only.
        precision: of the networks; the numbers of a table are fp32.
        batch_size: images of one size at a time on each process, at most.
        workers: data loading processes per process.
        by_group: as for `score`.
        progress: show a progress bar on stderr.

    Returns:
        The report on the main process, None on the others. A split without annotations has no scores.

    Raises:
        InputError: an image cannot be read, or the results cannot be written.
    """
    loader = build_test_loader(
        dataset,
        batch_size=batch_size,
        rank=world.rank,
        world_size=world.size,
        workers=workers,
        device=world.device,
    )
    started = time.perf_counter()
    found = predict(
        model,
        loader,
        category_ids=dataset.categories.ids,
        world=world,
        precision=precision,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    if found is None:
        return None
    gives = model.config if isinstance(model, nn.Module) else model
    if results_path is not None:
        write_results(results_path, found)
        if gives.has_mask_scores:
            # By its old name, which COCO's server asks for, in a folder of its own.
            write_results(results_path.parent / "segm" / results_path.name, only_masks(found))
    index = dataset.index
    tasks = tasks_of(index, has_boxes=True, has_masks=gives.has_masks)
    return Report(
        preset=preset,
        split=split or split_name(index),
        scores=(
            score(index, found, tasks=tasks, max_detections=max_detections, by_group=by_group)
            if index.annotated
            else {}
        ),
        images=len(dataset),
        seconds=seconds,
        max_detections=max_detections,
        left_out=index.left_out,
        tta=isinstance(model, MultiScale),
        reference=reference,
        results=results_path,
    )


def predict(
    model: Scored,
    loader: Loader,
    *,
    category_ids: tuple[int, ...],
    world: World,
    precision: Precision = "fp32",
    progress: bool = True,
    title: str = "evaluating",
    min_score: float = 0.0,
) -> list[Result] | None:
    """Detections of every image, in COCO results format and in the loaders' order.

    Masks are encoded as the images come, so memory grows by a few kilobytes per image.

    Args:
        title: of the progress bar.
        min_score: detections below it are left out.

    Returns:
        All processes' results on the main process, None on the others.
    """
    results: list[Result] = []
    with (
        evaluating(model) if isinstance(model, nn.Module) else nullcontext(),
        recorded(model),
        torch.inference_mode(),
        float32_products(precision),
        _progress(f"{title}{_views(model)}", len(loader), progress, world) as advance,
    ):
        for batch in loader:
            with autocast(world.device, precision):
                detections = model.detect(batch.images)
            for found, image, image_id, size in zip(
                detections, batch.images, batch.image_ids, batch.original_sizes, strict=True
            ):
                height, width = image.shape[-2:]
                results += [
                    result
                    for result in to_coco_results(
                        found,
                        (height, width),
                        image_id=image_id,
                        original_size=size,
                        category_ids=category_ids,
                    )
                    if result["score"] >= min_score
                ]
            advance()
    return _gathered(results, world)


def results_name(index: CocoIndex, preset: str, *, tta: bool = False) -> str:
    """`results.json`, or the COCO server's `detections_<split>_<algorithm>_results.json` without annotations.

    With `tta` another name, as these results lie beside the plain ones.
    """
    if index.annotated:
        return "results_tta.json" if tta else "results.json"
    algorithm = Path(preset).stem
    if tta and not algorithm.endswith("_tta"):
        algorithm += "_tta"
    return f"detections_{split_name(index)}_{algorithm}_results.json"


def _gathered(results: list[Result], world: World) -> list[Result] | None:
    """All processes' results, in the order of their ranks, on the main process only."""
    if world.size == 1:
        return results
    shares: list[list[Result] | None] | None = [None] * world.size if world.is_main else None
    dist.gather_object(results, shares, dst=0, group=world.control)
    if shares is None:
        return None
    return [result for share in shares if share for result in share]


def _views(model: Scored) -> str:
    """What the progress bar adds for many views of each image: why it moves so slowly."""
    return f" ({model.num_views} views of each image)" if isinstance(model, MultiScale) else ""


@contextmanager
def _progress(title: str, batches: int, show: bool, world: World) -> Iterator[Callable[[], None]]:
    """A bar on stderr with the time left, on the main process; gives what to call after each batch."""
    bar = progress_bar(show=show and world.is_main)
    with bar:
        task = bar.add_task(title, total=batches)
        yield lambda: bar.advance(task)
