"""Where data may lie: every layout is read as the same data, and what is lacking is said."""

import json
from pathlib import Path

import pytest

from srfgan.models.errors import InputError
from srfgan_cli.data.layout import find_split


@pytest.fixture
def named(tiny, tmp_path):
    """The tiny set's files by names of their own, and the options that name them."""
    tiny.write()
    tiny.images.rename(tmp_path / "pictures")
    tiny.json.rename(tmp_path / "labels, all: #1.json")
    return ["--train-json", tmp_path / "labels, all: #1.json", "--train-images", tmp_path / "pictures"]


def overview(done):
    assert done.code == 0, done.err
    return [report["overview"] for report in json.loads(done.out)]


def test_the_same_data_whatever_the_layout(tiny, tmp_path, srfgan):
    tiny.write()
    (expected,) = overview(srfgan("data", "check", tiny.root, "--json"))
    roboflow = tmp_path / "roboflow"
    roboflow.mkdir()
    tiny.images.rename(roboflow / "valid")
    tiny.json.rename(roboflow / "valid" / "_annotations.coco.json")
    assert overview(srfgan("data", "check", roboflow, "--json")) == [expected]
    pair = ["--val-json", roboflow / "valid" / "_annotations.coco.json", "--val-images", roboflow / "valid"]
    assert overview(srfgan("data", "check", *pair, "--json")) == [expected]


@pytest.mark.parametrize("without", range(2))
@pytest.mark.parametrize(
    "command", [["data", "check"], ["eval", "--preset", "x"], ["finetune", "--preset", "x"]]
)
def test_half_a_pair_is_an_error(command, without, named, srfgan):
    done = srfgan(*command, *named[2 * without : 2 * without + 2])
    given, lacking = (("json", "images"), ("images", "json"))[without]
    assert done.code == 2 and f"--train-{given} needs --train-{lacking}" in done.err


def test_a_preset_names_files_and_the_command_line_others(named, srfgan, tmp_path, tiny):
    preset = tmp_path / "own.yaml"
    preset.write_text(
        f'base: demo\ndata: {{dataset: coco, train: {{annotations: "{named[1]}", images: {named[3]}}}}}'
    )
    assert len(overview(srfgan("data", "check", "--preset", preset, "--json"))) == 1
    tiny.write("val")
    (report,) = json.loads(srfgan("data", "check", tiny.root, "--preset", preset, "--json").out)
    assert report["file"] == str(tiny.root / "annotations" / "instances_val2017.json")
    done = srfgan(
        "data", "check", "--preset", preset, "--train-json", "none.json", "--train-images", named[3]
    )
    assert (
        done.code == 2
        and "--train-json, data.train.annotations: none.json: no such annotation file" in done.err
    )
    done = srfgan("finetune", "--preset", preset, "--dry-run", "--json", "--dataset", "shapes")
    assert json.loads(done.out)["config"]["data"]["train"] is None
    done = srfgan("data", "check", "--preset", preset, "--set", "data.dataset=shapes")
    assert done.code == 2 and "--dataset coco takes them" in done.err


def test_two_layouts_at_once_are_named(tiny, tmp_path):
    tiny.write()
    (tiny.root / "train").mkdir()
    (tiny.root / "train" / "_annotations.coco.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"two layouts at once, COCO \(annotations/\) and Roboflow's COCO \(train/"
    ):
        find_split(tiny.root, "train")


def test_a_run_goes_on_with_the_same_data_wherever_it_lies(tiny, named, srfgan, tmp_path):
    """And it needs both splits, though not in one place."""
    train = [
        "finetune",
        "--preset",
        "demo",
        "--dataset",
        "coco",
        "--iterations",
        1,
        "--batch-size",
        2,
        *named,
    ]
    train += [
        "--set",
        "finetune.reuse=none",
        "--set",
        "initial_weights=none",
        "--set",
        "data.short_sides=[64]",
    ]
    done = srfgan(*train)
    assert done.code == 2 and "no data: give --data-root DIR" in done.err and "--val-json" in done.err
    tiny.write("val")
    train += ["--set", "data.test_short_side=64", "--devices", "cpu", "--data-root", tiny.root]
    assert srfgan(*train).code == 0
    Path("runs/finetune/demo/model.pt").unlink()  # as if it had been killed in its last evaluation
    moved = named[3].rename(tmp_path / "moved")
    done = srfgan(*train, "--resume")
    assert done.code == 2 and f"data.train.images: {named[3]}: no such folder of images" in done.err
    train[train.index(named[3])] = moved
    content = json.loads(named[1].read_text())
    content["annotations"][0]["bbox"][0] += 1
    named[1].write_text(json.dumps(content))
    done = srfgan(*train, "--resume")
    assert done.code == 2 and f"was started with other data than {named[1]} is now" in done.err
    content["annotations"][0]["bbox"][0] -= 1
    named[1].write_text(json.dumps(content, indent=1))
    assert srfgan(*train, "--resume").code == 0
