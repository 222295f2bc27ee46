"""Typed configuration of everything that `models` builds.

Importing this module does not import torch. All configs are strict: an unknown key or a value of another
type is an error (pydantic's `ValidationError`), so a typo never passes silently.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticKnownError

from models.upsamplers import UPSAMPLERS

BackboneName = Literal["r10", "r18", "r50", "r101", "x101_64x4d", "s101", "v39", "v99", "swin_t", "swin_l"]
"""`r10`: one block per stage and half of ResNet-18's width, for trainings of minutes on a CPU."""
TIMM = "timm/"
"""Begins the name of a backbone that is taken from timm as it is, as `timm/convnext_tiny` or
`timm/convnext_tiny.in12k_ft_in1k`."""
if TYPE_CHECKING:
    UpsamplerName = str
else:
    # One list of upsamplers, which a type checker cannot read; pydantic can.
    UpsamplerName = Literal[tuple(UPSAMPLERS)]
NeckName = Literal["fpn", "pafpn", "bifpn"]
DetectorName = Literal[
    "faster_rcnn",
    "mask_rcnn",
    "cascade_rcnn",
    "cascade_mask_rcnn",
    "retinanet",
    "fcos",
    "centermask",
    "sparse_rcnn",
]

RESNETS = ("r10", "r18", "r50", "r101", "x101_64x4d", "s101")
"""Backbones of ResNet's form, with its `layer1` to `layer4`."""

ONE_STAGE = ("retinanet", "fcos", "centermask")
"""Detectors whose boxes come from p3..p7: they leave out res2, and make p6 and p7 by convolutions."""
FCOS = ("fcos", "centermask")
"""Detectors whose boxes are FCOS's: they have no anchors."""


