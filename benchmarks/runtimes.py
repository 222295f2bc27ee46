"""An exported file on onnxruntime and OpenVINO beside the detector in PyTorch, on a CPU.

    python benchmarks/runtimes.py --weights runs/finetune/mine/model.pt --image a.jpg detector.onnx detector.int8.xml

All take turns on one image at the detector's test size; ratios to PyTorch are medians of the turns' ratios.
`--user-cpu` takes user CPU time instead of the wall's, for a machine that others use too. OpenVINO is left out where it
is not installed.
"""

import argparse
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from timing import processor, report, take_turns, user_cpu

from srfgan.models.modes import evaluating
from srfgan_cli.data.images import read_image
from srfgan_cli.data.open import policy
from srfgan_cli.export.onnx_file import open_onnx
from srfgan_cli.runs.trained import config_of, load_trained, weights_of


def openvino_of(path: Path, threads: int):
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    return openvino.Core().compile_model(path, "CPU", settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help=".onnx of srfgan export, or .xml of OpenVINO")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--user-cpu", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    config = config_of(options.weights, None, [])
    detector = load_trained(config, weights_of(config, options.weights)).detector
    image = read_image(options.image)
    size = (image.shape[1], image.shape[2])
    image = policy(config.data, training=False).draw(size, torch.Generator()).image(image).float()

    def eager():
        with evaluating(detector), torch.inference_mode():
            return detector.detect([image])

    runs = {"PyTorch": eager}
    for path in options.files:
        if path.suffix == ".onnx":
            session = open_onnx(path)
            runs[f"{path.name}, onnxruntime"] = lambda session=session: session(image)
        if find_spec("openvino") is not None:
            compiled = openvino_of(path, options.threads)
            runs[f"{path.name}, OpenVINO"] = lambda compiled=compiled: compiled([image.numpy()])
    clock = user_cpu if options.user_cpu else time.perf_counter
    seconds = take_turns(runs, options.turns, clock=clock)
    title = f"{processor()}, {options.threads} threads, an image of {image.shape[1]} x {image.shape[2]}"
    report(title, seconds, "PyTorch")


if __name__ == "__main__":
    main()
