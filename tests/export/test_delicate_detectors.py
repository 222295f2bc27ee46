"""Detectors as files whose graphs know sizes as symbols only: of pooled maps, odd ones too, and of lists of boxes."""

import pytest
import torch
from torch import nn

from srfgan.models import build_detector
from srfgan_cli.export.check import agree, check_images, compare_on
from srfgan_cli.export.contract import contract
from srfgan_cli.export.graph import output_names, smallest_side, trace
from srfgan_cli.export.onnx_file import open_onnx, write_onnx
from srfgan_cli.export.pt2_file import open_pt2, write_pt2
from srfgan_cli.presets import load_preset

CHANGES = ["model.backbone.name=r10", "model.num_classes=3", "model.inference.score_threshold=0.2"]


@pytest.mark.parametrize(
    ("write", "read", "name"), [(write_onnx, open_onnx, "a.onnx"), (write_pt2, open_pt2, "a.pt2")]
)
@pytest.mark.parametrize(
    "preset", ["libra_rcnn_r18_fpn_nn", "mask_rcnn_r18_augfpn_nn", "panet_r18_pafpn_nn", "tridentnet_r18_c4"]
)
@pytest.mark.slow
def test_a_file_finds_what_pytorch_finds(preset, write, read, name, tmp_path):
    if write is write_onnx:
        pytest.importorskip("onnxruntime")
    config = load_preset(preset, CHANGES)
    torch.manual_seed(0)
    detector = build_detector(config.model).eval()
    nn.init.normal_(detector.head.rpn.objectness.weight, std=0.3)
    nn.init.normal_(detector.head.box.classes.weight, std=0.3)
    names = output_names(config.model)
    metadata = contract(config, None, names)
    program = trace(detector)
    if write is write_onnx:
        write(program, names, metadata, tmp_path / name)
    else:
        write(program, metadata, tmp_path / name)
    differences = compare_on(detector, read(tmp_path / name), check_images(smallest_side(config.model)))
    assert agree(differences) and min(one.expected for one in differences) > 0
