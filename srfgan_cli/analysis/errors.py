"""The kinds of a detector's errors, and the AP50 that each costs (Bolya et al., "TIDE", ECCV 2020, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from srfgan_cli.analysis.curves import curve
from srfgan_cli.analysis.matches import IOU, Matches

Kind = Literal["classification", "localisation", "both", "duplicate", "background", "missed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MEANINGS: dict[Kind, str] = {
    "classification": "on an object of another class",
    "localisation": "of the right class, but overlapping its object by 0.1 to 0.5 only",
    "both": "of another class, and overlapping by 0.1 to 0.5 only",
    "duplicate": "on an object that a better detection has found",
    "background": "on nothing: overlapping every object by less than 0.1",
    "missed": "objects that no detection of the wrong class or in a wrong place comes near",
}
NEAR = 0.1
"""From which IoU on a detection is about an object at all."""


@dataclass(frozen=True)
class Errors:
    """The errors of a results file.

    Attributes:
        ap50: in percent, as it is.
        counts: how many of each kind.
        cost: by how many points AP50 would be higher without all errors of one kind, and with all others.
        of: (D,) which kind each detection is, as a place in `KINDS`; -1 for those that are right or do not count.
        missed: (G,) bool.
    """

    ap50: float
    counts: dict[Kind, int]
    cost: dict[Kind, float]
    of: np.ndarray
    missed: np.ndarray

    def as_json(self) -> dict[str, dict[str, float]]:
        """By kind: how many, and the cost in points."""
        return {
            kind: {"count": self.counts[kind], "AP50": round(cost, 4)} for kind, cost in self.cost.items()
        }


def errors(matches: Matches) -> Errors:
    """Tell the kinds apart and mend each by itself.

    A detection of the wrong class or place is mended by making it right, but if its object is found already, or by a
    better detection of these two kinds, by taking it away; so are those of the other kinds. Missed objects are mended
    by not asking for them.
    """
    of = _kinds(matches)
    fixable = np.isin(of, (KINDS.index("classification"), KINDS.index("localisation")))
    target = np.where(of == KINDS.index("classification"), matches.other_at, matches.own_at)
    target = np.where(fixable, target, -1)
    usable = np.zeros(len(matches.found), bool)
    usable[target[target >= 0]] = True
    missed = ~matches.found & ~usable
    mends = _best_for_its_object(matches, target)
    before = _ap50(matches, matches.label, matches.correct, ~matches.ignored, None)
    cost: dict[Kind, float] = {}
    for number, kind in enumerate(KINDS[:-1]):
        those = of == number
        label, correct, counts = matches.label.copy(), matches.correct.copy(), ~matches.ignored
        counts &= ~those
        fixed = those & mends
        counts |= fixed
        correct[fixed] = True
        if kind == "classification":
            label[fixed] = matches.truth_label[target[fixed]]
        cost[kind] = _ap50(matches, label, correct, counts, None) - before
    cost["missed"] = _ap50(matches, matches.label, matches.correct, ~matches.ignored, ~missed) - before
    counted = {kind: int((of == number).sum()) for number, kind in enumerate(KINDS[:-1])}
    return Errors(before, counted | {"missed": int(missed.sum())}, cost, of, missed)


def _kinds(matches: Matches) -> np.ndarray:
    """(D,) the kind of each detection that is no object, in the order of TIDE's rules; ignored ones have none."""
    nearest = np.maximum(matches.own, matches.other)
    rules: list[tuple[Kind, np.ndarray]] = [
        ("localisation", (matches.own >= NEAR) & (matches.own < IOU)),
        ("classification", matches.other >= IOU),
        ("duplicate", matches.taken >= IOU),
        ("background", nearest <= NEAR),
    ]
    of = np.full(len(matches.score), KINDS.index("both"))
    for kind, holds in reversed(rules):
        of[holds] = KINDS.index(kind)
    of[matches.correct | matches.ignored] = -1
    return of


def _best_for_its_object(matches: Matches, target: np.ndarray) -> np.ndarray:
    """(D,) bool: detections whose `target` (D,) is an object that is not found, and no better one has the same."""
    rows = np.flatnonzero(target >= 0)
    rows = rows[~matches.found[target[rows]]]
    rows = rows[np.argsort(-matches.score[rows], kind="stable")]
    _, first = np.unique(target[rows], return_index=True)
    best = np.zeros(len(target), bool)
    best[rows[first]] = True
    return best


def _ap50(
    matches: Matches, label: np.ndarray, correct: np.ndarray, counts: np.ndarray, asked: np.ndarray | None
) -> float:
    """Mean AP50 in percent of changed detections; `asked` (G,) bool are the objects to find.

    A class of which none is asked for any more, but which is still detected, counts 0, as TIDE's code has it.
    """
    truth = matches.truth_label if asked is None else matches.truth_label[asked]
    values = []
    for kind in np.unique(matches.truth_label).tolist():
        own = counts & (label == kind)
        ap = curve(matches.score[own], correct[own], int((truth == kind).sum())).ap
        values += [ap or 0.0] if ap is not None or own.any() else []
    return sum(values) / len(values) if values else 0.0
