"""Does reading images keep up with training? Images per second of the loader alone against the training step.

    python benchmarks/loader.py --data-root DIR [--preset mask_rcnn_r50_fpn_nn] [--workers 0,1,2,4,8]
        [--batch-size 4] [--batches 20] [--precision bf16] [--device cuda]

The loader reads, decodes, resizes and flips the training split of a COCO-layout folder as the preset says. The
step trains the preset's detector, with random weights, on batches that are there already. A ratio above 1 means
that the device never waits for images.
"""

import argparse
import os
import time
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from srfgan.models import build_detector
from srfgan_cli.data.dataset import DetectionDataset
from srfgan_cli.data.loaders import Batch, build_train_loader
from srfgan_cli.data.open import open_split
from srfgan_cli.machine.precision import AUTOCAST_DTYPE
from srfgan_cli.presets import load_preset
from srfgan_cli.presets.config import Config
from srfgan_cli.training.optim import build_optimizer


def loader_speed(
    dataset: DetectionDataset, workers: int, arguments: argparse.Namespace
) -> tuple[float, list[Batch]]:
    """Images per second after a first round of batches, and the batches."""
    loader = build_train_loader(
        dataset, batch_size=arguments.batch_size, workers=workers, device=arguments.device
    )
    batches = iter(loader)
    # What the workers have read ahead by then must not count.
    list(islice(batches, max(1, 2 * workers)))
    started = time.perf_counter()
    read = list(islice(batches, arguments.batches))
    seconds = time.perf_counter() - started
    return arguments.batches * arguments.batch_size / seconds, read


def step_speed(config: Config, batches: list[Batch], arguments: argparse.Namespace) -> float:
    """Images per second of forward, backward and optimizer."""
    device = torch.device(arguments.device)
    model: nn.Module = build_detector(config.model).to(device).train()
    optimizer = build_optimizer(model, config.finetune.solver.model_copy(update={"lr": 1e-6}))
    dtype = AUTOCAST_DTYPE.get(arguments.precision)

    def step(batch: Batch) -> None:
        batch = batch.to(device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            losses = model(batch.images, batch.targets)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step(batches[0])
    _wait(device)
    started = time.perf_counter()
    for batch in batches[1:]:
        step(batch)
    _wait(device)
    return (len(batches) - 1) * arguments.batch_size / (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--preset", default="mask_rcnn_r50_fpn_nn")
    parser.add_argument("--workers", default="0,1,2,4,8")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    config = load_preset(arguments.preset, ["data.dataset=coco"])
    masks = config.model.has_masks
    dataset = open_split(config.data, arguments.data_root, "train", training=True, masks=masks)
    config = load_preset(
        arguments.preset, ["data.dataset=coco", f"model.num_classes={len(dataset.categories)}"]
    )
    cores = len(os.sched_getaffinity(0))
    speeds: dict[int, float] = {}
    for workers in sorted({min(int(number), cores) for number in arguments.workers.split(",")}):
        speeds[workers], batches = loader_speed(dataset, workers, arguments)
    step = step_speed(config, batches[: arguments.steps + 1], arguments)
    print(
        f"training step of {arguments.preset}, {arguments.precision} on {arguments.device}: {step:.1f} images/s"
    )
    for workers, speed in speeds.items():
        print(f"  {workers} loading processes: {speed:7.1f} images/s, {speed / step:.1f} times the step's")


if __name__ == "__main__":
    main()
