"""What OpenVINO makes of an exported ONNX file, as in INT8: running it with OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from srfgan.models.errors import InputError
from srfgan_cli.export.graph import Runtime
from srfgan_cli.machine.files import in_one_line

_SETTINGS = {"INFERENCE_PRECISION_HINT": "f32"}
"""Else a CPU that can computes in bfloat16; what is quantised stays so."""

_HEAD = 4096
"""Bytes that the beginning of an .xml is in."""


def open_openvino(path: Path) -> tuple[Mapping[str, str], Runtime]:
    """The .xml of `openvino.save_model`, whose weights lie beside it: what the ONNX file said of itself, and the graph.

    Raises:
        InputError: OpenVINO is missing, there is no such file, or it is none that can be run.
    """
    if find_spec("openvino") is None:
        raise InputError(f"{path}: OpenVINO's files need openvino: pip install 'srfgan[openvino]'")
    import openvino

    for file in (path, path.with_suffix(".bin")):
        if not file.is_file():
            raise InputError(f"{file}: no such file")
    # Of other files OpenVINO asks the readers of other formats, which complain to stderr.
    with path.open("rb") as opened:
        if b"<net" not in opened.read(_HEAD):
            raise InputError(f"{path}: not a file that OpenVINO can run (it does not begin with a network)")
    core = openvino.Core()
    settings = _SETTINGS | {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    try:
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", settings)
        said = model.get_rt_info(["framework"]).value if model.has_rt_info(["framework"]) else {}
    except RuntimeError as error:
        raise InputError(f"{path}: not a file that OpenVINO can run ({in_one_line(error)})") from None
    names = [output.any_name for output in compiled.outputs]
    request = compiled.create_infer_request()

    def run(image: Tensor) -> dict[str, Tensor]:
        found = request.infer([image.contiguous().numpy()])
        return {name: torch.from_numpy(found[name].copy()) for name in names}

    # A text where somebody has written one.
    return {name: str(value) for name, value in said.items()} if isinstance(said, Mapping) else {}, run
