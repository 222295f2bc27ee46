"""TridentNet: Faster R-CNN on res4, whose blocks see each image at several dilations with the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from srfgan.models.config.anchors import AnchorConfig
from srfgan.models.config.common import RESNETS, ModelConfig, NeckConfig, Positive
from srfgan.models.config.two_stage import RPNConfig
from srfgan.models.strict import StrictConfig

_BACKBONES = tuple(name for name in RESNETS if name != "s101")


class NoNeckConfig(NeckConfig):
    """Says of a detector without a neck what others' necks say of theirs: res4 goes on as it is."""

    name: Literal["c4"] = "c4"  # type: ignore[assignment]
    upsampler: Literal["nn"] = "nn"


class TridentConfig(StrictConfig):
    """The branches; the paper's numbers."""

    dilations: list[Annotated[int, Field(ge=1, le=16)]] = Field([1, 2, 3], min_length=1, max_length=8)
    """One for each branch: of the 3x3 convolutions in all blocks of res4, whose weights the branches share."""
    scale_aware: bool = True
    """Each branch learns only boxes of its own range, and finds only these where all branches detect."""
    ranges: list[Annotated[list[Positive | Literal[0] | None], Field(min_length=2, max_length=2)]] = [
        [0, 150.0],
        [50.0, 270.0],
        [150.0, None],
    ]
    """Smallest and largest side (the root of the area) of each branch's boxes, in pixels of the resized image; null:
    no limit. The paper has 0-90, 30-160 and from 90 on in COCO's own pixels. These are its authors' for resized ones,
    which is the same where 480 pixels become 800; smaller images, or smaller objects, want smaller ranges."""
    test_branch: int | None = Field(None, ge=0, le=7)
    """The one branch that detects, counted from 0 (TridentNet Fast); null: all of them, and their boxes are merged."""

    @model_validator(mode="after")
    def _one_range_per_branch(self) -> Self:
        count = len(self.dilations)
        if len(self.ranges) != count:
            raise ValueError(
                f"trident needs one range for each of its {count} dilations, got {len(self.ranges)}"
            )
        wrong = [(low, high) for low, high in self.ranges if high is not None and (low or 0) >= high]
        if wrong:
            raise ValueError(
                f"trident.ranges: a branch's smallest side must be below its largest, got {wrong[0]}"
            )
        if self.test_branch is not None and self.test_branch >= count:
            raise ValueError(
                f"trident.test_branch: the branches are 0 to {count - 1}, got {self.test_branch}"
            )
        return self

    def scaled(self, factor: float) -> Self:
        """With ranges of `factor` times the size."""
        ranges = [[side and side * factor for side in sides] for sides in self.ranges]
        return self.model_copy(update={"ranges": ranges})


class C5HeadConfig(StrictConfig):
    """RoI head of res5 and one layer; the paper's numbers."""

    samples_per_image: int = Field(128, ge=1, le=100_000)
    """Of each branch."""
    positive_fraction: float = Field(0.5, gt=0, le=1)
    resolution: int = Field(14, ge=2, le=128)
    """RoIAlign's output; res5 halves it."""


class TridentNetConfig(ModelConfig):
    """TridentNet."""

    if not TYPE_CHECKING:
        # No section of the config: nothing is merged, and nothing upsampled. What reads it need not know.
        neck: ClassVar[NeckConfig] = NoNeckConfig()
    has_pyramid: ClassVar[bool] = False

    detector: Literal["tridentnet"] = "tridentnet"
    trident: TridentConfig = TridentConfig()
    anchors: AnchorConfig = AnchorConfig()
    """All sizes at every position."""
    rpn: RPNConfig = RPNConfig(pre_nms_topk_train=12_000, pre_nms_topk_test=6000, post_nms_topk_train=500)
    c5_head: C5HeadConfig = C5HeadConfig()

    @property
    def levels(self) -> tuple[str, ...]:
        """One map of stride 16: res4."""
        return ("p4",)

    @property
    def size_divisibility(self) -> int:
        """No level has to fit into another."""
        return 1

    @model_validator(mode="after")
    def _a_backbone_that_can_be_dilated(self) -> Self:
        if self.backbone.name not in _BACKBONES:
            raise ValueError(
                f"tridentnet dilates the 3x3 convolutions of a ResNet's res4: backbone.name must be "
                f"{', '.join(_BACKBONES[:-1])} or {_BACKBONES[-1]}, got {self.backbone.name}"
            )
        return self

    def scaled(self, factor: float) -> Self:
        """With anchors and ranges of `factor` times the size."""
        return self.model_copy(
            update={"anchors": self.anchors.scaled(factor), "trident": self.trident.scaled(factor)}
        )
