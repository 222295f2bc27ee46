"""`srfgan predict`: files of all kinds in, results, table, pictures and crops out; one bad file costs only itself."""

import csv
import fcntl
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from torchvision.transforms.v2.functional import to_pil_image
from trained_runs import TEST_SIZE, save_run

from srfgan.models.errors import InputError
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.data.shapes import ensure_shapes
from srfgan_cli.prediction.found import Prediction
from srfgan_cli.prediction.outputs import Outputs
from srfgan_cli.prediction.sources import find
from srfgan_cli.runs.folder import newest_detector

LOW = ("--score-threshold", "0")


@pytest.fixture
def folder(tmp_path, picture):
    """Two images, and a third file that is none."""
    place = tmp_path / "given"
    place.mkdir()
    to_pil_image(picture).save(place / "000000000139.png")
    to_pil_image(picture.flip(2)).save(place / "000000000285.png")
    (place / "000000000300.jpg").write_text("no image")
    return place


def test_what_cannot_be_read_here_leaves_no_folder(srfgan, run, folder, tmp_path, monkeypatch):
    """It was in the way of the same command when PyAV was there."""
    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.setattr("srfgan_cli.prediction.video.find_spec", lambda name: None)
    done = srfgan("predict", folder, "a.mp4", "--weights", run, "--output", "found", "--devices", "cpu:2")
    assert done.code == 2 and "videos need PyAV" in done.err and not (tmp_path / "found").exists()
    assert "--devices cpu:2: predict runs on one device, cpu." in done.err


def test_the_newest_detector_may_be_a_fits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(
        ("fit/demo/finetune", "finetune/plain", "fit/demo/baseline", "fit/demo/guide")
    ):
        (path := tmp_path / "runs" / name / "model.pt").parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    assert newest_detector() == Path("runs/fit/demo/finetune/model.pt")


def test_a_folder_with_a_broken_file(srfgan, run, folder, tmp_path):
    """The rest is done, the count stands at the end, and results load as COCO's."""
    done = srfgan("predict", folder, "--weights", run, *LOW, "--save", "pictures,results,csv,crops", "--json")
    assert done.code == 2 and "Traceback" not in done.err
    assert (
        "1 of 3 files cannot be read; the rest is done:" in done.err and "300.jpg: not an image" in done.err
    )
    told = json.loads(done.out)
    assert told["images"] == 2 and told["output"] == "predictions" and len(told["unreadable"]) == 1
    place = tmp_path / "predictions"
    results = COCO(place / "image_info.json").loadRes(str(place / "results.json"))
    assert sorted(results.getImgIds()) == [139, 285] and len(results.anns) == told["detections"] > 2
    assert {result["category_id"] for result in results.anns.values()} <= {2, 5, 9}
    assert all("segmentation" in result for result in results.anns.values())
    rows = list(csv.DictReader(io.StringIO((place / "predictions.csv").read_text(encoding="utf-8"))))
    assert len(rows) == told["detections"] and {row["file"] for row in rows} == {
        str(folder / "000000000139.png"),
        str(folder / "000000000285.png"),
    }
    assert sorted(path.name for path in (place / "pictures").iterdir()) == [
        "000000000139.jpg",
        "000000000285.jpg",
    ]
    crops = list((place / "crops").rglob("*.jpg"))
    assert len(crops) == told["detections"]
    x0, y0, x1, y1 = (float(rows[0][side]) for side in ("x0", "y0", "x1", "y1"))
    first = Image.open(
        place / "crops" / {"cat": "cat", "größe": "größe"}[rows[0]["class"]] / "000000000139.jpg"
    )
    assert abs(first.width - (x1 - x0)) < 2 and abs(first.height - (y1 - y0)) < 2


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_a_file_of_several_pictures_says_that_the_first_is_looked_at(suffix, srfgan, run, picture, tmp_path):
    """A stack of a microscope's, of which the results would pass for those of all its planes."""
    pages = [to_pil_image(picture.roll(shift, dims=2)) for shift in (0, 30, 60)]
    pages[0].save(tmp_path / f"stack.{suffix}", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / f"one.{suffix}")
    done = srfgan("predict", f"one.{suffix}", f"stack.{suffix}", "--weights", run, "--save", "csv")
    assert done.code == 0, done.err
    told = [line for line in done.err.splitlines() if "pictures" in line]
    assert told == [f"stack.{suffix}: the file holds 3 pictures; only the first is looked at"]


