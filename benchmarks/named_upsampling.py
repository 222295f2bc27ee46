"""An upsampling as a command line names it: one without weights by its name, a generator as NAME=FILE."""

from pathlib import Path

from torch import nn

from srfgan.models.factory import build_upsampler
from srfgan.models.weights.generator import load_generator


def named_upsampling(given: str, channels: int) -> tuple[str, nn.Module]:
    """Its name, and the module in evaluation mode."""
    name, _, file = given.partition("=")
    made = load_generator(Path(file), channels)[1] if file else build_upsampler(name, channels)
    if not file and any(True for _ in made.parameters()):
        raise SystemExit(f"{name} has weights: name the file that has them, as {name}=FILE")
    return name, made.eval()
