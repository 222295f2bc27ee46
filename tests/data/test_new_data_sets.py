"""What `data convert` and `data merge` write is all of the data set, where it was asked for, and nowhere else."""

import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srfgan_cli.data.categories import names_in
from srfgan_cli.data.coco import CocoIndex
from srfgan_cli.data.images import read_image
from srfgan_cli.data.layout import find_split


def rename(tiny, names):
    """Write the data set, its images moved to `names`; a name with `..` says only where the file is already."""
    tiny.write()
    for record, name in zip(tiny.content["images"], names, strict=True):
        if ".." not in name:
            (tiny.images / name).parent.mkdir(parents=True, exist_ok=True)
            (tiny.images / record["file_name"]).rename(tiny.images / name)
        record["file_name"] = name
    tiny.json.write_text(json.dumps(tiny.content))


def objects(root):
    """What a data set has: the bytes of each image, its boxes and classes."""
    files = find_split(root, "train")
    index = CocoIndex.of(files.read(), files.images)
    return sorted(
        (
            (files.images / index.file_name(row)).read_bytes(),
            np.round(index.truth_boxes[index.first[row] : index.first[row + 1]], 5).tolist(),
            [
                index.categories.names[label]
                for label in index.labels[index.first[row] : index.first[row + 1]]
            ],
        )
        for row in range(len(index))
    )


@pytest.mark.parametrize(
    "names",
    [
        ["images/1.png", "images/2.png", "images/5.png"],
        ["images/1.png", "images/more/images/1.png", "a b/5.png"],
        ["../train2017/1.png", "./2.png", "../../{root}/train2017/5.png"],
    ],
)
@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_all_of_a_data_set_is_in_the_new_one_and_nothing_beside_it(names, to, tiny, srfgan, tmp_path):
    rename(tiny, [name.format(root=tiny.root.name) for name in names])
    before = objects(tiny.root)
    assert all(boxes for _, boxes, _ in before)
    there = {path for path in tmp_path.rglob("*") if path.is_file()}
    for link in ([], ["--link"]):
        new = tmp_path / "far" / f"new{len(link)}"
        done = srfgan("data", "convert", tiny.root, new, "--to", to, *link)
        assert done.code == 0, done.err
        assert objects(new) == before
        made = {path for path in tmp_path.rglob("*") if path.is_file()} - there
        there |= made
        assert made and all(path.is_relative_to(new) for path in made)


def test_images_of_two_data_sets_with_detours_in_their_names_do_not_meet(tiny, srfgan, tmp_path):
    other = type(tiny)(tmp_path / "other" / tiny.root.name)
    other.content["images"] = [record | {"id": record["id"] + 10} for record in other.content["images"]]
    for record in other.content["annotations"]:
        record["image_id"] += 10
    for one in (tiny, other):
        rename(one, [f"../train2017/{record['file_name']}" for record in one.content["images"]])
    done = srfgan("data", "merge", tmp_path / "merged", tiny.root, other.root)
    assert done.code == 0, done.err
    assert objects(tmp_path / "merged") == sorted(objects(tiny.root) + objects(other.root))


def test_a_data_set_that_is_merged_twice_is_named(tiny, srfgan, tmp_path):
    """By another path too, as of a shell's pattern and a name beside it."""
    other = type(tiny)(tmp_path / "other" / tiny.root.name)
    for one in (tiny, other):
        one.write()
    (tmp_path / "link").symlink_to(tiny.root)
    once = srfgan("data", "merge", tmp_path / "once", tiny.root, other.root)
    assert once.code == 0 and "named before" not in once.err, once.err
    twice = srfgan("data", "merge", tmp_path / "twice", tiny.root, other.root, tmp_path / "link")
    told = "".join(twice.err.split())  # without the lines' ends
    assert twice.code == 0 and told.count("namedbefore;") == 1, told
    assert f"{tmp_path}/link:namedbefore;itsimagesandobjectsareinittwice" in told


def test_one_file_under_two_ids_is_linked_once(tiny, srfgan, tmp_path):
    tiny.write()
    tiny.content["images"].append(tiny.content["images"][0] | {"id": 7, "file_name": "./1.png"})
    tiny.json.write_text(json.dumps(tiny.content))
    done = srfgan("data", "convert", tiny.root, "new", "--link")
    assert done.code == 0, done.err
    assert len(CocoIndex.load(Path("new/annotations/instances_train2017.json"), Path("new/train2017"))) == 4


