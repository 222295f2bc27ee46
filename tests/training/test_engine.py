"""The loop itself, on a stage small enough to reason about."""

import copy
import itertools
import os
import signal
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from srfgan.models import build_detector
from srfgan.models.errors import InputError
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.interrupt import Interrupted
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import SolverConfig
from srfgan_cli.runs.scores import ap_of, without_gain
from srfgan_cli.training.engine import Hooks, Scored, Trainer
from srfgan_cli.training.optim import build_optimizer

WORLD = World(torch.device("cpu"))


@dataclass
class Numbers:
    """A batch of plain vectors."""

    images: list

    def to(self, device):
        return self


class LinearStage:
    """Least squares with noise from the global random stream, as samplers of boxes have."""

    detector = None

    def __init__(self, solver):
        torch.manual_seed(3)
        self.modules = {"linear": nn.Linear(4, 1)}
        self.optimizers = {"linear": torch.optim.SGD(self.modules["linear"].parameters(), lr=1, momentum=0.9)}
        self.parallel = []
        self.noise = 0.0

    def train(self):
        self.modules["linear"].train()

    def losses(self, batch):
        x = torch.stack(batch.images)
        yield {
            "loss_fit": (self.modules["linear"](x) - 1 + self.noise * torch.randn(len(x), 1)).square().mean()
        }


class StatefulStage(LinearStage):
    """With statistics beside its weights, as batch norms have."""

    def __init__(self, solver):
        super().__init__(solver)
        self.modules["linear"].register_buffer("seen", torch.zeros(4))

    def losses(self, batch):
        self.modules["linear"].seen += torch.stack(batch.images).mean(0)
        yield from super().losses(batch)


class Log:
    """Keeps what a run would write."""

    def __init__(self, lines=()):
        self.lines = list(lines)

    def has_evaluation(self, iteration):
        return any(line["iteration"] == iteration and "evaluation" in line for line in self.lines)

    def show(self, iteration, pictures):
        pass

    def write(self, iteration, values):
        self.lines.append({"iteration": iteration, **values})

    def flush(self):
        pass


def solver(**changes):
    defaults = {
        "iterations": 8,
        "batch_size": 4,
        "lr": 0.05,
        "lr_batch_size": 4,
        "warmup_iterations": 0,
        "milestones": [],
    }
    return SolverConfig(**(defaults | changes))


def batches(size, start=0):
    """Endless batches that depend on their number alone."""
    for step in itertools.count(start):
        generator = torch.Generator().manual_seed(step)
        yield Numbers(list(torch.randn(size, 4, generator=generator)))


def trainer(settings, stage=None, source=None, save=lambda state: None):
    return Trainer(stage or LinearStage(settings), settings, WORLD, source or batches(4), Hooks(save))


def test_a_resumed_run_equals_one_never_stopped():
    settings = solver(checkpoint_every=3)
    stage = LinearStage(settings)
    stage.noise = 0.5
    saved = {}
    torch.manual_seed(11)
    trainer(settings, stage, save=lambda state: saved.setdefault(state["iteration"], _copy(state))).run()
    assert sorted(saved) == [3, 6, 8]

    again = LinearStage(settings)
    again.noise = 0.5
    torch.manual_seed(99)
    resumed = trainer(settings, again, batches(4, start=3))
    resumed.load_state(saved[3])
    resumed.run()
    for name, value in stage.modules["linear"].state_dict().items():
        torch.testing.assert_close(again.modules["linear"].state_dict()[name], value, rtol=0, atol=0)


