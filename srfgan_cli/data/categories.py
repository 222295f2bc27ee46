"""The one map between a data set's category ids, the model's labels and the names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import add
from typing import Any

import numpy as np

from srfgan.models.errors import InputError


@dataclass(frozen=True)
class CategoryMap:
    """Label i (contiguous, 0-based) is the category `ids[i]`, called `names[i]`.

    Labels follow ascending ids, as in detectron2, so that COCO's ids 1..90 with gaps become 0..79.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    @classmethod
    def from_records(cls, records: Any, where: str) -> CategoryMap:
        """The map of a json's `categories` list, or of a checkpoint's.

        Args:
            records: a list of `{"id": int, "name": str, ...}`.
            where: the file that they come from, for messages.

        Raises:
            InputError: not such a list, empty, or an id twice.
        """
        if not isinstance(records, list) or not records:
            raise InputError(f"{where}: 'categories' must be a list of at least one category")
        for position, record in enumerate(records):
            if not _is_category(record):
                raise InputError(
                    f"{where}: categories[{position}] must be an object with an integer 'id' and a text 'name',"
                    f" got {record!r:.120}"
                )
        ordered = sorted(records, key=lambda record: record["id"])
        ids = tuple(record["id"] for record in ordered)
        for left, right in pairwise(ids):
            if left == right:
                raise InputError(f"{where}: category id {left} is there twice; ids must be unique")
        return cls(ids, tuple(record["name"] for record in ordered))

    def to_records(self) -> list[dict[str, Any]]:
        """The map as plain data for a checkpoint; `from_records` reads it back."""
        return [{"id": id_, "name": name} for id_, name in zip(self.ids, self.names, strict=True)]

    def __len__(self) -> int:
        return len(self.ids)

    def of_shared_names(self) -> list[int]:
        """The ids of categories whose name another one has, too."""
        times = Counter(self.names)
        return [id_ for id_, name in zip(self.ids, self.names, strict=True) if times[name] > 1]

    def labels(self, category_ids: np.ndarray) -> np.ndarray:
        """Labels of category ids, (R,) int64; -1 for an unknown id."""
        ids = np.array(self.ids, np.int64)
        place = np.searchsorted(ids, category_ids).clip(max=len(ids) - 1)
        return np.where(ids[place] == category_ids, place, -1)

    def category_ids(self, labels: Iterable[int]) -> list[int]:
        """The data set's own ids of labels."""
        return [self.ids[label] for label in labels]


def names_in(text: str, known: Collection[str]) -> list[str]:
    """The class names in a text that has commas between them; a name of `known` may itself hold commas and spaces."""
    parts, found = text.split(","), []
    while parts:
        # The longest that is a name; else what stands before the next comma, for whoever asks to complain of.
        for count in range(len(parts), 0, -1):
            whole = ",".join(parts[:count])
            name = whole if whole in known else whole.strip()
            if name in known:
                break
        found.append(name)
        parts = parts[count:]
    return [name for name in found if name]


def told_apart(
    names: Sequence[str],
    tails: Sequence[str],
    *,
    joined: Callable[[str, str], str] = add,
    folded: Callable[[str], str] = str,
) -> list[str]:
    """The names, all different: those that several share get their own tail, as often as it takes.

    Args:
        names: any.
        tails: of each name, no two the same.
        joined: a name with a tail.
        folded: the same for names that count as one.
    """
    times = Counter(map(folded, names))
    taken = {name for name, often in times.items() if often == 1}
    apart = []
    for name, tail in zip(names, tails, strict=True):
        longer, often = name, 0
        while times[folded(name)] > 1 and (not often or folded(longer) in taken):
            often += 1
            longer = joined(name, often * tail)
        taken.add(folded(longer))
        apart.append(longer)
    return apart


def few(categories: CategoryMap) -> str:
    """How many there are and the names of the first."""
    names = ", ".join(categories.names[:5])
    return f"{len(categories)}: {names}{', ...' if len(categories) > 5 else ''}"


def _is_category(record: Any) -> bool:
    return (
        isinstance(record, Mapping)
        and type(record.get("id")) is int
        and -(2**63) <= record["id"] < 2**63
        and isinstance(record.get("name"), str)
    )
