"""A trained detector as a folder to share: safetensors that know their config and classes, and a model card."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from srfgan.models.config import ModelConfig
from srfgan.models.errors import InputError
from srfgan.models.weights import read_checkpoint
from srfgan.models.weights.files import FORMAT
from srfgan_cli.downloads.hub import HUB_FILE
from srfgan_cli.export.model_card import model_card
from srfgan_cli.machine.files import write_atomically
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.library import dump_yaml
from srfgan_cli.runs.trained import TrainedDetector, folder_beside, load_trained, weights_of
from srfgan_cli.screen.console import stderr, styled
from srfgan_cli.training.checkpoint import header

CARD, CONFIG = "README.md", "config.yaml"


@dataclass(frozen=True)
class HubReport:
    """A folder that was written.

    Attributes:
        preset: its name.
        weights: the file that the detector came from.
        files: what is in it now that was written here.
    """

    preset: str
    weights: Path
    output: Path
    files: list[str]

    def as_json(self) -> dict[str, Any]:
        """The document of `srfgan export --format hub --json`."""
        return {
            "preset": self.preset,
            "weights": str(self.weights),
            "format": "hub",
            "output": str(self.output),
            "files": self.files,
            "bytes": (self.output / HUB_FILE).stat().st_size,
        }


def export_hub(config: Config, weights: Path | None, output: Path | None) -> HubReport:
    """Write `model.safetensors`, `config.yaml` and `README.md`, which `load_detector` and `--weights` read.

    The file of weights is read back and compared, tensor by tensor, before it takes its place. A card that is there
    already, and was written by hand, stays.

    Args:
        config: the experiment.
        weights: as for `weights_of`.
        output: the folder; None: `hub/` beside the weights.

    Raises:
        InputError: weights that cannot be read or do not know their classes, or a folder that cannot be written or is
            something else's.
    """
    source = weights_of(config, weights)
    output = output or folder_beside(config, weights, source) / "hub"
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output} is a file; --format hub writes a folder.")
    if (output / CONFIG).exists() and not (output / HUB_FILE).is_file():
        raise InputError(
            f"--output {output} holds a {CONFIG} of something else, as of a run; name another folder."
        )
    if (output / HUB_FILE).is_file() and not _are_our_weights(output / HUB_FILE):
        raise InputError(f"--output {output} holds a {HUB_FILE} that is not of srfgan; name another folder.")
    trained = load_trained(config, source)
    if trained.categories is None:
        raise InputError(
            f"{source} does not say what its classes are called, which whoever gets it has to know."
        )
    # Where the data lies is of no use elsewhere, and nobody else's business.
    data = config.data.model_copy(update={"train": None, "val": None})
    config = config.model_copy(update={"model": _model(config, trained), "data": data})
    said = header(trained.stage, config, trained.detector.config, trained.categories)
    said |= {} if trained.iteration is None else {"iteration": trained.iteration}
    texts: dict[str, str] = {CONFIG: dump_yaml(config)}
    if _is_our_card(output / CARD):
        texts[CARD] = model_card(config, trained)
    _write_weights(trained, said, output / HUB_FILE)
    for name, text in texts.items():
        _write_text(output / name, text)
    size = (output / HUB_FILE).stat().st_size / 1e6
    stderr.print(styled(("Done.", "bold"), f" {output}: {', '.join((HUB_FILE, *texts))}, {size:.1f} MB"))
    return HubReport(config.name, source, output, [HUB_FILE, *texts])


def _model(config: Config, trained: TrainedDetector) -> ModelConfig:
    """The model as the detector's experiment has it, whose stage 2 runs it at another scale."""
    own, scale = trained.detector.config, config.extract.anchor_scale
    if trained.stage != "extract":
        return own
    return config.model if config.model.scaled(scale) == own else own.scaled(1 / scale)


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))


def _write_weights(trained: TrainedDetector, said: Mapping[str, Any], path: Path) -> None:
    # A tensor that two names share is stored under both: safetensors knows no sharing.
    tensors = {
        name: value.clone(memory_format=torch.contiguous_format)
        for name, value in trained.detector.state_dict().items()
    }
    content = safetensors.torch.save(tensors, {FORMAT: json.dumps(said, ensure_ascii=False)})
    unchecked = path.with_name(f"unchecked-{os.getpid()}-{path.name}")  # another process may write the same
    try:
        write_atomically(unchecked, lambda file: file.write(content))
        read = read_checkpoint(unchecked).tensors
        same = read.keys() == tensors.keys() and all(
            torch.equal(read[name], tensors[name]) for name in tensors
        )
        assert same, "safetensors gave back other tensors"
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)


def _are_our_weights(weights: Path) -> bool:
    """Whether weights may be replaced: they say what they are of, as those written here do."""
    try:
        with safetensors.safe_open(weights, "pt") as file:
            return FORMAT in (file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return False


def _is_our_card(card: Path) -> bool:
    """Whether a card may be written: there is none, or one that this wrote and nobody has changed the end of."""
    return not card.is_file() or card.read_text(encoding="utf-8", errors="replace").rstrip().endswith(
        "`srfgan export --format hub`.*"
    )
