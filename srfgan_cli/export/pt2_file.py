"""torch.export's .pt2: writing a graph, and running the file."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from srfgan_cli.export.graph import Runtime
from srfgan_cli.machine.files import write_atomically

METADATA_FILE = "srfgan.json"
"""Name inside the archive: `torch.export.load(path, extra_files={"srfgan.json": ""})` fills it in."""


def write_pt2(program: ExportedProgram, metadata: Mapping[str, str], path: Path) -> None:
    """Write a traced detector.

    Whoever loads it needs torch and `import torchvision` (for NMS and RoIAlign), nothing else. The graph is
    one for the CPU.

    Args:
        program: from `graph.trace`.
        metadata: stored in the archive as `METADATA_FILE`.
        path: written atomically.

    Raises:
        InputError: the file cannot be written.
    """
    extra = {METADATA_FILE: json.dumps(dict(metadata), ensure_ascii=False)}
    with warnings.catch_warnings():
        # Of frozen statistics and the like that share no tensor with anything; nothing is lost.
        warnings.filterwarnings("ignore", "No complete tensor found in the group", UserWarning)
        # In memory first: where the disk is full, torch's own writer ends the process.
        content = io.BytesIO()
        torch.export.save(program, content, extra_files=extra)
    write_atomically(path, lambda file: file.write(content.getbuffer()))


def open_pt2(path: Path) -> Runtime:
    """A .pt2 file, loaded by `torch.export.load` and run on the CPU."""
    import torchvision  # noqa: F401  (registers the operators that the graph calls)

    extra = {METADATA_FILE: ""}
    with path.open("rb") as file:
        module = torch.export.load(file, extra_files=extra).module()
    names = list(json.loads(json.loads(extra[METADATA_FILE])["outputs"]))

    def run(image: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(zip(names, module(image), strict=True))

    return run
