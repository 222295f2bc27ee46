"""One-stage detectors as files: p7 makes the smallest image larger, and ranking in a graph is another way.

FCOS comes on a BiFPN, which cuts upsampled maps to sizes that a graph knows as symbols, and with a guided upsampler
fills the finer ones up.
"""

import json

import pytest
import torch
from torch import nn

from srfgan.models import build_detector
from srfgan_cli.export.check import agree, check_images, compare_on
from srfgan_cli.export.contract import contract
from srfgan_cli.export.graph import OUTPUT_NAMES, output_names, smallest_side, trace
from srfgan_cli.export.onnx_file import open_onnx, write_onnx
from srfgan_cli.export.pt2_file import open_pt2, write_pt2
from srfgan_cli.presets import load_preset

pytest.importorskip("onnxruntime")

CHANGES = ["model.num_classes=3", "model.inference.score_threshold=0.0", "model.neck.bifpn.repeats=1"]


@pytest.mark.parametrize(
    ("name", "upsampler", "backbone", "format", "spread"),
    [
        ("retinanet_r18_fpn", "nn", "r10", "onnx", 2.0),
        # Tracing one takes half a minute or more: the others are slow.
        pytest.param("fcos_r18_bifpn", "nn", "r10", "onnx", 2.0, marks=pytest.mark.slow),
        pytest.param("fcos_r18_bifpn", "sapa", "r10", "onnx", 2.0, marks=pytest.mark.slow),
        pytest.param("fcos_r18_bifpn", "nn", "r10", "pt2", 2.0, marks=pytest.mark.slow),
        pytest.param("atss_r18_fpn", "nn", "r10", "onnx", 2.0, marks=pytest.mark.slow),
        pytest.param("atss_r18_fpn", "srf", "r10", "pt2", 2.0, marks=pytest.mark.slow),
        pytest.param("retinanet_r18_fpn_thin", "srf", "r10", "pt2", 1.0, marks=pytest.mark.slow),
        pytest.param("centermask_r18_fpn", "srf", "r10", "onnx", 2.0, marks=pytest.mark.slow),
        pytest.param("centermask_r18_fpn", "nn", "r10", "pt2", 2.0, marks=pytest.mark.slow),
        # Windows of a size that does not divide the image's: symbolic sizes must not grow from block to block.
        pytest.param("retinanet_r18_fpn", "nn", "swin_t", "onnx", 0.6, marks=pytest.mark.slow),
        pytest.param(
            "retinanet_r18_fpn", "nn", "timm/tf_efficientnet_lite0", "onnx", 0.3, marks=pytest.mark.slow
        ),
        pytest.param("retinanet_r18_fpn", "nn", "timm/convnext_atto", "onnx", 2.0, marks=pytest.mark.slow),
    ],
)
def test_a_file_finds_what_pytorch_finds(name, upsampler, backbone, format, spread, tmp_path):
    changes = [*CHANGES, f"model.backbone.name={backbone}", f"model.neck.upsampler={upsampler}"]
    config = load_preset(name, changes)
    torch.manual_seed(0)
    detector = build_detector(config.model).eval()
    for parameter in detector.head.parameters():
        if parameter.ndim == 4:
            nn.init.normal_(parameter, std=spread / parameter[0].numel() ** 0.5)
    outputs = output_names(config.model)
    assert outputs == (OUTPUT_NAMES if "mask" in name else OUTPUT_NAMES[:3])
    metadata, path = contract(config, None, outputs), tmp_path / f"detector.{format}"
    if format == "onnx":
        write_onnx(trace(detector), outputs, metadata, path)
    else:
        write_pt2(trace(detector), metadata, path)
    run = open_onnx(path) if format == "onnx" else open_pt2(path)
    images = check_images(smallest_side(config.model))
    differences = compare_on(detector, run, images)
    assert agree(differences) and min(one.expected for one in differences) > 0
    assert all((one.masks is not None) == ("mask" in name) for one in differences)
    assert tuple(run(images["scene"])) == outputs == tuple(json.loads(metadata["outputs"]))
    assert json.loads(metadata["input"])["smallest_side"] == 129
