"""`srfgan export` from the command line to the file's own runtime."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from torchvision.transforms.functional import to_pil_image

from srfgan_cli.data.shapes import example_image
from srfgan_cli.export import export_preset
from srfgan_cli.export.contract import contract
from srfgan_cli.export.graph import OUTPUT_NAMES, output_names

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

TEN_LAYERS = "model.backbone.name=r10"
RUN_PT2 = """
import sys
sys.modules["models"] = sys.modules["srfgan"] = sys.modules["srfgan_cli"] = None  # their imports fail
import torch, torchvision
extra = {"srfgan.json": ""}
module = torch.export.load(sys.argv[1], extra_files=extra).module()
results = [module(image) for image in torch.load(sys.argv[2])]
torch.save({"results": results, "metadata": extra["srfgan.json"]}, sys.argv[3])
"""


def run_onnx(path, pictures):
    """All outputs in order, and the metadata, by onnxruntime alone."""
    runtime = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    results = [runtime.run(None, {"image": picture.numpy()}) for picture in pictures]
    metadata = runtime.get_modelmeta().custom_metadata_map
    return [[torch.from_numpy(value) for value in values] for values in results], metadata


def run_pt2(path, pictures):
    """The same by torch.export in a process of its own that cannot import this project."""
    torch.save(pictures, path.with_name("pictures"))
    arguments = [path, path.with_name("pictures"), path.with_name("results")]
    subprocess.run([sys.executable, "-c", RUN_PT2, *map(str, arguments)], check=True)
    content = torch.load(path.with_name("results"))
    return content["results"], json.loads(content["metadata"])


def assert_same(found, outputs):
    boxes, scores, labels, masks = outputs
    assert labels.tolist() == found.labels.tolist()
    torch.testing.assert_close(boxes, found.boxes, rtol=0, atol=1e-2)
    torch.testing.assert_close(scores, found.scores, rtol=0, atol=1e-4)
    torch.testing.assert_close(masks, found.mask_probs, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("format", "run", "upsampler"),
    [("onnx", run_onnx, "srf"), ("pt2", run_pt2, "sapa")],
)
@pytest.mark.slow
def test_the_file_finds_what_pytorch_finds(srfgan, trained, pictures, format, run, upsampler):
    made = trained("mask_rcnn_r18_fpn", f"model.neck.upsampler={upsampler}", TEN_LAYERS)
    outcome = srfgan("export", *made.options, "--format", format, "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    output = made.path.with_suffix(f".{format}")
    assert report["output"] == str(output)
    assert report["bytes"] == output.stat().st_size
    assert [(image["same"], image["boxes"] < 0.01) for image in report["images"]] == [
        (image["expected"], True) for image in report["images"]
    ]
    assert sum(image["same"] for image in report["images"]) > 0
    assert {path.name for path in output.parent.iterdir()} == {"model.pt", output.name}

    results, metadata = run(output, pictures)
    counts = [len(found) for found in made.expected]
    assert min(counts) == 0
    assert sum(counts) > 10
    for found, outputs in zip(made.expected, results, strict=True):
        assert_same(found, outputs)
    assert metadata["preset"] == "mask_rcnn_r18_fpn"
    assert [entry["name"] for entry in json.loads(metadata["categories"])] == ["cell", "größe", "rest"]
    assert list(json.loads(metadata["outputs"])) == list(OUTPUT_NAMES[:4])
    # Not a trace of the machine that wrote it.
    assert str(export_preset.__file__).encode() not in output.read_bytes()
    assert b"graph.py" not in output.read_bytes()


@pytest.mark.slow
def test_a_cascade_finds_the_same_in_onnxruntime(srfgan, trained, pictures):
    made = trained("cascade_mask_rcnn_r18_fpn", "model.neck.upsampler=nn", TEN_LAYERS)
    outcome = srfgan("export", *made.options, "--json")
    assert outcome.code == 0, outcome.err
    assert sum(image["same"] for image in json.loads(outcome.out)["images"]) > 0
    # Not the picture of one colour: its scores are equal, and a cascade's NMS among them is chance.
    results, _ = run_onnx(made.path.with_suffix(".onnx"), pictures[:4])
    assert sum(len(found) for found in made.expected[:4]) > 0
    for found, outputs in zip(made.expected, results, strict=False):
        assert_same(found, outputs)


@pytest.mark.slow
def test_a_file_for_batches_finds_what_pytorch_finds_in_each_image(srfgan, trained, pictures, tmp_path):
    made = trained("mask_rcnn_r18_fpn", "model.neck.upsampler=nn", TEN_LAYERS)
    outcome = srfgan("export", *made.options, "--batch-size", "2", "--half", "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["batch_size"] == 2 and report["half"] and len(report["images"]) == 2 * 3
    places = {one["image"].rsplit(" ", 1)[1] for one in report["images"] if one["same"]}
    assert places == {"0", "1"}
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        to_pil_image(example_image(96 + 32 * (seed == 1))).save(folder / f"{seed}.png")
    counts = []
    for name, more in (("model.onnx", ()), ("model.pt", made.options[:2])):
        given = ("--score-threshold", "0.8", "--save", "results", "--output", tmp_path / f"of {name}")
        found = srfgan("predict", folder, "--weights", tmp_path / name, *more, *given, "--json")
        assert found.code == 0, found.err
        summary = json.loads(found.out)
        assert summary["images"] == 3
        counts.append(summary["detections"])
    assert counts[0] == pytest.approx(counts[1], rel=0.05, abs=2)


def test_where_nothing_is_found_a_lower_threshold_is_compared(srfgan, trained, tmp_path, monkeypatch):
    made = trained("faster_rcnn_r18_fpn", "model.neck.upsampler=nn")
    folder = tmp_path / "own"
    folder.mkdir()
    picture = folder / "own [red] é.png"
    to_pil_image(example_image(96)).save(picture)
    (folder / "notes.txt").touch()

    def write(config, trained, graph, path, output):
        threshold = trained.detector.head.inference.score_threshold
        assert threshold == config.model.inference.score_threshold
        path.write_text(str(threshold))

        def run(image):
            found = trained.detector.detect([image])[0]
            return {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}

        return run

    monkeypatch.setattr(export_preset, "_write", write)
    high = ("--set", "model.inference.score_threshold=1.0", "--set", "data.test_short_side=96")
    outcome = srfgan("export", *made.options, *high, "--image", folder, "--json")
    assert outcome.code == 0, outcome.err
    report = json.loads(outcome.out)
    assert report["score_threshold"] < 1
    assert report["compared"] == sum(max(one["expected"], one["found"]) for one in report["images"]) >= 20
    assert [one["image"].split(",")[0] for one in report["images"]] == [str(picture), "blank"]
    assert "Nothing on these images scores above 1, the preset" in outcome.err
    assert f"Compared {report['compared']} detections on 2 images" in outcome.err
    # What is kept has the threshold that was asked for, and nothing else stays.
    assert made.path.with_suffix(".onnx").read_text() == "1.0"
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "model.onnx", folder.name}


def test_the_file_tells_of_the_model_of_the_weights_and_not_of_the_presets(srfgan, trained, monkeypatch):
    """A RetinaNet's coarsest level is p7, which needs larger images than a Faster R-CNN takes."""
    made = trained("faster_rcnn_r18_fpn", TEN_LAYERS, "model.neck.upsampler=nn")
    told = []

    def write(config, trained, graph, path, output):
        told.append(contract(config, trained.categories, output_names(config.model)))
        path.touch()

        def run(image):
            found = trained.detector.detect([image])[0]
            return {"boxes": found.boxes, "scores": found.scores, "labels": found.labels}

        return run

    monkeypatch.setattr(export_preset, "_write", write)
    outcome = srfgan("export", "--preset", "retinanet_r18_fpn", "--weights", made.path)
    assert outcome.code == 0, outcome.err
    assert json.loads(told[-1]["input"])["smallest_side"] == 65
    said = " ".join(outcome.err.split())
    assert "knows its own model" in said and "detector is 'faster_rcnn', not 'retinanet'" in said


