"""What a trained detector scores with another upsampling put in, nothing trained: how much of it rests on its own.

    python benchmarks/swapped.py --weights DETECTOR.pt --with nn --with bilinear --with generator=STAGE1.pt \
        --data-root DIR --out swapped.json

`own` is the detector as it is. A generator may also be taken out of another detector's file. AP in percent, of boxes.
"""

import argparse
import json
from pathlib import Path

import torch
from named_upsampling import named_upsampling
from rich.console import Console
from rich.table import Table

from srfgan_cli.data.open import open_split
from srfgan_cli.evaluation.evaluate import evaluate
from srfgan_cli.machine.devices import parse_devices
from srfgan_cli.machine.distributed import open_world
from srfgan_cli.runs.trained import config_of, load_trained, weights_of

SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def main() -> None:
    """Print the table, and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="a trained detector with an FPN")
    parser.add_argument("--with", dest="others", action="append", default=[], metavar="NAME[=FILE]")
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("swapped.json"))
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    config = config_of(given.weights, None, [])
    detector = load_trained(config, weights_of(config, given.weights)).detector
    made = {"own": detector.neck.upsample}
    made |= dict(named_upsampling(one, config.model.neck.channels) for one in given.others)
    dataset = open_split(config.data, given.data_root, "val", training=False, masks=config.model.has_masks)
    scores = {}
    with open_world(parse_devices(given.device)) as world:
        for name, module in made.items():
            detector.neck.upsample = module
            detector.to(world.device)
            with torch.inference_mode():
                report = evaluate(
                    detector,
                    dataset,
                    preset=name,
                    world=world,
                    max_detections=config.evaluation.max_detections,
                )
            scores[name] = {key: getattr(report.scores["box"].overall, key) for key in SHOWN}
    table = Table("upsampling", *SHOWN, title=f"{given.weights.name}, {len(dataset)} images")
    for name, row in scores.items():
        table.add_row(name, *(f"{value:.1f}" for value in row.values()))
    Console().print(table)
    given.out.write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
