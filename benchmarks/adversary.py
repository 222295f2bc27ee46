"""How much the discriminator of a stage 1 has to say at its end, and how often it is right.

    python benchmarks/adversary.py --guide F.pt --stage-1 paper=STAGE1.pt --stage-1 strong=OTHER.pt --images DIR

Each file's generator and discriminator meet on the same images, in training mode and with the loss that the file's own
config has, as in the step after its last. Prints and, with --out, writes as json:

    gradient   of the weighted adversarial term in G's weights: its norm, of L1's
    along      cosine between both gradients: 1 asks for the same change, 0 for another one, -1 for the opposite
    fake, real share of D's logits that are on the right side, of generated and of real maps; 0.5 is chance
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from srfgan.models.weights import read_checkpoint
from srfgan.models.weights.generator import load_generator
from srfgan_cli.data.images import list_images, read_image
from srfgan_cli.machine.distributed import World
from srfgan_cli.prediction.load import load_detector
from srfgan_cli.presets.config import Config
from srfgan_cli.training.adversarial import Adversary, Maps
from srfgan_cli.training.pairs import halve
from srfgan_cli.training.pretrain import GeneratorLosses, guide_maps
from srfgan_cli.training.sources import load_discriminator

BOUNDARY = {"logistic": 0.0, "hinge": 0.0, "least_squares": 0.5}
"""The logit at which a discriminator of each loss takes a map for neither."""


@dataclass(frozen=True)
class Opponents:
    """The networks of a stage 1 at its end."""

    generator: nn.Module
    discriminator: nn.Module
    config: Config

    @classmethod
    def load(cls, path: Path, channels: int, device: str) -> "Opponents":
        """Of a checkpoint that `srfgan pretrain` wrote, for maps of `channels`."""
        checkpoint = read_checkpoint(path)
        if checkpoint.stage != "pretrain" or checkpoint.config is None:
            raise SystemExit(f"{path}: no result of srfgan pretrain")
        config = Config.model_validate(checkpoint.config)
        discriminator = load_discriminator(checkpoint, config.discriminator, channels)
        return cls(load_generator(path, channels)[1].to(device), discriminator.to(device), config)


def measured(opponents: Opponents, low: Maps, real: Maps) -> dict[str, float]:
    """Of one batch: the maps of half-size images and of the images, by level."""
    config = opponents.config.pretrain.adversarial
    generator, discriminator = opponents.generator.train(), opponents.discriminator.train()
    adversary = Adversary(discriminator, config, World(next(generator.parameters()).device))
    losses, fake, target = GeneratorLosses(generator, config)(low, real, adversary.judge)
    content, term = (_gradient(losses[f"loss_{name}"], generator) for name in ("content", "adversarial"))
    with torch.no_grad():
        known = [discriminator(x) for x in target]
    boundary = BOUNDARY[config.loss]
    return {
        "gradient": float(term.norm() / content.norm()),
        "along": float(torch.cosine_similarity(term, content, dim=0)),
        "fake": _share([x < boundary for x in fake]),
        "real": _share([x > boundary for x in known]),
    }


def _gradient(loss: Tensor, network: nn.Module) -> Tensor:
    gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def _share(right: list[Tensor]) -> float:
    """Of each level's positions, averaged over the levels."""
    return float(torch.stack([level.float().mean() for level in right]).mean())


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guide", required=True, help="the plain detector F of stage 1")
    parser.add_argument("--stage-1", action="append", required=True, metavar="NAME=FILE", help="repeatable")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--count", type=int, default=32, help="of the images, the first")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--out", type=Path, help="json")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    predictor = load_detector(given.guide, device=given.device)
    guide = predictor.model
    named = dict(one.split("=", 1) for one in given.stage_1)
    opponents = {
        name: Opponents.load(Path(file), guide.config.neck.channels, given.device)
        for name, file in named.items()
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in opponents}
    paths = list_images(given.images)[: given.count]
    for first in range(0, len(paths), given.batch_size):
        images = [
            predictor.resized(read_image(path)).to(given.device)
            for path in paths[first : first + given.batch_size]
        ]
        for name, one in opponents.items():
            levels = one.config.pretrain.adversarial.levels
            with torch.no_grad():
                real = guide_maps(guide, images, levels)
                low = guide_maps(guide, halve(images, one.config.data.degradation), levels)
            found[name].append(measured(one, low, real))
    rows = {
        name: {key: sum(batch[key] for batch in each) / len(each) for key in each[0]}
        for name, each in found.items()
    }
    table = Table("stage 1", *next(iter(rows.values())), title=f"{given.count} images")
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in row.values()))
    Console().print(table)
    if given.out is not None:
        given.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
