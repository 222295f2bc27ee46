"""What a step of stage 1 costs with the discriminator on whole maps and on random windows of them.

    python benchmarks/discriminator_windows.py [--windows 32 64] [--height 800 --width 1216] [--turns 3] [--device cuda]

R-50-FPN as the guide, one image, P2..P5, random weights: forward, backward and optimizer step of generator and
discriminator. On a CPU a whole step of an 800x1216 image takes minutes; smaller images have the same ratio until
a level fits into a window.
"""

import argparse
from collections.abc import Callable

import torch
from timing import report, take_turns

from models import build_detector, build_discriminator, build_generator
from models.detector import Detector
from srfgan_cli.config import AdversarialConfig
from srfgan_cli.data.loaders import Batch
from srfgan_cli.distributed import World
from srfgan_cli.presets import load_preset
from srfgan_cli.training.engine import AUTOCAST_DTYPE
from srfgan_cli.training.pretrain import PretrainStage

PRESET = "mask_rcnn_r50_fpn"


def step_of(
    guide: Detector, window: int | None, batch: Batch, world: World, precision: str
) -> Callable[[], None]:
    """One optimizer step of a stage of its own."""
    config = load_preset(PRESET)
    torch.manual_seed(0)
    stage = PretrainStage(
        guide,
        build_generator(config.model.neck.upsampler),
        build_discriminator(config.discriminator),
        AdversarialConfig(window=window),
        "bilinear",
        config.pretrain.solver,
        world,
    )
    stage.train()

    def step() -> None:
        phases = stage.losses(batch)
        for _ in range(2):
            with torch.autocast(
                world.device.type, AUTOCAST_DTYPE.get(precision), enabled=precision != "fp32"
            ):
                losses = next(phases)
            torch.stack(list(losses.values())).sum().backward()
        for optimizer in stage.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if world.device.type == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    """Print the time of a step for each size of window."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1216)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    arguments = parser.parse_args()
    size = (arguments.height, arguments.width)
    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    world = World(torch.device(arguments.device))
    batch = Batch([image], [], [0], [size]).to(world.device)
    guide = build_detector(load_preset(f"{PRESET}_nn").model)
    contestants = {"whole maps": None} | {f"windows of {side}": side for side in arguments.windows}
    steps = {
        name: step_of(guide, side, batch, world, arguments.precision) for name, side in contestants.items()
    }
    title = f"stage 1, {size[0]}x{size[1]}, {arguments.device}, {arguments.precision}"
    report(title, take_turns(steps, arguments.turns), "whole maps")


if __name__ == "__main__":
    main()