@pytest.mark.parametrize(
    ("side", "message"), [(96, "pixels at the preset's test size"), (0, "no such image file")]
)
def test_images_that_cannot_be_compared_on(srfgan, trained, tmp_path, side, message):
    made = trained("faster_rcnn_r18_fpn")
    if side:
        to_pil_image(example_image(side)).save(tmp_path / "own.png")
    small = ("--set", "data.test_short_side=48", "--image", tmp_path / "own.png")
    outcome = srfgan("export", *made.options, *small)
    assert outcome.code == 2
    assert message in outcome.err and "own.png" in outcome.err
    assert {path.name for path in tmp_path.iterdir()} <= {"model.pt", "own.png"}


def test_of_a_large_folder_images_from_all_over_are_compared_on(tmp_path):
    for number in range(50):
        (tmp_path / f"{number:02}.jpg").touch()
    chosen = [int(path.stem) for path in export_preset._files(tmp_path)]
    assert len(chosen) == export_preset.OF_FOLDER and (chosen[0], chosen[-1]) == (0, 46)
    assert {after - before for before, after in pairwise(chosen)} == {3, 4}


def test_a_file_that_disagrees_is_not_kept(srfgan, trained, monkeypatch):
    made = trained("faster_rcnn_r18_fpn")

    def write(config, detector, graph, path, output):
        path.write_bytes(b"written")

        def run(image):
            found = detector.detector.detect([image])[0]
            return {"boxes": found.boxes + 0.1, "scores": found.scores, "labels": found.labels}

        return run

    monkeypatch.setattr(export_preset, "_write", write)
    made.path.with_suffix(".onnx").write_bytes(b"an older export")
    outcome = srfgan("export", *made.options, "--set", "model.inference.score_threshold=0.0", "--json")
    assert outcome.code == 1
    assert "agree on 0 of 300 detections" in outcome.err
    assert outcome.out == ""
    assert {path.name for path in made.path.parent.iterdir()} == {"model.pt", "model.onnx"}
    assert made.path.with_suffix(".onnx").read_bytes() == b"an older export"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "model.pt2"], "a file of --format onnx is named *.onnx"),
        (["--output", "nowhere/model.onnx"], "the folder nowhere does not exist"),
        (["--weights", "missing.pt"], "missing.pt do not exist"),
        (["--format", "torchscript"], "'onnx', 'pt2'"),
        (["--format", "pt2", "--half"], "--half is for --format onnx, not for pt2"),
        (["--format", "detectron2", "--batch-size", "2"], "--batch-size is for --format onnx and pt2"),
    ],
)
def test_bad_input_is_one_message(srfgan, tmp_path, arguments, message):
    if "--weights" not in arguments:
        (tmp_path / "model.pt").touch()
        arguments = [*arguments, "--weights", "model.pt"]
    outcome = srfgan("export", "--preset", "mask_rcnn_r18_fpn", *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.replace("│", " ").split())
    assert "Traceback" not in outcome.err


def test_missing_packages_are_named(srfgan, monkeypatch):
    monkeypatch.setattr(
        "srfgan_cli.export.onnx_file.find_spec", lambda name: None if name == "onnx" else name
    )
    outcome = srfgan("export", "--preset", "mask_rcnn_r18_fpn")
    assert outcome.code == 2
    assert "--format onnx needs onnx: pip install 'srfgan[export]'" in outcome.err