@pytest.mark.parametrize(
    ("command", "module", "reads", "writes"),
    [
        ("convert SOURCE NEW", "convert", "index_to_copy", "place_images"),
        ("convert SOURCE NEW --to yolo", "convert", "index_to_copy", "place_images"),
        ("merge NEW SOURCE SOURCE", "merge", "index_to_copy", "place_images"),
        ("split NEW --data-root SOURCE --val 0.5", "split", "_checked", "write_atomically"),
    ],
)
@pytest.mark.parametrize("late", [False, True], ids=["before the first writes", "while the first writes"])
def test_two_that_found_a_folder_empty_do_not_mix_in_it(
    late, command, module, reads, writes, tiny, srfgan, tmp_path, monkeypatch
):
    """The second begins where the first has looked at the folder and written nothing yet."""
    other = type(tiny)(tmp_path / "other" / tiny.root.name)
    other.content["categories"][0]["name"] = "lion"
    for one in (tiny, other):
        one.write()

    def run(source, new):
        places = {"SOURCE": source.root, "NEW": new}
        return srfgan("data", *(places.get(word, word) for word in command.split()))

    def files(folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    expected = []
    for one in (tiny, other):
        alone = run(one, folder := tmp_path / "alone" / str(len(expected)))
        assert alone.code == 0, alone.err
        expected.append(files(folder))
    assert expected[0] != expected[1]
    place = f"srfgan_cli.data.{module}.{writes if late else reads}"
    plain, second = pkgutil.resolve_name(place.replace(f".{module}.", f".{module}:")), []

    def interrupted(*arguments, **options):
        monkeypatch.setattr(place, plain)
        second.append(run(other, "new"))
        return plain(*arguments, **options)

    monkeypatch.setattr(place, interrupted)
    first = run(tiny, "new")
    done, refused = (first, second[0]) if late else (second[0], first)
    assert done.code == 0 and refused.code == 2, refused.err
    assert ("another srfgan data writes there" if late else "already") in refused.err
    assert files(tmp_path / "new") == expected[0 if late else 1]


@pytest.mark.parametrize("name", ["one", "one.dat", ".one.png", "images/.one.png"])
def test_an_image_that_no_reader_of_yolos_layout_would_find_is_refused(name, tiny, srfgan):
    rename(tiny, [name, "2.png", "5.png"])
    done = srfgan("data", "convert", tiny.root, "new", "--to", "yolo")
    assert done.code == 2 and f"image 1 ({name})" in done.err and "rename it" in done.err
    assert not Path("new").exists()
    assert srfgan("data", "convert", tiny.root, "new").code == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("outline", [False, True])
def test_boxes_counted_in_unrotated_pixels_are_where_they_were(orientation, outline, tiny, srfgan):
    """Whoever reads YOLO's files turns the image, so that the labels have to be turned as well."""
    x, y, width, height = 4, 2, 9, 5
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    tiny.content["annotations"] = [
        tiny.content["annotations"][0]
        | {"bbox": [x, y, width, height], "segmentation": [corners] if outline else []}
    ]
    tiny.content["images"] = tiny.content["images"][:1]
    tiny.write()
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[y : y + height, x : x + width] = 255
    file, exif = tiny.images / "1.png", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, exif=exif)
    if orientation < 5:  # which are always turned: the json counts upright pixels
        upright = read_image(file)[0].numpy()
        rows, columns = np.nonzero(upright)
        tiny.content["annotations"][0] |= {
            "bbox": [int(v) for v in (columns.min(), rows.min(), width, height)],
            "segmentation": [],
        }
        tiny.json.write_text(json.dumps(tiny.content))
    assert srfgan("data", "convert", tiny.root, "new", "--to", "yolo").code == 0
    files = find_split(Path("new"), "train")
    index = CocoIndex.of(files.read(), files.images)
    seen = read_image(files.images / index.file_name(0), tuple(index.sizes[0].tolist()))[0].numpy()
    left, top, right, bottom = np.round(index.boxes[0]).astype(int)
    assert (seen[top:bottom, left:right] == 255).all() and (seen == 255).sum() == width * height


def test_images_that_are_links_out_of_their_folder_are_split_but_not_copied(tiny, srfgan, tmp_path):
    """And what is said of them can be done: these commands take no --set."""
    tiny.write()
    (tmp_path / "store").mkdir()
    for image in [*tiny.images.iterdir()]:
        image.rename(tmp_path / "store" / image.name)
        image.symlink_to(tmp_path / "store" / image.name)
    for arguments in (["convert", tiny.root, "new"], ["merge", "new", tiny.root, tiny.root]):
        refused = srfgan("data", *arguments)
        assert refused.code == 2 and "put the files themselves there" in refused.err
        assert "--set" not in refused.err and not Path("new").exists()
    done = srfgan("data", "split", "parts", "--data-root", tiny.root, "--val", 0.5)
    assert done.code == 0, done.err


def test_images_that_no_training_would_open_are_copied_and_split(tiny, srfgan):
    """Whatever they need in memory, their bytes do not."""
    tiny.write()
    for record in tiny.content["images"]:
        record |= {"height": 20_000, "width": 20_000}
    tiny.json.write_text(json.dumps(tiny.content))
    assert srfgan("data", "check", tiny.root).code == 2
    for arguments in (
        ["convert", tiny.root, "new"],
        ["convert", tiny.root, "yolo", "--to", "yolo"],
        ["merge", "merged", tiny.root, tiny.root],
        ["split", "parts", "--data-root", tiny.root, "--val", 0.5],
    ):
        done = srfgan("data", *arguments)
        assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat, dog ,cat", ["cat", "dog", "cat"]),
        ("dog, hairy,cat", ["dog, hairy", "cat"]),
        ("cat,dog, hairy", ["cat", "dog, hairy"]),
        ("cat, lion ", ["cat", " lion "]),
        ("cat,cow, hairy", ["cat", "cow", "hairy"]),
        (" , ,", []),
    ],
)
def test_classes_are_named_with_commas_whatever_commas_and_spaces_they_have(text, names):
    assert names_in(text, ("cat", "dog", "dog, hairy", " lion ")) == names
