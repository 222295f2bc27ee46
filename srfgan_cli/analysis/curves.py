"""Precision, recall and F1 over the score from which detections count, by class and over all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from srfgan_cli.analysis.matches import Matches
from srfgan_cli.evaluation.outcomes import RECALLS


@dataclass(frozen=True)
class Curve:
    """Of one class, or of all detections together; a point for each detection that counts, best score first.

    Attributes:
        score: (K,) from which on.
        precision, recall: (K,) of the detections from there on, 0..1.
        objects: how many there are to find.
    """

    score: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    objects: int

    @property
    def f1(self) -> np.ndarray:
        """(K,) harmonic mean of precision and recall."""
        total, product = self.precision + self.recall, 2 * self.precision * self.recall
        f1: np.ndarray = np.divide(product, total, out=np.zeros_like(total), where=total > 0)
        return f1

    @property
    def best(self) -> int | None:
        """The point of the highest F1; None without detections.

        Of equal scores it is the last point: from that score on, all of them count.
        """
        if not len(self.score):
            return None
        last = np.append(self.score[1:] != self.score[:-1], True)
        return int(np.where(last, self.f1, -1).argmax())

    @property
    def ap(self) -> float | None:
        """Average precision in percent as COCO has it; None without objects."""
        if not self.objects:
            return None
        return average_precision(self.precision, self.recall)

    @property
    def at_best(self) -> dict[str, float | None]:
        """`score_threshold`, `precision`, `recall` and `F1` (0..1) where F1 is highest; None without detections."""
        best = self.best
        values = {
            "score_threshold": self.score,
            "precision": self.precision,
            "recall": self.recall,
            "F1": self.f1,
        }
        return {name: None if best is None else float(value[best]) for name, value in values.items()}


def average_precision(precision: np.ndarray, recall: np.ndarray) -> float:
    """In percent as COCO has it: the highest precision from each of 101 recalls on; 0 where that is not reached.

    Args:
        precision, recall: (K,) 0..1, best score first.
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    return 100 * float(envelope[at[at < len(envelope)]].sum() / len(RECALLS))


def curve(score: np.ndarray, correct: np.ndarray, objects: int) -> Curve:
    """The curve of detections with `score` (K,), of which `correct` (K,) bool are one of so many `objects` each."""
    order = np.argsort(-score, kind="stable")
    right = np.cumsum(correct[order])
    precision = right / np.arange(1, len(order) + 1)
    recall = right / objects if objects else np.zeros(len(order))
    return Curve(score[order], precision, recall, objects)


def class_curves(matches: Matches) -> list[Curve]:
    """One for each class."""
    counts = ~matches.ignored
    curves = []
    for label in range(matches.classes):
        own = counts & (matches.label == label)
        objects = int((matches.truth_label == label).sum())
        curves.append(curve(matches.score[own], matches.correct[own], objects))
    return curves


def pooled_curve(matches: Matches) -> Curve:
    """Of all classes' detections together, each object counting alike."""
    counts = ~matches.ignored
    return curve(matches.score[counts], matches.correct[counts], len(matches.found))


def mean_ap(curves: list[Curve]) -> float | None:
    """The classes' mean AP in percent; None where no class has objects."""
    values = [ap for one in curves if (ap := one.ap) is not None]
    return sum(values) / len(values) if values else None
