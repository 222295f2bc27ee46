"""What a json may hold in any field, and what check, training and scoring make of it alike."""

import json

import numpy as np
import pytest

from srfgan.models.errors import InputError
from srfgan_cli.data import annotation_text, check, records
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.image_check import check_root
from srfgan_cli.data.layout import find_split
from srfgan_cli.data.open import open_split
from srfgan_cli.data.outlines import clip_polygon
from srfgan_cli.data.records import read_records
from srfgan_cli.evaluation.coco import ground_truth
from srfgan_cli.presets.config import DataConfig

CONFIG = DataConfig(short_sides=[40], max_side=80, test_short_side=40, test_max_side=80)
SQUARE = [2, 3, 10, 3, 10, 13, 2, 13]


@pytest.fixture
def load(tiny):
    def with_first(**fields):
        tiny.content["annotations"][0].update(fields)
        tiny.write()
        return CocoIndex.load(tiny.json, tiny.images)

    return with_first


def fates(index):
    return [(problem.kind, problem.fate) for problem in index.report.problems]


@pytest.mark.parametrize(
    ("value", "crowd", "named"),
    [
        (0, 0, 0),
        (1, 1, 0),
        (0.0, 0, 0),
        (1.0, 1, 0),
        (False, 0, 0),
        (True, 1, 0),
        (None, 0, 1),
        ("", 0, 1),
        ("false", 0, 1),
        ("0", 0, 1),
        ("1", 1, 1),
        ("true", 1, 1),
        (2, 1, 1),
        (float("nan"), 0, 1),
        ([], 0, 1),
    ],
)
def test_a_crowd_is_a_crowd_everywhere(load, value, crowd, named):
    index = load(iscrowd=value)
    assert index.crowd.tolist() == [bool(crowd), False, False]
    assert fates(index) == [("iscrowd is neither 0 nor 1", f"read as {crowd}")] * named
    assert [record["iscrowd"] for record in ground_truth(index, "box")["annotations"]] == [crowd, 0, 0]


@pytest.mark.parametrize("value", [None, "80", "", -1, float("nan"), float("inf"), 10**400, 1e11, True, [80]])
def test_what_is_no_area_is_named_and_the_boxes_counts(load, value):
    index = load(area=value)
    assert fates(index) == [("area is no number from 0 to 1e10", "the box's area")]
    assert ground_truth(index, "box")["annotations"][0]["area"] == 80.0


def test_numbers_are_scored_as_the_json_has_them(load):
    """In float64: 12.1 is another number in float32, and COCO's fifths of pixels fall to the other side of it."""
    outline = [12.1, 3.3, 20.7, 3.3, 20.7, 9.9]
    index = load(bbox=[12.1, 3.3, 8.6, 17.9], area=33.3, segmentation=[outline])
    record = ground_truth(index, "mask")["annotations"][0]
    assert (record["bbox"], record["area"], record["segmentation"]) == (
        [12.1, 3.3, 8.6, 17.9],
        33.3,
        [outline],
    )
    assert index.boxes[0].tolist() == pytest.approx([12.1, 3.3, 20.7, 20.0]), (
        "trained on as far as the image goes"
    )


@pytest.mark.parametrize(
    "outline",
    [
        [[]],
        [SQUARE[:4]],
        "x",
        7,
        SQUARE,
        [[str(v) for v in SQUARE]],
        {"counts": "x"},
        [[1e9, 1e9, 2e9, 1e9, 2e9, 2e9]],
        [[0, 0, 30, 20, 0, 5] * 20_000],
        {"size": [20, 30], "counts": [600]},
        {"size": [2, 3], "counts": [3, 3]},
    ],
)
def test_a_bad_outline_costs_the_mask_and_not_the_box(tiny, load, outline):
    index = load(segmentation=outline)
    assert index.annotation_ids.tolist() == [10, 11, 12] and index.has_mask.tolist() == [False, True, True]
    assert [fate for _, fate in fates(index)] == ["boxes only"]
    boxes = open_split(CONFIG, tiny.root, "train", training=True, masks=False)
    masks = open_split(CONFIG, tiny.root, "train", training=True, masks=True)
    assert (boxes.image_ids, masks.image_ids) == ([1, 2, 5], [2, 5])
    assert (boxes.without_mask, masks.without_mask) == ([], [10])
    assert [len(ground_truth(index, task)["annotations"]) for task in ("box", "mask")] == [3, 2]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("far", [1e5, 1e9, 1e12, 1e300, 1e308, -1e9])
