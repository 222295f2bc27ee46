"""What a row has had to learn from: iterations of its last stage, and the images and seconds of all its stages."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping

from srfgan_cli.reproduction.graph import Graph, Job
from srfgan_cli.reproduction.jobs import JobFolder


def iterations_and_images(row: str, graph: Graph, scored: Collection[int]) -> tuple[int, dict[str, int]]:
    """Iterations of a row's last stage, and its `images_seen`: the means over the seeds that have a score.

    Args:
        scored: those seeds; without any, the first one's plan is told.
    """
    runs = graph.by_seed(row)
    trainings = [graph.training(runs[seed]) for seed in scored] or [graph.training(graph.first(row))]
    seen = [images_seen(training, graph) for training in trainings]
    iterations = statistics.fmean(job.solver.iterations for job in trainings if job.solver)
    return round(iterations), {name: round(statistics.fmean(one[name] for one in seen)) for name in seen[0]}


def images_seen(training: Job, graph: Graph) -> dict[str, int]:
    """Training images seen by a row's last stage, by its stages 1 and 2 before it, and by their guide F."""
    stages, guides = _behind(training, graph)
    return {
        "last_stage": training.images,
        "stages_1_and_2": sum(job.images for job in stages) - training.images,
        "guide": sum(job.images for job in guides),
    }


def seconds_taken(training: Job, graph: Graph, folders: Mapping[str, JobFolder]) -> tuple[float, float]:
    """Seconds by the clock of a row's stages and of their guide F, as `JobFolder.training_seconds` counts them."""
    stages, guides = (
        sum(folders[job.key].training_seconds for job in jobs) for jobs in _behind(training, graph)
    )
    return stages, guides


def seconds_by_device(
    row: str, graph: Graph, folders: Mapping[str, JobFolder], device: Callable[[str], str]
) -> dict[str, dict[str, float]]:
    """By device, the mean over the seeds that have a score of the seconds of all `stages` and of their `guide`.

    Args:
        device: by a run's key, what it ran on, in words.
    """
    taken: dict[str, list[tuple[float, float]]] = {}
    for key in graph.by_seed(row).values():
        if folders[key].scores():
            seconds = seconds_taken(graph.training(key), graph, folders)
            taken.setdefault(device(key), []).append(seconds)
    return {
        name: {
            "stages": round(statistics.fmean(stages for stages, _ in several), 1),
            "guide": round(statistics.fmean(guide for _, guide in several), 1),
        }
        for name, several in taken.items()
    }


def _behind(training: Job, graph: Graph) -> tuple[list[Job], list[Job]]:
    """A row's own stages, the last one included, and the plain detectors that they learn from."""
    jobs = graph.ancestors(training.key)
    guides = [job for job in jobs if job.kind == "finetune" and job.key != training.key]
    return [job for job in jobs if job not in guides], guides
