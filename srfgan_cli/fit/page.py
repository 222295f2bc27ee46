"""The texts and tables of the page of `srfgan fit` and `demo`; `page.html` is their frame."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from html import escape

from srfgan_cli.analysis.against import Change
from srfgan_cli.analysis.compared import direction, interval
from srfgan_cli.fit.numbers import price
from srfgan_cli.fit.pictures import SCORE_THRESHOLD
from srfgan_cli.fit.run_fit import Fitted
from srfgan_cli.screen.pages import duration, figure, head, inlined, signed, versions

ROWS = ("plain", "method")
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def page_values(fitted: Fitted) -> dict[str, str]:
    """The HTML of every placeholder in `page.html`."""
    steps, pictures, config = fitted.steps, fitted.pictures, fitted.config
    task = fitted.tasks[0] if fitted.tasks else "box"
    plain, method = (fitted.scores[row].get(task, {}).get("AP") or 0.0 for row in ROWS)
    return {
        "head": head(),
        "headline": f"{task.capitalize()} AP {plain:.1f} with nearest neighbour, {method:.1f} with the generator",
        "preset": escape(config.name),
        "upsampler": escape(fitted.method),
        "total": duration(fitted.seconds).replace(" ", "&nbsp;"),
        "device": escape(fitted.device),
        "scores": _scores_table(fitted),
        "verdict": verdict(fitted),
        "fairness": fairness(fitted),
        "price": _price_table(fitted),
        "size": "{} x {}".format(*fitted.costs["method"].size),
        "data": _data(fitted),
        "steps": _steps_rows(fitted),
        "level": pictures.level,
        "panel": inlined(pictures.panel),
        "threshold": f"{SCORE_THRESHOLD:g}",
        "examples": "\n".join(
            figure(path, f"Validation image {number}: ground truth, nn, {fitted.method}", "wide")
            for number, path in enumerate(pictures.examples, start=1)
        ),
        "curves": "\n".join(
            figure(path, f"Losses of the step: {steps[name].title}") for name, path in pictures.curves.items()
        ),
        "commands": _commands(fitted),
        "use": _use(fitted),
        "versions": escape(", ".join(f"{name} {version}" for name, version in versions().items())),
    }


def verdict(fitted: Fitted) -> str:
    """Whether the method came out above the plain detector, plainly, and how far to trust it."""
    changes = {task: fitted.changes[task]["AP"] for task in fitted.tasks}
    gains = {task: round(change.value, 1) if change else 0.0 for task, change in changes.items()}  # as shown
    by = ", ".join(f"{signed(value)} {task} AP" for task, value in gains.items())
    if all(value > 0 for value in gains.values()):
        result = f"The detector with the generator is ahead: {by}."
    elif any(value > 0 for value in gains.values()):
        result = f"In this run neither detector is ahead in both: {by} with the generator."
    else:
        result = (
            f"In this run the detector with the generator is <strong>not</strong> above the baseline: {by}."
        )
    return (
        f"{result} {_chance(changes)} It is one training of each: what another seed would give, "
        "<code>srfgan reproduce</code> tells."
    )


def _chance(changes: Mapping[str, Change | None]) -> str:
    """How much of the gains the choice of val images may be."""
    if any(change is None or change.interval is None for change in changes.values()):
        return "There are too few validation images to say how much of it is chance."
    sure = [task for task, change in changes.items() if direction(change)]
    if not sure:
        return "The choice of validation images may explain it."
    if len(sure) == len(changes):
        return "The choice of validation images does not explain it."
    return f"The choice of validation images does not explain that of the {sure[0]} AP; the other it may."


def fairness(fitted: Fitted) -> str:
    """In what the comparison is not one of upsampling alone."""
    plain, method = (fitted.costs[row].parameters / 1e6 for row in ROWS)
    own = _each(*(fitted.steps[name].job.images for name in ("baseline", fitted.target)))
    before = [step.job for name, step in fitted.steps.items() if name != fitted.target]
    extra = sum(job.images for job in before if job.kind in ("pretrain", "extract"))
    said = (
        f"The comparison favours <code>{escape(fitted.method)}</code> in its parameters: {method:.1f} million to the "
        f"baseline's {plain:.1f}."
    )
    if not extra:
        return f"{said} Both detectors were trained on {own}."
    return (
        f"{said} And while both detectors end with their own training on {own}, the stages before show parts of it "
        f"{extra:,} more and let them learn from a trained plain detector. How much of a difference is the generator's "
        "own, one such comparison cannot tell; the papers' ablations can."
    )


def _each(plain: int, method: int) -> str:
    return f"{plain:,} images each" if plain == method else f"{plain:,} (plain) and {method:,} images"


def _data(fitted: Fitted) -> str:
    if fitted.config.data.dataset == "shapes":
        data = fitted.config.data
        return (
            f"On the built-in data set <code>shapes</code>: {data.shapes_train} training and {data.shapes_val} "
            f"validation images of {data.shapes_size} px, six classes told apart by outline alone, with overlaps, "
            "textures and distractors."
        )
    return f"On <code>{escape(fitted.data)}</code>, scored on the {fitted.images:,} images of its validation split."


def _names(fitted: Fitted) -> dict[str, str]:
    return {"plain": "nearest neighbour", "method": f"generator ({escape(fitted.method)})"}


def _scores_table(fitted: Fitted) -> str:
    tasks, names = fitted.tasks, _names(fitted)
    shown = [
        m
        for m in METRICS
        if any(fitted.scores[row][task].get(m) is not None for row in ROWS for task in tasks)
    ]
    columns = [(task, metric) for task in tasks for metric in shown]
    groups = "".join(f'<th class="group" colspan="{len(shown)}">{task}</th>' for task in tasks)
    heads = "".join(f'<th class="{_classes(metric)}"><i>{task} </i>{metric}</th>' for task, metric in columns)
    lines = [f'<thead><tr class="groups"><th></th>{groups}</tr>']
    lines += [f"<tr><th>top-down path</th>{heads}</tr></thead>", "<tbody>"]
    for row, name in names.items():
        cells = "".join(_cell(fitted.scores[row][task].get(metric), metric) for task, metric in columns)
        lines.append(f"<tr><td>{name}</td>{cells}</tr>")
    changes = [(fitted.changes[task][metric], metric) for task, metric in columns]
    gains = "".join(_difference(*pair) for pair in changes)
    ends = "".join(_interval(*pair) for pair in changes)
    lines.append(f'<tr class="difference"><td>gain</td>{gains}</tr>')
    return "\n".join([*lines, f'<tr class="interval"><td>95 % over the images</td>{ends}</tr>', "</tbody>"])


def _classes(metric: str) -> str:
    return "main divide" if metric == "AP" else "detail"


def _cell(value: float | None, metric: str) -> str:
    return f'<td class="{_classes(metric)}">{"-" if value is None else f"{value:.1f}"}</td>'


def _difference(change: Change | None, metric: str) -> str:
    if change is None:
        return _cell(None, metric)
    return f'<td class="{_classes(metric)} {direction(change)}">{signed(change.value)}</td>'


def _interval(change: Change | None, metric: str) -> str:
    """Of AP alone: there is no room for all."""
    shown = interval(change) if metric == "AP" and change is not None else ""
    return f'<td class="{_classes(metric)}">{shown}</td>'


def _price_table(fitted: Fitted) -> str:
    rows = []
    for row, name in _names(fitted).items():
        cost = fitted.costs[row]
        rows.append(
            f"<tr><td>{name}</td><td>{cost.parameters / 1e6:.1f}</td><td>{cost.gmacs:,.1f}</td>"
            f"<td>{cost.ms:,.0f}</td></tr>"
        )
    cells = "".join(
        "<td>-</td>" if ratio is None else f"<td>{ratio:.2f}</td>" for ratio in price(fitted).values()
    )
    return "\n".join([*rows, f'<tr class="difference"><td>ratio</td>{cells}</tr>'])


def _steps_rows(fitted: Fitted) -> str:
    rows = [
        f"<tr><td>{escape(step.title)}<small>{escape(step.explanation)}</small></td>"
        f'<td class="detail">{step.solver.iterations:,}</td><td class="detail">{step.solver.batch_size}</td>'
        f"<td>{step.job.images:,}</td>"
        f"<td>{duration(step.seconds)}</td></tr>"
        for step in fitted.steps.values()
    ]
    total = sum(step.job.images for step in fitted.steps.values())
    rows.append(
        f"<tr><td>All</td><td class='detail' colspan='2'></td><td>{total:,}</td>"
        f"<td>{duration(fitted.seconds)}</td></tr>"
    )
    return "\n".join(rows)


def _commands(fitted: Fitted) -> str:
    """The steps, one by one, from presets that hold their whole recipes; each finds the earlier ones' runs."""
    data = _data_option(fitted)
    lines = [
        f"srfgan {step.job.kind:<8} --preset {shlex.quote(str(step.folder.preset))}{data}"
        for step in fitted.steps.values()
    ]
    return escape("\n".join(lines))


def _use(fitted: Fitted) -> str:
    folder = shlex.quote(str(fitted.steps[fitted.target].folder.path))
    data = _data_option(fitted)
    baseline = shlex.quote(str(fitted.steps["baseline"].folder.path / "results.json"))
    lines = [
        f"srfgan predict FILE --weights {folder}",
        f"srfgan eval --weights {folder}{data} --report --against {baseline}",
        f"srfgan visualize detections --weights {folder} --image FILE",
        f"srfgan export --weights {folder} --format onnx --output detector.onnx",
    ]
    return escape("\n".join(lines))


def _data_option(fitted: Fitted) -> str:
    """What a command needs beside the preset, which holds everything else of the data."""
    return "" if fitted.data_root is None else f" --data-root {shlex.quote(str(fitted.data_root))}"
