"""The presets are the detectors that the cases describe: what is compared with the references is what users get."""

import pytest
from parity_configs import config_of

from srfgan_cli.presets.library import flatten, load_preset

CASES = {
    "d2_mask_rcnn_r50_fpn": ("mask_rcnn_r50_fpn_nn",),
    "afi_mask_rcnn_r50_fpn": ("mask_rcnn_r50_fpn_afi",),
    "afi_mask_rcnn_r50_pafpn": ("mask_rcnn_r50_pafpn",),
    "d2_faster_rcnn_r50_fpn": ("faster_rcnn_r50_fpn_nn",),
    "d2_cascade_mask_rcnn_r50_fpn": (
        "mask_rcnn_r50_fpn_nn",
        "model.detector=cascade_mask_rcnn",
        "model.rpn.post_nms_topk_train=2000",
    ),
    "afi_cascade_mask_rcnn_s101_pafpn": ("cascade_s101_pafpn",),
    "afi_cascade_mask_rcnn_s101_fpn": ("cascade_s101_fpn",),
    "afi_cascade_mask_rcnn_swint_bifpn": (
        "cascade_rcnn_swin_t_bifpn",
        "model.detector=cascade_mask_rcnn",
        "model.mask_head.norm=bn",
    ),
    "afi_cascade_mask_rcnn_swin_bifpn": ("cascade_rcnn_swin_l_bifpn_tta",),
    "d2_retinanet_r50_fpn": ("retinanet_r50_fpn_nn",),
    "adet_fcos_r50_fpn": ("fcos_r50_fpn_nn",),
    "srfgan_fcos_r50_fpn": ("fcos_r50_fpn",),
    "adet_fcos_r50_bifpn": ("fcos_r50_bifpn_nn",),
    "sparse_rcnn_r50_100pro": ("sparse_rcnn_r50_fpn_nn",),
}
"""Preset and changes; the two with a Swin are named as the references' configurations are."""


@pytest.mark.parametrize("name", CASES)
def test_a_preset_is_what_its_case_describes(load_case, name):
    preset, *changes = CASES[name]
    described = flatten(config_of(load_case(name).spec))
    given = flatten(load_preset(preset, changes).model)
    # Each case has a threshold of its own, at which it has some dozens of detections.
    assert {key for key in given if given[key] != described[key]} <= {"inference.score_threshold"}
