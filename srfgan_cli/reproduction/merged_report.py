"""From runs made apart to the report of them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.reproduction.charts import draw_charts
from srfgan_cli.reproduction.documents import write_report
from srfgan_cli.reproduction.graph import Settings, detector_job
from srfgan_cli.reproduction.merge import Merged
from srfgan_cli.reproduction.outcome import summarize
from srfgan_cli.reproduction.places import Place


def report_merged(table: str, merged: Merged, output_dir: Path, command: str) -> tuple[Path, dict[str, Any]]:
    """Draw, and write `<output_dir>/<table>/report.{json,md,html}`; nothing is measured again.

    Returns:
        The page, and the document of report.json.

    Raises:
        InputError: the folder holds runs of its own, or a file cannot be written.
    """
    if (output_dir / "jobs").exists():
        raise InputError(
            f"--output-dir {output_dir} holds runs and their report: name another folder for the merged one."
        )
    where = {key: place.device for key, place in merged.places.items()}
    summary = summarize(
        table,
        merged.graph,
        _settings(merged),
        merged.folders,
        {},
        device="; ".join(dict.fromkeys(where.values())),
        command=command,
        where=where,
    )
    costs = _costs(merged)
    for row in summary["rows"]:
        row["cost"] = costs.get(row["preset"])
    for run in summary["runs"]:
        place = merged.places[run["run"]]
        run.update(state="done", why="", on=f"{place.folder}: {place.device}")
    summary["merged"] = {
        "folders": [_described(place, merged) for place in merged.read],
        "missing": merged.missing,
    }
    charts = draw_charts(summary, merged.graph, merged.folders, output_dir / table)
    return write_report(summary, charts, _panels(merged), output_dir / table), summary


def _settings(merged: Merged) -> Settings:
    """What all were told alike; the seeds are all that there are."""
    first = merged.read[0].settings
    seeds = {seed for _, seed in merged.graph.results}
    overrides = tuple(text for text in first.overrides if not text.startswith("seed="))
    return replace(first, seeds=len(seeds), overrides=overrides)


def _costs(merged: Merged) -> dict[str, dict[str, Any]]:
    """What each row's detector costs; milliseconds are of the one folder that has timed the most rows."""
    stored = [place.costs for place in merged.read]
    together = max(stored, key=len)
    found: dict[str, dict[str, Any]] = {}
    for costs in stored:
        for row, cost in costs.items():
            found.setdefault(row, {**cost, "ms": None})
    return found | together


def _panels(merged: Merged) -> dict[str, Path]:
    panels: dict[str, Path] = {}
    for row in merged.graph.presets:
        key = detector_job(merged.graph, row).key
        panel = merged.places[key].panel(merged.folders[key].path.name)
        if panel.is_file():
            panels[row] = panel
    return panels


def _described(place: Place, merged: Merged) -> dict[str, Any]:
    """A folder, and what of it is in the report."""
    results = {pair: key for pair, key in merged.graph.results.items() if merged.places[key] is place}
    return {
        "folder": str(place.folder),
        "rows": len({row for row, _ in results}),
        "seeds": sorted({seed for _, seed in results}),
        "device": place.device,
        "at_a_time": place.plan["at_a_time"],
        "versions": place.plan["versions"],
    }
