import io
import json
import math

import pytest
from rich.console import Console

from srfgan.models.errors import InputError
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.image_check import check_root
from srfgan_cli.data.layout import find_split
from srfgan_cli.data.open import open_split
from srfgan_cli.presets.config import DataConfig


def load(tiny):
    return CocoIndex.load(tiny.json, tiny.images)


def test_a_sound_data_set_has_no_problems(tiny):
    tiny.write()
    index = load(tiny)
    assert index.report.problems == ()
    assert not index.report.fatal
    (report,) = check_root(tiny.root)
    assert report.problems == ()
    assert str(report.table()) == f"{tiny.json}: 3 images, 3 annotations, no problems"


def test_pictures_of_two_splits_and_pictures_that_are_there_twice_are_named(tiny):
    """By their bytes: names, folders and links do not matter."""
    tiny.write()
    (train,) = check_root(tiny.root)
    assert train.problems == ()
    first, second, _ = tiny.content["images"]
    tiny.content["images"] = [first | {"file_name": "renamed.png"}, second]
    tiny.write("val")
    place = tiny.root / "val2017" / second["file_name"]
    place.unlink()
    place.symlink_to("renamed.png")
    second |= {"height": first["height"], "width": first["width"]}
    tiny.json.with_name("instances_val2017.json").write_text(json.dumps(tiny.content))
    train, val = check_root(tiny.root)
    assert train.problems == ()
    (shared,) = (one for one in val.problems if one.kind.startswith("picture that another split has too"))
    assert shared.count == 2 and not val.fatal
    assert f"renamed.png): the same file as {first['file_name']} of train" in shared.first[0]

    (tiny.root / "annotations" / "instances_train2017.json").unlink()
    (val,) = check_root(tiny.root)
    (twice,) = (one for one in val.problems if one.kind == "picture that the split has twice")
    assert twice.count == 1 and "the same file as renamed.png" in twice.first[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[:-30], "not valid json, line 1 column "),
        (lambda text: "", "not valid json, line 1 column 1: Expecting value; the file may be truncated"),
        (
            lambda text: "[]",
            "a COCO file is an object with 'images', 'annotations' and 'categories', but this is a list"
            " (detection results?)",
        ),
        (lambda text: "{}", "'images' must be a list; keys found: none"),
        (lambda text: '{"images": []}', "'images' is empty; there is nothing to read"),
    ],
)
def test_json_that_is_not_a_coco_file(tiny, spoil, message):
    path = tiny.write()
    path.write_text(spoil(path.read_text()))
    with pytest.raises(InputError) as caught:
        load(tiny)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("categories"), "'categories' must be a list of at least one category"),
        (lambda c: c.update(categories=[]), "'categories' must be a list of at least one category"),
        (
            lambda c: c["categories"].append({"id": "4", "name": "cow"}),
            "categories[2] must be an object with an integer 'id' and a text 'name',"
            " got {'id': '4', 'name': 'cow'}",
        ),
        (
            lambda c: c["categories"].append({"id": 3, "name": "cow"}),
            "category id 3 is there twice; ids must be unique",
        ),
        (lambda c: c["images"].append(7), "images[3] must be an object, got 7"),
        (lambda c: c["images"][1].pop("width"), "images[1] needs 'width' to be an integer, there is none"),
        (lambda c: c["images"][1].update(id="2"), "images[1] needs 'id' to be an integer, got '2'"),
        (lambda c: c["images"][0].update(id=2**70), f"images[0] needs 'id' to be an integer, got {2**70}"),
        (lambda c: c["images"][2].update(file_name=""), "images[2] needs 'file_name' to be a text, got ''"),
        (
            lambda c: c["annotations"][2].pop("category_id"),
            "annotations[2] needs 'category_id' to be an integer, there is none",
        ),
        (
            lambda c: c.update(annotations={}),
            "'annotations' must be a list; keys found: 'images', 'annotations', 'categories'",
        ),
    ],
)
def test_structure_errors_stop_with_the_first_offender(tiny, change, message):
    tiny.write()
    change(tiny.content)
    tiny.json.write_text(json.dumps(tiny.content))
    with pytest.raises(InputError) as caught:
        load(tiny)
    assert str(caught.value) == f"{tiny.json}: {message}"


