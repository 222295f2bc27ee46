"""What a user may get wrong, through the commands: one message, exit code 2, and nothing lost."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from PIL import Image

from srfgan.models import build_detector
from srfgan.models.weights import load_weights
from srfgan_cli.presets import load_preset
from srfgan_cli.runs.folder import Run

PRESET = "faster_rcnn_r18_fpn_nn"
IMAGE = {"id": 7, "file_name": "a.png", "width": 64, "height": 64}
BOX = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [4, 4, 30, 30], "area": 900, "iscrowd": 0}
CATEGORY = {"id": 3, "name": "thing"}


@pytest.fixture
def data(tmp_path):
    """A data set of one image, and a function that spoils it."""
    root = tmp_path / "data"
    for split in ("train2017", "val2017"):
        (root / split).mkdir(parents=True)
        Image.new("RGB", (64, 64), (90, 120, 40)).save(root / split / "a.png")
    (root / "annotations").mkdir()

    def write(content=None, text=None):
        document = {"images": [IMAGE], "annotations": [BOX], "categories": [CATEGORY]} | (content or {})
        for split in ("train", "val"):
            (root / "annotations" / f"instances_{split}2017.json").write_text(text or json.dumps(document))
        return root

    write()
    return write


@pytest.fixture
def train(srfgan, tiny, data):
    options = [part for part in tiny(detector="faster_rcnn") if part != "data.dataset=shapes"]
    options = [o for i, o in enumerate(options) if not (o == "--set" and options[i + 1 : i + 2] == ["--set"])]

    def call(*more, root=None, iterations=1):
        size = ["--iterations", iterations, "--batch-size", 1, "--devices", "cpu"]
        return srfgan("finetune", "--preset", PRESET, "--data-root", root or data(), *size, *options, *more)

    return call


@pytest.mark.parametrize(
    ("content", "text", "message"),
    [
        (None, '{"images": [', "instances_train2017.json"),
        (None, "[]", "instances_train2017.json"),
        ({"categories": []}, None, "'categories' must be a list of at least one category"),
        ({"annotations": [BOX | {"category_id": 4}]}, None, "category"),
        ({"images": [IMAGE, IMAGE]}, None, "image id"),
        ({"images": [IMAGE | {"file_name": "b.png"}]}, None, "b.png"),
        ({"annotations": [BOX | {"bbox": [4, 4, -3, 30]}]}, None, "no image has an annotation to train on"),
    ],
)
def test_broken_data_stops_before_training_and_keeps_an_old_run(content, text, message, train, data):
    assert train().code == 0
    model = Path(f"runs/finetune/{PRESET}/model.pt")
    before = model.read_bytes()
    done = train("--overwrite", root=data(content, text))
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert model.read_bytes() == before


def test_patience_needs_something_to_find_in_the_val_split(train, data):
    """Without a score none is ever better: the training had ended at once."""
    root = data()
    val = root / "annotations" / "instances_val2017.json"
    crowd = BOX | {"iscrowd": 1, "segmentation": {"size": [64, 64], "counts": [0, 4096]}}
    val.write_text(json.dumps(json.loads(val.read_text()) | {"annotations": [crowd]}))
    waiting = ("--set", "finetune.solver.evaluate_every=1", "--set", "finetune.solver.patience=1")
    done = train(*waiting, root=root, iterations=2)
    assert done.code == 2 and f"{val} has no object to find" in " ".join(done.err.split()), done.err
    assert train(*waiting, "--set", "finetune.solver.patience=null", root=root, iterations=2).code == 0


def spoil_image(root):
    (root / "train2017" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf of an image")


def test_an_unreadable_image_is_named_while_training(train, data):
    spoil_image(data())
    done = train()
    assert done.code == 2 and "a.png" in done.err


def content_of(folder):
    """All files of a run, but what its lock says."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


DIVERGING = [
    f"--set=finetune.solver.{part}"
    for part in ("lr=1000", "lr_batch_size=1", "optimizer=sgd", "warmup_iterations=0", "clip_norm=null")
]
DIVERGING += ["--iterations", "9"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "a.png"),
        pytest.param(["--max-restarts", "1"], "ended with exit code 2", marks=pytest.mark.slow),
        (DIVERGING, "solver.clip_norm usually helps"),
    ],
)
def test_a_run_that_comes_to_nothing_leaves_the_one_that_it_was_to_replace(more, message, train, data):
    assert train().code == 0
    folder = Path(f"runs/finetune/{PRESET}")
    before = content_of(folder)
    assert {"model.pt", "checkpoint.pt", "config.yaml", "metrics.jsonl"} <= before.keys()
    if more != DIVERGING:
        spoil_image(data())
    done = train("--overwrite", *more)
    assert done.code != 0 and message in done.err and "Traceback" not in done.err
    assert content_of(folder) == before


def test_what_is_advised_to_a_diverged_run_can_be_done(train):
    """A lower learning rate and `--resume` exclude each other, and both had been named in one breath."""
    diverged = train(*DIVERGING, "--set", "finetune.solver.checkpoint_every=1")
    assert diverged.code == 2 and "in a run that starts anew (--overwrite): --resume goes on" in diverged.err
    lower = [*DIVERGING, "--set", "finetune.solver.lr=1e-5"]
    assert "Changed: finetune.solver.lr: 1000.0 -> 1e-05" in train(*lower, "--resume").err
    assert train(*lower, "--overwrite").code == 0


