"""`srfgan eval --weights FILE.onnx`: scores of an exported file, by the runtime that it is for."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from srfgan import load_detector
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.shapes import ensure_shapes
from srfgan_cli.export.contract import contract
from srfgan_cli.presets import load_preset

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

COUNT = 20


@pytest.fixture
def data(tmp_path):
    """A COCO folder whose images have all the same objects, and those: boxes (N, 4) x0 y0 x1 y1, and labels."""
    root = ensure_shapes(2, 3, 64)
    truth = json.loads((root / "annotations" / "instances_val2017.json").read_text())
    first = truth["images"][0]["id"]
    objects = [one for one in truth["annotations"] if one["image_id"] == first]
    truth["annotations"] = [
        one | {"image_id": image["id"], "id": 1000 * at + number}
        for at, image in enumerate(truth["images"])
        for number, one in enumerate(objects)
    ]
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    places = {category["id"]: at for at, category in enumerate(truth["categories"])}
    boxes = np.array([one["bbox"] for one in objects], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([places[one["category_id"]] for one in objects])
    return ["--val-json", tmp_path / "truth.json", "--val-images", root / "val2017"], boxes, labels, truth


def write_detector(path, boxes, labels, records, given=(), **said):
    """A file of the contract that finds the same in every image, written by hand, which takes no minute.

    `given` are other outputs, and `said` other metadata, than the contract's.
    """
    values = {"boxes": boxes, "scores": np.linspace(0.9, 0.5, len(boxes), dtype=np.float32), "labels": labels}
    values |= dict(given)
    config = load_preset(
        "faster_rcnn_r18_fpn",
        ["data.test_short_side=64", "data.test_max_side=64", f"evaluation.max_detections={COUNT}"],
    )
    nodes = [
        onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(value))
        for name, value in values.items()
    ]
    pixels = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [3, "height", "width"])
    outputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in values.items()
    ]
    graph = onnx.helper.make_graph(nodes, "detector", [pixels], outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    categories = CategoryMap.from_records(records, str(path))
    onnx.helper.set_model_props(model, contract(config, categories, tuple(values)) | said)
    onnx.save(model, path)


def test_a_file_that_finds_everything_scores_100(srfgan, data, tmp_path):
    options, boxes, labels, truth = data
    write_detector(tmp_path / "all.onnx", boxes, labels, truth["categories"])
    done = srfgan("eval", "--weights", tmp_path / "all.onnx", *options, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["box"]["AP"] == pytest.approx(100) and f"AR@{COUNT}" in told["box"] and told["mask"] is None
    found = json.loads((tmp_path / "all" / "results.json").read_text())
    assert len(found) == len(truth["annotations"])

    trained_on = ["--split", "train", "--train-json", options[1], "--train-images", options[3]]
    assert srfgan("eval", "--weights", tmp_path / "all.onnx", *trained_on).code == 0
    assert (tmp_path / "all" / "train" / "results.json").is_file()
    root = tmp_path / "set"
    (root / "annotations").mkdir(parents=True)
    (root / "annotations" / "image_info_test2017.json").write_text(json.dumps(truth))
    (root / "test2017").symlink_to(options[3])
    own = (tmp_path / "all" / "results.json").stat().st_mtime_ns
    named = ("--split", "test", "--data-root", root, "--report")
    tested = srfgan("eval", "--weights", tmp_path / "all.onnx", *named)
    assert tested.code == 0, tested.err
    assert {path.name for path in (tmp_path / "all" / "test").iterdir()} >= {"results.json", "report.html"}
    assert not (tmp_path / "all" / "report.html").exists()
    assert (tmp_path / "all" / "results.json").stat().st_mtime_ns == own, "those of the val split stay"

    write_detector(tmp_path / "half.ONNX", boxes[:1], labels[:1], truth["categories"])
    against = ("--report", "--against", tmp_path / "all" / "results.json")
    half = srfgan(
        "eval", "--weights", tmp_path / "half.ONNX", *options, "--json", "--max-detections", 1, *against
    )
    assert half.code == 0, half.err
    assert 0 < json.loads(half.out)["box"]["AP"] < 100
    assert (tmp_path / "half" / "report.html").is_file()

    size = {image["id"]: [image["height"], image["width"]] for image in truth["images"]}
    masks = [
        {name: one[name] for name in ("image_id", "category_id", "score")}
        | {"segmentation": coco_mask.encode(np.ones(size[one["image_id"]], np.uint8, order="F"))}
        for one in found
    ]
    for one in masks:
        one["segmentation"]["counts"] = one["segmentation"]["counts"].decode()
    (tmp_path / "masks.json").write_text(json.dumps(masks))
    before = (tmp_path / "half" / "results.json").stat().st_mtime_ns
    told = srfgan("eval", "--weights", tmp_path / "half.ONNX", *options, "--against", tmp_path / "masks.json")
    assert told.code == 2 and "nothing in common" in told.err
    assert (tmp_path / "half" / "results.json").stat().st_mtime_ns == before, "told before the scoring"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["--set", "data.test_short_side=100"],
            "is used as it is; --preset, --set, --tta and --precision need",
        ),
        (["--precision", "bf16"], "is used as it is"),
        (["--devices", "1"], "all.onnx: exported files run on the CPU here: leave --devices 1 out."),
        (
            ["--max-detections", "101"],
            "all.onnx gives 100 detections of an image at most",
        ),
    ],
)
def test_what_a_file_cannot_do_is_said(more, message, srfgan, data, tmp_path):
    options, boxes, labels, truth = data
    write_detector(tmp_path / "all.onnx", boxes, labels, truth["categories"])
    done = srfgan("eval", "--weights", tmp_path / "all.onnx", *options, *more)
    assert done.code == 2 and message in done.err.replace("\n", " ")
    assert not (tmp_path / "all").exists()


def test_a_folder_that_cannot_be_written_is_told_before_the_scoring(srfgan, data, tmp_path):
    options, boxes, labels, truth = data
    write_detector(tmp_path / "all.onnx", boxes, labels, truth["categories"])
    place = tmp_path / "truth.json" / "new"
    done = srfgan("eval", "--weights", tmp_path / "all.onnx", *options, "--output-dir", place)
    assert done.code == 2 and f"Cannot write to {place}: Not a directory" in done.err.replace("\n", " ")
    assert "evaluating" not in done.err


def test_predict_takes_a_file_as_it_is_too(srfgan, data, tmp_path):
    _, boxes, labels, truth = data
    write_detector(tmp_path / "all.onnx", boxes, labels, truth["categories"])
    given = ("--weights", tmp_path / "all.onnx", "--output", tmp_path / "out")
    done = srfgan("predict", data[0][-1], *given, "--precision", "bf16")
    assert done.code == 2 and "is used as it is; --tta, --precision, presets" in done.err, done.err
    assert not (tmp_path / "out").exists()


def test_predict_leaves_no_folder_when_it_refuses_a_threshold(srfgan, data, tmp_path):
    options, boxes, labels, truth = data
    write_detector(tmp_path / "all.onnx", boxes, labels, truth["categories"])
    done = srfgan("predict", options[-1], "--weights", tmp_path / "all.onnx", "--score-threshold", 0.01)
    assert done.code == 2 and "gives no detections with scores below 0.05, got 0.01" in done.err.replace(
        "\n", " "
    )
    assert not (tmp_path / "predictions").exists()


def test_tiles_leave_objects_that_stand_as_close_as_the_preset_lets_them(data, tmp_path):
    """As they do with the checkpoint that the file is from."""
    _, _, _, truth = data
    boxes = np.array([[10, 10, 40, 40], [10, 17, 40, 47]], np.float32)
    config = load_preset("faster_rcnn_r18_fpn", ["model.inference.nms_iou=0.7"])
    said = contract(config, None, ())["nms_iou"]
    image = np.zeros((100, 200, 3), np.uint8)
    for name, more, count in (("close", {"nms_iou": said}, 4), ("apart", {}, 2)):
        write_detector(tmp_path / f"{name}.onnx", boxes, np.zeros(2, np.int64), truth["categories"], **more)
        (found,) = load_detector(tmp_path / f"{name}.onnx").predict(image, tiles=100, overlap=0)
        assert len(found) == count


def test_other_classes_and_other_files_are_refused(srfgan, data, tmp_path):
    options, boxes, labels, truth = data
    records = [record | {"name": record["name"] + "s"} for record in truth["categories"]]
    write_detector(tmp_path / "other.onnx", boxes, labels, records)
    done = srfgan("eval", "--weights", tmp_path / "other.onnx", *options)
    assert done.code == 2 and "was trained on other categories" in done.err
    for name in ("none.onnx", "none.xml"):
        done = srfgan("eval", "--weights", tmp_path / name, *options)
        assert done.code == 2 and name in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"resize": '{"short_side": Infinity, "max_side": 3}'},
            "srfgan export has written (resize.short_side",
        ),
        ({"resize": '{"short_side": 64.7, "max_side": 64}'}, "srfgan export has written (resize.short_side"),
        ({"input": '{"shape": [], "smallest_side": 65}'}, "srfgan export has written (input.shape"),
        ({"score_threshold": "nan"}, "srfgan export has written (score_threshold"),
        ({"input": '{"shape": [4, 3, "h", "w"], "smallest_side": 65}'}, "of 4 x 3 x 65 x 65"),
        ({"outputs": '{"masks": ""}'}, "the graph gives no masks, but boxes, scores, labels"),
    ],
)
def test_what_a_file_says_of_itself_is_checked(said, message, srfgan, data, tmp_path):
    """Where it is not what was exported, as after an edit: in the file, and against its graph."""
    options, boxes, labels, truth = data
    write_detector(tmp_path / "a.onnx", boxes, labels, truth["categories"], **said)
    done = srfgan("eval", "--weights", tmp_path / "a.onnx", *options)
    assert done.code == 2 and "a.onnx: " in done.err and message in done.err.replace("\n", " ")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda boxes, labels: {"labels": labels + 99}, "but the file names 6 categories"),
        (lambda boxes, labels: {"labels": labels * 0 - 1}, "labels from -1 to -1"),
        (lambda boxes, labels: {"labels": labels.astype(np.float32)}, "not (9,) whole numbers"),
        (lambda boxes, labels: {"boxes": boxes[None]}, "not (9, 4) floating-point numbers"),
        (lambda boxes, labels: {"boxes": boxes * np.nan}, "the graph's boxes are not finite numbers"),
    ],
)
def test_what_a_graph_gives_is_checked(given, message, srfgan, data, tmp_path):
    """Where another tool has changed it, or numbers overflow: not a traceback, and not a score of zero."""
    options, boxes, labels, truth = data
    assert len(boxes) == 9
    write_detector(tmp_path / "a.onnx", boxes, labels, truth["categories"], given(boxes, labels))
    for command in (
        ["eval", "--weights", tmp_path / "a.onnx", *options],
        ["predict", options[-1], "--weights", tmp_path / "a.onnx", "--output", tmp_path / "out"],
    ):
        done = srfgan(*command)
        assert done.code == 2 and "a.onnx: " in done.err and message in done.err.replace("\n", " ")
