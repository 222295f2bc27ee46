"""Where data may lie: every layout is read as the same data, and what is lacking is said."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srfgan.models.errors import InputError
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.findings import Problem
from srfgan_cli.data.layout import find_split
from srfgan_cli.data.open import open_split
from srfgan_cli.data.rle import encode_mask
from srfgan_cli.presets.config import DataConfig


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


def roboflow(tiny, root):
    tiny.write()
    root.mkdir()
    tiny.images.rename(root / "train")
    tiny.json.rename(root / "train" / "_annotations.coco.json")


def yolo(tiny, root):
    tiny.write_yolo(root, "train/images", "valid/images")


def yolo_of_folders(tiny, root):
    tiny.write_yolo(root, "images/train").unlink()
    (root / "labels" / "classes.txt").write_text("cat\ndog\n")


def yolo_by_lists(tiny, root):
    tiny.write_yolo(root, "images")
    (root / "all.txt").write_text("".join(f"./images/{name}.png\n" for name in (1, 2, 5)))
    (root / "data.yaml").write_text("path: /nowhere\ntrain: all.txt\nnames: {0: cat, 1: dog}\n")


def voc(tiny, root):
    year = root / "VOCdevkit" / "VOC2012"
    tiny.write_voc(year / "JPEGImages", year / "Annotations")
    lists = year / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("1\n2\n5\n")
    (lists / "cat_train.txt").write_text("1 1\n2 -1\n5 -1\n")


def voc_of_roboflow(tiny, root):
    tiny.write_voc(root / "train", root / "train")


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (roboflow, "COCO"),
        (yolo, "YOLO"),
        (yolo_of_folders, "YOLO"),
        (yolo_by_lists, "YOLO"),
        (voc, "Pascal VOC"),
        (voc_of_roboflow, "Pascal VOC"),
    ],
)
def test_the_same_data_whatever_the_layout(write, named, tiny, tmp_path, make_box):
    tiny.content["annotations"].append(make_box(13, 5, 3, (10, 1, 20, 19)))
    write(tiny, tmp_path / "other")
    tiny.write()
    expected = open_split(DataConfig(), tiny.root, "train", training=True, masks=False)
    found = open_split(DataConfig(), tmp_path / "other", "train", training=True, masks=False)
    assert found.index.report.layout == named and found.index.report.problems == ()
    assert found.categories.names == expected.categories.names
    for position in range(3):
        (image, target), (right_image, right_target) = found.read(position), expected.read(position)
        assert torch.equal(image, right_image) and torch.equal(target.labels, right_target.labels)
        torch.testing.assert_close(target.boxes, right_target.boxes)


@pytest.mark.parametrize("link", [False, True])
def test_a_list_of_whole_paths_is_of_the_data_set_however_that_is_named(link, tiny, tmp_path, monkeypatch):
    """Relatively named, it had been refused as of files outside of it."""
    yolo_by_lists(tiny, root := tmp_path / "other")
    if link:
        (tmp_path / "link").symlink_to(root)
    lines = "".join(f"{root}/images/{name}.png\n" for name in (1, 2, 5))
    (root / "all.txt").write_text(lines)
    monkeypatch.chdir(tmp_path)
    files = find_split(Path("link" if link else "other"), "train")
    index = CocoIndex.of(files.read(), files.images)
    assert len(index) == 3 and index.labels.tolist() == [0, 1, 1] and index.report.problems == ()


@pytest.mark.parametrize("write", [yolo, voc_of_roboflow])
def test_a_folder_that_cannot_be_read_stops(write, tiny, tmp_path, monkeypatch):
    """Its images had been left out without a word."""
    write(tiny, tmp_path / "other")
    inner = find_split(tmp_path / "other", "train").images / "inner"
    inner.mkdir()
    scandir = os.scandir

    def refuse(folder):
        if str(folder) == str(inner):
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    with (
        monkeypatch.context() as patched,
        pytest.raises(InputError, match=r"inner: the folder cannot be read \(Permission denied\)"),
    ):
        patched.setattr(os, "scandir", refuse)
        find_split(tmp_path / "other", "train").read()


@pytest.mark.parametrize("points", [1, 4, 17])
def test_keypoints_of_yolo_are_no_outlines(points, tiny, tmp_path):
    """Without the `kpt_shape` that tells: even numbers of points were read as outlines, odd ones dropped."""
    tiny.write_yolo(tmp_path / "yolo", "images/train")
    pose = (
        "".join(f" {0.4 + 0.01 * n:.2f} {0.6 - 0.01 * n:.2f} {2 - n % 2}" for n in range(points - 1))
        + " 0 0 0"
    )
    for place in (labels := tmp_path / "yolo" / "labels" / "train").iterdir():
        place.write_text(f"0 0.5 0.5 0.3 0.4{pose}\n\n1 0.5 0.5 0.3 0.4{pose}\n")
    with pytest.raises(InputError, match=r"1\.txt:1: most lines are a box and keypoints"):
        find_split(tmp_path / "yolo", "train").read()
    for place in labels.iterdir():  # of five points, whose numbers at those places could be any
        place.write_text(f"0 0.1 0.1 0.5 0.1 0.5 0.6 0.4 1 0.1 0.6\n0 0.5 0.5 0.3 0.4{pose}\n")
    index = CocoIndex.of(find_split(tmp_path / "yolo", "train").read())
    assert index.has_mask.sum() >= 3


def test_linked_folders_of_yolo_are_followed_once_and_in_no_circle(tiny, tmp_path):
    """Their images had been left out without a word."""
    tiny.write_yolo(tmp_path / "yolo", "images/train")
    for kind in ("images", "labels"):
        folder, store = tmp_path / "yolo" / kind / "train", tmp_path / "yolo" / kind / "store"
        (store / "deep").mkdir(parents=True)
        for name in (path.name for path in folder.iterdir() if path.stem == "2"):
            (folder / name).rename(store / "deep" / name)
        (folder / "camera").symlink_to(store)
        (folder / "again").symlink_to("camera/deep")
        (folder / "a circle").symlink_to(folder)
        (store / "deep" / "up").symlink_to(store)
    (tmp_path / "yolo" / "images" / "train" / "gone").symlink_to("nowhere")
    index = CocoIndex.of(records := find_split(tmp_path / "yolo", "train").read())
    lost = Problem("link to a file or folder that is not there", "dropped", 1, ("images/train/gone",))
    assert records.problems == (lost,) and index.file_names() == ["1.png", "5.png", "again/2.png"]
    assert index.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(("write", "folder"), [(yolo, "train/images"), (voc_of_roboflow, "train")])
def test_links_that_lead_nowhere_are_counted_and_named(write, folder, tiny, srfgan, tmp_path):
    """As of a camera's folder on a disk that is not mounted: what would be in it is left out."""
    write(tiny, tmp_path / "other")
    images = tmp_path / "other" / folder
    for name, target in (("camera 1", "/mnt/gone"), ("camera 2", "gone"), ("circle", "circle")):
        (images / name).symlink_to(target)
    (images / "deep").mkdir()
    (images / "deep" / "more").symlink_to("../gone")
    (images / "deep" / ".#editor").symlink_to("user@host.1234")
    done = srfgan("data", "check", tmp_path / "other", "--json")
    assert done.code == 0, done.err
    lost = {
        "kind": "link to a file or folder that is not there",
        "fate": "dropped",
        "count": 4,
        "first": [f"{folder}/{name}" for name in ("camera 1", "camera 2", "circle", "deep/more")],
    }
    assert json.loads(done.out)[0]["problems"] == [lost]
    (images / "6.png").symlink_to(
        "gone.png"
    )  # one that is an image by its name stops, as any that is missing
    if write is voc_of_roboflow:
        (images / "6.xml").write_bytes((images / "5.xml").read_bytes())
    assert "missing image file" in srfgan("data", "check", tmp_path / "other").out


