"""What a fit was begun with: `fit.json` in its folder, so that the same command goes on and another is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.reproduction.graph import Job
from srfgan_cli.reproduction.jobs import JobFolder
from srfgan_cli.runs.lock import require_idle

NAME = "fit.json"
SUMMARY = "summary.json"
"""Written last: a folder that has it holds a whole fit."""
_OWN = ("index.html", "costs.json", NAME, SUMMARY)
_ASIDE = ".srfgan-replaced"


def recorded(output_dir: Path) -> dict[str, Any]:
    """What the fit in a folder was begun with; empty where there is none.

    Raises:
        InputError: the record is damaged.
    """
    path = output_dir / NAME
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
        return dict(found)
    except (OSError, ValueError, TypeError):
        raise InputError(f"{path} is damaged. --overwrite starts anew.") from None


def claim(
    output_dir: Path,
    given: Mapping[str, Any],
    jobs: Mapping[str, Job],
    folders: Mapping[str, JobFolder],
    *,
    overwrite: bool,
) -> None:
    """Make a folder this fit's: a new one, one that was begun with the same, or an old one's, which is set aside.

    Args:
        given: what the fit is known by beside its runs' configs.

    Raises:
        InputError: another fit's, or what no fit has left, which is to stay; one that is at work; or a folder that
            cannot be written.
    """
    _check_own(output_dir)
    if overwrite:
        for folder in folders.values():
            require_idle(folder.path)
            folder.run.check_free(resume=False, overwrite=True)
        _set_aside(output_dir, folders)
    else:
        _check_same(output_dir, given)
        for key, folder in folders.items():
            if folder.state(jobs[key]) != "new" and folder.run.config.is_file():
                _check_unchanged(output_dir, folder.run.changes(jobs[key].config), f"{folder.path.name}: ")
    document = json.dumps(dict(given), indent=2) + "\n"
    try:
        write_atomically(output_dir / NAME, lambda file: file.write(document.encode()))
    except InputError:
        bring_back(output_dir, folders)
        raise


def bring_back(output_dir: Path, folders: Mapping[str, JobFolder]) -> bool:
    """Put what is set aside into its place where the new fit has trained nothing that could be gone on with.

    Returns:
        Whether the old fit is back.

    Raises:
        InputError: a folder cannot be written.
    """
    trained = any(
        one.run.checkpoint.is_file() or one.run.model.is_file() or one.run.evaluation.is_file()
        for one in folders.values()
    )
    if trained or not (output_dir / _ASIDE).is_dir():
        return False
    _clear(folders)
    _move(output_dir / _ASIDE, output_dir, folders)
    let_go(output_dir)
    return True


def let_go(output_dir: Path) -> None:
    """Remove what is set aside."""
    shutil.rmtree(output_dir / _ASIDE, ignore_errors=True)


def _set_aside(output_dir: Path, folders: Mapping[str, JobFolder]) -> None:
    """Keep an old fit until the new one is whole; of one that has not come so far, what it was to replace."""
    aside = output_dir / _ASIDE
    if aside.is_dir() and not (output_dir / SUMMARY).is_file():
        _clear(folders)
        return
    try:
        _move(output_dir, aside, folders)
    except BaseException:
        _move(aside, output_dir, folders)
        raise


def _clear(folders: Mapping[str, JobFolder]) -> None:
    for folder in folders.values():
        folder.run.clear()
        folder.failure.unlink(missing_ok=True)


def _move(source: Path, target: Path, folders: Mapping[str, JobFolder]) -> None:
    """What a fit has made, its summary last."""
    for folder in folders.values():
        JobFolder(source / folder.path.name).move_to(target / folder.path.name)
    try:
        for name in _OWN:
            if (source / name).is_file():
                target.mkdir(parents=True, exist_ok=True)
                (source / name).replace(target / name)
    except OSError as error:
        raise InputError(f"Cannot write to {target}: {error.filename}: {error.strerror}.") from None


def _check_same(output_dir: Path, given: Mapping[str, Any]) -> None:
    began = recorded(output_dir)
    changed = [
        f"{key}: {began[key]} -> {value}" for key, value in given.items() if began.get(key, value) != value
    ]
    _check_unchanged(output_dir, changed)


def _check_own(output_dir: Path) -> None:
    """Whether what has a fit's names here is a fit's: it would be replaced.

    Raises:
        InputError: it is somebody else's, as a page `index.html`.
    """
    strange = [name for name in _OWN if (output_dir / name).exists()]
    if strange and not (output_dir / NAME).is_file() and not (output_dir / _ASIDE).is_dir():
        raise InputError(
            f"{output_dir} holds {', '.join(strange)}, but no fit that has left it and may be replaced. Choose another "
            "--output-dir, or move it away."
        )


def _check_unchanged(output_dir: Path, changed: Sequence[str], where: str = "") -> None:
    if changed:
        raise InputError(
            f"{output_dir} holds a fit that was begun otherwise. Changed: {where}{'; '.join(changed)}. Choose another "
            "--output-dir, or --overwrite to start anew."
        )
