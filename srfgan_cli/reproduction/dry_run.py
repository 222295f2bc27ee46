"""The graph of runs before it runs: what each costs, and which rows it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Column, Table

from srfgan_cli.machine.devices import Devices, parse_devices
from srfgan_cli.reproduction.cost import hours, job_gmacs
from srfgan_cli.reproduction.graph import Graph
from srfgan_cli.reproduction.jobs import JobFolder, Machine
from srfgan_cli.screen.console import print_json, stdout


def show_planned(graph: Graph, folders: Mapping[str, JobFolder], machine: Machine, *, as_json: bool) -> None:
    """Print every run, for people or as one JSON document."""
    runs = planned(graph, folders, parse_devices(machine.devices))
    if as_json:
        print_json(runs)
    else:
        stdout.print(planned_table(runs))


def planned(graph: Graph, folders: Mapping[str, JobFolder], devices: Devices) -> list[dict[str, Any]]:
    """Every run with its state, images, arithmetic and estimated hours, in the order they run in."""
    return [
        {
            "run": key,
            "kind": job.kind,
            "seed": job.config.seed,
            "state": folders[key].state(job),
            "iterations": job.solver.iterations if job.solver else 0,
            "images": job.images,
            "gmacs_per_image": round(job_gmacs(job), 1),
            "hours": round(hours(job, devices.kind, devices.count), 6),
            "starts_from": list(job.sources.values()),
            "rows": graph.rows_of(key),
        }
        for key, job in graph.jobs.items()
    ]


def planned_table(runs: list[dict[str, Any]]) -> Table:
    """The runs for people, with their sums."""
    left = [run for run in runs if run["state"] != "done"]
    table = Table(
        Column("run", overflow="fold"),
        "state",
        Column("images", justify="right"),
        Column("GMAC/image", justify="right"),
        Column("hours", justify="right"),
        "rows",
        box=None,
        header_style="bold",
        pad_edge=False,
        show_footer=False,
        caption=_caption(runs, left),
        caption_justify="left",
    )
    numbers = {run["run"]: number for number, run in enumerate(runs, start=1)}
    for run in runs:
        start = (
            " from " + ", ".join(f"#{numbers[key]}" for key in run["starts_from"])
            if run["starts_from"]
            else ""
        )
        name = run["run"].rsplit("-", 1)[0]
        table.add_row(
            f"#{numbers[run['run']]} {name}{start}",
            run["state"],
            f"{run['images']:,}",
            f"{run['gmacs_per_image']:,.0f}",
            f"{run['hours']:.2f}",
            ", ".join(run["rows"]),
        )
    return table


def _caption(runs: list[dict[str, Any]], left: list[dict[str, Any]]) -> str:
    images, total = sum(run["images"] for run in left), sum(run["hours"] for run in left)
    return (
        f"\n{len(left)} of {len(runs)} runs to do: {images:,} images, about {total:,.1f} hours of training. "
        "Hours are an estimate: multiply-accumulates of backbone, neck, generator and discriminator, at the speed "
        "of a 3x3 convolution on this machine."
    )
