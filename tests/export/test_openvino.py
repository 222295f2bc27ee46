"""The ONNX file on OpenVINO, as docs/runtimes.md shows it, finds what PyTorch finds."""

import re
from pathlib import Path

import pytest
import torch

from srfgan_cli.export.check import FULL, compare
from srfgan_cli.export.exported_detector import ExportedDetector

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

PAGE = Path(__file__).parents[2] / "docs" / "runtimes.md"


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


@pytest.mark.slow
def test_a_file_that_openvino_has_saved_says_what_it_is(srfgan, trained, pictures):
    """As docs/runtimes.md saves it: with what `srfgan predict` and `eval` go by, and in float32."""
    made = trained("faster_rcnn_r18_fpn", "model.backbone.name=r10")
    assert srfgan("export", *made.options).code == 0
    onnx, xml = made.path.with_suffix(".onnx"), made.path.with_suffix(".xml")
    save = re.search(r"ov\.save_model\(.*detector\.onnx.*\.xml\"[^)]*\)", PAGE.read_text("utf-8"))[0]
    exec(save.replace("detector.", f"{made.path.with_suffix('')}."), {"ov": openvino})
    ours, theirs = ExportedDetector(xml), ExportedDetector(onnx)
    for name in ("preset", "batch", "categories", "resize", "lowest_score", "most", "counted", "has_masks"):
        assert getattr(ours, name) == getattr(theirs, name)
    for found, expected in zip(ours.detect(pictures), theirs.detect(pictures), strict=True):
        torch.testing.assert_close(found.boxes, expected.boxes, atol=0.05, rtol=0)
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    xml.with_suffix(".bin").unlink()
    done = srfgan("predict", made.path, "--weights", xml)
    assert done.code == 2 and "model.bin: no such file" in done.err
