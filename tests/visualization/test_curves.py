"""Curves read what the trainer writes."""

import json

import numpy as np
import pytest

from srfgan.models.errors import InputError
from srfgan_cli.visualization.curves import curves, moving_average, read_run


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def losses(*values):
    return [{"iteration": i + 1, "losses": {"loss_cls": v}, "lr": {"x": 1e-3}} for i, v in enumerate(values)]


def test_runs_stand_side_by_side_with_precisions_below(tmp_path):
    evaluated = [{"iteration": 2, "evaluation": {"box": {"AP": 12.5}, "mask": {"AP": None}}}]
    first = write(tmp_path / "a.jsonl", losses(1.0, 0.5, 0.3) + evaluated)
    second = write(tmp_path / "b.jsonl", losses(2.0))
    with first.open("ab") as file:
        file.write(b'\xff\xfe\n{"iteration": 4, "los')  # of a damaged disk, and of a killed run
    run = read_run(first)
    assert run.losses == {"loss_cls": [(1, 1.0), (2, 0.5), (3, 0.3)]}
    assert run.precisions == {"box": [(2, 12.5)]}
    both, alone = curves({"baseline": first, "srf": second}), curves({"srf": second})
    assert both.width > alone.width and both.height == alone.height  # one evaluation is no curve
    write(second, losses(2.0) + evaluated)
    assert curves({"baseline": first, "srf": second}).height > 1.8 * alone.height
    assert np.asarray(alone).std() > 5


@pytest.mark.parametrize(
    ("lines", "message"),
    [(None, "cannot read the metrics"), ([], "holds no losses"), ([{"x": 1}], "holds no losses")],
)
def test_files_without_losses_are_refused(tmp_path, lines, message):
    path = tmp_path / "metrics.jsonl"
    if lines is not None:
        write(path, lines)
    with pytest.raises(InputError, match=message) as error:
        curves({"srf": path})
    assert str(error.value).startswith(str(path))


def test_no_run_is_refused():
    with pytest.raises(InputError, match="no run"):
        curves({})


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_the_moving_average_keeps_lines_straight_and_means_in_range(length):
    average = moving_average(np.full(length, 3.0))
    assert average == pytest.approx(np.full(length, 3.0))
    noisy = np.random.default_rng(0).normal(5, 1, length)
    smooth = moving_average(noisy)
    assert len(smooth) == length and noisy.min() <= smooth.min() <= smooth.max() <= noisy.max()
