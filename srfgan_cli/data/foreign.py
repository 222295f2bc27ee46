"""Folders that are nearly a data set: recognised, and told what they lack."""

from __future__ import annotations

from pathlib import Path


def advice(root: Path) -> str | None:
    """What to do about a folder that is in no layout as it stands: a sentence, or None if nothing is known."""
    # `data check` of one split's folder is as likely as of the whole.
    if (root / "_annotations.coco.json").is_file():
        return (
            f"this is one split of Roboflow's COCO export; give the folder above it, {root.resolve().parent}"
        )
    if any(root.glob("labels/*.txt")):
        return (
            "labels/*.txt look like YOLO's, but nothing tells the splits: that takes images/train, labels/train,"
            " images/val and labels/val, or a data.yaml with `train: images`, of which `srfgan data split` takes a part"
        )
    return None
