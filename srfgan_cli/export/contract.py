"""What an exported file says about itself: how to call it and what its labels mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, Json, ValidationError

from srfgan.models.errors import InputError
from srfgan_cli import __version__
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.export.graph import BATCH_NAME, BATCH_OUTPUT, INPUT_NAME, smallest_side
from srfgan_cli.presets.config import Config

Count = Annotated[int, Field(ge=1, le=100_000)]
Side = Annotated[int, Field(ge=1, le=32_768)]


class Input(BaseModel):
    """`input`: `(3, H, W)`, or `(N, 3, H, W)` with N images at a time; H and W are names."""

    shape: tuple[Literal[3], str, str] | tuple[Count, Literal[3], str, str]
    smallest_side: Annotated[int, Field(ge=1, le=1024)]


class Resize(BaseModel):
    """`resize`, in pixels."""

    short_side: Side
    max_side: Side


class Contract(BaseModel):
    """What `contract` wrote; files of older versions lack what has a default here: COCO's numbers."""

    preset: str = ""
    input: Json[Input]
    resize: Json[Resize]
    outputs: Json[dict[str, Any]]
    categories: Json[Any]
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    nms_iou: Annotated[float, Field(ge=0, le=1)] = 0.5
    detections_per_image: Count = 100
    max_detections: Count = 100


def read_contract(said: Mapping[str, str], path: Path) -> Contract:
    """The metadata of an exported file, checked.

    Raises:
        InputError: it is not what `contract` writes; names the file and the first key.
    """
    try:
        return Contract.model_validate(dict(said))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: holds a network, but not one that srfgan export has written ({key}: {first['msg']})"
        ) from None


_INPUT = {
    "dtype": "float32",
    "channels": "RGB",
    "range": [0, 255],
}
_OUTPUTS = {
    "boxes": "(R, 4) float32: x0 y0 x1 y1 in the pixels of the image given",
    "scores": "(R,) float32 in 0..1, best first",
    "labels": "(R,) int64: positions in 'categories'",
    "masks": "(R, M, M) float32 in 0..1: probabilities over each box, on a grid of M x M cells;"
    " interpolate them bilinearly at the centres of the image's pixels inside the box and cut at 0.5"
    " (srfgan.models.ops.masks.paste_masks does)",
    "mask_scores": "(R,) float32: what to rank masks by instead of scores; not limited to 0..1",
    BATCH_OUTPUT: "(R,) int64: which image of the batch; the other outputs have all images' one after the other",
}


def contract(
    config: Config,
    categories: CategoryMap | None,
    outputs: tuple[str, ...],
    *,
    half: bool = False,
    batch: int | None = None,
) -> dict[str, str]:
    """The metadata of an exported file: plain text or JSON by key.

    Args:
        config: the preset; its test-time size is what the weights expect.
        categories: what the labels mean; None where the checkpoint does not say, which is stored as null.
        outputs: names of the graph's outputs.
        half: whether its networks compute in float16; inputs and outputs are float32 all the same.
        batch: how many images it takes at a time; None: one, without an axis for it.
    """
    given = {
        "name": INPUT_NAME if batch is None else BATCH_NAME,
        "shape": [*([] if batch is None else [batch]), 3, "height", "width"],
    }
    resize = {"short_side": config.data.test_short_side, "max_side": config.data.test_max_side}
    records = categories.to_records() if categories is not None else None
    return {
        "producer": f"srfgan {__version__}",
        "preset": config.name,
        "networks": "float16" if half else "float32",
        "input": json.dumps(given | _INPUT | {"smallest_side": smallest_side(config.model)}),
        "resize": json.dumps(resize),
        "score_threshold": f"{config.model.inference.score_threshold:g}",
        "nms_iou": f"{config.model.inference.nms_iou:g}",
        "detections_per_image": str(config.model.inference.detections_per_image),
        "max_detections": str(config.evaluation.max_detections),
        "outputs": json.dumps({name: _OUTPUTS[name] for name in outputs}),
        "categories": json.dumps(records, ensure_ascii=False),
    }