RUNS = {"size": [20, 30], "counts": [63, 5, 532]}
NAN = math.nan


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("bbox", "segmentation", "kind", "fate", "kept"),
    [
        ([NAN, 1, 4, 4], None, "box with NaN, infinite or missing numbers", "dropped", False),
        ([1, 1, math.inf, 4], None, "box with NaN, infinite or missing numbers", "dropped", False),
        ([1, 1, 4], None, "box with NaN, infinite or missing numbers", "dropped", False),
        ("1 1 4 4", None, "box with NaN, infinite or missing numbers", "dropped", False),
        ([9, 9, -4, 4], None, "box of zero or negative size", "dropped", False),
        ([9, 9, 4, 0], None, "box of zero or negative size", "dropped", False),
        ([9, 9, -1e200, -1e200], None, "box of zero or negative size", "dropped", False),
        ([30, 3, 4, 4], None, "box outside the image", "dropped", False),
        ([-9, -9, 5, 5], None, "box outside the image", "dropped", False),
        ([26, 3, 8, 4], None, "box partly outside the image", "clipped", True),
        (
            [1, 1, 4, 4],
            [[1, 1, 5, 5]],
            "polygon with fewer than 3 points, or not all finite numbers",
            "boxes only",
            True,
        ),
        (
            [1, 1, 4, 4],
            [[1, 1, 5, 5, NAN, 3]],
            "polygon with fewer than 3 points, or not all finite numbers",
            "boxes only",
            True,
        ),
        (
            [1, 1, 4, 4],
            [[1, 1, 5, 5, "4", 3]],
            "polygon with fewer than 3 points, or not all finite numbers",
            "boxes only",
            True,
        ),
        (
            [1, 1, 4, 4],
            [[1, 1, 5, 1, 5, 5], [1, 1]],
            "polygon with fewer than 3 points, or not all finite numbers",
            "dropped",
            True,
        ),
        ([1, 1, 4, 4], [1, 1, 5, 1, 5, 5], "segmentation is neither polygons nor RLE", "boxes only", True),
        ([1, 1, 4, 4], {"counts": "ab"}, "segmentation is neither polygons nor RLE", "boxes only", True),
        (
            [1, 1, 4, 4],
            RUNS | {"counts": [-1, 601]},
            "segmentation is neither polygons nor RLE",
            "boxes only",
            True,
        ),
        ([1, 1, 4, 4], RUNS | {"size": [30, 20]}, "RLE of the wrong size", "boxes only", True),
        ([1, 1, 4, 4], RUNS | {"counts": [63, 5, 531]}, "RLE of the wrong size", "boxes only", True),
        ([1, 1, 4, 4], RUNS | {"counts": "12"}, "RLE of the wrong size", "boxes only", True),
        (
            [1, 1, 4, 4],
            RUNS | {"counts": "ab"},
            "segmentation is neither polygons nor RLE",
            "boxes only",
            True,
        ),
        ([1, 1, 4, 4], RUNS | {"counts": [600]}, "mask without a pixel", "boxes only", True),
        ([1, 1, 4, 4], [], "no mask", "boxes only", True),
    ],
)
def test_annotation_problems_are_listed_and_harmless_ones_put_aside(
    tiny, make_box, bbox, segmentation, kind, fate, kept
):
    bad = make_box(77, 1, 3, segmentation=segmentation) | {"bbox": bbox}
    tiny.content["annotations"].insert(1, bad)
    tiny.write()
    index = load(tiny)
    (problem,) = index.report.problems
    assert (problem.kind, problem.fate, problem.count) == (kind, fate, 1)
    assert problem.first[0].startswith("annotation 77 (image 1, 1.png, category 3, box [")
    assert (77 in index.annotation_ids.tolist()) is kept
    assert set(index.annotation_ids.tolist()) - {77} == {10, 11, 12}


def test_a_clipped_box_ends_at_the_border_and_rounding_is_not_worth_a_line(tiny, make_box):
    tiny.content["annotations"] = [
        make_box(1, 1, 3, (-5, 4, 50, 90)),
        make_box(2, 1, 3, (20, 10, 10.5, 10.5)),
    ]
    tiny.write()
    index = load(tiny)
    assert index.boxes.tolist() == [[0, 4, 30, 20], [20, 10, 30, 20]]
    assert [problem.count for problem in index.report.problems] == [1]


