"""ONNX: writing a graph, and running the file with onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from srfgan.models.errors import InputError
from srfgan_cli.export.graph import BATCH_NAME, BATCH_OUTPUT, INPUT_NAME, Runtime
from srfgan_cli.machine.files import write_atomically

OPSET = 18
"""The lowest that torch's exporter writes, for the widest choice of runtimes."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def require_onnx() -> None:
    """Check that the optional packages are installed.

    Raises:
        InputError: some are not.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(f"--format onnx needs {', '.join(missing)}: pip install 'srfgan[export]'")


def write_onnx(
    program: ExportedProgram,
    outputs: tuple[str, ...],
    metadata: Mapping[str, str],
    path: Path,
    *,
    half: bool = False,
) -> None:
    """Write a traced detector as one self-contained file (ONNX allows 2 GB).

    Args:
        program: from `graph.trace`.
        outputs: names of its outputs.
        metadata: stored as the model's `metadata_props`.
        path: written atomically.
        half: with networks in float16 (`half.to_half`).

    Raises:
        InputError: the file cannot be written.
    """
    import onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        converted = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[BATCH_NAME if BATCH_OUTPUT in outputs else INPUT_NAME],
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    assert converted is not None
    if half:
        from srfgan_cli.export.half import to_half

        to_half(converted.model)
    model = converted.model_proto
    height, width = model.graph.input[0].type.tensor_type.shape.dim[-2:]
    height.dim_param, width.dim_param = "height", "width"
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[0].dim_param = "detections"
    onnx.helper.set_model_props(model, dict(metadata))
    content = model.SerializeToString()
    write_atomically(path, lambda file: file.write(content))


def open_onnx(path: Path) -> Runtime:
    """An ONNX file on onnxruntime's CPU provider."""
    return runtime_of(open_session(path))


def open_session(path: Path) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    Raises:
        InputError: there is no such file, or it is none that can be run.
    """
    import onnxruntime

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of types that onnxruntime does not name
        told = str(error).splitlines()[0][:200]
        raise InputError(f"{path}: not an ONNX file that can be run ({told})") from None
    if (count := len(session.get_inputs())) != 1:
        raise InputError(
            f"{path}: a network of {count} inputs; those of srfgan export take one image or batch"
        )
    return session


def runtime_of(session: Any) -> Runtime:
    """A session as what takes an image, or a batch, and gives the outputs by name."""
    names = [output.name for output in session.get_outputs()]
    (given,) = (one.name for one in session.get_inputs())

    def run(image: Tensor) -> dict[str, Tensor]:
        values = session.run(names, {given: image.contiguous().numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}

    return run
