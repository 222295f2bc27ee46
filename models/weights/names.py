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

_VOVNET: Table = (
    ("stem.stem_{layer+1}/norm.", "stem_{layer}.conv.norm."),
    ("stem.stem_{layer+1}/conv.", "stem_{layer}.conv."),
    (
        "stage{stage+2}.OSA{stage+2}_{block+1}.layers.{layer}.OSA{stage+2}_{block+1}_{layer}/norm.",
        "stages_{stage}.blocks.{block}.conv_mid.{layer}.conv.norm.",
    ),
    (
        "stage{stage+2}.OSA{stage+2}_{block+1}.layers.{layer}.OSA{stage+2}_{block+1}_{layer}/conv.",
        "stages_{stage}.blocks.{block}.conv_mid.{layer}.conv.",
    ),
    (
        "stage{stage+2}.OSA{stage+2}_{block+1}.concat.OSA{stage+2}_{block+1}_concat/norm.",
        "stages_{stage}.blocks.{block}.conv_concat.conv.norm.",
    ),
    (
        "stage{stage+2}.OSA{stage+2}_{block+1}.concat.OSA{stage+2}_{block+1}_concat/conv.",
        "stages_{stage}.blocks.{block}.conv_concat.conv.",
    ),
    ("stage{stage+2}.OSA{stage+2}_{block+1}.ese.", "stages_{stage}.blocks.{block}.attn."),
)
_SWIN: Table = (
    ("patch_embed.", "patch_embed."),
    # timm has the patch merging at the beginning of a stage, the others at the end.
    ("layers.{stage}.downsample.", "layers_{stage+1}.downsample."),
    ("layers.{stage}.", "layers_{stage}."),
)
_RESNEST: Table = (
    ("stem.conv1_1.", "conv1.0."),
    ("stem.conv1_2.", "conv1.3."),
    ("stem.conv1_3.", "conv1.6."),
    ("res{stage+1}.{block}.conv2.bn0.", "layer{stage}.{block}.conv2.conv.norm."),
    ("res{stage+1}.{block}.conv2.bn1.", "layer{stage}.{block}.conv2.fc1.norm."),
)
_DYNAMIC_HEAD: Table = (
    ("self_attn.", "attention."),
    ("inst_interact.dynamic_layer.", "interaction.kernels."),
    ("inst_interact.out_layer.", "interaction.out."),
    ("inst_interact.", "interaction."),
    ("cls_module.", "class_tower."),
    ("reg_module.", "box_tower."),
    ("class_logits.", "classes."),
    ("bboxes_delta.", "deltas."),
    ("", ""),
)

_AFIGAN_BIFPN: Table = (
    ("backbone.before_bifpn.lateral{level}.1.", "neck.lateral.p{level}.norm."),
    ("backbone.before_bifpn.lateral{level}.0.", "neck.lateral.p{level}."),
    ("backbone.before_bifpn.p{level}_skip.1.", "neck.skip.p{level}.norm."),
    ("backbone.before_bifpn.p{level}_skip.0.", "neck.skip.p{level}."),
    ("backbone.before_bifpn.top_block.p6.norm.", "neck.top.p6.norm."),
    ("backbone.before_bifpn.top_block.p6.conv.", "neck.top.p6."),
    *(
        row
        for theirs, number, ours in (("up", 1, "top_down"), ("down", 2, "bottom_up"))
        for row in (
            (
                f"backbone.BiFPNLayer_{{layer}}_p{{level}}_w{number}",
                f"neck.layers.{{layer}}.{ours}.p{{level}}.weights",
            ),
            (
                f"backbone.BiFPNLayer_{{layer}}_conv{{level}}_{theirs}.norm.",
                f"neck.layers.{{layer}}.{ours}.p{{level}}.conv.pointwise.norm.",
            ),
            (
                f"backbone.BiFPNLayer_{{layer}}_conv{{level}}_{theirs}.",
                f"neck.layers.{{layer}}.{ours}.p{{level}}.conv.",
            ),
        )
    ),
)
_ADELAIDET_NODES = {
    "f3_3_4": "top_down.p6",
    "f2_2_5": "top_down.p5",
    "f1_1_6": "top_down.p4",
    "f0_0_7": "top_down.p3",
    "f1_1_7_8": "bottom_up.p4",
    "f2_2_6_9": "bottom_up.p5",
    "f3_3_5_10": "bottom_up.p6",
    "f4_4_11": "bottom_up.p7",
}
"""A node there is named by its level, counted from p3, and by its inputs, counted over levels and nodes."""
_ADELAIDET_BIFPN: Table = (
    ("backbone.bottom_up.res6.reduction.", "neck.top.p6."),
    *((f"backbone.repeated_bifpn.0.lateral_{i}_f{i}.", f"neck.lateral.p{i + 3}.") for i in range(3)),
    *(
        row
        for theirs, ours in _ADELAIDET_NODES.items()
        for row in (
            (f"backbone.repeated_bifpn.{{layer}}.weights_{theirs}", f"neck.layers.{{layer}}.{ours}.weights"),
            (f"backbone.repeated_bifpn.{{layer}}.outputs_{theirs}.", f"neck.layers.{{layer}}.{ours}.conv."),
        )
    ),
)
BIFPN: dict[str, Table] = {
    "paper": _AFIGAN_BIFPN,
    "afigan": _AFIGAN_BIFPN,
    "adelaidet": _ADELAIDET_BIFPN,
}
"""The BiFPNs by their wiring, with AFI-GAN's names where nobody published any."""

