"""Typed configuration of everything that `models` builds: a class for each detector.

Importing this package does not import torch. All configs are strict: an unknown key or a value of another
type is an error (pydantic's `ValidationError`), so a typo never passes silently.
"""

from srfgan.models.config.anchors import AnchorConfig
from srfgan.models.config.atss import ATSSConfig, ATSSHeadConfig
from srfgan.models.config.centermask import CenterMaskConfig, MaskBranchConfig
from srfgan.models.config.common import (
    RESNETS,
    TIMM,
    BackboneConfig,
    BackboneName,
    BiFPNConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    InferenceConfig,
    ModelConfig,
    NeckConfig,
    NeckName,
    PAFPNConfig,
    PixelConfig,
    UpsamplerName,
)
from srfgan.models.config.detectors import (
    DEFAULT,
    DETECTORS,
    AnyModelConfig,
    own_sections,
    owners,
    parse_model,
)
from srfgan.models.config.fcos import FCOSConfig, FCOSHeadConfig
from srfgan.models.config.libra_rcnn import LibraConfig, LibraRCNNConfig
from srfgan.models.config.masks import MaskHeadConfig
from srfgan.models.config.panet import PANetConfig
from srfgan.models.config.retinanet import RetinaNetConfig, RetinaNetHeadConfig
from srfgan.models.config.sparse_rcnn import SparseHeadConfig, SparseRCNNConfig
from srfgan.models.config.tridentnet import C5HeadConfig, TridentConfig, TridentNetConfig
from srfgan.models.config.two_stage import (
    BoxHeadConfig,
    CascadeConfig,
    CascadeMaskRCNNConfig,
    CascadeRCNNConfig,
    FasterRCNNConfig,
    MaskRCNNConfig,
    RPNConfig,
    TwoStageConfig,
)
from srfgan.models.strict import StrictConfig

__all__ = [
    "DEFAULT",
    "DETECTORS",
    "RESNETS",
    "TIMM",
    "ATSSConfig",
    "ATSSHeadConfig",
    "AnchorConfig",
    "AnyModelConfig",
    "BackboneConfig",
    "BackboneName",
    "BiFPNConfig",
    "BoxHeadConfig",
    "C5HeadConfig",
    "CascadeConfig",
    "CascadeMaskRCNNConfig",
    "CascadeRCNNConfig",
    "CenterMaskConfig",
    "DiscriminatorConfig",
    "FCOSConfig",
    "FCOSHeadConfig",
    "FasterRCNNConfig",
    "GeneratorConfig",
    "InferenceConfig",
    "LibraConfig",
    "LibraRCNNConfig",
    "MaskBranchConfig",
    "MaskHeadConfig",
    "MaskRCNNConfig",
    "ModelConfig",
    "NeckConfig",
    "NeckName",
    "PAFPNConfig",
    "PANetConfig",
    "PixelConfig",
    "RPNConfig",
    "RetinaNetConfig",
    "RetinaNetHeadConfig",
    "SparseHeadConfig",
    "SparseRCNNConfig",
    "StrictConfig",
    "TridentConfig",
    "TridentNetConfig",
    "TwoStageConfig",
    "UpsamplerName",
    "own_sections",
    "owners",
    "parse_model",
]
