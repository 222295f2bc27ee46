"""What every detector is configured by: pixels, backbone, neck, and what becomes a detection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, PlainValidator, model_validator
from pydantic_core import PydanticKnownError

from srfgan.models.strict import StrictConfig
from srfgan.models.upsamplers import SIZED, UPSAMPLERS

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
NeckName = Literal["fpn", "pafpn", "bifpn", "augfpn"]
"""`augfpn`: FPN whose coarsest level also sees the whole image. Faster and Mask R-CNN on it pool each box from all
levels at once, and learn on its levels before they are added up, too."""
RESNETS = ("r10", "r18", "r50", "r101", "x101_64x4d", "s101")
"""Backbones of ResNet's form, with its `layer1` to `layer4`."""


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

    @property
    def timm_name(self) -> str | None:
        """timm's own name of a backbone `timm/NAME`; None of a named one."""
        return self.name.removeprefix(TIMM) if self.name.startswith(TIMM) else None


class BiFPNConfig(StrictConfig):
    """The bidirectional pyramid, p3..p7 for every detector."""

    wiring: Literal["paper", "afigan", "adelaidet"] = "paper"
    """`paper`: EfficientDet's. `afigan` and `adelaidet` are what these projects' published weights need:
    the first has raw fusion weights and its first laterals as the skips of every layer, the second plain
    3x3 convolutions."""
    repeats: int = Field(7, ge=1, le=64)
    """Layers; 7 in AFI-GAN's published weights, 6 in AdelaiDet's."""


class PAFPNConfig(StrictConfig):
    """The path back down to the coarse levels."""

    wiring: Literal["paper", "afigan"] = "afigan"
    """`paper`: PANet's, which starts from FPN's outputs and has a convolution after each sum. `afigan`: that of
    AFI-GAN's and SRF-GAN's published weights, a path of plain sums, and output convolutions beside it."""


def _is_a_width(value: Any) -> int | float:
    """A number of channels, or a share of some.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, float) and 0 < value < 1:
        return value
    if type(value) is int and 1 <= value <= 8192:
        return value
    raise ValueError("channels, from 1 to 8192, or a share of the maps' between 0 and 1")


class GeneratorConfig(StrictConfig):
    """The size of the generator `srf`; what is not given is the paper's."""

    width: Annotated[int | float, PlainValidator(_is_a_width)] | None = None
    """Channels inside, between a 1x1 convolution down to them and one up again, or below 1 their share of the maps'
    channels; None: as many as the maps have, without the first of the two."""
    blocks: int | None = Field(None, ge=1, le=64)
    """Residual blocks; None: 5."""

    def sizes(self, channels: int) -> dict[str, int]:
        """What is given, `width` in channels, for maps of `channels`."""
        given: dict[str, int] = {}
        if self.width is not None:
            share = self.width < 1
            given["width"] = max(1, round(self.width * channels)) if share else int(self.width)
        if self.blocks is not None:
            given["blocks"] = self.blocks
        return given


class NeckConfig(StrictConfig):
    """The feature pyramid and what upsamples in its top-down path."""

    name: NeckName = "fpn"
    channels: int = Field(256, ge=8, le=8192)
    upsampler: UpsamplerName = "srf"
    """What upsamples in the top-down path; `srf` and `afi` are the generators that stage 1 trains, and the other
    learned ones learn with the detector alone."""
    generator: GeneratorConfig | None = None
    """The size of `srf`, as a thin one's; None: the paper's. No other upsampler has sizes to choose."""
    norm: Literal["none", "bn"] = "none"
    """`bn`: BatchNorm after each of the neck's convolutions, which then have no bias. A BiFPN has
    norms of its own, and needs more than one pixel at p7 (or more than one image) to train."""
    bifpn: BiFPNConfig = BiFPNConfig()
    """Used by `bifpn`."""
    pafpn: PAFPNConfig = PAFPNConfig()
    """Used by `pafpn`."""

    @model_validator(mode="after")
    def _a_size_of_what_has_one(self) -> Self:
        if self.generator is not None and self.upsampler != SIZED:
            raise ValueError(
                f"generator is the size of the upsampler {SIZED!r}, got the upsampler {self.upsampler!r} with it; "
                "model.neck.generator=null leaves it out"
            )
        return self

    def plain(self) -> Self:
        """The same pyramid with nearest neighbour, as a guide's."""
        return self.model_copy(update={"upsampler": "nn", "generator": None})


