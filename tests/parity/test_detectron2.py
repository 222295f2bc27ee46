"""The parity cases through an export, in detectron2 itself; skipped where it is not installed."""

import pytest
import torch
from detector_configs import model_config

from srfgan.models import build_detector
from srfgan.models.config import InferenceConfig, NeckConfig
from srfgan.models.weights import load_weights
from srfgan_cli.export.detectron2_file import open_detectron2, write_detectron2
from srfgan_cli.presets.config import Config
from srfgan_cli.runs.trained import TrainedDetector

pytest.importorskip("detectron2")


@pytest.mark.parametrize(
    ("name", "detector", "neck", "upsampler"),
    [
        ("d2_mask_rcnn_r50_fpn", "mask_rcnn", "fpn", "nn"),
        ("afi_mask_rcnn_r50_pafpn", "mask_rcnn", "pafpn", "afi"),
        ("d2_retinanet_r50_fpn", "retinanet", "fpn", "nn"),
    ],
)
def test_detectron2_finds_the_references_detections(
    load_case, weight_file, tmp_path, name, detector, neck, upsampler
):
    case = load_case(name)
    model = model_config(
        detector=detector,
        neck=NeckConfig(name=neck, upsampler=upsampler),
        inference=InferenceConfig(score_threshold=case.spec["score_threshold_test"]),
    )
    ours = build_detector(model).eval()
    load_weights(ours, weight_file(case))
    path = tmp_path / "model.pth"
    write_detectron2(Config(model=model, stages=["finetune"]), TrainedDetector(ours, path, None), path, path)
    exported = torch.load(path)["model"]
    assert {key: list(value.shape) for key, value in exported.items()} == case.spec["parameters"]

    image = case.rgb_image()
    found = open_detectron2(path, ours)(image.float())
    with torch.no_grad():
        expected = ours.detect([image])[0]
    assert found["labels"].tolist() == expected.labels.tolist() == case.golden["det_classes"].tolist()
    torch.testing.assert_close(found["boxes"], expected.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(found["scores"], expected.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["boxes"], torch.from_numpy(case.golden["det_boxes"]), rtol=0, atol=1e-2)
    if model.has_masks:
        torch.testing.assert_close(found["masks"], expected.mask_probs, rtol=0, atol=1e-4)