@pytest.mark.parametrize("corner", range(4))
def test_vertices_far_outside_are_clipped_and_what_lies_in_the_image_stays(load, far, corner):
    points = np.array(SQUARE, float).reshape(4, 2)
    points[corner] = far, far
    index = load(segmentation=[points.ravel().tolist()])
    assert fates(index) == [("polygon far outside the image", "clipped")]
    (part,) = index.mask(0, 20).parts
    assert np.abs(part).max() <= 1060
    kept = [tuple(point) for k, point in enumerate(points.tolist()) if k != corner]
    assert set(kept) <= {tuple(point) for point in part.tolist()}


def test_clipping_keeps_exactly_the_part_within():
    diamond = np.array([[0, -10], [10, 0], [0, 10], [-10, 0]], float)
    cut = clip_polygon(diamond, np.array([-2.0, -20]), np.array([2.0, 20]))
    assert {tuple(p) for p in cut.tolist()} == {(0, -10), (2, -8), (2, 8), (0, 10), (-2, 8), (-2, -8)}
    assert len(clip_polygon(diamond, np.array([11.0, 11]), np.array([20.0, 20]))) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1"])
def test_utf_8_is_read_with_and_without_its_mark_and_nothing_else(tiny, encoding):
    tiny.content["categories"][0]["name"] = "chat à poil"
    path = tiny.write()
    path.write_bytes(json.dumps(tiny.content, ensure_ascii=False).encode(encoding))
    if encoding.startswith("utf-8"):
        assert CocoIndex.load(path).categories.names[0] == "chat à poil"
    else:
        with pytest.raises(InputError, match="json must be UTF-8 text"):
            CocoIndex.load(path)


@pytest.mark.parametrize(
    "text", ['{"images": ' + "9" * 5000 + "}", "[" * 100_000, '{"images": [' + "[" * 100_000]
)
def test_json_that_no_reader_can_hold_is_refused(tiny, text):
    tiny.write().write_text(text)
    with pytest.raises(InputError, match="that is no data"):
        CocoIndex.load(tiny.json)


def relative(content):
    for record in content["annotations"]:
        record["bbox"] = [0.1, 0.2, 0.3, 0.4]


def as_corners(content):
    for record, box in zip(
        content["annotations"], [[20, 12, 28, 18], [9, 20, 15, 23], [16, 11, 29, 19]], strict=True
    ):
        record["bbox"] = box


def crowds(content):
    for record in content["annotations"]:
        record["iscrowd"] = 1


def one_file(content):
    content["images"][2]["file_name"] = "./" + content["images"][0]["file_name"]


def one_name(content):
    for category in content["categories"]:
        category["name"] = "cat"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (one_name, "of a class that another has the name of"),
        (relative, "every box lies within 0..1"),
        (as_corners, "most boxes leave the image, but not as [x1, y1, x2, y2]"),
        (crowds, "every annotation is a crowd region (iscrowd 1)"),
        (one_file, "one file under several image ids"),
    ],
)
def test_what_only_the_whole_data_set_shows_is_said(tiny, change, kind):
    tiny.write()
    change(tiny.content)
    tiny.json.write_text(json.dumps(tiny.content))
    (report,) = check_root(tiny.root)
    (hint,) = [problem for problem in report.problems if problem.fate == "used as it is"]
    assert hint.kind.startswith(kind) and hint.count >= 2 and not report.fatal


def test_training_on_crowds_alone_says_so(tiny):
    crowds(tiny.content)
    tiny.write()
    with pytest.raises(InputError, match=r"all 3 annotations are crowd regions \(iscrowd 1\)"):
        open_split(CONFIG, tiny.root, "train", training=True, masks=False)