def test_outlines_of_yolo_and_difficult_objects_of_voc(tiny, tmp_path):
    tiny.write_yolo(tmp_path / "yolo", "images/train")
    labels = tmp_path / "yolo" / "labels" / "train"
    (labels / "1.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.6\n1 0.5 0.5 0.2 0.2\n")
    (labels / "5.txt").unlink()
    index = CocoIndex.of(find_split(tmp_path / "yolo", "train").read())
    assert index.boxes[0].tolist() == pytest.approx([3, 2, 15, 12]) and index.areas[0] == pytest.approx(60)
    assert index.has_mask.tolist() == [True, False, False]
    assert index.mask(0, 20).parts[0].ravel() == pytest.approx([3, 2, 15, 2, 15, 12])
    assert {problem.kind for problem in index.report.problems} == {
        "no mask",
        "image without a label file: no object in it",
    }
    tiny.write_voc(tmp_path / "voc" / "train", tmp_path / "voc" / "train")
    path = tmp_path / "voc" / "train" / "1.xml"
    path.write_text(path.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>"))
    assert CocoIndex.of(find_split(tmp_path / "voc", "train").read()).crowd.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("inner", "area"),
    [("15 5 15 15 25 15 25 5 15 5", 100 + 100), ("2 2 2 8 8 8 8 2 2 2", 100 - 36)],
    ids=["two parts, of opposite senses", "a part with a hole"],
)
def test_the_area_of_an_outline_is_what_it_encloses(inner, area, tiny, tmp_path):
    """Of one that comes back to where it began, as several parts joined by lines without width are told in YOLO's."""
    tiny.write_yolo(tmp_path / "yolo", "images/train")
    numbers = [float(number) for number in f"0 0 10 0 10 10 0 10 0 0 {inner}".split()]
    shares = " ".join(str(value / side) for value, side in zip(numbers, [30, 20] * 10, strict=True))
    (tmp_path / "yolo" / "labels" / "train" / "1.txt").write_text(f"0 {shares}\n")
    index = CocoIndex.of(find_split(tmp_path / "yolo", "train").read())
    assert index.areas[0] == pytest.approx(area, abs=6)


