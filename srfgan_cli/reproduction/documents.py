"""The report of a table: `report.json`, `report.md` and `report.html`, each whole by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from srfgan_cli.machine.files import write_atomically
from srfgan_cli.reproduction.columns import Column, columns, size_columns
from srfgan_cli.reproduction.outcome import FEWEST
from srfgan_cli.screen.pages import duration, figure, head

FRAME = Path(__file__).with_name("report.html")
LEGEND = (
    "AP in percent, mean ± standard deviation over seeds. diff.: less the baseline of the same seed, which of a "
    "detector continued from a trained one is the plain one continued, and from three seeds on the 95 % interval of "
    "its mean, by Student's t. Numbers that a document gives for test-dev stand beside ones measured on the val "
    "split. GMAC: one image at test size, heads at their largest number of boxes; ms: one image from pixels to "
    "detections, all detectors in turn on the same device; paper's ms: on the document's own. Budgets: iterations of "
    "the last stage alone; then images, with repetitions, and seconds of all stages: by the clock, longer where runs "
    "share a device, without scoring, mean over seeds. F: the plain detector that stages 1 and 2 learn from, or that "
    "stage 3 goes on with, which may be there already."
)

BY_SIZE = """<section>
<h2>By the objects' size</h2>
<p>COCO's: the area in the image file below 32 x 32 pixels, below 96 x 96, and larger.</p>
<div class="scroll">
<table class="scores">
$rows
</table>
</div>
</section>"""

PLACES = """<section>
<h2>Where it ran</h2>
<div class="scroll">
<table class="steps">
<thead><tr><th>folder</th><th>rows</th><th>seeds</th><th>device</th><th>versions</th></tr></thead>
<tbody>
$folders
</tbody>
</table>
</div>
</section>"""


def write_report(
    summary: Mapping[str, Any], charts: Mapping[str, Path], panels: Mapping[str, Path], output_dir: Path
) -> Path:
    """Write the three files and return the page.

    Raises:
        InputError: they cannot be written.
    """
    page = Template(FRAME.read_text(encoding="utf-8")).substitute(_values(summary, charts, panels))
    files = {
        "report.json": json.dumps(summary, indent=2) + "\n",
        "report.md": markdown(summary),
        "report.html": page,
    }
    for name, text in files.items():
        content = text.encode(errors="backslashreplace")
        write_atomically(output_dir / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return output_dir / "report.html"


def verdict(summary: Mapping[str, Any]) -> str:
    """In a few sentences: what is measured so far, and how far to trust it."""
    rows, settings = summary["rows"], summary["settings"]
    done = sum(bool(row["measured"]) for row in rows)
    said = [f"{done} of {len(rows)} rows measured, {_seeds(rows, settings['seeds'])}."]
    if merged := summary.get("merged"):
        said.append(f"Merged from {len(merged['folders'])} folders.")
        if merged["missing"]:
            said.append(f"No run is done of {', '.join(merged['missing'])}.")
    differences = [found for row in rows for found in row["difference"].values()]
    if settings["seeds"] > 1 and differences and not any(found["interval"] for found in differences):
        said.append(f"No interval can be given of differences with fewer than {FEWEST} seeds.")
    failed = sum(run["state"] in ("failed", "blocked") for run in summary["runs"])
    if failed:
        said.append(f"{failed} runs failed or rest on one that did.")
    if settings["scale"] != 1:
        said.append(
            f"Every schedule is {settings['scale']:g} of the preset's: compare differences, not the numbers themselves."
        )
    if summary["common"]:
        said.append(f"Every row is run with {', '.join(summary['common'])}.")
    changed = [f"overlay {settings['overlay']}"] if settings["overlay"] else []
    changed += settings["overrides"]
    if changed:
        said.append(f"Every row's preset was changed: {', '.join(changed)}.")
    return " ".join(said)


def markdown(summary: Mapping[str, Any]) -> str:
    """The results as a Markdown document."""
    lines = [f"# {summary['table']}", "", verdict(summary), ""]
    lines += [*_markdown_rows(summary, columns(summary["rows"])), "", LEGEND, ""]
    if sizes := size_columns(summary["rows"]):
        lines += ["## By the objects' size", "", *_markdown_rows(summary, sizes), ""]
    lines += ["## Runs", ""]
    lines += ["| run | state | iterations | images | training | rows |", "|---|---|--:|--:|--:|---|"]
    for run in summary["runs"]:
        state = f"{run['state']}: {run['why']}" if run["why"] else run["state"]
        numbers = f"{run['iterations']:,} | {run['images']:,} | {duration(run['training_seconds'])}"
        lines.append(f"| {run['run']} | {state} | {numbers} | {', '.join(run['rows'])} |")
    lines += _markdown_places(summary)
    lines += ["", "## Made with", "", f"    {summary['command']}", "", _made_with(summary), ""]
    return "\n".join(lines)


def _markdown_rows(summary: Mapping[str, Any], shown: Sequence[Column]) -> list[str]:
    heads = ["row", *(f"{column.group} {column.head}".strip() for column in shown)]
    rows = [
        [_markdown_name(row, summary), *(_markdown_cell(column, row) for column in shown)]
        for row in summary["rows"]
    ]
    body = ["| " + " | ".join(cells) + " |" for cells in rows]
    return ["| " + " | ".join(heads) + " |", "|---" + "|--:" * len(shown) + "|", *body]


def _markdown_cell(column: Column, row: Mapping[str, Any]) -> str:
    below = column.below(row)
    return f"{column.text(row)} ({below})" if below else column.text(row)


def _markdown_places(summary: Mapping[str, Any]) -> list[str]:
    if "merged" not in summary:
        return []
    lines = [
        "",
        "## Where it ran",
        "",
        "| folder | rows | seeds | device | versions |",
        "|---|--:|---|---|---|",
    ]
    return lines + ["| " + " | ".join(_place(folder)) + " |" for folder in summary["merged"]["folders"]]


def _html_places(summary: Mapping[str, Any]) -> str:
    if "merged" not in summary:
        return ""
    lines = [
        "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in _place(folder)) + "</tr>"
        for folder in summary["merged"]["folders"]
    ]
    return Template(PLACES).substitute(folders="\n".join(lines))


def _place(folder: Mapping[str, Any]) -> list[str]:
    """Cells for people."""
    seeds = ", ".join(map(str, folder["seeds"]))
    return [folder["folder"], str(folder["rows"]), seeds, _device(folder), _versions(folder["versions"])]


def _device(made: Mapping[str, Any]) -> str:
    several = made.get("at_a_time", 1) > 1
    return f"{made['device']}, {made['at_a_time']} runs at a time" if several else str(made["device"])


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _seeds(rows: Sequence[Mapping[str, Any]], count: int) -> str:
    fewest = min((row["seeds"] for row in rows if row["measured"]), default=count)
    if count > 1:
        return f"{count} seeds each" if fewest == count else f"{fewest} to {count} seeds each"
    return "one seed each, so that no spread is known and a point or two either way can be chance"


def _name(row: Mapping[str, Any]) -> str:
    shared = f" (the run of {row['same_run_as']})" if row["same_run_as"] else ""
    return f"{row['preset']}{shared}"


def _markdown_name(row: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    ran = _ran(row, summary)
    return f"{_name(row)} ({ran})" if ran else _name(row)


def _ran(row: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """How many seeds a row has, where it has fewer than others, and on what they ran, where not all ran on the same."""
    devices = {device for each in summary["rows"] for device in each["seconds"]}
    fewer = 0 < row["seeds"] < summary["settings"]["seeds"]
    said = [f"{row['seeds']} of {summary['settings']['seeds']} seeds"] if fewer else []
    if len(devices) > 1 and row["seconds"]:
        said.append(f"on {' and '.join(row['seconds'])}")
    return " ".join(said)


def _made_with(summary: Mapping[str, Any]) -> str:
    return f"{_versions(summary['versions'])}; {_device(summary)}; data: {summary['settings']['data']}"


def _values(
    summary: Mapping[str, Any], charts: Mapping[str, Path], panels: Mapping[str, Path]
) -> dict[str, str]:
    return {
        "head": head(),
        "table": escape(summary["table"]),
        "about": escape(summary["about"]),
        "verdict": escape(verdict(summary)),
        "rows": _html_rows(summary, columns(summary["rows"])),
        "sizes": _html_sizes(summary),
        "legend": escape(LEGEND),
        "differences": _chart(charts, "differences", "Differences to the baseline, measured and printed"),
        "budgets": _chart(charts, "budgets", "Box AP over images and seconds of all stages"),
        "training": _training(charts),
        "panels": "\n".join(
            f"<h3>{escape(row)}</h3>{figure(path, f'Pyramid of {row}', 'wide')}"
            for row, path in panels.items()
        ),
        "losses": "\n".join(
            f"<div><h4>{escape(name.removeprefix('losses-'))}</h4>{figure(path, name)}</div>"
            for name, path in charts.items()
            if name.startswith("losses-")
        ),
        "runs": "\n".join(map(_html_run, summary["runs"])),
        "places": _html_places(summary),
        "command": escape(summary["command"]),
        "made_with": escape(_made_with(summary)),
    }


def _chart(charts: Mapping[str, Path], name: str, description: str) -> str:
    return figure(charts[name], description, "wide") if name in charts else ""


def _training(charts: Mapping[str, Path]) -> str:
    chart = _chart(charts, "training", "Box AP over training")
    return f"<section>\n<h2>AP over training</h2>\n{chart}\n</section>" if chart else ""


def _html_sizes(summary: Mapping[str, Any]) -> str:
    shown = size_columns(summary["rows"])
    return Template(BY_SIZE).substitute(rows=_html_rows(summary, shown, described=False)) if shown else ""


def _html_rows(summary: Mapping[str, Any], shown: Sequence[Column], *, described: bool = True) -> str:
    firsts = {
        next(iter(members)) for _, members in groupby(range(len(shown)), lambda index: shown[index].group)
    }
    groups = "".join(
        f'<th class="group divide" colspan="{len(list(members))}">{group}</th>'
        for group, members in groupby(shown, lambda column: column.group)
    )
    heads = "".join(_cell("th", number in firsts, "", column.head) for number, column in enumerate(shown))
    lines = [
        f'<thead><tr class="groups"><th></th>{groups}</tr>',
        f"<tr><th>row</th>{heads}</tr></thead><tbody>",
    ]
    lines += [
        _html_row(row, [row["description"] if described else "", _ran(row, summary)], shown, firsts)
        for row in summary["rows"]
    ]
    return "\n".join([*lines, "</tbody>"])


def _html_row(row: Mapping[str, Any], notes: Sequence[str], shown: Sequence[Column], firsts: set[int]) -> str:
    cells = "".join(
        _cell("td", number in firsts, column.style(row), column.text(row), column.below(row))
        for number, column in enumerate(shown)
    )
    said = "".join(f"<small>{escape(text)}</small>" for text in notes if text)
    return f"<tr><td><b>{escape(_name(row))}</b>{said}</td>{cells}</tr>"


def _cell(tag: str, first: bool, style: str, text: str, below: str = "") -> str:
    classes = " ".join(filter(None, ["divide" if first else "", style]))
    content = escape(text) + (f"<small>{escape(below)}</small>" if below else "")
    return f'<{tag} class="{classes}">{content}</{tag}>' if classes else f"<{tag}>{content}</{tag}>"


def _html_run(run: Mapping[str, Any]) -> str:
    why = f"<small>{escape(run['why'])}</small>" if run["why"] else ""
    where = f"<small>{escape(run['on'])}</small>" if "on" in run else ""
    memory = "" if run["peak_memory_gib"] is None else f"{run['peak_memory_gib']:.1f} GiB"
    return (
        f"<tr><td><code>{escape(run['run'])}</code><small>rows {escape(', '.join(run['rows']))}</small>{where}</td>"
        f"<td>{escape(run['state'])}{why}</td><td>{run['iterations']:,}</td><td>{run['images']:,}</td>"
        f"<td>{duration(run['training_seconds'])}</td><td>{memory}</td></tr>"
    )
