"""mmdetection's names of parameters, as rows for `srfgan.models.weights.names.rename`."""

from __future__ import annotations

from srfgan.models.weights.names import CLASSIFIER, Table, rename

ATSS: Table = (
    ("neck.lateral_convs.{level}.conv.", "neck.lateral.p{level+3}."),
    ("neck.fpn_convs.3.conv.", "neck.top.p6."),
    ("neck.fpn_convs.4.conv.", "neck.top.p7."),
    ("neck.fpn_convs.{level}.conv.", "neck.output.p{level+3}."),
    *(
        (f"bbox_head.{theirs}_convs.{layer}.{part}.", f"head.towers.{ours}_tower.{3 * layer + index}.")
        for theirs, ours in (("cls", "class"), ("reg", "box"))
        for layer in range(4)
        for index, part in enumerate(("conv", "gn"))
    ),
    ("bbox_head.atss_cls.", "head.towers.classes."),
    ("bbox_head.atss_reg.", "head.towers.sides."),
    ("bbox_head.atss_centerness.", "head.towers.centerness."),
    ("bbox_head.scales.{level}.scale", "head.towers.scales.{level}"),
)


LIBRA: Table = (
    ("neck.0.lateral_convs.{level}.conv.", "neck.lateral.p{level+2}."),
    ("neck.0.fpn_convs.{level}.conv.", "neck.output.p{level+2}."),
    ("neck.1.refine.theta.conv.", "head.balance.refine.query."),
    ("neck.1.refine.phi.conv.", "head.balance.refine.key."),
    ("neck.1.refine.g.conv.", "head.balance.refine.value."),
    ("neck.1.refine.conv_out.conv.", "head.balance.refine.out."),
    ("rpn_head.rpn_conv.", "head.rpn.conv."),
    ("rpn_head.rpn_cls.", "head.rpn.objectness."),
    ("rpn_head.rpn_reg.", "head.rpn.deltas."),
    ("roi_head.bbox_head.shared_fcs.{layer}.", "head.box.fcs.{layer}."),
    ("roi_head.bbox_head.fc_cls.", "head.box.classes."),
    ("roi_head.bbox_head.fc_reg.", "head.box.deltas."),
)


_MASK_RCNN: Table = (
    ("rpn_head.rpn_conv.", "head.rpn.conv."),
    ("rpn_head.rpn_cls.", "head.rpn.objectness."),
    ("rpn_head.rpn_reg.", "head.rpn.deltas."),
    *(
        row
        for theirs, ours in (("roi_head.", "head."), ("auxiliary_", "head.supervision."))
        for row in (
            (f"{theirs}bbox_head.shared_fcs.{{layer}}.", f"{ours}box.fcs.{{layer}}."),
            (f"{theirs}bbox_head.fc_cls.", f"{ours}box.classes."),
            (f"{theirs}bbox_head.fc_reg.", f"{ours}box.deltas."),
            (f"{theirs}mask_head.convs.{{layer}}.conv.", f"{ours}mask.convs.{{layer}}."),
            (f"{theirs}mask_head.upsample.", f"{ours}mask.up."),
            (f"{theirs}mask_head.conv_logits.", f"{ours}mask.logits."),
        )
    ),
)
AUGFPN: Table = (
    ("neck.lateral_convs.{level}.conv.", "neck.lateral.p{level+2}."),
    ("neck.fpn_convs.{level}.conv.", "neck.output.p{level+2}."),
    ("neck.high_lateral_conv.{context}.", "neck.augment.reduce.{context}."),
    *(
        (f"{theirs}.{layer}.", f"{ours}.fusion.{name}.")
        for theirs, ours in (
            ("neck.high_lateral_conv_attention", "neck.augment"),
            ("roi_head.bbox_roi_extractor.spatial_attention_conv", "head.box.selection"),
            ("roi_head.mask_roi_extractor.spatial_attention_conv", "head.mask.selection"),
        )
        for layer, name in ((0, "hidden"), (2, "weights"))
    ),
    *_MASK_RCNN,
)
"""Its authors' names inside of mmdetection's Mask R-CNN, as the case has them."""


def ours(name: str, table: Table) -> str:
    """Our name of a parameter; `table` has all but the ResNet's, whose are torchvision's."""
    found = (
        rename(name.removeprefix("backbone."), CLASSIFIER)
        if name.startswith("backbone.")
        else rename(name, table)
    )
    assert found is not None, name
    return found
