"""Other layouts of data sets than COCO's: recognised, and told how they become it."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

_ROBOFLOW_JSON = "_annotations.coco.json"
_ROBOFLOW = {"train": "train", "val": "valid", "test": "test"}
"""Our splits by Roboflow's names."""


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
    splits = {
        ours: theirs for ours, theirs in _ROBOFLOW.items() if (root / theirs / _ROBOFLOW_JSON).is_file()
    }
    if not splits:
        return None
    commands = [f"cd {quote(str(root.resolve()))}", "mkdir -p annotations"]
    for ours, theirs in splits.items():
        name = f"image_info_{ours}2017" if ours == "test" else f"instances_{ours}2017"
        commands += [
            f"ln -s {theirs} {ours}2017",
            f"ln -s ../{theirs}/{_ROBOFLOW_JSON} annotations/{name}.json",
        ]
    lines = "\n  ".join(commands)
    return f"this is Roboflow's COCO export; these commands give it COCO's layout beside its own:\n  {lines}"


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
