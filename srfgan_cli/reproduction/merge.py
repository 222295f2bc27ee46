"""Runs of one table made apart, on other machines, with other seeds or of other rows, as one graph. Trains nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.presets.tables import Entry
from srfgan_cli.reproduction.graph import Graph
from srfgan_cli.reproduction.jobs import JobFolder, tell_of_damage
from srfgan_cli.reproduction.places import Decisive, Place, read_place
from srfgan_cli.reproduction.rows import table_rows
from srfgan_cli.runs.folder import is_free


@dataclass(frozen=True)
class Score:
    """A row of one seed, and where it was run.

    Attributes:
        key: of the run that scores it, in its place.
    """

    row: str
    seed: int
    key: str
    place: Place


@dataclass
class Merged:
    """What several folders hold of a table.

    Attributes:
        graph: the runs that the scores rest on; all of them are done. Its seeds are the configs' own.
        folders, places: by run, where its files are.
        read: every folder, those that gave nothing included.
        missing: rows that were asked for somewhere and have no score.
    """

    graph: Graph
    read: list[Place]
    folders: dict[str, JobFolder] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def merge_runs(table: str, folders: Sequence[Path], only: Sequence[str] = ()) -> Merged:
    """The runs of a table in several folders, each once.

    Runs of a row, and options of folders that have no row done in common, agree in what decides a result, but for the
    seed; also runs of rows that `only` leaves out, which tell how the others were run. A folder with nothing done says
    no more than which rows are missing. A training that no row's score is of, as the guide of rows that ran apart, may
    differ by its machine's arithmetic: it is two runs then, and each row rests on its own.

    Args:
        folders: `--output-dir`s of reproductions; a folder named twice is read once.
        only: presets of the rows that are wanted; all by default.

    Raises:
        InputError: a folder without such runs, configs that differ, a row and seed with two scores, or no score.
    """
    wanted = table_rows(table, only)
    places = [read_place(folder, table) for folder in _once(folders)]
    _check_rows(places)
    names = {row.preset for row in wanted}
    tell_of_damage(place.job_folder(key) for place in places for key in place.scoring(names))
    scores = [Score(*found, place) for place in places for found in place.scored()]
    chosen = [score for score in scores if score.row in names]
    if not chosen:
        raise InputError(f"--merge: no run that scores a row of {table} is done in these folders.")
    _check_data(scores)
    _check_options(scores)
    _check_same(scores)
    kept = _once_each(chosen)
    rows = [row for row in wanted if any(row.preset == name for name, _ in kept)]
    merged = Merged(Graph(rows), places, missing=_missing(places, rows, names))
    for seed in sorted({seed for _, seed in kept}):
        for row in rows:
            if score := kept.get((row.preset, seed)):
                merged.graph.results[row.preset, seed] = _add(merged, score.place, score.key)
    return merged


def _once(folders: Sequence[Path]) -> list[Path]:
    first: dict[Path, Path] = {}
    for folder in folders:
        first.setdefault(folder.resolve(), folder)
    return list(first.values())


def _check_rows(places: Sequence[Place]) -> None:
    """Whether this version's table has all the rows.

    Raises:
        InputError: it has not.
    """
    for place in places:
        known = {row.preset for row in table_rows(place.table)}
        if unknown := place.rows - known:
            raise InputError(
                f"--merge: {place.file} has a row {min(unknown)}, which {place.table} has not in this version. "
                "Merge with the one that ran it."
            )


def _missing(places: Sequence[Place], rows: Sequence[Entry], wanted: Collection[str]) -> list[str]:
    asked = {row: None for place in places for row in place.rows if row in wanted}
    return sorted(asked.keys() - {row.preset for row in rows})


def _check_data(scores: Sequence[Score]) -> None:
    """Whether everything was run on the same data.

    Raises:
        InputError: it was not; names the files.
    """
    for one, other in pairwise(scores):
        if one.place.settings.data != other.place.settings.data:
            raise InputError(
                f"--merge: other data. It is {one.place.settings.data} in {one.place.file} and "
                f"{other.place.settings.data} in {other.place.file}."
            )


def _check_same(scores: Sequence[Score]) -> None:
    """Whether every row was run and scored alike wherever it was.

    Raises:
        InputError: one was not; names the files and the key.
    """
    firsts: dict[str, dict[str, Decisive]] = {}
    for score in scores:
        parts = score.place.identity(score.key)
        known = firsts.setdefault(score.row, parts)
        for role in known | parts:
            a, b = (found.get(role, Decisive(found[""].file, {})) for found in (known, parts))
            _check_part(score.row, role, a, b)


def _check_part(row: str, role: str, a: Decisive, b: Decisive) -> None:
    for name in a.values | b.values:
        value, other = (part.values.get(name, "its default") for part in (a, b))
        if value != other:
            told = f"{role}'s {name}" if role else name
            raise InputError(
                f"--merge: row {row} was not run alike: {told} is {value} in {a.file} and {other} in {b.file}. "
                "Only seed, folder and machine may differ: merge what was run with the same options."
            )


def _once_each(scores: Sequence[Score]) -> dict[tuple[str, int], Score]:
    """The first score of each row and seed.

    Raises:
        InputError: there are others of the same run.
    """
    kept: dict[tuple[str, int], Score] = {}
    for score in scores:
        one = kept.setdefault((score.row, score.seed), score)
        folders = [each.place.job_folder(each.key) for each in (one, score)]
        if folders[0].scores() != folders[1].scores():
            files = " and ".join(str(folder.run.evaluation) for folder in folders)
            raise InputError(
                f"--merge: row {one.row} with seed {one.seed} was run twice, with different results: {files}. Keep "
                f"one: merge without {score.place.folder}, or take the other file away."
            )
    return kept


def _check_options(scores: Sequence[Score]) -> None:
    """Whether folders that no row links, whose configs cannot be compared, were run with the same options.

    Raises:
        InputError: they were not; names the files and the option.
    """
    first, *others = _unlinked(scores)
    for place in others:
        one, other = _options(first, place), _options(place, first)
        for name in one | other:
            a, b = (options.get(name, "not given") for options in (one, other))
            if a != b:
                raise InputError(
                    f"--merge: {place.folder} has no row done that the others have, and was not run like them: "
                    f"{name} is {a} in {first.file} and {b} in {place.file}. Run both with the same options."
                )


def _unlinked(scores: Sequence[Score]) -> list[Place]:
    """A place of each group of them in which one leads to the next by a row that both have done."""
    groups: list[list[Score]] = []
    for score in scores:
        linked = [group for group in groups if any(_is_linked(score, other) for other in group)]
        groups = [*(group for group in groups if group not in linked), [*chain(*linked), score]]
    return [group[0].place for group in groups]


def _is_linked(one: Score, other: Score) -> bool:
    return one.place is other.place or one.row == other.row


def _options(place: Place, other: Place) -> dict[str, Any]:
    """What was said for all rows alike, without what no result depends on.

    Args:
        other: what it is compared with; where an earlier version has planned one, overlays are known by name only.
    """
    settings = place.settings
    said = dict(text.split("=", 1) for text in settings.overrides)
    overlay: dict[str, Any] = {"overlay": settings.overlay and Path(settings.overlay).name}
    if place.overlay is not None and other.overlay is not None:
        overlay = {f"the overlay's {name}": value for name, value in _decisive(place.overlay).items()}
    return {"scale": settings.scale, **overlay, **_decisive(said)}


def _decisive(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "seed" and not is_free(name)}


def _add(merged: Merged, place: Place, key: str) -> str:
    """Add a run of a place with all that it rests on; returns the key that it has among the merged ones."""
    job, folder = place.job(key), place.job_folder(key)
    sources = {name: _add(merged, place, source) for name, source in job.sources.items()}
    own, count = key, 1
    while own in merged.folders and not (
        merged.graph.jobs[own].sources == sources and _result(merged.folders[own]) == _result(folder)
    ):
        count += 1
        own = f"{key}-{count}"
    if own not in merged.folders:
        merged.graph.jobs[own] = replace(job, key=own, sources=sources)
        merged.folders[own], merged.places[own] = folder, place
    return own


def _result(folder: JobFolder) -> tuple[Any, ...]:
    """What tells a run from another of the same config: its scores, and the losses that it logged last."""
    losses = [record["losses"] for record in folder.records() if "losses" in record]
    return folder.scores(), losses[-1:]