DETECTRON2: Table = (
    *(
        (f"backbone.bottom_up.{theirs}", f"backbone.body.{ours}")
        for theirs, ours in (*_VOVNET, *_SWIN, *_RESNEST)
    ),
    ("backbone.bottom_up.norm{level}.", "backbone.norms.res{level+2}."),
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
    # Without a neck, the backbone is not within another, and the box head has its res5.
    ("backbone.stem.conv1.", "backbone.body.conv1."),
    ("backbone.res{stage+1}.{block}.shortcut.", "backbone.body.layer{stage}.{block}.downsample.0."),
    ("backbone.res{stage+1}.", "backbone.body.layer{stage}."),
    ("roi_heads.res5.{block}.shortcut.", "backbone.body.layer4.{block}.downsample.0."),
    ("roi_heads.res5.", "backbone.body.layer4."),
    ("head.cls_subnet.", "head.subnets.class_tower."),
    ("head.bbox_subnet.", "head.subnets.box_tower."),
    ("head.cls_score.", "head.subnets.classes."),
    ("head.bbox_pred.", "head.subnets.deltas."),
    ("init_proposal_boxes.weight", "head.proposal_boxes"),
    ("init_proposal_features.weight", "head.proposal_features"),
    *(
        (f"head.head_series.{{stage}}.{theirs}", f"head.stages.{{stage}}.{ours}")
        for theirs, ours in _DYNAMIC_HEAD
    ),
    ("proposal_generator.fcos_head.cls_tower.", "head.fcos.class_tower."),
    ("proposal_generator.fcos_head.bbox_tower.", "head.fcos.box_tower."),
    ("proposal_generator.fcos_head.cls_logits.", "head.fcos.classes."),
    ("proposal_generator.fcos_head.bbox_pred.", "head.fcos.sides."),
    ("proposal_generator.fcos_head.ctrness.", "head.fcos.centerness."),
    ("proposal_generator.fcos_head.scales.{level}.scale", "head.fcos.scales.{level}"),
    ("proposal_generator.rpn_head.conv.", "head.rpn.conv."),
    ("proposal_generator.rpn_head.objectness_logits.", "head.rpn.objectness."),
    ("proposal_generator.rpn_head.anchor_deltas.", "head.rpn.deltas."),
    ("roi_heads.box_head.conv{layer+1}.", "head.box.convs.{layer}."),
    ("roi_heads.box_head.fc{layer+1}.", "head.box.fcs.{layer}."),
    ("roi_heads.box_head.{stage}.conv{layer+1}.", "head.box.stages.{stage}.convs.{layer}."),
    ("roi_heads.box_head.{stage}.fc{layer+1}.", "head.box.stages.{stage}.fcs.{layer}."),
    ("roi_heads.box_predictor.{stage}.cls_score.", "head.box.stages.{stage}.classes."),
    ("roi_heads.box_predictor.{stage}.bbox_pred.", "head.box.stages.{stage}.deltas."),
    ("roi_heads.box_predictor.cls_score.", "head.box.classes."),
    ("roi_heads.box_predictor.bbox_pred.", "head.box.deltas."),
    ("roi_heads.mask_head.mask_fcn{layer+1}.", "head.mask.convs.{layer}."),
    ("roi_heads.mask_head.spatialAtt.", "head.mask.attention."),
    ("roi_heads.mask_head.deconv.", "head.mask.up."),
    ("roi_heads.mask_head.predictor.", "head.mask.logits."),
    ("roi_heads.maskiou_head.maskiou_fcn{layer+1}.", "head.mask_iou.convs.{layer}."),
    ("roi_heads.maskiou_head.maskiou_fc{layer+1}.", "head.mask_iou.fcs.{layer}."),
    ("roi_heads.maskiou_head.maskiou.", "head.mask_iou.ious."),
    *((f"backbone.srf_module.Generators.0.{theirs}", f"neck.upsample.{ours}") for theirs, ours in _GENERATOR),
    # Of upsamplers that nobody published: the same place, our names.
    ("backbone.srf_module.Generators.0.", "neck.upsample."),
)
"""detectron2's R-CNNs with FPN, Sparse R-CNN, and AFI-GAN's and SRF-GAN's, which add the generator."""

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
    ("stem.{layer}.bn.", "backbone.body.stem_{layer}.conv.norm."),
    ("stem.{layer}.", "backbone.body.stem_{layer}."),
    (
        "stages.{stage}.blocks.{block}.conv_mid.{layer}.bn.",
        "backbone.body.stages_{stage}.blocks.{block}.conv_mid.{layer}.conv.norm.",
    ),
    (
        "stages.{stage}.blocks.{block}.conv_concat.bn.",
        "backbone.body.stages_{stage}.blocks.{block}.conv_concat.conv.norm.",
    ),
    ("stages.{stage}.", "backbone.body.stages_{stage}."),
    ("patch_embed.", "backbone.body.patch_embed."),
    ("layers.{stage}.", "backbone.body.layers_{stage}."),
)
"""ImageNet classifiers of timm (ResNet, VoVNet, Swin) and torchvision (ResNet)."""