def test_what_a_new_run_replaces_is_gone_with_its_first_checkpoint(train, data):
    assert train().code == 0
    folder = Path(f"runs/finetune/{PRESET}")
    (folder / ".srfgan-replaced").mkdir()  # as a process that was killed has left it
    (folder / ".srfgan-replaced" / "model.pt").write_bytes(b"older")
    before = content_of(folder)
    assert train("--overwrite", "--seed", "5").code == 0
    after = content_of(folder)
    assert not (folder / ".srfgan-replaced").exists() and after["model.pt"] != before["model.pt"]


def test_a_run_that_was_killed_before_its_first_checkpoint_has_replaced_nothing_yet(train, data):
    assert train().code == 0
    folder = Path(f"runs/finetune/{PRESET}")
    before = content_of(folder)
    run = Run(folder)
    run.set_aside()
    run.config.write_text("of the new run")
    spoil_image(data())
    assert train("--overwrite").code == 2
    assert content_of(folder) == before


class Malicious:
    def __reduce__(self):
        return (Path.touch, (Path("owned"),))


def truncated(path):
    torch.save({"format": "srfgan", "modules": {"detector": {"a": torch.zeros(1000)}}}, path)
    path.write_bytes(path.read_bytes()[:600])


def foreign(path):
    torch.save({"model": {"layer.weight": torch.zeros(3)}}, path)


def malicious(path):
    path.write_bytes(pickle.dumps({"model": Malicious()}))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("half.pt", truncated, "half.pt: cannot be read as weights"),
        ("half.pth", truncated, "half.pth: cannot be read as weights"),
        ("other.pth", foreign, "does not fit"),
        ("evil.pkl", malicious, "could run code"),
        ("evil.pth", malicious, "evil.pth"),
        ("none.pth", None, "do not exist"),
    ],
)
def test_checkpoints_that_cannot_be_used_are_refused(name, write, message, srfgan, data, tmp_path):
    if write:
        write(tmp_path / name)
    done = srfgan("eval", "--preset", PRESET, "--data-root", data(), "--weights", name, "--devices", "cpu")
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "owned").exists()


def test_a_detector_of_other_classes_is_refused_for_evaluation_and_reheaded_for_training(train, srfgan, data):
    assert train().code == 0
    weights = f"runs/finetune/{PRESET}/model.pt"
    two = {"categories": [CATEGORY, {"id": 9, "name": "other"}]}
    refused = srfgan("eval", "--preset", PRESET, "--data-root", data(two), "--weights", weights)
    assert refused.code == 2 and "was trained on other categories (1: thing)" in refused.err
    again = train("--weights", weights, "--output-dir", "again", root=data(two))
    assert again.code == 0 and "head.box.classes.weight [2, 32] -> [3, 32]" in again.err
    assert "trained on other classes (1: thing) than the data set's (2: thing, other)" in again.err
    config = load_preset("again/config.yaml")
    assert config.model.num_classes == 2 and config.data.categories == ["thing", "other"]
    detector = build_detector(config.model)
    with pytest.warns(UserWarning, match="not all from the file(.|\n)*is of 1 classes, this detector has 2"):
        load_weights(detector, weights)


def test_a_finished_run_is_not_taken_for_one_of_other_data_or_weights(train, data, tmp_path):
    """`--auto-resume` had said that it is finished, whatever it was told to train on and to start from."""
    auto = ("--auto-resume",)
    assert train("--output-dir", "first").code == 0
    assert train("--output-dir", "second", "--weights", "first").code == 0
    the_same, needed_no_more = ("--weights", "first"), ("--weights", "gone.pt")
    for more in (the_same, (), needed_no_more):
        done = train(*auto, "--output-dir", "second", *more)
        assert done.code == 0 and "The run in second is finished" in done.err, done.err
    done = train(*auto, "--output-dir", "first", "--weights", "second")
    assert (
        done.code == 2
        and "first was started from other files than these. Changed: weights: none ->" in done.err
    )
    other = data({"annotations": [BOX | {"bbox": [4, 4, 20, 30]}]})
    done = train(*auto, "--output-dir", "first", root=other)
    assert done.code == 2 and "first was started with other train data than" in done.err
    done = train(*auto, "--output-dir", "first", root=tmp_path / "gone")
    assert done.code == 0 and "The run is finished; whether with this data, nothing tells:" in done.err


def test_a_split_without_annotations_gets_a_results_file_only(train, srfgan, data):
    assert train().code == 0
    root = data()
    (root / "test2017").mkdir()
    Image.new("L", (48, 40)).save(root / "test2017" / "b.png")
    image = {"id": 12, "file_name": "b.png", "width": 48, "height": 40}
    info = root / "annotations" / "image_info_test2017.json"
    info.write_text(json.dumps({"images": [image], "categories": [CATEGORY]}))
    done = srfgan("eval", "--preset", PRESET, "--data-root", root, "--split", "test", "--output-dir", "out")
    assert done.code == 0, done.err
    results = json.loads(Path(f"out/detections_test2017_{PRESET}_results.json").read_text())
    assert {result["image_id"] for result in results} <= {12}
