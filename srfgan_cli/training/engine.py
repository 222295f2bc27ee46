"""The one training loop: every stage's schedule, logging, checkpoints, signals and distribution."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from srfgan_cli.data.loaders import Batch
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.interrupt import Interrupted, stop_on_signals
from srfgan_cli.machine.precision import autocast, float32_products
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.training.average import Average
from srfgan_cli.training.measured import Measurements
from srfgan_cli.training.metrics import MetricsLog
from srfgan_cli.training.optim import continue_optimizer, set_lr
from srfgan_cli.training.progress import TrainingProgress
from srfgan_cli.training.stage import Stage
from srfgan_cli.training.watch import Pictures


@dataclass(frozen=True)
class Scored:
    """What an evaluation gives to the log: `{"box": {...}, ...}`, and pictures of what was found."""

    scores: dict[str, Any]
    pictures: Pictures


@dataclass
class Hooks:
    """What the loop calls back; all run at the same iteration on every process.

    Attributes:
        save: write a checkpoint of the trainer's state, which it is given.
        evaluate: score the detector, which it is given with the iteration; None where there is nothing to score.
        logged: there is more in the log, after a checkpoint or an evaluation.
        enough: whether the logged evaluations say that it gets no better; asked where `patience` is set, where there is
            a log.
    """

    save: Callable[[dict[str, Any]], None]
    evaluate: Callable[[nn.Module, int], Scored] | None = None
    logged: Callable[[], None] = lambda: None
    enough: Callable[[], bool] = lambda: False


@dataclass
class Trainer:
    """Runs a stage from its current iteration to its last.

    Attributes:
        batches: endless per-process micro-batches, already standing at `iteration`.
        iteration: optimizer steps done.
        average: what is evaluated and saved of the stage's networks.
        measured: the losses and gradient norms that are not logged yet.
    """

    stage: Stage
    solver: SolverConfig
    world: World
    batches: Iterator[Batch]
    hooks: Hooks
    log: MetricsLog | None = None
    progress: TrainingProgress | None = None
    iteration: int = 0
    scaler: GradScaler = field(init=False)
    average: Average = field(init=False)
    measured: Measurements = field(init=False)

    def __post_init__(self) -> None:
        self.scaler = GradScaler(self.world.device.type, enabled=self.solver.precision == "fp16")
        self.average = Average(self.stage.modules, self.solver.ema_decay)
        self.measured = Measurements(self.world)

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, but the config and the data.

        `modules` is what a checkpoint is good for as a weight file: the averages, where there are any.
        """
        averaged = {"averaged_from": _state_dicts(self.stage.modules)} if self.average else {}
        return {
            "iteration": self.iteration,
            "modules": _state_dicts(self.average.modules),
            **averaged,
            "optimizers": {name: opt.state_dict() for name, opt in self.stage.optimizers.items()},
            "scaler": self.scaler.state_dict(),
            "unlogged": self.measured.unlogged,
            "rng": self.world.gather(_rng_state(self.world.device)),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`; with another number of processes, random streams start anew."""
        trained = state["averaged_from" if self.average else "modules"]
        for name, module in self.stage.modules.items():
            module.load_state_dict(trained[name])
        self.average.load_state(state["modules"])
        for name, optimizer in self.stage.optimizers.items():
            continue_optimizer(optimizer, state["optimizers"][name])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.measured.unlogged = list(state.get("unlogged", []))
        if len(state["rng"]) == self.world.size:
            _set_rng_state(state["rng"][self.world.rank])
        self.iteration = state["iteration"]

    def run(self) -> None:
        """Train to the end, or until evaluations are no better for longer than `patience` has it.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
            InputError: a loss that is not finite, or a disk that is full.
        """
        self.stage.train()
        with stop_on_signals() as stop, float32_products(self.solver.precision):
            if self._stopped_before_scoring():
                self._evaluate()
            started, images, first = time.perf_counter(), 0, self.iteration
            while self.iteration < self.solver.iterations and not self._has_enough():
                lr = set_lr(self.stage.optimizers.values(), self.iteration, self.solver)
                images += self.step()
                self.iteration += 1
                if self._report_due():
                    self._report(lr, _speed(self.iteration - first, images, time.perf_counter() - started))
                    started, images, first = time.perf_counter(), 0, self.iteration
                # An evaluation can take longer than a scheduler waits after its signal.
                if self._due(self.solver.checkpoint_every) or self._evaluation_due():
                    self._save()
                if self.world.any(stop.requested):
                    self._save()
                    raise Interrupted
                if self._evaluation_due():
                    self._evaluate()
                    started, images, first = time.perf_counter(), 0, self.iteration

    def step(self) -> int:
        """One optimizer step; returns the images that all processes saw in it."""
        images = 0
        losses: dict[str, Tensor] = {}
        for micro in range(self.solver.accumulate):
            batch = next(self.batches).to(self.world.device)
            images += len(batch.images)
            last = micro == self.solver.accumulate - 1
            with _delayed_averaging(self.stage.parallel if not last else []):
                for named in self._phases(batch):
                    total = torch.stack(list(named.values())).sum()
                    self.scaler.scale(total / self.solver.accumulate).backward()
                    for name, loss in named.items():
                        losses[name] = losses.get(name, 0) + loss.detach() / self.solver.accumulate
        self.measured.add(losses, self._update())
        return images * self.world.size

    def _phases(self, batch: Batch) -> Iterator[dict[str, Tensor]]:
        """The stage's dicts of losses, each computed under autocast and consumed outside of it."""
        phases = self.stage.losses(batch)
        while True:
            with autocast(self.world.device, self.solver.precision):
                losses = next(phases, None)
            if losses is None:
                return
            yield losses

    def _update(self) -> dict[str, Tensor]:
        """Step every optimizer; returns the norms of their whole gradients before clipping."""
        norms: dict[str, Tensor] = {}
        for name, optimizer in self.stage.optimizers.items():
            self.scaler.unscale_(optimizer)
            parameters = [p for p in self.stage.modules[name].parameters() if p.grad is not None]
            norms[name] = get_total_norm([p.grad for p in parameters if p.grad is not None])
            if self.solver.clip_norm is not None:
                clip_grads_with_norm_(parameters, self.solver.clip_norm, norms[name])
            self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in self.stage.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        self.average.update()
        return norms

    def _due(self, every: int) -> bool:
        return self.iteration % every == 0 or self.iteration == self.solver.iterations

    def _report_due(self) -> bool:
        """Also before each evaluation that may be the last: what came since the last report would stay unlogged."""
        maybe_last = self.solver.patience is not None and self._evaluation_due()
        return maybe_last or self._due(self.solver.log_every)

    def _evaluation_due(self) -> bool:
        if self.hooks.evaluate is None:
            return False
        every = self.solver.evaluate_every
        return self._due(every) if every else self.iteration == self.solver.iterations

    def _save(self) -> None:
        self.measured.settle(self.iteration)
        self.measured.check_weights(self.stage.modules, self.iteration)
        if self.log is not None:
            self.log.flush()  # nothing up to a checkpoint is logged a second time
        self.hooks.save(self.state())
        if self.log is not None:
            self.hooks.logged()

    def _report(self, lr: float, speed: dict[str, float]) -> None:
        """Log the means since the last report."""
        self.measured.settle(self.iteration)
        means = self.measured.take_means()
        if self.log is None:
            return
        memory = {}
        if self.world.device.type == "cuda":
            memory = {"peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30}
        losses, norms = means["losses"], means["gradient_norms"]
        self.log.write(
            self.iteration, {"losses": losses, "lr": lr, "gradient_norms": norms, **speed, **memory}
        )
        if self.progress is not None:
            self.progress.update(self.iteration, losses, lr)

    def _stopped_before_scoring(self) -> bool:
        """Whether a run that goes on was stopped between this iteration's checkpoint and its logged evaluation."""
        if self.iteration == 0 or not self._evaluation_due():
            return False
        return self.world.any(self.log is not None and not self.log.has_evaluation(self.iteration))

    def _has_enough(self) -> bool:
        """Whether the evaluation of this iteration, also one before a resume, was the last without a better score."""
        if self.solver.patience is None or not self._evaluation_due():
            return False
        return self.world.any(self.log is not None and self.hooks.enough())

    def _evaluate(self) -> None:
        assert self.hooks.evaluate is not None
        scored = self.hooks.evaluate(self.average.modules["detector"], self.iteration)
        self.stage.train()
        if self.log is not None:
            self.log.show(self.iteration, scored.pictures)
            self.log.write(self.iteration, {"evaluation": scored.scores})
            self.hooks.logged()
        if self.progress is not None:
            self.progress.scores(self.iteration, scored.scores)


@contextlib.contextmanager
def _delayed_averaging(modules: list[nn.Module]) -> Iterator[None]:
    """Leave the averaging of gradients to the last micro-batch."""
    with contextlib.ExitStack() as stack:
        for module in modules:
            if isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        yield


def _speed(iterations: int, images: int, seconds: float) -> dict[str, float]:
    return {"seconds_per_iteration": seconds / iterations, "images_per_second": images / seconds}


def _state_dicts(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    return {name: module.state_dict() for name, module in modules.items()}


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_rng_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