def test_what_predict_finds_is_what_eval_scores(srfgan, tmp_path):
    """The same results, digit for digit, of the val images of the built-in data."""
    shapes = ["data.dataset=shapes", "data.shapes_train=2", "data.shapes_val=3", "data.shapes_size=64"]
    root = ensure_shapes(2, 3, 64)
    categories = json.loads((root / "annotations" / "instances_val2017.json").read_text())["categories"]
    folder = save_run(tmp_path / "run", *shapes, f"model.num_classes={len(categories)}")
    state = torch.load(folder / "model.pt", weights_only=True)
    torch.save(state | {"categories": categories}, folder / "model.pt")
    settings = [part for override in (*shapes, *TEST_SIZE) for part in ("--set", override)]
    scored = srfgan("eval", "--weights", folder / "model.pt", "--output-dir", "scored", *settings)
    assert scored.code == 0, scored.err
    done = srfgan("predict", root / "val2017", "--weights", folder, *LOW, "--save", "results")
    assert done.code == 0, done.err
    ours = json.loads((tmp_path / "predictions" / "results.json").read_text())
    info = json.loads((tmp_path / "predictions" / "image_info.json").read_text())["images"]
    truth = json.loads((root / "annotations" / "instances_val2017.json").read_text())["images"]
    ids = {image["file_name"]: image["id"] for image in truth}
    moved = {image["id"]: ids[image["file_name"].rsplit("/", 1)[-1]] for image in info}
    expected = json.loads((tmp_path / "scored" / "results.json").read_text())
    assert [result | {"image_id": moved[result["image_id"]]} for result in ours] == expected


def test_a_class_whose_name_has_a_comma(srfgan, run, folder, tmp_path):
    state = torch.load(run / "model.pt", weights_only=True)
    cat = next(one for one in state["categories"] if one["name"] == "cat")
    cat["name"] = "a, b "
    torch.save(state, tmp_path / "named.pt")
    weights = ("--weights", tmp_path / "named.pt", *LOW, "--save", "csv")
    done = srfgan("predict", folder, *weights, "--classes", "a, b ", "--output", "out")
    assert "1 of 3 files cannot be read" in done.err
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        assert {row["class"] for row in csv.DictReader(file)} == {"a, b "}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "model.rpn.post_nms_topk_test=1",
            "takes only model.inference from the preset and --set: rpn.post_nms_topk_test is 200, not 1.",
        ),
        ("model.inference.nms_iou=0.4", None),
    ],
)
def test_what_of_a_model_cannot_be_changed_any_more_is_told(srfgan, run, folder, setting, told):
    done = srfgan("predict", folder / "000000000139.png", "--weights", run, "--set", setting)
    assert done.code == 0, done.err
    said = " ".join(done.err.split())
    assert (told in said) if told else "its own model" not in said


def test_classes_and_strict(srfgan, run, folder, tmp_path):
    chosen = ("predict", folder, "--weights", run, *LOW, "--save", "csv")
    unknown = srfgan(*chosen, "--classes", "cta")
    assert unknown.code == 2 and "knows no class 'cta'. Did you mean 'cat'?" in unknown.err
    none = srfgan(*chosen, "--classes", " , ")
    assert none.code == 2 and "--classes: it names no class. The detector knows" in none.err
    assert not (tmp_path / "predictions").exists()
    stopped = srfgan(*chosen, "--classes", "größe", "--strict", "--output", "out")
    assert stopped.code == 2 and stopped.err.count("not an image") == 1
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        assert {row["class"] for row in csv.DictReader(file)} <= {"größe"}


@pytest.mark.slow  # torch's exporter takes a minute
def test_an_exported_file_finds_the_same(srfgan, run, folder, tmp_path):
    pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    exported = srfgan("export", "--weights", run / "model.pt", "--output", file)
    assert exported.code == 0, exported.err
    (folder / "000000000300.jpg").unlink()
    for name, weights in (("ours", run), ("theirs", file)):
        done = srfgan("predict", folder, "--weights", weights, *LOW, "--save", "results", "--output", name)
        assert done.code == 0, done.err
    ours, theirs = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("ours", "theirs"))
    assert len(ours) == len(theirs) > 5
    for one, other in zip(ours, theirs, strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert np.allclose(one["bbox"], other["bbox"], atol=0.05)
    refused = srfgan("predict", folder, "--weights", file, "--tta")
    assert refused.code == 2 and "is used as it is" in refused.err


def test_sources(tmp_path, monkeypatch):
    for name in ("a.jpg", "b.PNG", "c.mp4", "notes.txt", ".hidden.jpg", "sub/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = lambda found: [path.name for path in [*found.images, *found.videos]]  # noqa: E731
    assert names(find([str(tmp_path)])) == ["a.jpg", "b.PNG", "c.mp4"]
    assert names(find([str(tmp_path / "*.jpg"), str(tmp_path / "a.jpg")])) == ["a.jpg"]
    assert names(find([str(tmp_path / "**" / "*.jpg")])) == ["a.jpg", "d.jpg"]
    listed = f"{tmp_path / 'b.PNG'}\n\n{tmp_path / 'sub'}\r\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(listed))
    assert names(find(["-"])) == ["b.PNG", "d.jpg"]
    other = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    other.touch()
    strict = io.TextIOWrapper(
        io.BytesIO(listed.encode() + os.fsencode(other)), encoding="utf-8", errors="strict"
    )
    monkeypatch.setattr("sys.stdin", strict)
    assert names(find(["-"])) == ["b.PNG", "d.jpg", other.name], "a name's bytes need be no UTF-8"
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="-: stdin held no path"):
        find(["-"])


def found(categories, file_size=(40, 60)):
    """One detection of each class, all in one place."""
    count = len(categories)
    boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0]]).repeat(count, 1)
    return Prediction(boxes, torch.full((count,), 0.5), torch.arange(count), file_size, categories)


