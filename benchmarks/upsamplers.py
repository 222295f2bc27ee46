"""What upsamplers cost in a detector: Mask R-CNN R-50-FPN with each upsampler, one 800x1216 image.

    python benchmarks/upsamplers.py [--turns 5] [--backbone r50] [--device cuda] [--precision tf32]

The paper (SRF-GAN, table 1) pays 118 ms instead of 72 ms on a Titan Xp: 1.64 times.
"""

import argparse

import torch
from timing import add_machine, computing, describe_machine, report, take_turns

from srfgan.models import build_detector
from srfgan.models.config import BackboneConfig, MaskRCNNConfig, NeckConfig
from srfgan.models.cost import HEIGHT, WIDTH
from srfgan.models.count import cost_of
from srfgan.models.upsamplers import UPSAMPLERS


def detector(upsampler: str, backbone: str) -> torch.nn.Module:
    """The detector with random weights, in evaluation mode."""
    torch.manual_seed(0)
    config = MaskRCNNConfig(
        backbone=BackboneConfig(name=backbone, stride_in_1x1=False), neck=NeckConfig(upsampler=upsampler)
    )
    model = build_detector(config).eval()
    with torch.no_grad():
        model.head.box.classes.weight.mul_(25)
    return model


def main() -> None:
    """Print parameters, arithmetic and time of each upsampler."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--backbone", default="r50")
    parser.add_argument("--methods", nargs="+", default=list(UPSAMPLERS))
    add_machine(parser)
    arguments = parser.parse_args()
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    image = image.to(arguments.device)
    models = {name: detector(name, arguments.backbone).to(arguments.device) for name in arguments.methods}
    for name, model in models.items():
        cost = cost_of(model.config)
        pyramid = (cost.backbone + cost.neck) / 1e9
        print(
            f"  {name:10} {cost.parameters / 1e6:6.1f} M parameters, {pyramid:6.1f} GMAC in backbone and neck"
        )

    def run(model: torch.nn.Module):
        def infer():
            with torch.inference_mode():
                return model.detect([image])

        return infer

    runs = {name: run(model) for name, model in models.items()}
    with computing(arguments):
        title = f"inference, {describe_machine(arguments)}"
        report(title, take_turns(runs, arguments.turns, arguments.device), "nn")


if __name__ == "__main__":
    main()
