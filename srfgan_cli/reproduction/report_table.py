"""From finished runs to the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srfgan_cli.machine.devices import parse_devices
from srfgan_cli.reproduction.charts import draw_charts
from srfgan_cli.reproduction.documents import write_report
from srfgan_cli.reproduction.graph import Graph, Settings
from srfgan_cli.reproduction.jobs import Machine, tell_of_damage
from srfgan_cli.reproduction.measure import draw_panels, measure
from srfgan_cli.reproduction.outcome import summarize
from srfgan_cli.reproduction.run_jobs import Outcome, job_folders
from srfgan_cli.screen.console import stderr, styled


def report_table(
    table: str,
    graph: Graph,
    settings: Settings,
    machine: Machine,
    at_a_time: int,
    output_dir: Path,
    outcome: Outcome,
    command: str,
) -> tuple[Path, dict[str, Any]]:
    """Measure the trained detectors, draw, and write `<output_dir>/<table>/report.{json,md,html}`.

    Args:
        at_a_time: runs that shared the machine.

    Returns:
        The page, and the document of report.json.

    Raises:
        InputError: a run cannot be read, or a file not be written.
    """
    stderr.print(styled(("report", "bold"), f" {table}: timing and drawing"))
    folders, folder = job_folders(graph, output_dir), output_dir / table
    tell_of_damage(folders[key] for key in graph.results.values())
    devices = parse_devices(machine.devices)
    device = devices.device()
    costs = measure(graph, folders, machine.data_root, device, output_dir / "costs.json", data=settings.data)
    panels = draw_panels(graph, folders, machine.data_root, device, folder)
    summary = summarize(
        table,
        graph,
        settings,
        folders,
        costs,
        device=devices.described(),
        command=command,
        blocked=outcome.blocked,
    )
    summary["at_a_time"] = at_a_time
    charts = draw_charts(summary, graph, folders, folder)
    return write_report(summary, charts, panels, folder), summary
