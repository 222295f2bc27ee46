"""Parameter names of other projects and ours, as tables that read in both directions.

A row pairs the beginning of a foreign name with the beginning of ours; `{x}` stands for a number and
`{x+1}` for that number plus one. The first row that fits wins; what follows it stays as it is. Our names
are those of `Detector.state_dict()`; a generator or discriminator on its own has `generator.` or
`discriminator.` in front.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Table = tuple[tuple[str, str], ...]

_GENERATOR: Table = (
    ("0.0.", "head."),
    ("1.RDBs.{block}.conv5.", "blocks.{block}.convs.4."),
    ("1.RDBs.{block}.conv{conv+1}.0.", "blocks.{block}.convs.{conv}."),
    ("2.0.", "trunk."),
    ("3.0.", "up."),
    ("4.0.", "tail."),
)

DETECTRON2: Table = (
    ("backbone.bottom_up.stem.conv1.", "backbone.body.conv1."),
    (
        "backbone.bottom_up.res{stage+1}.{block}.shortcut.",
        "backbone.body.layer{stage}.{block}.downsample.0.",
    ),
    ("backbone.bottom_up.res{stage+1}.", "backbone.body.layer{stage}."),
    ("backbone.fpn_lateral{level}.", "neck.lateral.p{level}."),
    ("backbone.fpn_output{level}.", "neck.output.p{level}."),
    ("backbone.pafpn_output{level}.", "neck.path_output.p{level}."),
    ("backbone.pafpn_downsample{level}.", "neck.downsample.p{level}."),
    ("backbone.top_block.p{level}.", "neck.top.p{level}."),
    ("head.cls_subnet.", "head.subnets.class_tower."),
    ("head.bbox_subnet.", "head.subnets.box_tower."),
    ("head.cls_score.", "head.subnets.classes."),
    ("head.bbox_pred.", "head.subnets.deltas."),
    ("proposal_generator.fcos_head.cls_tower.", "head.fcos.class_tower."),
    ("proposal_generator.fcos_head.bbox_tower.", "head.fcos.box_tower."),
    ("proposal_generator.fcos_head.cls_logits.", "head.fcos.classes."),
    ("proposal_generator.fcos_head.bbox_pred.", "head.fcos.sides."),
    ("proposal_generator.fcos_head.ctrness.", "head.fcos.centerness."),
    ("proposal_generator.fcos_head.scales.{level}.scale", "head.fcos.scales.{level}"),
    ("proposal_generator.rpn_head.conv.", "head.rpn.conv."),
    ("proposal_generator.rpn_head.objectness_logits.", "head.rpn.objectness."),
    ("proposal_generator.rpn_head.anchor_deltas.", "head.rpn.deltas."),
    ("roi_heads.box_head.fc{layer}.", "head.box.fc{layer}."),
    ("roi_heads.box_predictor.cls_score.", "head.box.classes."),
    ("roi_heads.box_predictor.bbox_pred.", "head.box.deltas."),
    ("roi_heads.mask_head.mask_fcn{layer+1}.", "head.mask.convs.{layer}."),
    ("roi_heads.mask_head.deconv.", "head.mask.up."),
    ("roi_heads.mask_head.predictor.", "head.mask.logits."),
    *((f"backbone.srf_module.Generators.0.{theirs}", f"neck.upsample.{ours}") for theirs, ours in _GENERATOR),
)
"""detectron2's R-CNNs with FPN, and AFI-GAN's and SRF-GAN's, which add the generator."""

ADVERSARIAL: Table = (
    *((f"Generators.0.{theirs}", f"generator.{ours}") for theirs, ours in _GENERATOR),
    ("Discriminators.0.{block}.0.norm.", "discriminator.blocks.{block}.1."),
    ("Discriminators.0.3.0.", "discriminator.logits."),
    ("Discriminators.0.{block}.0.", "discriminator.blocks.{block}.0."),
)
"""AFI-GAN's and SRF-GAN's generator and discriminator on their own."""

CLASSIFIER: Table = (
    ("conv1.", "backbone.body.conv1."),
    ("bn1.", "backbone.body.conv1.norm."),
    ("layer{stage}.{block}.bn{layer}.", "backbone.body.layer{stage}.{block}.conv{layer}.norm."),
    ("layer{stage}.{block}.downsample.1.", "backbone.body.layer{stage}.{block}.downsample.0.norm."),
    ("layer{stage}.", "backbone.body.layer{stage}."),
)
"""ImageNet ResNets of timm and torchvision."""

_FROM_MSRA = (
    (r"^conv1_", "stem.conv1_"),
    (r"^res_conv1_bn_", "stem.conv1_bn_"),
    (r"^res(\d)_(\d+)_branch1_", r"res\1.\2.shortcut_"),
    (r"^res(\d)_(\d+)_branch2a_", r"res\1.\2.conv1_"),
    (r"^res(\d)_(\d+)_branch2b_", r"res\1.\2.conv2_"),
    (r"^res(\d)_(\d+)_branch2c_", r"res\1.\2.conv3_"),
    (r"_bn_s$", ".norm.weight"),
    (r"_bn_b$", ".norm.bias"),
    (r"_bn_rm$", ".norm.running_mean"),
    (r"_bn_riv$", ".norm.running_var"),
    (r"_w$", ".weight"),
    (r"_b$", ".bias"),
)

_DERIVED = re.compile(
    r"(^|\.)(pixel_mean|pixel_std|num_batches_tracked|loss_normalizer|anchor_generator\..*)$"
)


def to_ours(name: str) -> str:
    """Our name of a parameter of any known project; `name` itself if no table has it."""
    name = re.sub(r"^module\.", "", name)
    if re.match(r"(conv1|res_conv1|res\d_\d+_branch\w+?)_\w+$", name):
        for pattern, replacement in _FROM_MSRA:
            name = re.sub(pattern, replacement, name)
    if re.match(r"(stem\.|res\d\.)", name):
        name = f"backbone.bottom_up.{name}"
    if not name.startswith("backbone.srf_module."):
        name = re.sub(r"^.*?((Generators|Discriminators)\.0\.)", r"\1", name)
    for table in (DETECTRON2, ADVERSARIAL, CLASSIFIER):
        renamed = rename(name, table)
        if renamed is not None:
            return renamed
    return name


def to_detectron2(name: str) -> str | None:
    """detectron2's (or AFI-GAN's) name of our detector parameter `name`; None if it has none."""
    return rename(name, tuple((ours, theirs) for theirs, ours in DETECTRON2))


def is_derived(name: str) -> bool:
    """Whether `name` is a constant or counter that some files hold and no model needs."""
    return _DERIVED.search(name) is not None


def rename(name: str, table: Iterable[tuple[str, str]]) -> str | None:
    """`name` by the first row of `table` that it begins with, left to right; None if there is none."""
    for source, goal in table:
        match = re.match(_pattern(source), name)
        if match:
            numbers = {key: int(value) - _offset(source, key) for key, value in match.groupdict().items()}
            return _filled(goal, numbers) + name[match.end() :]
    return None


def _pattern(template: str) -> str:
    return re.sub(r"\\\{(\w+)(?:\\\+\d+)?\\\}", r"(?P<\1>\\d+)", re.escape(template))


def _offset(template: str, key: str) -> int:
    found = re.search(rf"\{{{key}\+(\d+)\}}", template)
    return int(found[1]) if found else 0


def _filled(template: str, numbers: dict[str, int]) -> str:
    return re.sub(r"\{(\w+)(?:\+(\d+))?\}", lambda m: str(numbers[m[1]] + int(m[2] or 0)), template)
