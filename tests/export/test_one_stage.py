"""One-stage detectors as files: p7 makes the smallest image larger, and ranking in a graph is another way."""

import json

import pytest
import torch
from torch import nn

from models import build_detector
from srfgan_cli.export.check import agree, check_images, compare_on
from srfgan_cli.export.contract import contract
from srfgan_cli.export.graph import OUTPUT_NAMES, smallest_side, trace
from srfgan_cli.export.onnx_file import open_onnx, write_onnx
from srfgan_cli.presets import load_preset

pytest.importorskip("onnxruntime")

CHANGES = ["model.backbone.name=r10", "model.num_classes=3", "model.inference.score_threshold=0.0"]


@pytest.mark.parametrize("name", ["retinanet_r18_fpn_nn", "fcos_r18_fpn_nn", "fcos_r18_bifpn_nn"])
def test_an_onnx_file_finds_what_pytorch_finds(name, tmp_path):
    config = load_preset(name, CHANGES)
    torch.manual_seed(0)
    detector = build_detector(config.model).eval()
    for parameter in detector.head.parameters():
        if parameter.ndim == 4:
            nn.init.normal_(parameter, std=2 / parameter[0].numel() ** 0.5)
    metadata = contract(config, None, OUTPUT_NAMES[:3])
    write_onnx(trace(detector), OUTPUT_NAMES[:3], metadata, tmp_path / "detector.onnx")
    images = check_images(smallest_side(config.model))
    differences = compare_on(detector, open_onnx(tmp_path / "detector.onnx"), images)
    assert agree(differences) and min(one.expected for one in differences) > 0
    assert json.loads(metadata["input"])["smallest_side"] == 129
