"""Which of a data set's image files may be used: one answer for check, training and evaluation alike."""

import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from srfgan.models.errors import InputError
from srfgan_cli.data.image_check import check_root
from srfgan_cli.data.open import open_split
from srfgan_cli.presets.config import DataConfig

OUTSIDE = "image file outside the image folder; --set data.outside=true allows it"
NO_FILE = "folder, pipe or device in place of an image"


def up(tiny):
    (tiny.root / "other").mkdir()
    (tiny.images / "1.png").rename(tiny.root / "other" / "1.png")
    return "../other/1.png"


def up_from_below(tiny):
    (tiny.images / "a").mkdir()
    return f"a/../{up(tiny)}"


def absolute(tiny):
    return str(tiny.images / "1.png")


def link(tiny):
    up(tiny)
    (tiny.images / "1.png").symlink_to("../other/1.png")
    return "1.png"


def linked_folder(tiny):
    up(tiny)
    (tiny.images / "more").symlink_to(tiny.root / "other")
    return "more/1.png"


def opened(tiny, config):
    """What check, training and evaluation say: the kinds that stop, or None where all of them go on."""
    (report,) = check_root(tiny.root, config)
    kinds = {problem.kind for problem in report.problems if problem.fate == "stops"}
    for training in (True, False):
        try:
            dataset = open_split(config, tiny.root, "train", training=training)
        except InputError as error:
            assert kinds and all(kind in str(error) for kind in kinds)
        else:
            assert not kinds
            assert all(dataset.read(position)[0].shape[0] == 3 for position in range(len(dataset)))
    return kinds or None


def written(tiny, place):
    tiny.write()
    tiny.content["images"][0]["file_name"] = place(tiny)
    tiny.json.write_text(json.dumps(tiny.content))


@pytest.mark.parametrize("place", [up, up_from_below, absolute, link, linked_folder])
def test_files_outside_the_image_folder_are_refused_unless_asked_for(tiny, place):
    written(tiny, place)
    assert opened(tiny, DataConfig()) == {OUTSIDE}
    assert opened(tiny, DataConfig(outside=True)) is None


def moved_away(tiny):
    shutil.move(tiny.images, tiny.root / "elsewhere")
    tiny.images.symlink_to("elsewhere")
    return "1.png"


def link_inside(tiny):
    (tiny.images / "a" / "b").mkdir(parents=True)
    (tiny.images / "1.png").rename(tiny.images / "a" / "b" / "1.png")
    (tiny.images / "x.png").symlink_to(tiny.images / "a" / "b" / "1.png")
    return "x.png"


def round_about(tiny):
    (tiny.images / "a").mkdir()
    return "a/.././1.png"


def not_utf8(tiny):
    (tiny.images / "1.png").rename(os.fsdecode(os.fsencode(tiny.images) + b"/caf\xe9.png"))
    return "caf\udce9.png"


@pytest.mark.parametrize("place", [moved_away, link_inside, round_about, not_utf8])
def test_files_inside_are_used(tiny, place):
    written(tiny, place)
    assert opened(tiny, DataConfig()) is None


@pytest.mark.parametrize(
    "name", ["caf\udce8.png", "\ud800.png", "no\0name.png", "x" * 300, "x" * 300 + "/a.png", "1.png/"]
)
def test_names_without_a_file_are_missing(tiny, name):
    written(tiny, lambda _: name)
    assert opened(tiny, DataConfig()) == {"missing image file"}


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, NO_FILE),
        (lambda path: path.mkdir(), NO_FILE),
        (lambda path: path.symlink_to("/dev/zero"), NO_FILE),
        (lambda path: path.symlink_to("gone"), "missing image file"),
        (lambda path: path.symlink_to("1.png"), "missing image file"),
    ],
)
def test_what_is_no_file_stops_before_anything_is_opened(tiny, make, kind):
    tiny.write()
    (tiny.images / "1.png").unlink()
    make(tiny.images / "1.png")
    assert opened(tiny, DataConfig()) == {kind}


def test_images_beyond_the_limit_stop_by_what_the_json_says(tiny):
    tiny.write()
    limit = 20 * 30 - 1
    kind = "image of more than 599 pixels; --set data.max_pixels=N allows N"
    assert opened(tiny, DataConfig(max_pixels=limit)) == {kind}
    assert opened(tiny, DataConfig(max_pixels=limit + 1)) is None
    tiny.content["images"][0].update(width=2**62, height=2**62)
    tiny.json.write_text(json.dumps(tiny.content))
    assert opened(tiny, DataConfig()) == {kind.replace("599", "100,000,000")}


def animated(path, tiny):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), np.uint8)
    first, second = (Image.fromarray(each) for each in pixels)
    first.save(path, save_all=True, append_images=[second])


def deep(top, dtype=np.uint16, low=0):
    pixels = np.random.default_rng(0).integers(low, top, (20, 30), dtype)
    return lambda path, tiny: Image.fromarray(pixels).save(path)


def deep_colour(top):
    """A PNG of 16 bits in each of three channels, which Pillow does not write."""

    def write(path, tiny):
        pixels = np.random.default_rng(0).integers(0, top, (20, 30, 3)).astype(">u2")
        lines = b"".join(b"\0" + line.tobytes() for line in pixels)
        header = struct.pack(">IIBBBBB", 30, 20, 16, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
                for kind, body in chunks
            )
        )

    return write


def wrong_exif(path, tiny):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x07\0\0\0\x01\x06\0\0\0\0\0\0\0"
    Image.new("RGB", (30, 20)).save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "write", "finding"),
    [
        ("a.png", deep(2**12), "less than a quarter of its bit depth"),
        ("a.tif", deep(2**12), "less than a quarter of its bit depth"),
        ("a.tif", deep(2**8), "less than a quarter of its bit depth"),
        ("a.tif", deep(2**8, np.int32), "less than a quarter of its bit depth"),
        ("a.pgm", deep(2**10), "less than a quarter of its bit depth"),
        ("a.tif", deep(34_000, low=32_768), "less than a quarter of its bit depth"),
        ("a.png", deep_colour(2**12), "less than a quarter of its bit depth"),
        ("a.png", deep_colour(2**16), None),
        ("a.png", deep(2**16), None),
        ("a.tif", deep(1), None),  # a blank one says nothing about the others
        ("a.png", deep(40, np.uint8), None),  # nor does a dark night
        ("a.gif", animated, "only the first is used"),
        ("a.png", animated, "only the first is used"),
        ("a.webp", animated, "only the first is used"),
        ("a.tif", animated, "only the first is used"),
        ("a.mpo", animated, None),  # a camera's preview
        ("a.jpg", wrong_exif, "EXIF data that cannot be read"),
    ],
)
def test_the_check_says_what_of_an_image_is_not_used(tiny, name, write, finding):
    tiny.content["images"] = tiny.content["images"][:1]
    tiny.content["annotations"] = tiny.content["annotations"][:1]
    tiny.write()
    tiny.content["images"][0]["file_name"] = name
    tiny.json.write_text(json.dumps(tiny.content))
    write(tiny.images / name, tiny)
    (report,) = check_root(tiny.root)
    found = [problem for problem in report.problems if problem.fate == "used as it is"]
    assert [problem.count for problem in found] == [1] * bool(finding)
    assert not report.fatal and all(finding in problem.kind for problem in found)
    assert all(problem.first[0].startswith(f"image 1 ({name}): ") for problem in found)
    assert opened(tiny, DataConfig()) is None
