"""Every R-50 detector with nearest neighbour and with the generator: one 800x1216 image, as a table.

    python benchmarks/detectors.py [--turns 5] [--threads 2] [--device cuda] [--precision tf32]

Parameters and multiply-accumulates are those of `srfgan presets show`. The two of a detector take turns; the ratio is
the median of the turns' ratios.
"""

import argparse
import statistics

import torch
from spread import picture, spread_detector
from timing import add_machine, computing, describe_machine, take_turns

from srfgan.models.cost import HEIGHT, WIDTH, cost_of
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
COLUMNS = ("detector", "nn: M", "GMAC", "ms", "srf: M", "GMAC", "ms", "ms, of nn", "GMAC, of nn")


def model_of(name: str, upsampler: str):
    """The model config of a detector with one of the two upsamplings."""
    overrides = [f"model.neck.upsampler={upsampler}"]
    if name.startswith("Cascade"):
        overrides.append("model.detector=cascade_mask_rcnn")
    return load_preset(PRESETS[name], overrides).model


def row(name: str, turns: int, device: str) -> str:
    """One line of the table."""
    image = picture().to(device)
    models = {upsampler: model_of(name, upsampler) for upsampler in ("nn", "srf")}
    detectors = {upsampler: spread_detector(config).to(device) for upsampler, config in models.items()}

    def run(detector):
        def infer():
            with torch.inference_mode():
                return detector([image])[0]

        return infer

    seconds = take_turns(
        {upsampler: run(detector) for upsampler, detector in detectors.items()}, turns, device
    )
    costs = {upsampler: cost_of(config) for upsampler, config in models.items()}
    ratio = statistics.median(srf / nn for srf, nn in zip(seconds["srf"], seconds["nn"], strict=True))
    cells = [name]
    for upsampler, cost in costs.items():
        ms = statistics.median(seconds[upsampler]) * 1000
        cells += [
            f"{cost.parameters / 1e6:.1f}",
            f"{cost.macs / 1e9:.0f}",
            f"{ms:.1f}" if ms < 100 else f"{ms:.0f}",
        ]
    return line([*cells, f"{ratio:.2f}", f"{costs['srf'].macs / costs['nn'].macs:.2f}"])


def line(cells) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    add_machine(parser)
    parser.add_argument("--detectors", nargs="+", choices=PRESETS, default=list(PRESETS))
    arguments = parser.parse_args()
    print(f"{describe_machine(arguments)}, one {HEIGHT}x{WIDTH} image\n")
    print(line(COLUMNS))
    print(line(["---", *["--:"] * (len(COLUMNS) - 1)]))
    with computing(arguments):
        for name in arguments.detectors:
            print(row(name, arguments.turns, arguments.device), flush=True)


if __name__ == "__main__":
    main()
