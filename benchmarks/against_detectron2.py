"""Inference against detectron2 on the same machine: Mask R-CNN, RetinaNet and Cascade Mask R-CNN, R-50-FPN, `nn`.

    python benchmarks/against_detectron2.py [--turns 7] [--threads 2] [--detectors mask_rcnn retinanet ...]

One 800x1216 image on the CPU, float32, masks pasted. Our detector is written by `srfgan export --format detectron2`
and loaded by detectron2, which must be installed (it has to be built from its repository; a build without CUDA does).
Random weights find nothing or everything, so the last layers are scaled to outputs as spread as trained ones'.
The detections of both are compared before anything is timed.
"""

import argparse
import resource
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import torch
from timing import report, take_turns
from torch import nn

from models import build_detector
from models.config import BackboneConfig, ModelConfig, NeckConfig
from models.cost import HEIGHT, WIDTH
from srfgan_cli.config import Config
from srfgan_cli.export.detectron2_file import load_detectron2, write_detectron2
from srfgan_cli.trained import TrainedDetector

DETECTORS = ("mask_rcnn", "retinanet", "cascade_mask_rcnn")


def ours(name: str) -> nn.Module:
    """Our detector with random weights, which finds about a hundred objects."""
    torch.manual_seed(0)
    config = ModelConfig(detector=name, backbone=BackboneConfig(), neck=NeckConfig(upsampler="nn"))
    model = build_detector(config).eval()
    with torch.no_grad():
        for part, module in model.backbone.body.named_modules():
            if part.endswith("conv3"):
                # Frozen norms that were never trained let the features grow from block to block.
                module.norm.weight.fill_(0.2)
        batch, sizes = model.preprocess([picture()])
        # The pixels' standard deviation is left at 1.
        model.backbone.body["conv1"].weight.div_(100)
        pyramid = model.pyramid(batch)
        if name == "retinanet":
            spread_dense(model.head.subnets, pyramid)
        else:
            spread_two_stage(model.head, pyramid, sizes)
    return model


def spread_dense(subnets: nn.Module, pyramid: dict) -> None:
    """A few thousand pairs of anchor and class above the threshold."""
    logits, deltas = (torch.cat([x.flatten() for x in maps]) for maps in subnets(pyramid))
    subnets.classes.weight.mul_(0.45 / logits.std())
    subnets.deltas.weight.mul_(0.2 / deltas.std())


def spread_two_stage(head: nn.Module, pyramid: dict, sizes: list) -> None:
    """Distinct proposals, and a few hundred pairs of box and class above the threshold."""
    logits, deltas = (torch.cat([x.flatten() for x in maps]) for maps in head.rpn(pyramid))
    head.rpn.objectness.weight.mul_(2 / logits.std())
    head.rpn.deltas.weight.mul_(0.2 / deltas.std())
    proposals, _ = head.rpn.propose(pyramid, sizes)
    maps = {level: pyramid[level] for level in ("p2", "p3", "p4", "p5")}
    for box in getattr(head.box, "stages", [head.box]):
        logits, deltas = box(maps, proposals)
        box.classes.weight.mul_(2 / logits.std())
        box.classes.bias[-1] = 8
        box.deltas.weight.mul_(1 / deltas.std())


def theirs(source: nn.Module) -> nn.Module:
    """detectron2's detector with the same weights, through an export."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pth"
        config = Config(model=source.config, stages=["finetune"])
        write_detectron2(config, TrainedDetector(source, path, None), path, path)
        return load_detectron2(path, source)


def picture() -> torch.Tensor:
    """(3, 800, 1216) uint8 RGB: smooth noise, so that scores vary over the image."""
    coarse = torch.rand(1, 3, HEIGHT // 32, WIDTH // 32, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)
    return (smooth[0] * 255).to(torch.uint8)


def contestants(name: str) -> dict:
    """A function of each that detects in the same image, masks pasted."""
    model = ours(name)
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


def cpu_seconds(run) -> float:
    """User CPU time of one call, which other processes' load changes less than the clock's."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime - before


if __name__ == "__main__":
    main()
