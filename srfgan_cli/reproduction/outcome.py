"""What came out of a table, as one document: `report.json`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from srfgan_cli.presets.describe import describe
from srfgan_cli.presets.facts import load_tables
from srfgan_cli.presets.library import flatten
from srfgan_cli.presets.tables import Entry
from srfgan_cli.reproduction.graph import Graph, Settings, detector_job
from srfgan_cli.reproduction.jobs import JobFolder
from srfgan_cli.reproduction.measure import Cost
from srfgan_cli.reproduction.rows import baseline_of
from srfgan_cli.screen.pages import versions

TASKS = ("box", "mask")
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
) -> dict[str, Any]:
    """The document: rows with measured and printed numbers side by side, the runs, and what they rest on.

    Precisions are percent. `spread` is the standard deviation over seeds (n - 1), None for one seed. Differences
    are taken seed by seed to the row's baseline, so that what seeds share cancels out.
    """
    return {
        "table": table,
        "about": load_tables()[table].about,
        "command": command,
        "settings": asdict(settings),
        "device": device,
        "versions": versions(),
        "rows": [_row(row, graph, folders, costs) for row in graph.rows],
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


def _row(
    row: Entry, graph: Graph, folders: Mapping[str, JobFolder], costs: Mapping[str, Cost]
) -> dict[str, Any]:
    baseline = baseline_of(row, graph.rows)
    own = _scores(row.preset, graph, folders)
    cost = costs.get(row.preset)
    job = graph.jobs[graph.first(row.preset)]
    return {
        "preset": row.preset,
        "description": _description(row, graph),
        "baseline": baseline.preset if baseline else None,
        "split": row.reference.split,
        "upsampler": row.config.model.neck.upsampler,
        "measured": _measured(own),
        "printed": _printed(row),
        "difference": _differences(own, _scores(baseline.preset, graph, folders)) if baseline else {},
        "printed_difference": _printed_difference(row, baseline) if baseline else {},
        "cost": asdict(cost) if cost else None,
        "printed_ms": row.reference.inference_ms,
        "images": _images(row.preset, graph),
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


def _description(row: Entry, graph: Graph) -> str:
    """The row's own, what the settings have made of its detector's parts, and what to know of its numbers."""
    config = graph.jobs[graph.first(row.preset)].config
    own, run = (flatten(model) for model in (row.config.model, config.model))
    changed = [key for key in run if own.get(key) != run[key] and not key.startswith("inference.")]
    parts = [f"{_PARTS[key]} {run[key]}" for key in _PARTS if key in changed]
    others = [f"{key} {run[key]}" for key in changed if key not in _PARTS]
    parts += others[:_MOST_VALUES]
    if len(others) > _MOST_VALUES:
        parts.append(f"{len(others) - _MOST_VALUES} more")
    here = f"; here with {', '.join(parts)}" if parts else ""
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
) -> dict[str, Any]:
    """The AP of each task less the baseline's, over the seeds that both have."""
    differences: dict[str, Any] = {}
    for task in TASKS:
        pairs = [(own[s].get(task, {}).get("AP"), base[s].get(task, {}).get("AP")) for s in own if s in base]
        values = [a - b for a, b in pairs if a is not None and b is not None]
        if values:
            differences[task] = spread(values)
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


def _images(row: str, graph: Graph) -> dict[str, int]:
    """Training images seen by the row's own last stage, by its stages 1 and 2 before it, and by their guide F."""
    result = detector_job(graph, row).key
    earlier = [job for job in graph.ancestors(result) if job.key != result]
    return {
        "last_stage": graph.jobs[result].images,
        "stages_1_and_2": sum(job.images for job in earlier if job.kind != "finetune"),
        "guide": sum(job.images for job in earlier if job.kind == "finetune"),
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