@pytest.mark.parametrize("odd", ["nan nan", "inf 0.5", "1e308 1e308", "0.5 -1e308"])
def test_an_outline_that_passes_a_point_again_may_have_any_numbers(odd, tiny, tmp_path):
    """With one that is not a number it had been drawn, in all the memory that there is."""
    tiny.write_yolo(tmp_path / "yolo", "images/train")
    text = f"0 0.1 0.1 0.2 0.2 {odd} 0.3 0.1 0.1 0.1 0.3 0.4\n1 0.5 0.5 0.2 0.2\n"
    (tmp_path / "yolo" / "labels" / "train" / "1.txt").write_text(text)
    index = CocoIndex.of(find_split(tmp_path / "yolo", "train").read())
    assert index.labels.tolist()[-1] == 1 and np.isfinite(index.areas).all() and (index.areas >= 0).all()


LINE = "label line that is neither `class x y width height` nor `class x1 y1 x2 y2 x3 y3 ...`"
NUMBERS = "box with NaN, infinite or missing numbers"


@pytest.mark.parametrize(
    ("text", "kind", "first"),
    [
        ("\n0 0.5 0.5 0.2", LINE, "train/labels/1.txt:2: '0 0.5 0.5 0.2'"),
        ("0 0.5 0.5 0.2 0.2 0.9", LINE, "train/labels/1.txt:1: '0 0.5 0.5 0.2 0.2 0.9'"),
        ("cat 0.5 0.5 0.2 0.2", LINE, "train/labels/1.txt:1: 'cat 0.5 0.5 0.2 0.2'"),
        (
            "2 0.5 0.5 0.2 0.2",
            "unknown category id",
            "train/labels/1.txt:1 (image 1, 1.png, category 2, box [12, 8, 6, 4])",
        ),
        (
            "0 nan 0.5 0.2 0.2",
            NUMBERS,
            "train/labels/1.txt:1 (image 1, 1.png, category 0, box [nan, 8, 6, 4])",
        ),
        (
            "0 1.2 0.5 0.6 0.2",
            "box partly outside the image",
            "train/labels/1.txt:1 (image 1, 1.png, category 0, box [27, 8, 18, 4])",
        ),
        (
            "0 15 10 9 9\n0 9 9 9 9\n1 9 9 9 9",
            "coordinates beyond 1 in most lines: in pixels? they are shares of the image's width and height",
            "train/labels/1.txt:1",
        ),
    ],
)
def test_what_is_wrong_in_labels_of_yolo_is_named_with_its_line(text, kind, first, tiny, tmp_path, srfgan):
    tiny.write_yolo(tmp_path / "other", "train/images")
    (tmp_path / "other" / "train" / "labels" / "1.txt").write_text(text)
    (report,) = json.loads(srfgan("data", "check", tmp_path / "other", "--json").out)
    assert {problem["kind"]: problem["first"][0] for problem in report["problems"]}[kind] == first


def cut(path):
    path.write_text(path.read_text()[:-20])


def bomb(path):
    path.write_text('<!DOCTYPE x [<!ENTITY a "aaaa">]>' + path.read_text())


def without_a_number(path):
    path.write_text(path.read_text().replace("<xmin>3</xmin>", ""))


def gone(path):
    path.with_suffix(".png").unlink()


def encoded(name):
    def spoil(path):
        path.write_text(f'<?xml version="1.0" encoding="{name}"?>{path.read_text()}')

    return spoil