class DiscriminatorConfig(StrictConfig):
    """The feature patch discriminator (SRF-GAN paper, section 3.1)."""

    widths: list[Annotated[int, Field(ge=1, le=8192)]] = Field([512, 1024, 1024], min_length=1, max_length=64)
    kernel: Literal[1, 3] = 1
    """Kernel of the last convolution: 1 in the paper, 3 in the published code and weights."""
    normalization: Literal["batch", "spectral"] = "batch"
    """Of each convolution's maps, as in the paper; or of its weights, by their largest singular value, the last
    convolution's too (SN-GAN, arXiv 1802.05957), without batch norms."""


class InferenceConfig(StrictConfig):
    """What becomes a detection at test time."""

    score_threshold: float = Field(0.05, ge=0, le=1)
    nms_iou: float = Field(0.5, gt=0, le=1)
    detections_per_image: int = Field(100, ge=1, le=100_000)
    winograd: bool = True
    """On a CPU in float32, the large 3x3 convolutions of neck, generator and heads by Winograd's algorithm: about half
    their time, and the same to rounding, less than 1e-5 of the largest value."""
    cuda_graphs: bool = True
    """On a GPU, `eval` and `predict` record backbone and neck as CUDA graphs, one for each size of batch that comes
    again (24 at most), and play them back: the same results, without the host's time between the kernels."""


class ModelConfig(StrictConfig):
    """A whole detector; `srfgan.models.build_detector` builds it. Each detector's own class says the rest.

    Attributes:
        finest: the finest pyramid level that its boxes come from; a BiFPN has none finer than p3.
        pooled: how many levels RoI heads pool from, the finest ones.
        coarser_from: the map that convolutions make p6 and p7 of; None: p6 is p5, pooled.
        has_pyramid: whether it has a neck, in which something is upsampled.
        has_masks: whether it predicts masks.
        has_mask_scores: whether it ranks its masks by scores of their own.
        inference_in_training: keys of `inference` that also decide what a training learns from.
        counted: what its losses are divided by that differs from batch to batch, in words.
    """

    finest: ClassVar[int] = 2
    pooled: ClassVar[int] = 4
    coarser_from: ClassVar[Literal["res5", "p5"] | None] = None
    has_pyramid: ClassVar[bool] = True
    has_masks: ClassVar[bool] = False
    has_mask_scores: ClassVar[bool] = False
    inference_in_training: ClassVar[tuple[str, ...]] = ()
    counted: ClassVar[str] = "positives"

    detector: str
    num_classes: int = Field(80, ge=1, le=100_000)
    pixel: PixelConfig = PixelConfig()
    backbone: BackboneConfig = BackboneConfig()
    neck: NeckConfig = NeckConfig()
    inference: InferenceConfig = InferenceConfig()

    @property
    def leaves_pixels_to_timm(self) -> bool:
        """Whether something of `pixel` is not given, and the backbone is one of timm's, which knows it."""
        given = self.pixel.model_fields_set
        return self.backbone.timm_name is not None and given != PixelConfig.model_fields.keys()

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the pyramid's levels, finest first: five from `finest` on, p3..p7 on a BiFPN."""
        finest = 3 if self.neck.name == "bifpn" else self.finest
        return tuple(f"p{level}" for level in range(finest, finest + 5))

    @property
    def pool_levels(self) -> tuple[str, ...]:
        """The levels that RoI heads pool from."""
        return self.levels[: self.pooled]

    @property
    def coarsest_upsampled(self) -> str:
        """The coarsest level that the neck upsamples."""
        return "p7" if self.neck.name == "bifpn" else "p5"

    @property
    def size_divisibility(self) -> int:
        """Images are padded to sides that are multiples of this many pixels."""
        return 128 if self.neck.name == "bifpn" and self.neck.bifpn.wiring == "afigan" else 32

    def plain(self) -> Self:
        """The same detector with nearest neighbour in its pyramid."""
        return self.model_copy(update={"neck": self.neck.plain()})

    def scaled(self, factor: float) -> Self:
        """The detector for images of `factor` times the size: whatever of it is a length in pixels follows."""
        return self