class StrictConfig(BaseModel):
    """Base of all configs: immutable, no unknown keys, no silent conversion of types, finite numbers.

    Every number has bounds, wide ones: what lies outside is a slip of the pen, not an experiment.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


Positive = Annotated[float, Field(gt=0, le=100_000)]
"""A size in pixels, or a factor."""


class PixelConfig(StrictConfig):
    """What a model does to the RGB values 0..255 that callers hand it."""

    order: Literal["RGB", "BGR"] = "BGR"
    mean: list[Annotated[float, Field(ge=-1000, le=1000)]] = Field(
        [103.53, 116.28, 123.675], min_length=3, max_length=3
    )
    """Subtracted, in the channel order of `order`."""
    std: list[Annotated[float, Field(ge=0.001, le=1000)]] = Field([1.0, 1.0, 1.0], min_length=3, max_length=3)
    """Divided by, after the mean."""


def _names_a_backbone(name: str) -> str:
    """A named backbone, or `timm/NAME`; whether timm has it is seen where it is built."""
    if name not in get_args(BackboneName) and not re.fullmatch(rf"{TIMM}[a-z0-9_.]+", name):
        known = ", ".join(map(repr, get_args(BackboneName)))
        raise PydanticKnownError("literal_error", {"expected": f"{known} or '{TIMM}NAME'"})
    return name


class BackboneConfig(StrictConfig):
    """A network from timm; gives res2..res5 at strides 4..32.

    `s101` is ResNeSt-101, `v39` and `v99` are VoVNetV2, `swin_t` and `swin_l` Swin Transformers, with the quirks of
    the references; `timm/NAME` is any network of timm's, as it is there.
    """

    name: Annotated[str, AfterValidator(_names_a_backbone)] = "r50"
    norm: Literal["frozen_bn", "bn"] = "frozen_bn"
    """`frozen_bn` needs pre-trained statistics; training from nothing needs `bn`.

    Networks of layer norms (Swin, ConvNeXt) have neither; `s101` with `bn` trains on two images per process or
    more (its attention's norm sees one value per image and channel).
    """
    freeze_at: int = Field(2, ge=0, le=5)
    """detectron2's FREEZE_AT: 0 trains all, 1 freezes the stem (what comes before stride 4), 2 the stem and res2,
    and so on."""
    stride_in_1x1: bool = True
    """Stride in a bottleneck's first 1x1 (the MSRA weights) instead of its 3x3 (torchvision's, timm's).

    ResNets and ResNeXts only.
    """


class BiFPNConfig(StrictConfig):
    """The bidirectional pyramid, p3..p7 for every detector."""

    wiring: Literal["paper", "afigan", "adelaidet"] = "paper"
    """`paper`: EfficientDet's. `afigan` and `adelaidet` are what these projects' published weights need:
    the first has raw fusion weights and its first laterals as the skips of every layer, the second plain
    3x3 convolutions."""
    repeats: int = Field(7, ge=1, le=64)
    """Layers; 7 in AFI-GAN's published weights, 6 in AdelaiDet's."""


class NeckConfig(StrictConfig):
    """The feature pyramid and what upsamples in its top-down path."""

    name: NeckName = "fpn"
    channels: int = Field(256, ge=8, le=8192)
    upsampler: UpsamplerName = "srf"
    """What upsamples in the top-down path; `srf` and `afi` are the generators that stage 1 trains, and the other
    learned ones learn with the detector alone."""
    norm: Literal["none", "bn"] = "none"
    """`bn`: BatchNorm after each of the neck's convolutions, which then have no bias. A BiFPN has
    norms of its own, and needs more than one pixel at p7 (or more than one image) to train."""
    bifpn: BiFPNConfig = BiFPNConfig()
    """Used by `bifpn`."""


class DiscriminatorConfig(StrictConfig):
    """The feature patch discriminator (SRF-GAN paper, section 3.1)."""

    widths: list[Annotated[int, Field(ge=1, le=8192)]] = Field([512, 1024, 1024], min_length=1, max_length=64)
    kernel: Literal[1, 3] = 1
    """Kernel of the last convolution: 1 in the paper, 3 in the published code and weights."""


class AnchorConfig(StrictConfig):
    """One anchor size per pyramid level, every ratio at every position."""

    sizes: list[Positive] = Field([32.0, 64.0, 128.0, 256.0, 512.0], min_length=1, max_length=64)
    ratios: list[Annotated[float, Field(ge=0.01, le=100)]] = Field(
        [0.5, 1.0, 2.0], min_length=1, max_length=64
    )
    """Height over width."""


class RPNConfig(StrictConfig):
    """Region proposal network; detectron2's numbers."""

    pre_nms_topk_train: int = Field(2000, ge=1, le=100_000)
    pre_nms_topk_test: int = Field(1000, ge=1, le=100_000)
    post_nms_topk_train: int = Field(1000, ge=1, le=100_000)
    post_nms_topk_test: int = Field(1000, ge=1, le=100_000)
    nms_iou: float = Field(0.7, gt=0, le=1)
    samples_per_image: int = Field(256, ge=1, le=100_000)
    positive_fraction: float = Field(0.5, gt=0, le=1)


class BoxHeadConfig(StrictConfig):
    """RoI box head of the two-stage detectors."""

    samples_per_image: int = Field(512, ge=1, le=100_000)
    positive_fraction: float = Field(0.25, gt=0, le=1)
    num_convs: int = Field(0, ge=0, le=64)
    """3x3 convolutions before the linear layers."""
    conv_channels: int = Field(256, ge=8, le=8192)
    norm: Literal["none", "bn"] = "none"
    """Of these convolutions; with a norm they have no bias."""
    num_fcs: int = Field(2, ge=1, le=64)
    fc_dim: int = Field(1024, ge=8, le=16_384)
    resolution: int = Field(7, ge=1, le=128)


class CascadeConfig(StrictConfig):
    """The box heads of Cascade R-CNN, one for each entry; their boxes are one for all classes."""

    ious: list[Annotated[float, Field(gt=0, le=1)]] = Field([0.5, 0.6, 0.7], min_length=1, max_length=64)
    """From which overlap with a ground-truth box each stage counts a box as that object."""
    weights: list[Annotated[list[Positive], Field(min_length=4, max_length=4)]] = [
        [10.0, 10.0, 5.0, 5.0],
        [20.0, 20.0, 10.0, 10.0],
        [30.0, 30.0, 15.0, 15.0],
    ]
    """Factors on each stage's deltas (dx, dy, dw, dh)."""

    @model_validator(mode="after")
    def _one_entry_per_stage(self) -> CascadeConfig:
        if len(self.ious) != len(self.weights):
            raise ValueError(
                f"cascade needs as many ious as weights, got {len(self.ious)} and {len(self.weights)}"
            )
        return self


class MaskHeadConfig(StrictConfig):
    """RoI mask head of Mask R-CNN and CenterMask."""

    num_convs: int = Field(4, ge=0, le=64)
    channels: int = Field(256, ge=8, le=8192)
    norm: Literal["none", "bn"] = "none"
    """Of these convolutions; with a norm they have no bias."""
    resolution: int = Field(14, ge=1, le=128)
    """RoIAlign's output; the mask logits have twice this."""


class RetinaNetConfig(StrictConfig):
    """RetinaNet's head; detectron2's numbers."""

    num_convs: int = Field(4, ge=1, le=64)
    """Convolutions of each tower."""
    pre_nms_topk: int = Field(1000, ge=1, le=100_000)
    """Best pairs of anchor and class of each level that go into NMS."""


class FCOSConfig(StrictConfig):
    """FCOS's head; AdelaiDet's numbers."""

    num_convs: int = Field(4, ge=1, le=64)
    """Convolutions of each tower."""
    pre_nms_topk: int = Field(1000, ge=1, le=100_000)
    """Best pairs of place and class of each level that go into NMS."""
    sizes_of_interest: list[Positive] = Field([64.0, 128.0, 256.0, 512.0], min_length=4, max_length=4)
    """Borders between the sizes that p3..p7 answer for: a box's farthest side from a place, in pixels."""

    @model_validator(mode="after")
    def _borders_in_order(self) -> FCOSConfig:
        borders = self.sizes_of_interest
        if any(b <= a for a, b in pairwise(borders)):
            raise ValueError(f"sizes_of_interest must increase, got {borders}")
        return self


class CenterMaskConfig(StrictConfig):
    """What CenterMask has besides FCOS and a mask head; CenterMask2's numbers."""

    proposal_threshold: float = Field(0.05, ge=0, le=1)
    """Training: class score from which a box of FCOS may train the masks."""
    proposals_per_image: int = Field(100, ge=1, le=100_000)
    """Training: best boxes of FCOS, to which the ground-truth boxes are added."""
    masks_per_image: int = Field(128, ge=1, le=100_000)
    """Training: most of these boxes that masks are learnt on."""
    iou_convs: int = Field(4, ge=1, le=64)
    """Convolutions of the mask-IoU head, as wide as the mask head's."""
    iou_fc_dim: int = Field(1024, ge=8, le=16_384)


class SparseRCNNConfig(StrictConfig):
    """Sparse R-CNN's proposals and iterations; the paper's numbers."""

    num_proposals: int = Field(100, ge=1, le=100_000)
    """Learned boxes, the same ones for every image; also the most objects that an image can teach."""
    stages: int = Field(6, ge=1, le=64)
    """How often the boxes are refined, by a head of its own each time."""
    attention_heads: int = Field(8, ge=1, le=8192)
    """Of the self-attention among the proposals; divides neck.channels."""
    feedforward_width: int = Field(2048, ge=8, le=16_384)
    """Hidden width after the interaction."""
    dynamic_width: int = Field(64, ge=8, le=8192)
    """Between the two convolutions that each proposal's features become."""
    class_weight: float = Field(2.0, ge=0, le=1000)
    """Of the focal loss, and of its part in the matching; so are the next two."""
    l1_weight: float = Field(5.0, ge=0, le=1000)
    giou_weight: float = Field(2.0, ge=0, le=1000)


class InferenceConfig(StrictConfig):
    """What becomes a detection at test time."""

    score_threshold: float = Field(0.05, ge=0, le=1)
    nms_iou: float = Field(0.5, gt=0, le=1)
    detections_per_image: int = Field(100, ge=1, le=100_000)


class ModelConfig(StrictConfig):
    """A whole detector; `models.build_detector` reads it top to bottom."""

    detector: DetectorName = "mask_rcnn"
    num_classes: int = Field(80, ge=1, le=100_000)
    pixel: PixelConfig = PixelConfig()
    backbone: BackboneConfig = BackboneConfig()
    neck: NeckConfig = NeckConfig()
    anchors: AnchorConfig = AnchorConfig()
    rpn: RPNConfig = RPNConfig()
    box_head: BoxHeadConfig = BoxHeadConfig()
    cascade: CascadeConfig = CascadeConfig()
    """Used by `cascade_rcnn` and `cascade_mask_rcnn`."""
    mask_head: MaskHeadConfig = MaskHeadConfig()
    """Used by detectors with masks."""
    retinanet: RetinaNetConfig = RetinaNetConfig()
    """Used by `retinanet`."""
    fcos: FCOSConfig = FCOSConfig()
    """Used by `fcos` and `centermask`."""
    centermask: CenterMaskConfig = CenterMaskConfig()
    """Used by `centermask`."""
    sparse_rcnn: SparseRCNNConfig = SparseRCNNConfig()
    """Used by `sparse_rcnn`."""
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="after")
    def _one_anchor_size_per_level(self) -> ModelConfig:
        levels = self.levels
        if self.detector not in (*FCOS, "sparse_rcnn") and len(self.anchors.sizes) != len(levels):
            raise ValueError(
                f"anchors.sizes needs one size for each of {levels[0]}..{levels[-1]} ({len(levels)}), "
                f"got {len(self.anchors.sizes)}"
            )
        return self

    @model_validator(mode="after")
    def _width_that_fcos_can_normalise(self) -> ModelConfig:
        channels = self.neck.channels
        if self.detector in FCOS and (channels < 64 or channels % 32):
            raise ValueError(
                f"{self.detector} normalises 32 groups of at least two channels: neck.channels must be a "
                f"multiple of 32 from 64, got {channels}"
            )
        return self

    @model_validator(mode="after")
    def _width_that_sparse_rcnn_can_attend(self) -> ModelConfig:
        channels, heads = self.neck.channels, self.sparse_rcnn.attention_heads
        if self.detector == "sparse_rcnn" and channels % heads:
            raise ValueError(
                "sparse_rcnn deals neck.channels out to its attention heads: they must be a multiple of "
                f"sparse_rcnn.attention_heads ({heads}), got {channels}"
            )
        return self

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the pyramid's levels, finest first: p3..p7 for one-stage detectors and on a BiFPN, else p2..p6."""
        finest = 3 if self.detector in ONE_STAGE or self.neck.name == "bifpn" else 2
        return tuple(f"p{level}" for level in range(finest, finest + 5))

    @property
    def pool_levels(self) -> tuple[str, ...]:
        """The levels that RoI heads pool from: the finest four, or p3..p5 on top of a one-stage detector.

        Sparse R-CNN has no RPN that uses a BiFPN's p7, so its boxes may come from there as well.
        """
        if self.detector == "sparse_rcnn" and self.neck.name == "bifpn":
            return self.levels
        return self.levels[: 3 if self.detector in ONE_STAGE else 4]

    @property
    def coarsest_upsampled(self) -> str:
        """The coarsest level that the neck upsamples."""
        return "p7" if self.neck.name == "bifpn" else "p5"

    @property
    def size_divisibility(self) -> int:
        """Images are padded to sides that are multiples of this many pixels."""
        return 128 if self.neck.name == "bifpn" and self.neck.bifpn.wiring == "afigan" else 32

    @property
    def has_masks(self) -> bool:
        """Whether the detector predicts masks."""
        return self.detector in ("mask_rcnn", "cascade_mask_rcnn", "centermask")

    @property
    def has_mask_scores(self) -> bool:
        """Whether the detector ranks its masks by scores of their own."""
        return self.detector == "centermask"