def saying(text):
    def spoil(path):
        path.write_text(path.read_text().replace("<name>", f"<difficult>{text}</difficult><name>"))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "kind", "first"),
    [
        (cut, "annotation file that cannot be read", "Annotations/1.xml:4: unclosed token"),
        (bomb, "annotation file that cannot be read", "Annotations/1.xml:1: a DOCTYPE, which is not read"),
        (without_a_number, NUMBERS, "Annotations/1.xml:3 (image 1, 1.png, category 1, box [nan, "),
        (gone, "missing image file", "JPEGImages/1.*, which train.txt lists"),
        (encoded("none"), "annotation file that cannot be read", "Annotations/1.xml:1: its encoding is not"),
        (encoded("rot13"), "annotation file that cannot be read", "Annotations/1.xml:1: its encoding is not"),
        (
            encoded("gb2312"),
            "annotation file that cannot be read",
            "Annotations/1.xml:1: multi-byte encodings",
        ),
        (saying("True"), "difficult is neither 0 nor 1", "Annotations/1.xml:3"),
        (saying("perhaps"), "difficult is neither 0 nor 1", "Annotations/1.xml:3"),
    ],
)
def test_what_is_wrong_in_files_of_voc_is_named_with_its_line(spoil, kind, first, tiny, tmp_path, srfgan):
    voc(tiny, tmp_path)
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    spoil(folder / ("JPEGImages/1.png" if spoil is gone else "Annotations/1.xml"))
    done = srfgan("data", "check", folder, "--json")
    (report,) = json.loads(done.out)
    assert {problem["kind"]: problem["first"][0] for problem in report["problems"]}[kind].startswith(first)
    assert done.code == (2 if any(problem["fate"] == "stops" for problem in report["problems"]) else 0)
    assert (done.code == 0) == (spoil is without_a_number or kind.startswith("difficult"))


def test_files_of_voc_that_go_with_no_other_are_told(tiny, tmp_path, srfgan):
    """An annotation without its image, and a second image by the name of another."""
    voc_of_roboflow(tiny, tmp_path / "other")
    folder = tmp_path / "other" / "train"
    (folder / "5.png").unlink()
    shutil.copy(folder / "2.png", folder / "2.webp")
    (report,) = json.loads(srfgan("data", "check", tmp_path / "other", "--json").out)
    told = {problem["kind"]: (problem["fate"], problem["first"]) for problem in report["problems"]}
    assert told == {
        "image whose annotation file is another image's: the names differ only in their suffix": (
            "dropped",
            ["train/2.webp"],
        ),
        "annotation file without an image": ("dropped", ["train/5.xml"]),
    }
    assert (report["images"], report["annotations"]) == (2, 2)


def test_classes_of_voc_that_are_not_listed_are_named(tiny, tmp_path, srfgan):
    voc_of_roboflow(tiny, tmp_path / "other")
    (tmp_path / "other" / "classes.txt").write_text("dog\n")
    path = tmp_path / "other" / "train" / "2.xml"
    path.write_text(path.read_text().replace("<name>dog</name>", ""))
    done = srfgan("data", "check", tmp_path / "other", "--json")
    (report,) = json.loads(done.out)
    assert done.code == 2 and [
        (problem["kind"], problem["first"]) for problem in report["problems"] if problem["fate"] == "stops"
    ] == [
        ("class that classes.txt does not list", ["train/1.xml:3: 'cat'"]),
        ("object without a name of its class", ["train/2.xml:3"]),
    ]


def test_names_of_voc_may_end_as_lines_of_a_classs_list_do(tiny, tmp_path):
    voc(tiny, tmp_path)
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for old, new in (("1", "photo 0"), ("2", "photo 1")):
        (folder / "JPEGImages" / f"{old}.png").rename(folder / "JPEGImages" / f"{new}.png")
        (folder / "Annotations" / f"{old}.xml").rename(folder / "Annotations" / f"{new}.xml")
    (folder / "ImageSets" / "Main" / "train.txt").write_text("photo 0\nphoto 1\n5 -1\n")
    index = CocoIndex.of(find_split(tmp_path, "train").read())
    assert index.file_names() == ["photo 0.png", "photo 1.png", "5.png"] and index.report.problems == ()


@pytest.mark.parametrize(
    ("text", "crowd"),
    [("1", 1), ("1.0", 1), ("true", 1), (" YES ", 1), ("0", 0), ("", 0), ("no", 0), ("7", 0)],
)
def test_what_is_difficult_in_voc(text, crowd, tiny, tmp_path):
    voc(tiny, tmp_path)
    saying(text)(tmp_path / "VOCdevkit/VOC2012/Annotations/1.xml")
    assert CocoIndex.of(find_split(tmp_path, "train").read()).crowd.tolist() == [bool(crowd), False, False]


