"""What a trained detector scores with another upsampling put in, nothing trained: how much of it rests on its own.

    python benchmarks/swapped.py --weights DETECTOR.pt --with nn --with bilinear --with generator=STAGE1.pt \
        --data-root DIR --out swapped.json

`own` is the detector as it is. A generator may also be taken out of another detector's file. AP in percent, of boxes.

With `--halves` the top-down path stays as it is, and it is the pyramid of the half-size image that each upsampling
makes as large as the whole image's, for the detector's heads: what stage 1 teaches a generator to do. `own` is of the
whole images then. For detectors whose levels above P5 are made of P5, as two-stage ones.
"""

import argparse
import json
from pathlib import Path

import torch
from named_upsampling import named_upsampling
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from srfgan.models.detector import Detector
from srfgan.models.structures import Detections
from srfgan_cli.data.open import open_split
from srfgan_cli.evaluation.evaluate import evaluate
from srfgan_cli.machine.devices import parse_devices
from srfgan_cli.machine.distributed import open_world
from srfgan_cli.runs.trained import config_of, load_trained, weights_of
from srfgan_cli.training.pairs import halve

SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class FromHalves:
    """A detector whose heads see the maps of half-size images, made as large as those of the whole ones."""

    def __init__(self, detector: Detector, upsample: nn.Module) -> None:
        self.detector = detector
        self.upsample = upsample
        self.has_masks, self.has_mask_scores = detector.config.has_masks, detector.config.has_mask_scores

    def detect(self, images: list[Tensor]) -> list[Detections]:
        """Detections in pixels of the whole `images`, (3, H, W) of 0..255 each."""
        batch, sizes = self.detector.preprocess(images)
        pyramid = self.detector.pyramid(self.detector.preprocess(halve(images, "bilinear"))[0])
        levels = list(self.detector.neck.output)
        large = {level: _as_large(self.upsample(pyramid[level]), batch, int(level[1:])) for level in levels}
        return self.detector.detect_from_pyramid(large | self.detector.neck.top(large), sizes)


def _as_large(maps: Tensor, batch: Tensor, level: int) -> Tensor:
    """Cut to the size of the batch's maps; a row that an odd side has lost in its half is repeated."""
    height, width = (-(-side // 2**level) for side in batch.shape[-2:])
    maps = maps[..., :height, :width]
    return F.pad(maps, (0, width - maps.shape[-1], 0, height - maps.shape[-2]), mode="replicate")


def main() -> None:
    """Print the table, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="a trained detector with an FPN")
    parser.add_argument("--with", dest="others", action="append", default=[], metavar="NAME[=FILE]")
    parser.add_argument("--halves", action="store_true", help="upsample the maps of half-size images instead")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("swapped.json"))
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    config = config_of(given.weights, None, [])
    detector = load_trained(config, weights_of(config, given.weights)).detector
    own = detector.neck.upsample
    made = {"own": own}
    made |= dict(named_upsampling(one, config.model.neck.channels) for one in given.others)
    dataset = open_split(config.data, given.data_root, "val", training=False, masks=config.model.has_masks)
    scores = {}
    with open_world(parse_devices(given.device)) as world:
        for name, module in made.items():
            from_halves = given.halves and module is not own
            detector.neck.upsample = own if given.halves else module
            detector.to(world.device)
            with torch.inference_mode():
                report = evaluate(
                    FromHalves(detector, module.to(world.device)) if from_halves else detector,
                    dataset,
                    preset=name,
                    world=world,
                    max_detections=config.evaluation.max_detections,
                )
            scores[name] = {key: getattr(report.scores["box"].overall, key) for key in SHOWN}
    given.out.write_text(json.dumps(scores, indent=1) + "\n")
    table = Table("upsampling", *SHOWN, title=f"{given.weights.name}, {len(dataset)} images")
    for name, row in scores.items():
        # A size of which the data set has no object has no AP.
        table.add_row(name, *("-" if value is None else f"{value:.1f}" for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
