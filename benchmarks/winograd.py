"""Where Winograd's algorithm pays on a CPU: single layers of several widths and map sizes, then whole detectors.

    python benchmarks/winograd.py [--turns 5] [--threads 2] [--user-cpu] [--detectors mask_rcnn_r50_fpn]

The rule in `srfgan/models/ops/convolution.py` comes from the first table. Both of a line and all variants of a detector
take turns; ratios are medians of the turns' ratios. `--user-cpu` takes user CPU time instead of the wall's, for a
machine that others use too.
"""

import argparse
import statistics
import time
from functools import partial

import torch
from spread import picture, spread_detector
from timing import processor, report, take_turns, user_cpu

from srfgan.models.ops.convolution import Conv2d, ConvTranspose2d, use_winograd
from srfgan.models.ops.winograd import as_3x3, convolved, transformed
from srfgan_cli.presets import load_preset

MAPS = {"p6": (13, 19), "p5": (25, 38), "p4": (50, 76), "p3": (100, 152), "p2": (200, 304)}
"""Of an 800x1216 image."""
UPSAMPLERS = ("nn", "srf", "afi")


def layers(channels: int) -> dict:
    """The two layers of the generators, each with the weight that the algorithm takes."""
    plain = Conv2d(channels, channels, 3, padding=1)
    doubling = ConvTranspose2d(channels, channels, 6, stride=2, padding=2)
    return {
        "3x3": (plain, transformed(plain.weight)),
        "6x6 up": (doubling, transformed(as_3x3(doubling.weight), 2)),
    }


def layer_lines(turns: int, clock) -> None:
    """A line for each kind, width and map: time of the direct one, and error."""
    print(
        "| layer | channels | map | direct, ms | of direct | error, of the largest |\n|---|--:|---|--:|--:|--:|"
    )
    for channels in (64, 128, 256):
        for kind, (layer, weight) in layers(channels).items():
            layer = layer.eval().to(memory_format=torch.channels_last)
            for name, size in MAPS.items():
                if kind == "6x6 up" and name == "p2":
                    continue  # nothing upsamples the finest map
                maps = torch.randn(1, channels, *size).contiguous(memory_format=torch.channels_last)

                def direct(layer=layer, maps=maps):
                    return layer(maps)

                def fast(layer=layer, maps=maps, weight=weight):
                    return convolved(maps, weight, layer.bias)

                expected, found = direct(), fast()
                error = ((expected - found).abs().max() / expected.abs().max()).item()
                seconds = take_turns({"direct": direct, "fast": fast}, turns, clock=clock)
                ratio = statistics.median(
                    b / a for a, b in zip(seconds["direct"], seconds["fast"], strict=True)
                )
                ms = statistics.median(seconds["direct"]) * 1000
                print(f"| {kind} | {channels} | {name} | {ms:.1f} | {ratio:.2f} | {error:.0e} |", flush=True)


def detector_lines(preset: str, turns: int, clock) -> None:
    """Time of a detector with each upsampling, and whether it finds the same by both algorithms."""
    image, runs, found = picture(), {}, {}
    for upsampler in UPSAMPLERS:
        model = spread_detector(load_preset(preset, [f"model.neck.upsampler={upsampler}"]).model)

        def run(model=model, use=False):
            use_winograd(model, use)
            with torch.inference_mode():
                return model([image])[0]

        runs[upsampler] = run
        runs[f"{upsampler} by winograd"] = partial(run, use=True)
    for name, infer in runs.items():
        found[name] = infer()
        if name.endswith("winograd"):
            print(f"  {name}: {apart(found[name.split()[0]], found[name])}")
    report(preset, take_turns(runs, turns, clock=clock), "nn")


def apart(a, b) -> str:
    """How detections differ."""
    if len(a.boxes) != len(b.boxes) or not torch.equal(a.labels, b.labels):
        return "other detections"
    boxes, scores = (a.boxes - b.boxes).abs().max(), (a.scores - b.scores).abs().max()
    return f"the same {len(a.boxes)} detections, boxes within {boxes:.0e} pixels, scores within {scores:.0e}"


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--user-cpu", action="store_true", help="time by user CPU seconds")
    parser.add_argument("--detectors", nargs="*", default=["mask_rcnn_r50_fpn", "retinanet_r50_fpn"])
    parser.add_argument("--no-layers", action="store_true", help="whole detectors only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = user_cpu if arguments.user_cpu else time.perf_counter
    print(f"torch {torch.__version__}, {processor()}, {arguments.threads} threads\n")
    if not arguments.no_layers:
        with torch.inference_mode():
            layer_lines(arguments.turns, clock)
    # Made outside of inference mode, as anywhere else: otherwise nothing made of their weights could be kept.
    for preset in arguments.detectors:
        detector_lines(preset, arguments.turns, clock)


if __name__ == "__main__":
    main()