def test_every_class_has_a_folder_of_its_own_and_any_name_can_be_written(tmp_path):
    """What a file's name cannot have becomes `_`; names that meet by that have their ids."""
    names = ("cat", "+", "/", "a/b", "a_b", "a_b-4", "größe", "b\ud83d", "\udce9", "Dog", "dog", "x" * 300)
    categories = CategoryMap(tuple(range(1, 1 + len(names))), names)
    outputs = Outputs(tmp_path, ("csv", "crops"), categories, 0.0)
    file = os.fsdecode(b"caf\xe9.jpg")
    for image in (1, 2):
        outputs.add(file, image, torch.zeros(3, 40, 60, dtype=torch.uint8), found(categories), name="p")
    outputs.finish()
    folders = {path.name: len(list(path.iterdir())) for path in (tmp_path / "crops").iterdir()}
    own = [
        "cat",
        "_-2",
        "_-3",
        "a_b-4-4",
        "a_b-5",
        "a_b-4",
        "größe",
        "b_ud83d",
        "_udce9",
        "Dog-10",
        "dog-11",
        "x" * 255,
    ]
    assert folders == dict.fromkeys(own, 2)
    lines = (tmp_path / "predictions.csv").read_bytes().split(b"\r\n")[1:-1]
    assert [line.split(b",")[0] for line in lines] == [b"caf\xe9.jpg"] * 2 * len(names)
    written = [line.split(b",")[2].decode() for line in lines[: len(names)]]
    assert written == [*names[:7], "b\\ud83d", "\\udce9", *names[9:]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg: no such file or folder"),
        (["*.jpg"], "*.jpg: no image or video has such a name"),
        (["photos/**.jpg"], "try 'photos/**/*.jpg'."),
        (["."], "the folder holds no image"),
        ([""], "An argument is empty"),
        ([], "Missing argument 'SOURCE...'"),
        (["x.jpg", "--save", "films"], "--save films: choose from pictures, results, csv, crops"),
        (["x.jpg", "--overlap", "0.5"], "--overlap is of tiles, and there are none"),
        (["x.jpg", "--weights", "none.pt"], "none.pt"),
        (["x.jpg"], "There is no trained detector below runs/"),
        (["x.jpg", "--weights", "published"], "name the preset whose weights are meant"),
        (["x.jpg", "--tiles", "3"], "--tiles"),
    ],
)
def test_bad_input_is_one_message(srfgan, tmp_path, picture, given, message):
    if "x.jpg" in given:
        to_pil_image(picture).save(tmp_path / "x.jpg")
    done = srfgan("predict", *given)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "predictions").exists()


def test_a_folder_with_files_is_not_written_to(srfgan, run, folder, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").touch()
    done = srfgan("predict", folder, "--weights", run, "--output", "full")
    assert done.code == 2 and "holds files already" in done.err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["kept"]


def test_an_image_may_have_the_longest_name(srfgan, run, picture, tmp_path):
    """Its picture's suffix, and the part that is written first, are longer than its own."""
    folder = tmp_path / "long"
    folder.mkdir()
    names = ["x" * 255, "é" * 125 + ".png", "y" * 252 + ".pn", "y" * 252 + ".gn"]
    for name in names:
        to_pil_image(picture).save(folder / name, "PNG")
    save = ("--score-threshold", "0", "--save", "pictures,crops,results", "--output", "out")
    done = srfgan("predict", *(folder / name for name in names), "--weights", run, *save)
    assert done.code == 0, done.err
    pictures = [path.name for path in Path("out/pictures").iterdir()]
    assert len(pictures) == len(names) and sorted(name[0] for name in pictures) == ["x", "y", "y", "é"]
    assert all(
        any(path.name.startswith(first) for path in Path("out/crops").rglob("*.jpg")) for first in "xyé"
    )
    drawn = srfgan(
        "visualize", "detections", "--weights", run, "--image", folder / names[0], "--output", "shown"
    )
    assert drawn.code == 0 and len(list(Path("shown").iterdir())) == 1, drawn.err


def test_a_folder_that_another_process_writes_to_is_not_written_to(srfgan, run, folder):
    """Both would have found it empty."""
    chosen = (folder / "000000000139.png", "--weights", run)
    Path("mine").mkdir()
    held = os.open("mine", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        done = srfgan("predict", *chosen, "--output", "mine")
        assert done.code == 2 and "--output mine: another srfgan predict writes there" in done.err
        assert not any(Path("mine").iterdir())
    finally:
        os.close(held)
    assert srfgan("predict", *chosen, "--output", "mine").code == 0
