"""The blocks of `gpu.py` that measure time, memory and waits."""

import os
import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path

import torch
import torchvision
from gpu_cases import Item, Machine, batch, launches, preset, steps, timed, trainer
from spread import picture, spread_detector

from srfgan.models.detector import Detector
from srfgan_cli.data.loaders import Batch, build_train_loader
from srfgan_cli.data.open import open_split
from srfgan_cli.evaluation.evaluate import predict
from srfgan_cli.machine.distributed import World
from srfgan_cli.machine.precision import autocast, float32_products
from srfgan_cli.training.engine import Trainer


def waits(machine: Machine) -> Iterator[Item]:
    """Where the host waits for the GPU in one step of two images; torch names no place for waits of its own C++."""
    given = batch(2, machine.size, machine)
    for stage in ("pretrain", "extract", "finetune"):
        made = trainer(machine, stage, given, window=16)
        steps(made, 1)
        yield stage, _waits_of(machine, made)


def _waits_of(machine: Machine, made: Trainer) -> dict[str, int]:
    seen: Counter[str] = Counter()
    with tempfile.TemporaryFile("w+") as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        screen = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            if machine.cuda:
                torch.cuda.set_sync_debug_mode("warn")
            with float32_products(made.solver.precision):
                made.step()
            if machine.cuda:
                torch.cuda.set_sync_debug_mode("default")
        finally:
            os.dup2(screen, 2)
            os.close(screen)
        file.seek(0)
        seen["without a place"] = len(re.findall("called a synchronizing", file.read()))
    for warning in caught:
        if "called a synchronizing" in str(warning.message):
            seen[f"{Path(warning.filename).name}:{warning.lineno}"] += 1
    return dict(seen)


def inference(machine: Machine) -> Iterator[Item]:
    """One image, detections with masks not pasted: Mask R-CNN by upsampler and precision, and torchvision's."""
    pictures = [picture(*machine.size).to(machine.device)]
    models = {name: _detector(machine, name) for name in ("nn", "srf", "afi")}
    other = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=machine.size[0], max_size=machine.size[1],
        box_score_thresh=0.0111,
    ).to(machine.device).eval()  # fmt: skip
    scaled = [image.float() / 255 for image in pictures]
    for name in ("fp32", "tf32", "bf16"):
        with torch.inference_mode(), float32_products(name), autocast(machine.device, name):
            runs: dict[str, Callable[[], object]] = {
                key: lambda m=m: m.detect(pictures) for key, m in models.items()
            }
            runs |= {
                f"{key} pyramid": lambda m=m: m.pyramid(m.preprocess(pictures)[0])
                for key, m in models.items()
            }
            if machine.cuda or name == "fp32":
                runs["torchvision"] = lambda: other(scaled)
            for key, run in runs.items():
                yield f"{name} {key}", timed(machine, run)
            for key, m in models.items():
                with m.recorded():
                    yield f"{name} {key} recorded", timed(machine, runs[key])
    with torch.inference_mode(), float32_products("tf32"):
        for key, m in models.items():
            yield f"launches {key}", launches(machine, lambda m=m: m.detect(pictures))
            with m.recorded():
                for _ in range(2):  # the second one is recorded
                    m.detect(pictures)
                yield f"launches {key} recorded", launches(machine, lambda m=m: m.detect(pictures))


def _detector(machine: Machine, upsampler: str) -> Detector:
    """Random weights that find as much in a `picture` as trained ones do."""
    return spread_detector(preset(machine, f"model.neck.upsampler={upsampler}").model).to(machine.device)


def evaluation(machine: Machine) -> Iterator[Item]:
    """Images per second of a whole evaluation, without scores, and of its detections alone."""
    model, count = _detector(machine, "nn"), 40 if machine.cuda else 2
    given = picture(*machine.size)
    images = [given.pin_memory() if machine.cuda else given]
    batches = [Batch(images, [], [number], [machine.size]) for number in range(count)]
    world, ids = World(machine.device), tuple(range(1, 4))
    for name in ("fp32", "bf16"):
        for _ in range(2):  # the first one sets things up
            started = time.perf_counter()
            results = predict(model, batches, category_ids=ids, world=world, precision=name, progress=False)  # type: ignore[arg-type]
            speed = count / (time.perf_counter() - started)
        with torch.inference_mode(), float32_products(name), autocast(machine.device, name):
            started = time.perf_counter()
            for given in batches:
                model.detect(given.to(machine.device).images)
            machine.wait()
        alone = count / (time.perf_counter() - started)
        yield name, {"predict": speed, "detect": alone, "objects": len(results or []) / count}


def training(machine: Machine) -> Iterator[Item]:
    """A step of every stage: milliseconds and peak GiB, by precision, images and window."""
    counts = (1, 2, 8) if machine.cuda else (1,)
    cases = [("finetune", up, None) for up in ("nn", "srf")]
    cases += [(stage, "srf", window) for stage in ("pretrain", "extract") for window in (None, 16)]
    for (stage, upsampler, window), name, count in product(cases, ("tf32", "bf16"), counts):
        key = f"{stage} {upsampler}{f' window {window}' if window else ''}, {name}, {count}"
        made = trainer(
            machine,
            stage,
            batch(count, machine.size, machine),
            f"model.neck.upsampler={upsampler}",
            precision=name,
            window=window,
        )
        with float32_products(name):
            yield key, timed(machine, made.step, warm=2)


def compiling(machine: Machine) -> Iterator[Item]:
    """Seconds of the first compiled steps at one size and at new ones, graphs so far, and milliseconds later."""
    name = "bf16" if machine.cuda else "fp32"
    sizes = [(640, 960), (672, 1024), (736, 1088), machine.size] if machine.cuda else [machine.size]
    # A CPU takes minutes to compile what a GPU has compiled in seconds.
    small = () if machine.cuda else ("model.backbone.name=r10", "initial_weights=none")
    for stage in ("finetune", "pretrain") if machine.cuda else ("finetune",):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        made = trainer(
            machine, stage, batch(2, machine.size, machine), *small, precision=name, window=16, compiled=True
        )
        for number, size in enumerate((machine.size, *sizes)):
            given = batch(2, size, machine)
            made.batches = iter(lambda given=given: given, None)
            started = time.perf_counter()
            steps(made, 1)
            graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
            # Each at once: a minute or more can lie between two, and a lease can end there.
            yield f"{stage} {number} {size}", {"first_s": time.perf_counter() - started, "graphs": graphs}
        with float32_products(name):
            yield stage, timed(machine, made.step, warm=2)


def loading(machine: Machine) -> Iterator[Item]:
    """Images per second of the loader, reading the built-in data at 800 pixels, and of the bf16 step of eight."""
    workers = max(1, min(15, len(os.sched_getaffinity(0)) - 1)) if machine.cuda else 0
    config = preset(
        machine, "data.dataset=shapes", "data.shapes_train=128" if machine.cuda else "data.shapes_train=2"
    )
    dataset = open_split(config.data, None, "train", training=True, masks=True)
    loader = build_train_loader(
        dataset, batch_size=8 if machine.cuda else 1, workers=workers, device=machine.device
    )
    batches = iter(loader)
    next(batches)
    count = 40 if machine.cuda else 2
    started = time.perf_counter()
    read = sum(len(given.images) for given in islice(batches, count))
    yield f"{workers} workers", {"images_per_second": read / (time.perf_counter() - started)}
