"""Other layouts of data sets than COCO's: recognised, and told how they become it."""

from __future__ import annotations

from pathlib import Path

_ROBOFLOW_JSON = "_annotations.coco.json"


def advice(root: Path) -> str | None:
    """What to do about a folder in another project's layout: a sentence or two, or None if it is not known."""
    for layout in (_roboflow, _yolo, _voc):
        told = layout(root)
        if told:
            return told
    return None


def _roboflow(root: Path) -> str | None:
    # `data check` of one split's folder is as likely as of the whole.
    if (root / _ROBOFLOW_JSON).is_file():
        return (
            f"this is one split of Roboflow's COCO export; give the folder above it, {root.resolve().parent}"
        )
    return None


def _yolo(root: Path) -> str | None:
    labels = [*root.glob("labels/*.txt"), *root.glob("labels/*/*.txt"), *root.glob("*/labels/*.txt")]
    described = any((root / name).is_file() for name in ("data.yaml", "data.yml", "dataset.yaml"))
    if not labels and not described:
        return None
    return (
        "this looks like a YOLO data set (labels/*.txt, data.yaml), which has boxes as text files; export or"
        " convert it to COCO json first, one instances_*.json a split"
    )


def _voc(root: Path) -> str | None:
    if not (root / "Annotations").is_dir() or not (root / "JPEGImages").is_dir():
        inner = sorted(root.glob("VOC*/Annotations")) or sorted(root.glob("VOCdevkit/VOC*/Annotations"))
        if not inner:
            return None
    return (
        "this looks like Pascal VOC's layout (Annotations/*.xml, JPEGImages/); convert it to COCO json first, one"
        " instances_*.json a split"
    )
