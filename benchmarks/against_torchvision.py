"""Mask R-CNN R-50-FPN against torchvision's `maskrcnn_resnet50_fpn`: inference and training step, time and memory.

    python benchmarks/against_torchvision.py [--turns 7] [--threads 2] [--device cuda] [--precision bf16]

One 800x1216 image. Both models hold the same weights (ours copied under torchvision's
names) and both freeze stem, first stage and batch norms, as in fine-tuning. Random weights find nothing, so
the class scores' weights are enlarged until about a hundred objects come out, as from a trained model. Memory is
the peak of a process that does nothing else (on a GPU, of the GPU's).
"""

import argparse
import re

import numpy as np
import torch
from timing import (
    add_machine,
    computing,
    describe_machine,
    own_peak,
    peak_memory,
    report,
    take_turns,
    user_cpu,
)
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import FrozenBatchNorm2d

from srfgan.models import build_detector
from srfgan.models.config import BackboneConfig, MaskRCNNConfig, NeckConfig, PixelConfig
from srfgan.models.instance_masks import Polygons
from srfgan.models.structures import Target

HEIGHT, WIDTH, CLASSES = 800, 1216, 80
SCORE_GAIN = 25.0
IMAGENET = PixelConfig(order="RGB", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
RENAMES = (
    (r"^neck\.lateral\.p(\d)\.(.*)", lambda m: f"backbone.fpn.inner_blocks.{int(m[1]) - 2}.0.{m[2]}"),
    (r"^neck\.output\.p(\d)\.(.*)", lambda m: f"backbone.fpn.layer_blocks.{int(m[1]) - 2}.0.{m[2]}"),
    (r"^backbone\.body\.(.*?)conv(\d)\.norm\.(.*)", r"backbone.body.\1bn\2.\3"),
    (r"^backbone\.body\.(.*?)downsample\.0\.norm\.(.*)", r"backbone.body.\1downsample.1.\2"),
    (r"^head\.rpn\.conv\.(.*)", r"rpn.head.conv.0.0.\1"),
    (r"^head\.rpn\.objectness\.(.*)", r"rpn.head.cls_logits.\1"),
    (r"^head\.rpn\.deltas\.(.*)", r"rpn.head.bbox_pred.\1"),
    (r"^head\.box\.fcs\.0\.(.*)", r"roi_heads.box_head.fc6.\1"),
    (r"^head\.box\.fcs\.1\.(.*)", r"roi_heads.box_head.fc7.\1"),
    (r"^head\.box\.classes\.(.*)", r"roi_heads.box_predictor.cls_score.\1"),
    (r"^head\.box\.deltas\.(.*)", r"roi_heads.box_predictor.bbox_pred.\1"),
    (r"^head\.mask\.convs\.(\d)\.(.*)", r"roi_heads.mask_head.\1.0.\2"),
    (r"^head\.mask\.up\.(.*)", r"roi_heads.mask_predictor.conv5_mask.\1"),
    (r"^head\.mask\.logits\.(.*)", r"roi_heads.mask_predictor.mask_fcn_logits.\1"),
)


def ours(upsampler: str = "nn") -> nn.Module:
    """Our detector with stride in the 3x3, as torchvision's."""
    torch.manual_seed(0)
    config = MaskRCNNConfig(
        num_classes=CLASSES,
        pixel=IMAGENET,
        backbone=BackboneConfig(stride_in_1x1=False),
        neck=NeckConfig(upsampler=upsampler),
    )
    model = build_detector(config)
    with torch.no_grad():
        model.head.box.classes.weight.mul_(SCORE_GAIN)
    return model


def torchvisions(source: nn.Module) -> nn.Module:
    """torchvision's detector, as its function builds it for pre-trained weights, holding `source`'s weights."""
    backbone = _resnet_fpn_extractor(resnet50(weights=None, norm_layer=FrozenBatchNorm2d), trainable_layers=3)
    model = MaskRCNN(backbone, num_classes=CLASSES + 1, min_size=HEIGHT, max_size=WIDTH)
    state = {_theirs(name): value for name, value in source.state_dict().items()}
    for part, per_class in (("cls_score", 1), ("bbox_pred", 4)):
        for kind in ("weight", "bias"):
            name = f"roi_heads.box_predictor.{part}.{kind}"
            state[name] = _background_first(state[name], per_class)
    for kind in ("weight", "bias"):
        name = f"roi_heads.mask_predictor.mask_fcn_logits.{kind}"
        state[name] = torch.cat([torch.zeros_like(state[name][:1]), state[name]])
    model.load_state_dict(state)
    return model


def _theirs(name: str) -> str:
    for pattern, replacement in RENAMES:
        renamed, hits = re.subn(pattern, replacement, name)
        if hits:
            return renamed
    return name


def _background_first(values: torch.Tensor, per_class: int) -> torch.Tensor:
    """Background is our last score, and has no box deltas here, but is torchvision's first of both."""
    if per_class == 1:
        return torch.cat([values[-1:], values[:-1]])
    return torch.cat([torch.zeros_like(values[:per_class]), values])


def picture() -> torch.Tensor:
    """(3, 800, 1216) uint8: smooth noise, so that scores vary over the image."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, HEIGHT // 32, WIDTH // 32, generator=generator)
    smooth = nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)
    return (smooth[0] * 255).to(torch.uint8)


def objects() -> tuple[torch.Tensor, torch.Tensor]:
    """Ten boxes (10, 4) and their labels (10,)."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(10, 2, generator=generator) * torch.tensor([WIDTH * 0.6, HEIGHT * 0.6])
    side = 32 * 10 ** torch.rand(10, 2, generator=generator)
    return torch.cat([corner, corner + side], dim=1), torch.arange(10)


def contestant(name: str, mode: str, device: str = "cpu", upsampler: str = "nn"):
    """A function that runs one inference or one training step; the upsampler is ours."""
    source = ours(upsampler)
    theirs = name == "torchvision"
    model = (torchvisions(source) if theirs else source).to(device)
    image = picture().to(device)
    boxes, labels = objects()
    if mode == "inference":
        model.eval()
        given = image.float() / 255 if theirs else image

        def infer():
            with torch.inference_mode():
                return model([given])

        return infer
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5, momentum=0.9)
    if not theirs:
        corners = boxes.double().numpy()[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        arguments = [image], [Target(boxes, labels, [Polygons((np.array(c),)) for c in corners])]
    else:
        rows, columns = torch.arange(HEIGHT).view(-1, 1), torch.arange(WIDTH)
        masks = torch.stack(
            [
                ((columns >= a) & (columns < c) & (rows >= b) & (rows < d)).to(torch.uint8)
                for a, b, c, d in boxes
            ]
        )
        target = {"boxes": boxes, "labels": labels + 1, "masks": masks}
        arguments = [image.float() / 255], [{key: value.to(device) for key, value in target.items()}]

    def step():
        optimizer.zero_grad()
        sum(model(*arguments).values()).backward()
        optimizer.step()

    return step


def main() -> None:
    """Run the comparison, or one contestant alone for its memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    add_machine(parser)
    parser.add_argument("--peak-of", nargs=2, metavar=("NAME", "MODE"))
    arguments = parser.parse_args()
    with computing(arguments):
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Both in turns, or the memory of one alone."""
    device = arguments.device
    if arguments.peak_of:
        run = contestant(*arguments.peak_of, device)
        run(), run()
        print(own_peak() if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20)
        return
    print(f"{describe_machine(arguments)}, one {HEIGHT}x{WIDTH} image")
    for mode in ("inference", "training step"):
        runs = {name: contestant(name, mode, device) for name in ("torchvision", "srfgan")}
        if mode == "inference":
            for name, run in runs.items():
                found = run()[0]
                print(f"  {name} finds {len(found['boxes'] if isinstance(found, dict) else found)} objects")
        report(mode, take_turns(runs, arguments.turns, device), "torchvision")
        if device == "cpu":
            report(f"{mode}, user CPU", take_turns(runs, arguments.turns, clock=user_cpu), "torchvision")
        where = ("--device", device, "--precision", arguments.precision)
        peaks = {name: peak_memory(__file__, name, mode, *where) for name in runs}
        print(f"  peak memory: {', '.join(f'{name} {peak:.0f} MiB' for name, peak in peaks.items())}")


if __name__ == "__main__":
    main()
