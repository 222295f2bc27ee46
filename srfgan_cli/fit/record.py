"""What a fit was begun with: `fit.json` in its folder, so that the same command goes on and another is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.reproduction.graph import Job
from srfgan_cli.reproduction.jobs import JobFolder
from srfgan_cli.runs.lock import require_idle

NAME = "fit.json"


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
    """Make a folder this fit's: a new one, one that was begun with the same, or an old one's to be replaced.

    Args:
        given: what the fit is known by beside its runs' configs.

    Raises:
        InputError: another fit's, which is to stay; one that is at work; or a folder that cannot be written.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"--output-dir {output_dir} is a file; name a folder.")
    if overwrite:
        for folder in folders.values():
            require_idle(folder.path)
        for folder in folders.values():
            folder.run.clear()
            folder.failure.unlink(missing_ok=True)
    else:
        _check_same(output_dir, given)
        for key, folder in folders.items():
            if folder.state(jobs[key]) != "new" and folder.run.config.is_file():
                folder.run.check_same(jobs[key].config)
    document = json.dumps(dict(given), indent=2) + "\n"
    write_atomically(output_dir / NAME, lambda file: file.write(document.encode()))


def _check_same(output_dir: Path, given: Mapping[str, Any]) -> None:
    began = recorded(output_dir)
    changed = [
        f"{key}: {began[key]} -> {value}" for key, value in given.items() if began.get(key, value) != value
    ]
    if changed:
        raise InputError(
            f"{output_dir} holds a fit that was begun otherwise. Changed: {'; '.join(changed)}. Choose another "
            "--output-dir, or --overwrite to start anew."
        )