class ConvolvedStage(LinearStage):
    """A convolution, by the stages' own optimizer; its weight lies as on GPUs, or as on CPUs."""

    def __init__(self, solver, layout):
        torch.manual_seed(3)
        self.modules = {"linear": nn.Conv2d(4, 3, 2).to(memory_format=layout)}
        self.optimizers = {"linear": build_optimizer(self.modules["linear"], solver)}
        self.parallel = []

    def losses(self, batch):
        x = torch.stack(batch.images)[:, :, None, None].expand(-1, -1, 2, 3)
        weights = torch.arange(6.0).sin().view(2, 3)
        yield {"loss_fit": (self.modules["linear"](x * weights) - 1).square().mean()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_goes_on_where_weights_lie_otherwise_in_memory(optimizer):
    """As those of stage 1 do on a GPU and on a CPU."""
    settings, saved = solver(checkpoint_every=3, optimizer=optimizer), {}
    layouts = torch.channels_last, torch.contiguous_format
    began, other = (ConvolvedStage(settings, layout) for layout in layouts)
    trainer(settings, began, save=lambda state: saved.setdefault(state["iteration"], _copy(state))).run()
    resumed = trainer(settings, other, batches(4, start=3))
    resumed.load_state(saved[3])
    resumed.run()
    weight, expected = (stage.modules["linear"].weight for stage in (other, began))
    assert weight.stride() != expected.stride()
    torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_evaluation_between_steps_is_of_the_weights_of_now(optimizer):
    """What layers keep of their weights for inference is made anew after a step: a copy, which has none, agrees."""
    torch.manual_seed(0)
    changes = ["model.backbone.name=r10", "model.backbone.stride_in_1x1=false", "model.neck.upsampler=srf"]
    detector = build_detector(load_preset("retinanet_r50_fpn_nn", overrides=changes).model)
    settings = SolverConfig(optimizer=optimizer, lr=0.02, lr_batch_size=16)
    steps = build_optimizer(detector, settings)
    images = [torch.randint(0, 256, (3, 192, 256), dtype=torch.uint8)]

    def seen(one):
        with torch.inference_mode():
            return one.eval().pyramid(one.preprocess(images)[0])

    before = seen(detector)
    detector.train()
    sum(x.square().mean() for x in detector.pyramid(detector.preprocess(images)[0]).values()).backward()
    steps.step()
    now, afresh = seen(detector), seen(copy.deepcopy(detector))
    for level, x in now.items():
        assert torch.equal(x, afresh[level]) and not torch.allclose(x, before[level], rtol=1e-2)


def test_the_average_is_the_recursion_and_survives_a_resume():
    settings = solver(checkpoint_every=3, ema_decay=0.8)
    stage = StatefulStage(settings)
    trail, saved = [], {}
    step = Trainer._update

    def recording(self):
        norms = step(self)
        trail.append(_copy(self.stage.modules["linear"].state_dict()))
        return norms

    whole = trainer(settings, stage, save=lambda state: saved.setdefault(state["iteration"], _copy(state)))
    whole._update = recording.__get__(whole)
    whole.run()
    expected = trail[0]
    for after in trail[1:]:
        expected = {name: 0.8 * expected[name] + 0.2 * after[name] for name in after}
    for name, value in expected.items():
        torch.testing.assert_close(saved[8]["modules"]["linear"][name], value, msg=name)
        assert not torch.equal(saved[8]["averaged_from"]["linear"][name], value), name
    assert torch.equal(saved[8]["averaged_from"]["linear"]["weight"], trail[-1]["weight"])

    resumed = trainer(settings, StatefulStage(settings), batches(4, start=3))
    resumed.load_state(saved[3])
    resumed.run()
    for name, value in saved[8]["modules"]["linear"].items():
        assert torch.equal(resumed.average.modules["linear"].state_dict()[name], value), name


def test_patience_ends_at_the_same_iteration_however_often_a_run_is_cut_off():
    """The best is iteration 4's; its equal at 6 is no better, and 8 is the second in a row."""
    settings = solver(iterations=12, evaluate_every=2, patience=2, checkpoint_every=100, log_every=100)
    scores = {2: None, 4: 3.0, 6: 3.0, 8: 2.0}
    saved = {}

    def run(lines=(), state=None):
        stage, log = LinearStage(settings), Log(lines)
        stage.modules["detector"] = stage.modules["linear"]
        hooks = Hooks(
            lambda state: saved.setdefault(state["iteration"], _copy(state)),
            lambda _, iteration: Scored({"box": {"AP": scores[iteration]}}, {}),
            enough=lambda: without_gain(log.lines) >= settings.patience,
        )
        begun = Trainer(stage, settings, WORLD, batches(4), hooks, log)
        if state is not None:
            begun.load_state(state)
        begun.run()
        assert begun.iteration == 8
        return log.lines

    lines = run()
    whole = [line for line in lines if "evaluation" in line]
    assert [line["iteration"] for line in whole] == [2, 4, 6, 8]
    assert [line["iteration"] for line in lines if "losses" in line] == [
        2,
        4,
        6,
        8,
    ]  # to the end, whichever it is
    assert whole == [line for line in run(whole[:2], saved[4]) if "evaluation" in line]
    assert whole == [
        line for line in run(whole[:3], saved[8]) if "evaluation" in line
    ]  # cut off while it was scored
    assert whole == run(whole, saved[8])  # and behind that


def test_runs_go_by_masks_where_objects_have_some():
    """A crowd alone may have one: then masks are scored, and have no AP."""
    assert ap_of({"box": {"AP": 3.0}, "mask": {"AP": 2.0}}) == 2.0
    assert ap_of({"box": {"AP": 3.0}, "mask": {"AP": None}}) == ap_of({"box": {"AP": 3.0}}) == 3.0
    assert ap_of({"box": {"AP": None}, "mask": {"AP": None}}) is None and ap_of({}) is None


def test_accumulated_steps_equal_one_large_batch():
    whole, parts = LinearStage(solver()), LinearStage(solver())
    trainer(solver(), whole).run()
    micro = (Numbers(b.images[i : i + 2]) for b in batches(4) for i in (0, 2))
    trainer(solver(accumulate=2), parts, micro).run()
    torch.testing.assert_close(parts.modules["linear"].weight, whole.modules["linear"].weight)


def test_a_loss_that_is_not_finite_stops_with_its_name_and_keeps_the_checkpoint():
    settings = solver(checkpoint_every=3, log_every=100)
    stage = LinearStage(settings)
    saved = []

    def poisoned():
        for number, batch in enumerate(batches(4)):
            if number == 4:
                batch.images[0] = batch.images[0] * float("nan")
            yield batch

    with pytest.raises(InputError, match=r"loss_fit is nan at iteration 5\. The last checkpoint is kept"):
        trainer(settings, stage, poisoned(), save=lambda state: saved.append(state["iteration"])).run()
    assert saved == [3]


@pytest.mark.parametrize(("precision", "accumulate"), [("fp32", 1), ("fp16", 2)])
def test_gradients_are_clipped_over_the_whole_module(precision, accumulate):
    """After they are unscaled, and once they are summed over the micro-batches."""
    settings = solver(iterations=1, clip_norm=1e-3, lr=1.0, precision=precision, accumulate=accumulate)
    stage = LinearStage(settings)
    before = [p.clone() for p in stage.modules["linear"].parameters()]
    log = Log()
    run = trainer(settings, stage)
    run.log, run.scaler = log, GradScaler("cpu", init_scale=256.0, enabled=precision == "fp16")
    run.run()

    twin = nn.Linear(4, 1)
    twin.load_state_dict({"weight": before[0], "bias": before[1]})
    for batch in itertools.islice(batches(4), accumulate):
        ((twin(torch.stack(batch.images)) - 1).square().mean() / accumulate).backward()
    whole = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm()
    assert log.lines[0]["gradient_norms"]["linear"] == pytest.approx(float(whole), rel=5e-3)
    moved = torch.cat(
        [(a - b).flatten() for a, b in zip(stage.modules["linear"].parameters(), before, strict=True)]
    )
    assert float(moved.detach().norm()) == pytest.approx(1e-3, rel=1e-3)


def test_weights_that_are_not_finite_never_replace_a_checkpoint():
    """A finite loss whose gradient is infinite."""
    settings = solver(checkpoint_every=1, log_every=100)
    stage = LinearStage(settings)
    plain, count = stage.losses, itertools.count(1)

    def losses(batch):
        for named in plain(batch):
            fit = named["loss_fit"]
            yield {"loss_fit": fit + (torch.sqrt(fit * 0) if next(count) == 3 else 0)}

    stage.losses = losses
    saved = []
    with pytest.raises(InputError, match="the linear's weights are not finite at iteration 3"):
        trainer(settings, stage, save=lambda state: saved.append(state["iteration"])).run()
    assert saved == [1, 2]


def test_a_signal_given_twice_still_waits_for_the_checkpoint():
    """A scheduler and a launcher may both pass on the same SIGTERM."""
    settings = solver()
    saved = []

    def signalling():
        for number, batch in enumerate(batches(4)):
            if number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with pytest.raises(Interrupted):
        trainer(settings, source=signalling(), save=lambda state: saved.append(state["iteration"])).run()
    assert saved == [3]


def _copy(state):
    return torch.load(_bytes(state), weights_only=True)


def _bytes(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return buffer
