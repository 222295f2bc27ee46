"""The texts and tables of the demo's page; `page.html` is their frame."""

from __future__ import annotations

from html import escape
from typing import Any

from srfgan_cli.demo.pictures import SCORE_THRESHOLD
from srfgan_cli.demo.run_demo import METHOD, PLAIN, Outcome
from srfgan_cli.screen.pages import STYLE, duration, figure, inlined, signed

ROWS = {"nn": "nearest neighbour", "srf": "generator (srf)"}
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def page_values(outcome: Outcome, summary: dict[str, Any]) -> dict[str, str]:
    """The HTML of every placeholder in `page.html`; `summary` as `summarize` makes it."""
    steps, pictures, seen = outcome.steps, outcome.pictures, summary["images_seen"]
    nn, srf = (summary[row]["box"]["AP"] or 0.0 for row in ROWS)
    return {
        "style": STYLE.read_text(encoding="utf-8"),
        "headline": f"Box AP {nn:.1f} with nearest neighbour, {srf:.1f} with the generator",
        "total": duration(outcome.seconds).replace(" ", "&nbsp;"),
        "device": escape(outcome.device),
        "scores": _scores_table(summary),
        "verdict": verdict(summary),
        **{f"{row}_parameters": f"{summary['parameters'][row] / 1e6:.1f}" for row in ROWS},
        "own_images": _each(seen["baseline"], seen["finetune"]),
        "extra_images": f"{seen['pretrain'] + seen['extract']:,}",
        **{key: str(value) for key, value in summary["data"].items()},
        "steps": _steps_rows(outcome),
        "panel": inlined(pictures.panel),
        "threshold": f"{SCORE_THRESHOLD:g}",
        "examples": "\n".join(
            figure(path, f"Validation image {number}: ground truth, nn, srf", "wide")
            for number, path in enumerate(pictures.examples, start=1)
        ),
        "curves": "\n".join(
            figure(path, f"Losses of the step: {steps[name].step.title}")
            for name, path in pictures.curves.items()
        ),
        "commands": _commands(outcome),
        "versions": escape(", ".join(f"{name} {version}" for name, version in summary["versions"].items())),
    }


def verdict(summary: dict[str, Any]) -> str:
    """Whether the method came out above the baseline, plainly, and how far to trust it."""
    box, mask = ((summary["srf"][t]["AP"] or 0.0) - (summary["nn"][t]["AP"] or 0.0) for t in ("box", "mask"))
    by = f"{signed(box)} box AP, {signed(mask)} mask AP"
    if box > 0 and mask > 0:
        result = f"The detector with the generator is ahead: {by}."
    elif box > 0 or mask > 0:
        result = f"In this run neither detector is ahead in both: the generator's has {by}."
    else:
        result = (
            f"In this run the detector with the generator is <strong>not</strong> above the baseline: {by}."
        )
    images = summary["data"]["val"]
    return f"{result} It is one run, scored on {images} images: a point or two either way can be chance."


def _each(plain: int, method: int) -> str:
    return f"{plain:,} images each" if plain == method else f"{plain:,} (nn) and {method:,} (srf) images"


def _scores_table(summary: dict[str, Any]) -> str:
    shown = [
        m
        for m in METRICS
        if any(summary[row][task][m] is not None for row in ROWS for task in ("box", "mask"))
    ]
    columns = [(task, metric) for task in ("box", "mask") for metric in shown]
    groups = "".join(f'<th class="group" colspan="{len(shown)}">{task}</th>' for task in ("box", "mask"))
    heads = "".join(f'<th class="{_classes(metric)}"><i>{task} </i>{metric}</th>' for task, metric in columns)
    lines = [f'<thead><tr class="groups"><th></th>{groups}</tr>']
    lines += [f"<tr><th>top-down path</th>{heads}</tr></thead>", "<tbody>"]
    for row, name in ROWS.items():
        cells = "".join(_cell(summary[row][task][metric], metric) for task, metric in columns)
        lines.append(f"<tr><td>{name}</td>{cells}</tr>")
    cells = "".join(_difference(summary["nn"][task][m], summary["srf"][task][m], m) for task, m in columns)
    return "\n".join([*lines, f'<tr class="difference"><td>difference</td>{cells}</tr>', "</tbody>"])


def _classes(metric: str) -> str:
    return "main divide" if metric == "AP" else "detail"


def _cell(value: float | None, metric: str) -> str:
    return f'<td class="{_classes(metric)}">{"-" if value is None else f"{value:.1f}"}</td>'


def _difference(before: float | None, after: float | None, metric: str) -> str:
    if before is None or after is None:
        return _cell(None, metric)
    change = round(after - before, 1)
    direction = "up" if change > 0 else "down" if change < 0 else ""
    return f'<td class="{_classes(metric)} {direction}">{signed(after - before)}</td>'


def _steps_rows(outcome: Outcome) -> str:
    rows = [
        f"<tr><td>{escape(step.step.title)}<small>{escape(step.step.explanation)}</small></td>"
        f'<td class="detail">{step.iterations}</td><td class="detail">{step.images // step.iterations}</td>'
        f"<td>{step.images:,}</td>"
        f"<td>{duration(step.seconds)}</td></tr>"
        for step in outcome.steps.values()
    ]
    total = sum(step.images for step in outcome.steps.values())
    rows.append(
        f"<tr><td>All, with evaluation and pictures</td><td class='detail' colspan='2'></td><td>{total:,}</td>"
        f"<td>{duration(outcome.seconds)}</td></tr>"
    )
    return "\n".join(rows)


def _commands(outcome: Outcome) -> str:
    seed = outcome.steps["finetune"].config.seed
    option = f" --seed {seed}" if seed else ""
    lines = [
        f"srfgan {step.step.stage:<8} --preset {step.step.preset}{option}" for step in outcome.steps.values()
    ]
    lines += [f"srfgan eval     --preset {preset}" for preset in (PLAIN, METHOD)]
    lines += [
        f"srfgan visualize P2 --preset {METHOD} --methods nn,bilinear,srf",
        f"srfgan visualize detections --preset {METHOD} --image FILE",
    ]
    return escape("\n".join(lines))