@pytest.mark.parametrize("side", ["1e300", "2147483648", "-20", "20.5", "nan", "x"])
def test_a_size_that_is_none_is_taken_from_the_image(side, tiny, tmp_path):
    voc(tiny, tmp_path)
    file = tmp_path / "VOCdevkit/VOC2012/Annotations/1.xml"
    size = f"<size><width>30</width><height>{side}</height></size>"
    file.write_text(re.sub("<size>.*</size>", size, file.read_text(), flags=re.DOTALL))
    assert size in file.read_text()
    assert CocoIndex.of(find_split(tmp_path, "train").read()).sizes[0].tolist() == [20, 30]


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
BOMB += "names: [*a11]\ntrain: images"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a, b]\nnc: 3\ntrain: images", "'nc' is 3, but 'names' has 2 classes"),
        ("names: [a, no]\ntrain: images", "names like yes, no, on and off need quotes"),
        ("names: {a: [", "the description of a data set cannot be read (while parsing"),
        ("names: [a, b]\ntrain: nowhere", "there is no train split, for which data.yaml names"),
        ("names: [a, b]\nval: train/images", "YOLO (data.yaml) without a train split; there is val"),
        ("names: [a]\nkpt_shape: [17, 3]\ntrain: images", "labels of keypoints are not read here"),
        ("nc: 2\ntrain: data.yaml", "no image that can be read: missing image file"),
        ('nc: !!int ""\ntrain: images', "a value has not the form of its type"),
        ("nc: !!bool x\ntrain: images", "a value has not the form of its type"),
        ("nc: !!timestamp x\ntrain: images", "a value has not the form of its type"),
        ("names: [a, b]\nnames: [c, d]\ntrain: images", "data.yaml, line 2: the description of a data set"),
        ("names: {0: a, 0: b}\ntrain: images", "key '0' is given twice"),
        (BOMB, "aliases are not read here"),
        ("names: " + "[" * 5000, "nested too deeply"),
    ],
)
def test_a_description_that_cannot_be_used(text, message, tiny, tmp_path):
    tiny.write_yolo(tmp_path / "other", "train/images").write_text(text)
    with pytest.raises(InputError) as caught:
        find_split(tmp_path / "other", "train").read()
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["010", "0x1F", "1_000", "1:30", "1.50", "1e3", "2024-01-01", "7", "0.5"])
def test_a_class_is_called_what_is_written(name, tiny, tmp_path):
    for text in (f"names: [cat, {name}]", f"names: {{0: cat, 1: {name}}}"):
        root = tmp_path / f"other{len(text)}"
        tiny.write_yolo(root, "train/images").write_text(f"{text}\nnc: 2\ntrain: train/images\n")
        assert find_split(root, "train").read().categories.names == ("cat", name)


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
    assert done.code == 2 and f"was started with other train data than {named[1]} is now" in done.err
    content["annotations"][0]["bbox"][0] -= 1
    named[1].write_text(json.dumps(content, indent=1))
    val = tiny.root / "annotations/instances_val2017.json"
    scored_on = val.read_text()
    val.write_text(json.dumps(json.loads(scored_on) | {"annotations": []}))
    done = srfgan(*train, "--resume")
    assert done.code == 2 and f"was started with other val data than {val} is now" in done.err
    val.write_text(scored_on)
    assert srfgan(*train, "--resume").code == 0


def run_lengths(tiny, make_box):
    """A ring of 4 x 4 pixels with a hole, and a crowd region."""
    ring = np.zeros((20, 30), bool)
    ring[4:8, 5:9] = True
    ring[5:7, 6:8] = False
    code = encode_mask(ring, (0, 0), (20, 30))
    tiny.content["annotations"].append(make_box(13, 1, 90, (5, 4, 4, 4), code))
    tiny.content["annotations"].append(make_box(14, 1, 3, (0, 0, 9, 9), iscrowd=1))


def test_to_yolo_and_back_boxes_are_equal_and_what_is_lost_is_said(tiny, make_box, tmp_path, srfgan):
    tiny.content["annotations"][1].update(segmentation=[])
    tiny.content["annotations"].append(
        make_box(15, 1, 3, (1, 2, 9, 8), [[1, 2, 4, 2, 4, 6], [6, 6, 10, 6, 10, 10]])
    )
    run_lengths(tiny, make_box)
    tiny.write()
    done = srfgan("data", "convert", tiny.root, "yolo", "--to", "yolo")
    assert done.code == 0 and done.out == "yolo\n", done.err
    for said in (
        "1 crowd regions (or difficult objects) left out",
        "1 run-length masks approximated by outlines",
        "1 holes in masks filled",
        "1 outlines of several parts joined",
    ):
        assert said in done.err
    assert srfgan("data", "convert", "yolo", "coco", "--link").code == 0
    first, again = (CocoIndex.of(find_split(root, "train").read()) for root in (tiny.root, tmp_path / "coco"))
    kept = ~first.crowd
    np.testing.assert_allclose(again.boxes, first.boxes[kept], rtol=1e-6, atol=1e-5)
    assert [*again.labels] == [*first.labels[kept]] and [*again.has_mask] == [*first.has_mask[kept]]
    done = srfgan("data", "convert", tiny.root, "coco")
    assert done.code == 2 and "there is something already" in done.err