def test_annotations_of_unknown_images_are_dropped(tiny, make_box):
    tiny.content["annotations"].append(make_box(99, 4, 3))
    tiny.write()
    index = load(tiny)
    (problem,) = index.report.problems
    assert (problem.kind, problem.fate) == ("unknown image id", "dropped")
    assert problem.first == ("annotation 99 (image 4, category 3, box [2, 3, 8, 10])",)
    assert 99 not in index.annotation_ids.tolist()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda c: c["annotations"][1].update(category_id=91),
            "unknown category id (1): annotation 11 (image 2, 2.png, category 91, box [2, 3, 8, 10])",
        ),
        (
            lambda c: c["annotations"][1].update(id=10),
            "duplicate annotation id (1): annotation 10 (image 2, 2.png, category 90, box [2, 3, 8, 10])",
        ),
        (lambda c: c["images"][1].update(id=1), "duplicate image id (1): image 1 (2.png)"),
        (lambda c: c["images"][0].update(height=0), "image size below one pixel (1): image 1 (1.png)"),
        (lambda c: c["images"][0].update(file_name="x/1.png"), "missing image file (1): image 1 (x/1.png)"),
    ],
)
def test_fatal_problems_stop_with_one_message(tiny, change, line):
    tiny.write()
    change(tiny.content)
    tiny.json.write_text(json.dumps(tiny.content))
    with pytest.raises(InputError) as caught:
        open_split(DataConfig(), tiny.root, "train", training=True)
    text = str(caught.value)
    assert text.startswith(f"{tiny.json}: the data set cannot be used:\n")
    assert f"\n  {line}\n" in text
    assert text.endswith(f"put this right first; `srfgan data check {tiny.root}` shows the whole list")


def test_first_ten_offenders_are_named_and_the_rest_counted(tiny, make_box):
    tiny.content["annotations"] += [make_box(100 + i, 1, 3, (40, 1, 5, 5)) for i in range(13)]
    tiny.content["annotations"].append(make_box(200, 1, 5))
    tiny.content["images"][0]["file_name"] = "1[red].png"
    tiny.write()
    (report,) = check_root(tiny.root)
    stops, dropped = report.problems
    assert stops.fate == "stops"
    assert len(dropped.first) == 10
    console = Console(width=200, file=io.StringIO())
    console.print(report.table())
    shown = console.file.getvalue()
    for text in (
        "box outside the image",
        "13",
        "annotation 109 (image 1, 1[red].png,",
        "... and 3 more",
        "stops",
    ):
        assert text in shown
    assert "annotation 110" not in shown
    assert report.as_json()["problems"][1]["count"] == 13
    json.dumps(report.as_json())


def test_check_opens_every_image(tiny, make_image):
    tiny.content["images"] += [make_image(6), make_image(7), make_image(8), make_image(9, height=1, width=1)]
    tiny.write()
    (tiny.images / "5.png").write_bytes(b"")
    (tiny.images / "6.png").unlink()
    (tiny.images / "7.png").write_bytes((tiny.images / "7.png").read_bytes()[:200])
    tiny.content["images"][-2]["width"] = 31
    tiny.json.write_text(json.dumps(tiny.content))
    (report,) = check_root(tiny.root)
    found = {problem.kind: (problem.fate, problem.first) for problem in report.problems}
    assert found["missing image file"] == ("stops", ("image 6 (6.png)",))
    assert found["empty image file"] == ("stops", ("image 5 (5.png): the image file is empty; replace it",))
    assert found["unreadable image"][1][0].startswith("image 7 (7.png): the image cannot be read (")
    assert found["image size differs from the annotations"][1][0].startswith(
        "image 8 (8.png): the image is 30x20 pixels"
    )
    assert found["image of a single pixel"] == ("dropped", ("image 9 (9.png)",))
    assert len(found) == 5
    assert report.fatal


def test_a_split_without_images_is_said_and_left_out(tiny, capsys):
    tiny.write()
    path = tiny.write("val")
    path.parent.parent.joinpath("train2017").rename(tiny.root / "elsewhere")
    (report,) = check_root(tiny.root)
    assert report.path == path
    said = " ".join(capsys.readouterr().err.split())
    assert "not checked: train, which has annotations but no train2017/" in said
    (tiny.root / "val2017").rename(tiny.root / "gone")
    with pytest.raises(
        InputError, match="the train split is not in COCO layout: no train2017/; the folder holds"
    ):
        check_root(tiny.root)


def test_a_root_without_the_layout_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError) as caught:
        find_split(tmp_path / "none", "train")
    assert (
        str(caught.value)
        == f"{tmp_path / 'none'}: no such folder; --data-root names a data set's folder, or a YOLO data.yaml"
    )
    (tmp_path / "images").mkdir()
    (tmp_path / "labels.json").touch()
    with pytest.raises(InputError) as caught:
        check_root(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: the train split is not in COCO layout: no annotations/instances_train2017.json and no"
        " train2017/; the folder holds images/, labels.json"
    )
    (tmp_path / "test2017").mkdir()
    with pytest.raises(InputError) as caught:
        find_split(tmp_path, "test")
    assert "no annotations/image_info_test2017.json or annotations/image_info_test-dev2017.json;" in str(
        caught.value
    )
