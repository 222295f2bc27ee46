"""What an exported file says about itself: how to call it and what its labels mean."""

from __future__ import annotations

import json

from srfgan_cli import __version__
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.export.graph import BATCH_NAME, BATCH_OUTPUT, INPUT_NAME, smallest_side
from srfgan_cli.presets.config import Config

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
        "detections_per_image": str(config.model.inference.detections_per_image),
        "max_detections": str(config.evaluation.max_detections),
        "outputs": json.dumps({name: _OUTPUTS[name] for name in outputs}),
        "categories": json.dumps(records, ensure_ascii=False),
    }
