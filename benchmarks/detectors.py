"""Every R-50 detector with nearest neighbour, the generator and the thin one: one 800x1216 image, as a table.

    python benchmarks/detectors.py [--turns 5] [--threads 2] [--device cuda] [--precision tf32] [--upsamplers srf]

Parameters and multiply-accumulates are those of `srfgan presets show`. All of a detector take turns; a ratio is the
median of the turns' ratios to nearest neighbour.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from spread import picture, spread_detector
from timing import add_machine, computing, describe_machine, ratios, take_turns, user_cpu

from srfgan.models.cost import HEIGHT, WIDTH
from srfgan.models.count import cost_of
from srfgan_cli.presets import load_preset

PRESETS = {
    "RetinaNet": "retinanet_r50_fpn",
    "FCOS": "fcos_r50_fpn",
    "Faster R-CNN": "faster_rcnn_r50_fpn",
    "Mask R-CNN": "mask_rcnn_r50_fpn",
    "Cascade Mask R-CNN": "mask_rcnn_r50_fpn",
    "CenterMask": "centermask_r50_fpn",
    "Sparse R-CNN": "sparse_rcnn_r50_fpn",
}
"""Cascade R-CNN has no row on R-50: it is Mask R-CNN's with other heads."""
UPSAMPLERS = {
    "nn": ["model.neck.upsampler=nn"],
    "srf": ["model.neck.upsampler=srf"],
    "thin": ["model.neck.upsampler=srf", "model.neck.generator.width=0.25"],
}


def model_of(name: str, upsampler: str):
    """The model config of a detector with one of the upsamplings."""
    overrides = list(UPSAMPLERS[upsampler])
    if name.startswith("Cascade"):
        overrides.append("model.detector=cascade_mask_rcnn")
    return load_preset(PRESETS[name], overrides).model


def row(name: str, upsamplers: list[str], turns: int, device: str, clock: Callable[[], float]) -> str:
    """One line of the table."""
    image = picture().to(device)
    models = {upsampler: model_of(name, upsampler) for upsampler in upsamplers}
    detectors = {upsampler: spread_detector(config).to(device) for upsampler, config in models.items()}

    def run(detector):
        def infer():
            with torch.inference_mode():
                return detector([image])[0]

        return infer

    seconds = take_turns(
        {upsampler: run(detector) for upsampler, detector in detectors.items()}, turns, device, clock
    )
    cells = [name]
    for upsampler, config in models.items():
        cost, ms = cost_of(config), statistics.median(seconds[upsampler]) * 1000
        cells += [
            f"{cost.parameters / 1e6:.1f}",
            f"{cost.macs / 1e9:.0f}",
            f"{ms:.1f}" if ms < 100 else f"{ms:.0f}",
        ]
        if upsampler != "nn":
            cells.append(f"{statistics.median(ratios(seconds, upsampler, 'nn')):.2f}")
    return line(cells)


def columns(upsamplers: list[str]) -> list[str]:
    """The table's head."""
    named = ["detector"]
    for upsampler in upsamplers:
        named += [f"{upsampler}: M", "GMAC", "ms", *(["of nn"] if upsampler != "nn" else [])]
    return named


def line(cells) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    add_machine(parser)
    parser.add_argument("--detectors", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--upsamplers", nargs="+", choices=[*UPSAMPLERS][1:], default=[*UPSAMPLERS][1:])
    parser.add_argument(
        "--user-cpu", action="store_true", help="time by user CPU seconds, beside others' load"
    )
    arguments = parser.parse_args()
    clock = user_cpu if arguments.user_cpu else time.perf_counter
    upsamplers = ["nn", *arguments.upsamplers]
    head = columns(upsamplers)
    print(f"{describe_machine(arguments)}, one {HEIGHT}x{WIDTH} image\n")
    print(line(head))
    print(line(["---", *["--:"] * (len(head) - 1)]))
    with computing(arguments):
        for name in arguments.detectors:
            print(row(name, upsamplers, arguments.turns, arguments.device, clock), flush=True)


if __name__ == "__main__":
    main()
