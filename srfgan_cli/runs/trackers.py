"""Where a run's numbers go beside its own log: W&B and MLflow, each imported only where it is asked for.

Servers, projects and keys are these tools' own business: their environment variables say (`WANDB_PROJECT`,
`WANDB_MODE`, `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`, ...).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from srfgan.models.errors import InputError
from srfgan_cli.machine.files import first_line, write_atomically
from srfgan_cli.runs.folder import Run, document
from srfgan_cli.screen.console import stderr

_PARAMS = 100
"""Values of a config that MLflow takes at once."""


class Tracker(Protocol):
    """One run at one tool."""

    id: str

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        """Numbers of an iteration, by names with slashes; after a resume some come a second time, the same."""

    def close(self) -> None:
        """No more will come, until a resume."""


class WandB:
    """A run of Weights & Biases, whose numbers have the iteration among them and as their axis.

    Its own step, which counts the calls, is not: numbers of a step that it has left would be dropped, as the scores
    that a resumed run had not got to.
    """

    def __init__(self, name: str, values: Mapping[str, Any], known: str | None, folder: Path) -> None:
        import wandb

        self.id = known or uuid4().hex[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "srfgan"),
            id=self.id,
            name=name,
            config=dict(values),
            dir=str(folder),
            resume="allow",
            settings=wandb.Settings(console="off"),
        )
        self._run.define_metric("iteration", hidden=True)
        self._run.define_metric("*", step_metric="iteration")

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        """As `Tracker`."""
        self._run.log({"iteration": iteration, **numbers})

    def close(self) -> None:
        """As `Tracker`."""
        self._run.finish()


class MLflow:
    """A run of MLflow."""

    def __init__(self, name: str, values: Mapping[str, Any], known: str | None, folder: Path) -> None:
        import mlflow

        self._mlflow = mlflow
        if "MLFLOW_EXPERIMENT_NAME" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ:
            mlflow.set_experiment("srfgan")
        self.id = mlflow.start_run(run_id=known, run_name=name).info.run_id
        texts = [] if known else [(key, str(value)[:500]) for key, value in values.items()]
        for first in range(0, len(texts), _PARAMS):
            mlflow.log_params(dict(texts[first : first + _PARAMS]))

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        """As `Tracker`; MLflow's names have no @."""
        self._mlflow.log_metrics(
            {key.replace("@", "_at_"): value for key, value in numbers.items()}, iteration
        )

    def close(self) -> None:
        """As `Tracker`."""
        self._mlflow.end_run()


_KINDS: dict[str, Callable[[str, Mapping[str, Any], str | None, Path], Tracker]] = {
    "wandb": WandB,
    "mlflow": MLflow,
}


def require_trackers(names: Sequence[str]) -> None:
    """Whether these tools are installed.

    Raises:
        InputError: one is not.
    """
    for name in names:
        if find_spec(name) is None:
            raise InputError(f"trackers: {name} is not installed: pip install 'srfgan[{name}]'")


def _quiet() -> AbstractContextManager[Any]:
    """What tools print, as MLflow the address of a run, is not for stdout, where `--json` has its document."""
    return redirect_stdout(sys.stderr)


class Trackers:
    """A run at several tools. One that fails on the way is told of and left out: a training does not end by it.

    Args:
        names: of the tools.
        run: which runs these are at the tools is kept in its folder, for a resume.
        title: of the run.
        values: of its config, by dotted keys.

    Raises:
        InputError: a tool does not begin.
    """

    def __init__(self, names: Sequence[str], run: Run, title: str, values: Mapping[str, Any]) -> None:
        self._open: dict[str, Tracker] = {}
        known = document(run.tracked)
        for name in names:
            try:
                with _quiet():
                    self._open[name] = _KINDS[name](title, values, known.get(name), run.folder)
            except Exception as error:
                raise InputError(f"trackers: {name} does not begin a run: {first_line(error)}") from None
        ids = known | {name: tracker.id for name, tracker in self._open.items()}
        if ids:
            write_atomically(run.tracked, lambda file: file.write(json.dumps(ids).encode()))

    def log(self, iteration: int, numbers: Mapping[str, float]) -> None:
        """Numbers of an iteration, by names with slashes."""
        for name in list(self._open):
            self._try(name, lambda tracker: tracker.log(iteration, numbers))

    def close(self) -> None:
        """Hand over what there is."""
        for name in list(self._open):
            self._try(name, lambda tracker: tracker.close())

    def _try(self, name: str, what: Callable[[Tracker], None]) -> None:
        try:
            with _quiet():
                what(self._open[name])
        except Exception as error:
            del self._open[name]
            stderr.print(
                f"{name} takes no more of this run ({first_line(error)}); metrics.jsonl has all of it."
            )