def as_ultralytics(path):
    """Boxes (R, 4) of a label file, x, y, width, height in shares of the image: of outlines all, where one line is."""
    lines = [[float(word) for word in line.split()[1:]] for line in path.read_text().splitlines()]
    if not any(len(line) > 5 for line in lines):
        centres = np.array(lines)
        return np.hstack([centres[:, :2] - centres[:, 2:] / 2, centres[:, 2:]])
    points = [np.array(line).reshape(-1, 2) for line in lines]
    return np.array([[*one.min(axis=0), *(one.max(axis=0) - one.min(axis=0))] for one in points])


def test_boxes_of_objects_with_and_without_masks_in_one_image_are_what_other_readers_see(
    tiny, make_box, srfgan
):
    """As of a data set that has masks of some classes only, or lost some that are no polygons."""
    boxes = {1: [(4, 2, 9, 5), (10, 6, 12, 8)], 2: [(1, 1, 8, 6), (2, 9, 7, 8)]}
    x, y, w, h = boxes[1][0]
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    tiny.content["annotations"] = [
        make_box(10, 1, 3, boxes[1][0], outline),
        make_box(11, 1, 90, boxes[1][1], []),
        *(make_box(12 + place, 2, 90, box, []) for place, box in enumerate(boxes[2])),
    ]
    tiny.write()
    done = srfgan("data", "convert", tiny.root, "new", "--to", "yolo")
    assert done.code == 0 and "1 boxes of objects without masks, beside others' outlines" in done.err
    for record in tiny.content["images"][:2]:
        seen = as_ultralytics(Path(f"new/labels/train/{record['id']}.txt"))
        sides = [record["width"], record["height"]] * 2
        np.testing.assert_allclose(seen * sides, boxes[record["id"]], atol=1e-6)
    index = CocoIndex.of(find_split(Path("new"), "train").read())
    assert index.has_mask.tolist() == [True, True, False, False]
    np.testing.assert_allclose(index.truth_boxes, boxes[1] + boxes[2], atol=1e-6)


def test_a_box_that_is_not_around_its_mask_is_counted_when_it_becomes_so(tiny, make_box, srfgan):
    outline = [[5, 5, 9, 5, 9, 9, 5, 9]]
    boxes = [(5.4, 4.6, 4, 4), (5, 5, 6, 4)]
    tiny.content["annotations"] = [
        make_box(10 + place, 1, 3, box, outline) for place, box in enumerate(boxes)
    ]
    tiny.write()
    done = srfgan("data", "convert", tiny.root, "new", "--to", "yolo")
    assert done.code == 0 and "1 boxes that are not around their masks by a pixel or more" in done.err


def test_images_that_are_not_annotated_have_no_label_files_in_yolos_layout(tiny, srfgan):
    """An empty one says that somebody has looked, and that there is nothing."""
    tiny.write()
    del tiny.content["annotations"]
    tiny.write("test").rename(tiny.root / "annotations" / "image_info_test2017.json")
    done = srfgan("data", "convert", tiny.root, "new", "--to", "yolo")
    assert done.code == 0 and "3 test images without annotations" in done.err
    assert len(list(Path("new/images/test").iterdir())) == 3
    assert [path.name for path in Path("new/labels").iterdir()] == ["train"]
    checked = srfgan("data", "check", "new")
    assert checked.code == 0 and "image without a label file: no object in it" in " ".join(
        checked.out.split()
    )


def test_images_without_annotations_stay_without_when_converted(tiny, tmp_path, srfgan):
    """COCO's test images, whose results are for its server: with none of them, nothing would be found right."""
    del tiny.content["annotations"]
    tiny.write("test").rename(tiny.root / "annotations" / "image_info_test2017.json")
    assert srfgan("data", "convert", tiny.root, "again").code == 0
    assert not CocoIndex.of(find_split(tmp_path / "again", "test").read()).annotated


