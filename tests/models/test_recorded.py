"""What is recorded on a GPU, and when: the graphs themselves are made where there is one (`benchmarks/gpu.py`)."""

import pytest
import torch

from srfgan.models.ops import recorded
from srfgan.models.ops.recorded import Recorded


class Taped:
    """Stands for a recording: plays what the function gives."""

    made: list[tuple[torch.Size, object]] = []
    refuses = False

    def __init__(self, function, batch, pool) -> None:
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        self.function, self.pool = function, pool or object()
        self.made.append((batch.shape, self.pool))

    def play(self, batch):
        return {"played": self.function(batch)["p2"]}


@pytest.fixture
def play(monkeypatch):
    """A recorded function, on a machine whose recordings are `Taped`."""
    monkeypatch.setattr(recorded, "_can_be_recorded", lambda batch: True)
    monkeypatch.setattr(recorded, "_Recording", Taped)
    monkeypatch.setattr(Taped, "made", [])
    return Recorded(lambda batch: {"p2": batch + 1})


def kinds(play, widths) -> list[str]:
    return [key for width in widths for key in play(torch.zeros(1, 3, 8, width))]


def test_a_size_is_recorded_when_it_comes_again(play):
    assert kinds(play, [8, 16, 8, 8, 16]) == ["p2", "p2", "played", "played", "played"]
    shapes, pools = zip(*Taped.made, strict=True)
    assert [shape[-1] for shape in shapes] == [8, 16]
    assert len(set(pools)) == 1  # which is what they share


def test_a_precision_has_recordings_of_its_own(play, monkeypatch):
    kinds(play, [8, 8])
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: True)
    assert kinds(play, [8, 8]) == ["p2", "played"]


def test_what_comes_after_many_sizes_runs_as_it_is(play, monkeypatch):
    monkeypatch.setattr(recorded, "MOST", 2)
    assert kinds(play, [8, 8, 16, 16, 24, 24, 24, 8]) == ["p2", "played"] * 2 + ["p2"] * 3 + ["played"]


def test_what_cannot_be_recorded_is_said_once_and_runs_as_it_is(play, monkeypatch):
    monkeypatch.setattr(Taped, "refuses", True)
    with pytest.warns(
        UserWarning, match="not recorded, which costs speed only: operation not permitted"
    ) as said:
        assert kinds(play, [8, 8, 8, 16, 16]) == ["p2"] * 5
    assert len(said) == 1


def test_a_cpu_records_nothing():
    play = Recorded(lambda batch: {"p2": batch})
    assert kinds(play, [8, 8, 8]) == ["p2"] * 3
