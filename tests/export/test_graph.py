"""The graph that is exported, before any file format."""

from typing import get_args

import pytest
import torch

from models.config import UpsamplerName
from models.factory import build_upsampler
from srfgan_cli.export.graph import DetectorGraph

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("preset", ["mask_rcnn_r18_fpn", "faster_rcnn_r18_fpn", "cascade_mask_rcnn_r18_fpn"])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_the_graph_prepares_images_as_the_detector_does(trained, pictures, preset, order):
    made = trained(preset, f"model.pixel.order={order}", "model.pixel.mean=[90.0, 120.0, 150.0]")
    for picture, found in zip(pictures, made.expected, strict=True):
        with torch.no_grad():
            outputs = DetectorGraph(made.detector)(picture)
        expected = [found.boxes, found.scores, found.labels, found.mask_probs][: len(outputs)]
        assert len(outputs) == (4 if "mask" in preset else 3)
        for ours, theirs in zip(expected, outputs, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", get_args(UpsamplerName))
def test_every_upsampler_runs_in_onnxruntime_at_any_size(name):
    torch.manual_seed(0)
    upsample = build_upsampler(name, 8).eval()
    sizes = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    program = torch.onnx.export(upsample, (torch.rand(1, 8, 5, 6),), dynamic_shapes=sizes, verbose=False)
    runtime = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for height, width in ((3, 2), (9, 14)):
        x = torch.randn(1, 8, height, width)
        with torch.no_grad():
            expected = upsample(x)
        (found,) = runtime.run(None, {runtime.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