def test_a_split_moves_no_image_when_others_are_added_and_keeps_groups_together(tiny, make_image, srfgan):
    tiny.content["images"] = [make_image(number) for number in range(1, 41)]
    tiny.content["info"] = "kept"
    tiny.write()

    def validated(where, *more):
        done = srfgan("data", "split", where, "--data-root", tiny.root, "--val", 0.3, *more)
        assert done.code == 0 and f"--val-json {where}/val.json" in done.err, done.err
        parts = [json.loads(Path(where, f"{name}.json").read_text()) for name in ("train", "val")]
        names = [{image["file_name"] for image in part["images"]} for part in parts]
        assert len(names[0]) + len(names[1]) == len(tiny.content["images"]) and not names[0] & names[1]
        assert all(part["info"] == "kept" for part in parts)
        assert sum(len(part["annotations"]) for part in parts) == 3
        return names[1]

    first = validated("first")
    assert 5 <= len(first) <= 20
    tiny.content["images"] += [make_image(number) for number in range(41, 61)]
    tiny.write()
    assert {name for name in validated("second") if int(name.split(".")[0]) <= 40} == first
    tens = {}
    chosen = validated("third", "--group", r"(\d)\d?\.")
    for image in tiny.content["images"]:
        tens.setdefault(image["file_name"][0], set()).add(image["file_name"] in chosen)
    assert all(len(sides) == 1 for sides in tens.values())
    assert srfgan("data", "split", "first", "--data-root", tiny.root).code == 2


def test_an_expression_that_finds_no_group_is_told(tiny, make_image, srfgan):
    """A typo in it would put images of one slide on both sides, and every score would be too good."""
    tiny.content["images"] = [make_image(number) for number in range(1, 21)]
    tiny.write()

    def parted(where, expression):
        return srfgan("data", "split", where, "--data-root", tiny.root, "--val", 0.4, "--group", expression)

    none = parted("none", r"slide(\d+)_")
    assert none.code == 2 and "it finds nothing in the names of 20 of 20 images, as 1.png" in none.err
    assert not Path("none").exists()
    some = parted("some", r"^1\d")
    assert some.code == 0 and "it finds nothing in the names of 10 of 20 images, as 1.png" in some.err
    every = parted("every", r"\d\d?")
    assert every.code == 0 and "finds nothing" not in every.err
    one = parted("one", "png")
    assert one.code == 2 and "--group png, which keeps images together" in one.err


@pytest.mark.parametrize("info", ["kept", float("nan"), "\ud800"], ids=["sound", "nan", "surrogate"])
def test_a_split_json_keeps_all_that_it_has(tiny, make_image, make_box, srfgan, info):
    images = [make_image(number) for number in range(1, 21)]
    boxes = [make_box(100 + number, number, 3, note=["ü", {"score": 1.50}]) for number in range(20, 0, -1)]
    tiny.content |= {"images": images, "annotations": [*boxes, make_box(200, 77, 3)], "info": info}
    tiny.write()
    tiny.json.rename("labels.JSON")
    named = ("--train-json", "labels.JSON", "--train-images", tiny.images)
    done = srfgan("data", "split", "parts", *named, "--val", 0.4)
    assert done.code == 0 and "annotation 200 (image 77" in done.err  # in neither part, and never seen again
    train, val = (json.loads(Path("parts", f"{name}.json").read_text()) for name in ("train", "val"))
    for part, other in ((train, val), (val, train)):
        assert list(part) == list(tiny.content) and part["categories"] == tiny.content["categories"]
        assert repr(part["info"]) == repr(info)
        ids = {image["id"] for image in other["images"]}
        assert part["images"] == [image for image in images if image["id"] not in ids]
        assert part["annotations"] == [box for box in boxes if box["image_id"] not in ids]


def test_a_split_of_images_without_annotations_has_none(tiny, make_image, srfgan):
    tiny.content["images"] = [make_image(number) for number in range(1, 21)]
    del tiny.content["annotations"]
    tiny.write()
    done = srfgan("data", "split", "parts", "--data-root", tiny.root, "--val", 0.4)
    assert done.code == 0, done.err
    assert not any(
        "annotations" in json.loads(Path("parts", f"{name}.json").read_text()) for name in ("train", "val")
    )


def test_what_is_lost_as_a_split_becomes_json_is_told(tiny, srfgan, tmp_path):
    tiny.write_yolo(tmp_path / "yolo", "images/train")
    (tmp_path / "yolo" / "labels" / "train" / "2.txt").write_text("0 0.5 0.5 0 0.2\n0 0.2 x\n")
    done = srfgan("data", "split", "parts", "--data-root", tmp_path / "yolo", "--val", 0.5, "--group", "(.)")
    assert "2.txt:2: '0 0.2 x'" in done.err and "box of zero or negative size" in done.err


