"""What came out of a table, as one document: `report.json`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from srfgan_cli.presets.describe import describe
from srfgan_cli.presets.facts import load_tables
from srfgan_cli.presets.library import flatten
from srfgan_cli.presets.tables import Entry
from srfgan_cli.reproduction.budget import iterations_and_images, seconds_by_device
from srfgan_cli.reproduction.graph import Graph, Settings
from srfgan_cli.reproduction.jobs import JobFolder
from srfgan_cli.reproduction.measure import Cost
from srfgan_cli.reproduction.rows import baseline_of
from srfgan_cli.screen.pages import versions

TASKS = ("box", "mask")
SIZES = {"APs": "small", "APm": "medium", "APl": "large"}
"""COCO's precisions by the objects' area in the image file: below 32 x 32 pixels, below 96 x 96, and larger."""
FEWEST = 3
"""Seeds that an interval needs."""
_PARTS = {
    "detector": "detector",
    "backbone.name": "backbone",
    "neck.name": "neck",
    "neck.upsampler": "upsampler",
}
"""What a detector is called by, of its config."""
_MOST_VALUES = 4
"""How many of its other values a row names."""


def summarize(
    table: str,
    graph: Graph,
    settings: Settings,
    folders: Mapping[str, JobFolder],
    costs: Mapping[str, Cost],
    *,
    device: str,
    command: str,
    blocked: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The document: rows with measured and printed numbers side by side, the runs, and what they rest on.

    Precisions are percent. `spread` is the standard deviation over seeds (n - 1), None for one seed. Differences
    are taken seed by seed to the row's baseline, so that what seeds share cancels out; their `interval` is the one
    that has the mean with 95 % probability by Student's t, None for fewer than three seeds.

    What a row has seen is of the runs as they went: `patience` may have ended them early.

    Args:
        where: by run, what it ran on, in words; `device` by default.
    """
    graph = replace(graph, jobs={key: folders[key].as_ended(job) for key, job in graph.jobs.items()})

    def ran_on(key: str) -> str:
        return (where or {}).get(key, device)

    changes = [_changes(row, graph) for row in graph.rows]
    common = (
        [text for text in changes[0] if all(text in others for others in changes)] if len(changes) > 1 else []
    )
    return {
        "table": table,
        "about": load_tables()[table].about,
        "command": command,
        "settings": asdict(settings),
        "device": device,
        "versions": versions(),
        "common": _shortened(common),
        "rows": [_row(row, graph, folders, costs, ran_on, common) for row in graph.rows],
        "runs": [_run(key, graph, folders, blocked or {}) for key in graph.jobs],
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation of some seeds' numbers."""
    several = len(values) > 1
    return {
        "mean": round(statistics.fmean(values), 3),
        "spread": round(statistics.stdev(values), 3) if several else None,
        "values": [round(value, 3) for value in values],
    }


def interval(values: Sequence[float]) -> list[float] | None:
    """Where the mean of a normal distribution lies, of which some seeds' numbers are, with 95 % probability.

    By Student's t. None for one or two seeds, whose interval would be many times as wide as what they differ in.
    """
    if len(values) < FEWEST:
        return None
    from scipy.special import stdtrit  # which only this needs

    mean = statistics.fmean(values)
    half = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / len(values) ** 0.5
    return [round(mean - half, 3), round(mean + half, 3)]


def _row(
    row: Entry,
    graph: Graph,
    folders: Mapping[str, JobFolder],
    costs: Mapping[str, Cost],
    ran_on: Callable[[str], str],
    common: Sequence[str],
) -> dict[str, Any]:
    baseline = baseline_of(row, graph.rows)
    own = _scores(row.preset, graph, folders)
    base = _scores(baseline.preset, graph, folders) if baseline else {}
    cost = costs.get(row.preset)
    job = graph.jobs[graph.first(row.preset)]
    iterations, images = iterations_and_images(row.preset, graph, own)
    return {
        "preset": row.preset,
        "description": _description(row, [text for text in _changes(row, graph) if text not in common]),
        "baseline": baseline.preset if baseline else None,
        "split": row.reference.split,
        "upsampler": row.config.model.neck.upsampler,
        "measured": _measured(own),
        "printed": _printed(row),
        "difference": _differences(own, base, "AP"),
        "difference_by_size": {metric: _differences(own, base, metric) for metric in SIZES},
        "printed_difference": _printed_difference(row, baseline) if baseline else {},
        "cost": asdict(cost) if cost else None,
        "printed_ms": row.reference.inference_ms,
        "iterations": iterations,
        "images": images,
        "seconds": seconds_by_device(row.preset, graph, folders, ran_on),
        "seeds": len(own),
        "run": job.key,
        "same_run_as": next(
            (
                other.preset
                for other in graph.rows[: graph.rows.index(row)]
                if graph.first(other.preset) == job.key
            ),
            None,
        ),
    }


def _changes(row: Entry, graph: Graph) -> list[str]:
    """What the settings have made of a row's detector."""
    config = graph.jobs[graph.first(row.preset)].config
    own, run = (flatten(model) for model in (row.config.model, config.model))
    changed = [key for key in run if own.get(key) != run[key] and not key.startswith("inference.")]
    parts = [f"{_PARTS[key]} {run[key]}" for key in _PARTS if key in changed]
    return parts + [f"{key} {run[key]}" for key in changed if key not in _PARTS]


def _shortened(changes: Sequence[str]) -> list[str]:
    """All parts of a detector, and the first of its other values."""
    parts = [text for text in changes if text.split()[0] in _PARTS.values()]
    others = [text for text in changes if text not in parts]
    more = [f"{len(others) - _MOST_VALUES} more"] if len(others) > _MOST_VALUES else []
    return parts + others[:_MOST_VALUES] + more


def _description(row: Entry, changes: Sequence[str]) -> str:
    """The row's own, what the settings have made of its detector, and what to know of its numbers."""
    here = f"; here with {', '.join(_shortened(changes))}" if changes else ""
    note = f". {row.reference.note}" if row.reference.note else ""
    return f"{describe(row.config)}{here}{note}"


def _scores(
    row: str, graph: Graph, folders: Mapping[str, JobFolder]
) -> dict[int, dict[str, dict[str, float | None]]]:
    """The scores of each seed that has some."""
    found = {seed: folders[key].scores() for seed, key in graph.by_seed(row).items()}
    return {seed: scores for seed, scores in found.items() if scores}


def _measured(own: Mapping[int, Mapping[str, Mapping[str, float | None]]]) -> dict[str, dict[str, Any]]:
    measured: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        metrics = dict.fromkeys(metric for scores in own.values() for metric in scores.get(task, {}))
        for metric in metrics:
            values = [v for scores in own.values() if (v := scores.get(task, {}).get(metric)) is not None]
            if values:
                measured.setdefault(task, {})[metric] = spread(values)
    return measured


def _differences(
    own: Mapping[int, Mapping[str, Mapping[str, float | None]]],
    base: Mapping[int, Mapping[str, Mapping[str, float | None]]],
    metric: str,
) -> dict[str, Any]:
    """A precision of each task less the baseline's, over the seeds that both have."""
    differences: dict[str, Any] = {}
    for task in TASKS:
        pairs = [
            (own[s].get(task, {}).get(metric), base[s].get(task, {}).get(metric)) for s in own if s in base
        ]
        values = [a - b for a, b in pairs if a is not None and b is not None]
        if values:
            differences[task] = spread(values) | {"interval": interval(values)}
    return differences


def _printed(row: Entry) -> dict[str, dict[str, float]]:
    both = {"box": row.reference.box, "mask": row.reference.mask}
    dumped = {task: scores.model_dump(exclude_none=True) for task, scores in both.items() if scores}
    return {task: scores for task, scores in dumped.items() if scores}


def _printed_difference(row: Entry, baseline: Entry) -> dict[str, float]:
    own, base = _printed(row), _printed(baseline)
    return {
        task: round(own[task]["AP"] - base[task]["AP"], 1)
        for task in TASKS
        if "AP" in own.get(task, {}) and "AP" in base.get(task, {})
    }


def _run(
    key: str, graph: Graph, folders: Mapping[str, JobFolder], blocked: Mapping[str, str]
) -> dict[str, Any]:
    job, folder = graph.jobs[key], folders[key]
    records = folder.records()
    memory = max((r["peak_memory_gib"] for r in records if "peak_memory_gib" in r), default=None)
    return {
        "run": key,
        "kind": job.kind,
        "preset": job.config.name,
        "seed": job.config.seed,
        "state": "blocked" if key in blocked else folder.state(job),
        "why": folder.failure_message or (f"rests on {blocked[key]}" if key in blocked else ""),
        "iterations": job.solver.iterations if job.solver else 0,
        "batch_size": job.solver.batch_size if job.solver else 0,
        "images": job.images,
        "training_seconds": round(folder.training_seconds, 1),
        "peak_memory_gib": memory,
        "rows": graph.rows_of(key),
        "sources": job.sources,
    }
