"""What a detector costs, against numbers worked out by hand and against a real run."""

import torch
from detector_configs import model_config
from torch.utils.flop_counter import FlopCounterMode

from srfgan.models import build_detector
from srfgan.models.config import (
    BackboneConfig,
    BoxHeadConfig,
    InferenceConfig,
    MaskHeadConfig,
    NeckConfig,
    RPNConfig,
)
from srfgan.models.count import cost_of

R10 = BackboneConfig(name="r10", norm="bn", freeze_at=0, stride_in_1x1=False)


def test_a_small_mask_rcnn_by_hand():
    config = model_config(
        num_classes=3,
        backbone=R10,
        neck=NeckConfig(channels=32, upsampler="nn"),
        rpn=RPNConfig(post_nms_topk_test=50),
        box_head=BoxHeadConfig(fc_dim=16),
        mask_head=MaskHeadConfig(num_convs=1, channels=16),
        inference=InferenceConfig(detections_per_image=7),
    )
    cost = cost_of(config, 64, 96)
    places, widths = [16 * 24, 8 * 12, 4 * 6, 2 * 3, 1 * 2], [32, 64, 128, 256]
    backbone = 7 * 7 * 3 * 64 * (32 * 48)
    for before, after, count in zip([64, *widths], widths, places, strict=False):
        block = 9 * before * after + 9 * after * after + before * after  # two 3x3 and the shortcut's 1x1
        backbone += block * count
    assert cost.backbone == backbone
    neck = sum((width * 32 + 9 * 32 * 32) * count for width, count in zip(widths, places, strict=False))
    assert cost.neck == neck
    rpn = sum(places) * (9 * 32 * 32 + 32 * 3 + 32 * 12)
    boxes = 50 * (7 * 7 * 32 * 16 + 16 * 16 + 16 * (3 + 1) + 16 * (3 * 4))
    masks = 7 * (14 * 14 * (9 * 32 * 16 + 4 * 16 * 16) + 28 * 28 * 16)
    assert cost.head == rpn + boxes + masks
    assert cost.macs == backbone + neck + rpn + boxes + masks
    assert cost.parameters == sum(parameter.numel() for parameter in build_detector(config).parameters())


def test_a_one_stage_detector_as_it_runs():
    config = model_config(detector="fcos", backbone=R10, neck=NeckConfig(channels=64, upsampler="afi"))
    detector = build_detector(config).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        detector.detect([torch.zeros(3, 64, 96)])
    assert 2 * cost_of(config, 64, 96).macs == counter.get_total_flops()