def test_data_sets_of_two_layouts_become_one_with_classes_by_name(tiny, srfgan, tmp_path):
    tiny.write()
    tiny.write("val")
    other = type(tiny)(tmp_path / "more" / tiny.root.name)
    other.content["categories"] = [{"id": 1, "name": "Dog"}, {"id": 2, "name": "bird"}]
    for record, category in zip(other.content["annotations"], (1, 2, 1), strict=True):
        record["category_id"] = category
    yolo = other.write_yolo(tmp_path / "more" / "yolo" / tiny.root.name, "images/train")

    def merged(where, *options, code=0):
        done = srfgan("data", "merge", where, tiny.root, yolo, *options)
        assert done.code == code, done.err
        return done.err

    said = merged("all", code=2)
    assert f"{tiny.root} has no Dog, bird; {yolo} has no cat, dog" in said and "--rename OLD=NEW" in said
    assert "there are Dog, bird, cat, dog" in merged("all", "--rename", "hound=dog", code=2)
    assert "--only  ,: it names no class; there are Dog, bird, cat, dog" in merged(
        "all", "--only", " ,", code=2
    )
    twice = merged("all", "--rename", "dog=hound", "--rename", "dog=wolf", code=2)
    assert "--rename dog=hound: dog is renamed wolf too; name it once" in twice
    assert not Path("all").exists()

    said = merged("both", "--rename", "Dog=dog", "--only", "dog")
    assert "9 images, 6 objects of 1 class: dog" in said and "3 objects of other classes left out" in said
    said = merged("comma", "--rename", "Dog=dog, hairy", "--rename", "dog=dog, hairy", "--only", "dog, hairy")
    assert said.splitlines()[-2] == "9 images, 6 objects of 1 class: dog, hairy"
    merged("three", "--rename", "Dog=dog", "--partial", "--link")
    train = CocoIndex.load(Path("three/annotations/instances_train2017.json"), Path("three/train2017"))
    assert train.categories.names == ("cat", "dog", "bird") and len(train) == 6
    name = tiny.root.name
    files = [f"{name}/{record['file_name']}" for record in tiny.content["images"]]
    assert [train.file_name(row) for row in range(3)] == files
    assert sorted(train.file_name(row) for row in range(3, 6)) == [
        f.replace(name, f"{name}-2") for f in files
    ]
    found = {
        (
            train.file_name(row),
            train.categories.names[train.labels[place]],
            *train.truth_boxes[place].tolist(),
        )
        for row in range(len(train))
        for place in train.rows(row)
    }
    expected = {
        (f"{folder}/{record['file_name']}", called.lower(), *box)
        for one, folder in ((tiny, name), (other, f"{name}-2"))
        for record in one.content["images"]
        for _, called, box in one.objects(record["id"])
    }
    assert {(*key[:2], *np.round(key[2:], 6).tolist()) for key in found} == expected
    assert len(CocoIndex.load(Path("three/annotations/instances_val2017.json"), Path("three/val2017"))) == 3


def test_a_sheet_shows_what_training_gets(tiny, srfgan):
    tiny.write()
    small = ["--preset", "demo", "--set", "data.dataset=coco", "--set", "data.flip=1"]
    Path("data.png").write_bytes(b"mine")
    done = srfgan("data", "show", tiny.root, *small, "--images", 1)
    assert done.out == "data-2.png\n" and Path("data.png").read_bytes() == b"mine"
    assert srfgan("data", "show", tiny.root, *small, "--images", 1).out == "data-2.png\n"
    Path("data.png").unlink()
    done = srfgan("data", "show", tiny.root, *small, "--output", "mirrored.png")
    assert done.code == 0 and done.out == "mirrored.png\n", done.err
    assert srfgan("data", "show", tiny.root, *small[:-1], "data.flip=0", "--images", 3).code == 0
    plain, mirrored = (np.asarray(Image.open(path)) for path in ("data.png", "mirrored.png"))
    assert plain.shape == mirrored.shape and (plain != mirrored).mean() > 0.2
    del tiny.content["annotations"][0]["segmentation"]
    tiny.write()
    done = srfgan("data", "show", tiny.root, *small, "--images", 1)
    left_out = "1 annotations without a usable mask are left out of the picture"
    assert left_out in done.err and done.err.rstrip().endswith(f": {tiny.content['annotations'][0]['id']}")
    for one in tiny.content["annotations"]:
        one.pop("segmentation", None)
    tiny.write()
    boxes = ("data", "show", tiny.root, "--images", 1, "--set", "data.short_sides=[64]")
    assert srfgan(*boxes).code == 0  # without a preset that wants masks, whatever there is
    assert srfgan(*boxes, "--preset", "mask_rcnn_r18_fpn").code == 2
    image = tiny.images / tiny.content["images"][0]["file_name"]
    before = image.read_bytes()
    done = srfgan(*boxes, "--output", image)
    assert done.code == 2 and "is the image itself" in done.err and image.read_bytes() == before
    done = srfgan("data", "show", tiny.root, *small, "--output", "sheet.txt")
    assert done.code == 2 and "end it in .png or .jpg" in done.err
