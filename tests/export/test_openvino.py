"""The ONNX file on OpenVINO, as docs/runtimes.md shows it, finds what PyTorch finds."""

import pytest
import torch

from srfgan_cli.export.check import FULL, compare

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")


@pytest.mark.slow
def test_openvino_finds_what_pytorch_finds(srfgan, trained, pictures):
    made = trained("mask_rcnn_r18_fpn", "model.backbone.name=r10")
    outcome = srfgan("export", *made.options)
    assert outcome.code == 0, outcome.err
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    detector = openvino.Core().compile_model(made.path.with_suffix(".onnx"), "CPU", settings)
    names = [next(iter(output.get_names())) for output in detector.outputs]
    same = total = 0
    for expected, picture in zip(made.expected, pictures, strict=True):
        outputs = detector({"image": picture.numpy()})
        found = {name: torch.from_numpy(outputs[name].copy()) for name in names}
        one = compare(expected, found, "x", FULL)
        same, total = same + one.same, total + one.total
    assert total > 10 and same >= 0.95 * total