RESNEST_CLASSIFIER: Table = (
    ("conv1.0.", "backbone.body.conv1.0."),
    ("conv1.1.", "backbone.body.conv1.0.norm."),
    ("conv1.3.", "backbone.body.conv1.3."),
    ("conv1.4.", "backbone.body.conv1.3.norm."),
    ("conv1.6.", "backbone.body.conv1.6."),
    ("bn1.", "backbone.body.conv1.6.norm."),
    ("layer{stage}.{block}.conv2.bn0.", "backbone.body.layer{stage}.{block}.conv2.conv.norm."),
    ("layer{stage}.{block}.conv2.bn1.", "backbone.body.layer{stage}.{block}.conv2.fc1.norm."),
    ("layer{stage}.{block}.downsample.1.", "backbone.body.layer{stage}.{block}.downsample.0."),
    ("layer{stage}.{block}.downsample.2.", "backbone.body.layer{stage}.{block}.downsample.0.norm."),
)
"""timm's ImageNet ResNeSt, where the names that it shares with ResNets mean something else."""

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
    r"(^|\.)(pixel_mean|pixel_std|num_batches_tracked|loss_normalizer|relative_position_index|anchor_generator\..*)$"
)


def to_ours(name: str) -> str:
    """Our name of a parameter of any known project; `name` itself if no table has it."""
    name = _unwrapped(name)
    if re.match(r"(conv1|res_conv1|res\d_\d+_branch\w+?)_\w+$", name):
        for pattern, replacement in _FROM_MSRA:
            name = re.sub(pattern, replacement, name)
    # AdelaiDet's BiFPN wraps the backbone once more.
    name = re.sub(r"^backbone\.bottom_up\.backbone\.", "backbone.bottom_up.", name)
    if re.match(r"(stem\.(?!\d)|res\d\.|stage\d\.OSA)", name):
        name = f"backbone.bottom_up.{name}"
    if not name.startswith("backbone.srf_module."):
        name = re.sub(r"^.*?((Generators|Discriminators)\.0\.)", r"\1", name)
    for table in (_AFIGAN_BIFPN, _ADELAIDET_BIFPN, DETECTRON2, ADVERSARIAL, CLASSIFIER):
        renamed = rename(name, table)
        if renamed is not None:
            return renamed
    return name


def _unwrapped(name: str) -> str:
    """The name without what DistributedDataParallel puts before all of them."""
    return name.removeprefix("module.")


def all_to_ours(names: Iterable[str]) -> dict[str, str]:
    """Our name of each parameter of one file, which tells a classifier's kind where a name alone does not."""
    own = {name: _unwrapped(name) for name in names}
    is_resnest = any(name.startswith("layer1.0.conv2.fc1.") for name in own.values())
    special = RESNEST_CLASSIFIER if is_resnest else ()
    return {name: rename(bare, special) or to_ours(bare) for name, bare in own.items()}


def to_detectron2(name: str, wiring: str | None = None) -> str | None:
    """detectron2's (or AFI-GAN's) name of our detector parameter `name`; None if it has none.

    Args:
        name: of a detector's state dict.
        wiring: of the detector's BiFPN, if it has one.
    """
    table = DETECTRON2 if wiring is None else (*BIFPN[wiring], *DETECTRON2)
    return rename(name, tuple((ours, theirs) for theirs, ours in table))


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
    """The regular expression of a row's side; a number that appears again must be the same, offset too."""
    seen: set[str] = set()

    def group(match: re.Match[str]) -> str:
        key = match[1]
        if key in seen:
            return f"(?P={key})"
        seen.add(key)
        return rf"(?P<{key}>\d+)"

    return re.sub(r"\\\{(\w+)(?:\\\+\d+)?\\\}", group, re.escape(template))


def _offset(template: str, key: str) -> int:
    found = re.search(rf"\{{{key}\+(\d+)\}}", template)
    return int(found[1]) if found else 0


def _filled(template: str, numbers: dict[str, int]) -> str:
    return re.sub(r"\{(\w+)(?:\+(\d+))?\}", lambda m: str(numbers[m[1]] + int(m[2] or 0)), template)
