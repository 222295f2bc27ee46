"""Inference against detectron2 on the same machine: Mask R-CNN, RetinaNet and Cascade Mask R-CNN, R-50-FPN, `nn`.

    python benchmarks/against_detectron2.py [--turns 7] [--threads 2] [--detectors mask_rcnn retinanet ...]

One 800x1216 image on the CPU, float32, masks pasted. Our detector is written by `srfgan export --format detectron2`
and loaded by detectron2, which must be installed (it has to be built from its repository; a build without CUDA does).
The detections of both are compared before anything is timed.
"""

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from spread import picture, spread_detector
from timing import cpu_seconds, report, take_turns
from torch import nn

from srfgan.models.config import NeckConfig, parse_model
from srfgan.models.cost import HEIGHT, WIDTH
from srfgan_cli.export.detectron2_file import load_detectron2, write_detectron2
from srfgan_cli.presets.config import Config
from srfgan_cli.runs.trained import TrainedDetector

DETECTORS = ("mask_rcnn", "retinanet", "cascade_mask_rcnn")


def theirs(source: nn.Module) -> nn.Module:
    """detectron2's detector with the same weights, through an export."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pth"
        config = Config(model=source.config, stages=["finetune"])
        write_detectron2(config, TrainedDetector(source, path, None), path, path)
        return load_detectron2(path, source)


def contestants(name: str) -> dict:
    """A function of each that detects in the same image, masks pasted."""
    model = spread_detector(parse_model({"detector": name, "neck": NeckConfig(upsampler="nn")}))
    other = theirs(model)
    image = picture()
    batch = [{"image": image.flip(0)}]

    def srfgan():
        with torch.inference_mode():
            return model([image])[0]

    def detectron2():
        with torch.inference_mode():
            return other(batch)[0]["instances"]

    return {"detectron2": detectron2, "srfgan": srfgan}


def compare(runs: dict) -> str:
    """How far apart the detections are.

    Raises:
        SystemExit: they are not the same.
    """
    found, expected = runs["srfgan"](), runs["detectron2"]()
    if found.labels.tolist() != expected.pred_classes.tolist():
        raise SystemExit(f"different detections: {len(found)} of srfgan, {len(expected)} of detectron2")
    boxes = (found.boxes - expected.pred_boxes.tensor).abs().max()
    scores = (found.scores - expected.scores).abs().max()
    text = f"{len(found)} detections by both; boxes differ by {boxes:.1e} px, scores by {scores:.1e}"
    if expected.has("pred_masks"):
        text += f", masks in {(found.masks != expected.pred_masks).float().mean():.1e} of the pixels"
    return text


def main() -> None:
    """Compare and time each detector."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=DETECTORS)
    arguments = parser.parse_args()
    if find_spec("detectron2") is None:
        print("detectron2 is not installed: nothing to compare with.")
        sys.exit(0)
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, one {HEIGHT}x{WIDTH} image, float32")
    for name in arguments.detectors:
        runs = contestants(name)
        print(f"{name}: {compare(runs)}")
        seconds = {key: cpu_seconds(run) for key, run in runs.items()}
        report(name, take_turns(runs, arguments.turns), "detectron2")
        print("  user CPU of one run: " + ", ".join(f"{key} {value:.2f} s" for key, value in seconds.items()))


if __name__ == "__main__":
    main()