def test_the_overview_counts_what_is_there(tiny, make_box, make_image, srfgan):
    tiny.content["images"].append(make_image(9, height=200, width=300))
    tiny.content["categories"].append({"id": 4, "name": "[red]cow"})
    tiny.content["annotations"] += [
        make_box(20, 9, 3, (0, 0, 100, 100), []),
        make_box(21, 9, 3, (0, 0, 40, 40)),
    ]
    tiny.content["annotations"] += [make_box(22, 9, 90, iscrowd=1), make_box(23, 9, 90, (1, 1, -4, 4))]
    tiny.content["images"].append(make_image(11))
    tiny.write()
    done = srfgan("data", "check", tiny.root, "--json")
    assert done.code == 0
    (document,) = json.loads(done.out)
    classes = document["overview"].pop("classes")
    assert document["overview"] == {
        "images": 5,
        "empty": 1,
        "empty_share": 0.2,
        "objects": 5,
        "masks": 4,
        "crowds": 1,
        "image_sizes": {"smallest": "16 x 24", "median": "30 x 20", "largest": "300 x 200"},
        "boxes": {"small": 3, "medium": 1, "large": 1},
        "per_image": {"median": 1, "most": 2},
        "crowded": 0,
    }
    assert [(c["name"], c["objects"], c["images"]) for c in classes] == [
        ("cat", 3, 2),
        ("dog", 2, 2),
        ("[red]cow", 0, 0),
    ]
    shown = srfgan("data", "check", tiny.root).out
    for text in (
        "5, 1 (20.0 %) without an object",
        "5, 4 with a mask, and 1 crowd regions",
        "[red]cow",
        "60.0 %",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            ["labels/train/a.txt", "images/train/a.jpg"],
            "without the classes' names: there is neither data.yaml",
        ),
        (["labels/a.txt", "images/a.jpg"], "labels/\\*.txt look like YOLO's, but nothing tells the splits"),
        (["Annotations/a.xml", "JPEGImages/a.jpg"], "Pascal VOC .* without a train split; there is none"),
        (
            [
                "VOC2007/Annotations/a",
                "VOC2007/JPEGImages/a",
                "VOC2012/Annotations/a",
                "VOC2012/JPEGImages/a",
            ],
            "years",
        ),
        (
            ["_annotations.coco.json", "a.jpg"],
            "one split of Roboflow's COCO export; give the folder above it",
        ),
    ],
)
def test_other_layouts_are_recognised(tmp_path, files, told):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=told):
        find_split(tmp_path, "train")


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"area": "12"},
        {"bbox": [1, 2, None, 4]},
        {"bbox": [1, 2, 3, 4, 5]},
        {"bbox": [[1, 2, 3, 4]]},
        {"bbox": [1.5, -2.25, 3e1, 0.1234567890123456]},
        {"bbox": None},
        {"bbox": "1, 2, 3, 4"},
        {"iscrowd": True},
        {"segmentation": [["1", 2, 3, 4, 5, 6], SQUARE]},
        {"segmentation": [SQUARE, SQUARE[:5], []]},
        {"segmentation": 7},
        {"segmentation": SQUARE},
        {"segmentation": [SQUARE, 7]},
        {"segmentation": [[SQUARE]]},
        {"segmentation": [[], [1], SQUARE]},
        {"segmentation": [[1.25, -2.5, 3e1, 4.123456789012345, 5, 6]]},
        {"segmentation": {"size": [20, 30], "counts": [2**70]}},
        {"segmentation": {"size": [20, 30], "counts": ["1", 599]}},
        {"segmentation": "[[1, 2]]"},
        {"image_id": 2**62},
    ],
)
def test_records_read_from_text_are_those_of_a_parser(tiny, make_box, monkeypatch, odd):
    monkeypatch.setattr(annotation_text, "_AT_ONCE", 4)
    runs = {"size": [20, 30], "counts": [100, 5, 495]}
    outlines = [[SQUARE], None, runs, [SQUARE, SQUARE], {**runs, "counts": "T35[?"}, []]
    annotations = [make_box(n, 1 + n % 3, 1, segmentation=outlines[n % 6]) for n in range(11)]
    annotations[5] |= odd
    tiny.content["annotations"] = annotations
    with monkeypatch.context() as alone:
        alone.setattr(records, "_read_any", None)
        from_text = read_records(tiny.write())
    tiny.content["info"] = float("nan")  # which only Python's parser takes
    parsed = read_records(tiny.write())
    for ours, theirs in ((from_text, parsed), (from_text.segmentations, parsed.segmentations)):
        for name, column in vars(theirs).items():
            if isinstance(column, np.ndarray):
                np.testing.assert_array_equal(getattr(ours, name), column, name, strict=True)
    assert (from_text.file_names, from_text.annotated) == (parsed.file_names, True)


def test_what_is_wrong_is_told_in_the_order_of_the_file(tiny, make_box, monkeypatch):
    monkeypatch.setattr(check, "_AT_ONCE", 3)
    images = [2, 1, 2, 2, 77, 1, 2, 1, 77, 2]
    boxes = [[0, 0, 0, 5], [1, 1, 5, 5], [9, 9, 5, 5], [-3, 0, 9, 9], [1, 1, 5, 5]] * 2
    tiny.content["annotations"] = [
        make_box(100 - n, image, 3, bbox=boxes[n]) for n, image in enumerate(images)
    ] + [make_box(99, 2, 3), make_box(95, 1, 3)]
    found = check.check_records(read_records(tiny.write())).report.problems
    told = {problem.kind: [each.split()[1] for each in problem.first] for problem in found}
    assert told["box of zero or negative size"] == ["100", "95"]
    assert told["box partly outside the image"] == ["97", "92"]
    assert told["unknown image id"] == ["96", "92"]
    assert told["duplicate annotation id"] == ["99", "95"]
    repeated = next(problem for problem in found if problem.kind == "duplicate annotation id")
    assert "image 2," in repeated.first[0] and "image 1," in repeated.first[1]
