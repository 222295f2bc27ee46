"""Sparse R-CNN as a file: no NMS, and the best pairs ranked in the graph."""

import pytest
import torch
from torch import nn

from srfgan.models import build_detector
from srfgan_cli.export.check import agree, check_images, compare_on
from srfgan_cli.export.contract import contract
from srfgan_cli.export.graph import OUTPUT_NAMES, smallest_side, trace
from srfgan_cli.export.onnx_file import open_onnx, write_onnx
from srfgan_cli.export.pt2_file import open_pt2, write_pt2
from srfgan_cli.presets import load_preset

CHANGES = ["model.backbone.name=r10", "model.num_classes=3", "model.sparse_rcnn.stages=2"]


@pytest.fixture(scope="module")
def traced():
    """A detector whose boxes differ and move, and its graph."""
    config = load_preset("sparse_rcnn_r18_fpn_nn", CHANGES)
    torch.manual_seed(0)
    detector = build_detector(config.model).eval()
    with torch.no_grad():
        detector.head.proposal_boxes.uniform_(0.2, 0.8)
        for stage in detector.head.stages:
            nn.init.normal_(stage.deltas.weight, std=0.1)
            nn.init.normal_(stage.classes.weight, std=0.3)
    return config, detector, trace(detector)


@pytest.mark.parametrize(
    ("write", "read", "name"), [(write_onnx, open_onnx, "a.onnx"), (write_pt2, open_pt2, "a.pt2")]
)
@pytest.mark.slow
def test_a_file_finds_what_pytorch_finds(traced, write, read, name, tmp_path):
    config, detector, program = traced
    metadata = contract(config, None, OUTPUT_NAMES[:3])
    if write is write_onnx:
        pytest.importorskip("onnxruntime")
        write(program, OUTPUT_NAMES[:3], metadata, tmp_path / name)
    else:
        write(program, metadata, tmp_path / name)
    images = check_images(smallest_side(config.model))
    differences = compare_on(detector, read(tmp_path / name), images)
    assert agree(differences) and min(one.same for one in differences) > 40
    assert max(one.boxes for one in differences) < 0.01
