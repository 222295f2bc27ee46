import os
import socket
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from srfgan.models.errors import InputError
from srfgan_cli.data.images import left_unturned, list_images, read_image, read_size

HEIGHT, WIDTH = 6, 9
NULL_IN_A_NAME = (
    "stat: embedded null character in path" if sys.version_info >= (3, 13) else "embedded null byte"
)
"""What Python says of it."""


def ramp():
    """(6, 9, 3) uint8: every pixel and channel tells where it is."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 28, y * 50, x + 10 * y], axis=2).astype(np.uint8)


def grey(array):
    return np.repeat(array[:, :, None], 3, axis=2)


def rgba():
    alpha = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) * 4).astype(np.uint8)
    return Image.fromarray(np.concatenate([ramp(), alpha], axis=2))


def palette():
    picture = Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH), "P")
    picture.putpalette(ramp().reshape(-1).tolist())
    return picture


def bilevel():
    return Image.fromarray(ramp()[:, :, 0] > 100).convert("1")


def cmyk():
    return Image.fromarray(
        np.concatenate([255 - ramp(), np.zeros((HEIGHT, WIDTH, 1), np.uint8)], axis=2), "CMYK"
    )


def lab():
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.applyTransform(Image.fromarray(ramp()), ImageCms.buildTransform(*profiles, "RGB", "LAB"))


def see_through_palette():
    picture = palette()
    picture.info["transparency"] = bytes(range(HEIGHT * WIDTH))
    return picture


SIXTEEN = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 1200).astype(np.uint16)
SIXTEEN_AS_8 = grey(np.round(SIXTEEN / 257).astype(np.uint8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "picture", "expected"),
    [
        ("rgb.png", lambda: Image.fromarray(ramp()), ramp()),
        ("grey.png", lambda: Image.fromarray(ramp()[:, :, 0]), grey(ramp()[:, :, 0])),
        ("alpha.png", rgba, ramp()),
        ("palette.png", palette, ramp()),
        ("palette.gif", palette, ramp()),
        ("transparent.png", see_through_palette, ramp()),
        ("alpha.tga", rgba, ramp()),
        ("rgb.jp2", lambda: Image.fromarray(ramp()), ramp()),
        ("RGB.PPM", lambda: Image.fromarray(ramp()), ramp()),
        ("bilevel.png", bilevel, grey((ramp()[:, :, 0] > 100) * np.uint8(255))),
        ("cmyk.tif", cmyk, ramp()),
        ("sixteen.png", lambda: Image.fromarray(SIXTEEN), SIXTEEN_AS_8),
        ("sixteen.tif", lambda: Image.fromarray(SIXTEEN), SIXTEEN_AS_8),
        ("integer.tif", lambda: Image.fromarray(SIXTEEN.astype(np.int32)), SIXTEEN_AS_8),
        ("grey.pgm", lambda: Image.fromarray(SIXTEEN), SIXTEEN_AS_8),
        ("dark.tif", lambda: Image.fromarray(SIXTEEN // 1200), grey((SIXTEEN // 1200 + 128) // 257)),
        (
            "dark_integer.tif",
            lambda: Image.fromarray((SIXTEEN // 1200).astype(np.int32)),
            grey((SIXTEEN // 1200 + 128) // 257),
        ),
    ],
)
def test_every_mode_is_read_as_rgb(tmp_path, name, picture, expected):
    picture().save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.shape == (3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_lab_is_read_as_rgb(tmp_path):
    lab().save(tmp_path / "lab.tif")
    difference = read_image(tmp_path / "lab.tif").permute(1, 2, 0).numpy() - ramp().astype(int)
    assert np.abs(difference).mean() < 2  # what 8 bits of a and b cost


def test_sixteen_bits_with_white_at_zero_are_turned_around(tmp_path):
    """Pillow inverts such a TIFF at 8 bits, but not at 16."""
    path = tmp_path / "white.tif"
    Image.fromarray(SIXTEEN).save(path)
    photometric = struct.pack("<HHIH", 262, 3, 1, 1)
    content = path.read_bytes()
    assert content.count(photometric) == 1
    path.write_bytes(content.replace(photometric, struct.pack("<HHIH", 262, 3, 1, 0)))
    np.testing.assert_array_equal(read_image(path).permute(1, 2, 0).numpy(), 255 - SIXTEEN_AS_8)


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1), (0, 0), (9, 0)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_exif_rotation_is_applied(tmp_path, orientation, turn, mirrored):
    """Orientation 6 says: turn by 90 degrees clockwise to look right; 2, 4, 5 and 7 are mirrored as well."""
    exif = Image.Exif()
    exif[0x0112] = {1: 2, 3: 4, 6: 5, 8: 7}.get(orientation, 1) if mirrored else orientation
    Image.fromarray(ramp()).save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(ramp(), turn)
    if mirrored and exif[0x0112] > 1:
        expected = expected[:, ::-1]
    image = read_image(tmp_path / "turned.png", expected.shape[:2])
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)
    assert read_size(tmp_path / "turned.png") == expected.shape[:2]


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}], ids=["plain", "compressed"])
@pytest.mark.parametrize("pixels", [ramp, lambda: SIXTEEN], ids=["colour", "16 bits"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_as_a_png_is(tmp_path, orientation, pixels, options):
    """Pillow turns it when it is loaded, and it alone: done twice, a picture of 6 was upside down."""
    exif, given = Image.Exif(), Image.fromarray(pixels())
    exif[0x0112] = orientation
    given.save(tmp_path / "a.png", exif=exif)
    given.save(tmp_path / "a.tif", tiffinfo={0x0112: orientation}, **options)
    png, tiff = (read_image(tmp_path / f"a.{suffix}") for suffix in ("png", "tif"))
    np.testing.assert_array_equal(tiff, png)
    assert read_size(tmp_path / "a.tif") == read_size(tmp_path / "a.png") == tuple(tiff.shape[1:])
    assert left_unturned(tmp_path / "a.tif", (HEIGHT, WIDTH)) == (orientation if orientation > 4 else 1)
    stored, of_png = (read_image(tmp_path / f"a.{suffix}", (HEIGHT, WIDTH)) for suffix in ("tif", "png"))
    np.testing.assert_array_equal(stored, of_png)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("orientation", range(9))
def test_lines_and_single_pixels_are_turned_too(tmp_path, shape, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert tuple(read_image(tmp_path / "a.png").shape[1:]) == shape[:: 1 if orientation < 5 else -1]


def exif_tag(kind, count, value, tag=0x0112):
    """An EXIF block of one tag in big-endian order; the value in its four bytes."""
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHI", 1, tag, kind, count) + value + bytes(4)


@pytest.mark.parametrize(
    ("exif", "turns", "warns"),
    [
        (exif_tag(3, 1, b"\0\x06\0\0"), True, False),
        (exif_tag(4, 1, b"\0\0\0\x06"), True, False),  # a long instead of a short
        (exif_tag(2, 2, b"6\0\0\0"), True, False),  # a text
        (exif_tag(7, 1, b"\x06\0\0\0"), False, True),  # of no type
        (exif_tag(3, 2, b"\0\x06\0\0"), True, False),  # two values
        (exif_tag(5, 1, b"\0\0\0\x1a") + bytes(8), False, True),  # 0 / 0
        (exif_tag(99, 1, b"\0\x06\0\0"), False, False),
        (b"Exif\0\0MM\0*\xff\xff\xff\xff", False, False),
        (b"Exif\0\0no header", False, False),
        # What stands beside the orientation is broken: a width of the wrong type, an offset beyond the end.
        (
            b"Exif\0\0MM\0*\0\0\0\x08\0\x02"
            + struct.pack(">HHI4s", 0x0100, 2, 4, b"wide")
            + struct.pack(">HHI4s", 0x0112, 3, 1, b"\0\x06\0\0")
            + bytes(4),
            True,
            False,
        ),
        (
            b"Exif\0\0MM\0*\0\0\0\x08\0\x02"
            + struct.pack(">HHI4s", 0x0112, 3, 1, b"\0\x06\0\0")
            + struct.pack(">HHII", 0x8769, 4, 1, 0xFFFFFF)
            + bytes(4),
            True,
            False,
        ),
    ],
)
def test_broken_exif_data_costs_at_most_the_rotation(tmp_path, capsys, exif, turns, warns):
    path = tmp_path / "a.jpg"
    Image.fromarray(ramp()).save(path, exif=exif)
    assert read_image(path).shape == ((3, WIDTH, HEIGHT) if turns else (3, HEIGHT, WIDTH))
    shown = capsys.readouterr().err.replace("\n", " ")
    assert (f"{path}: the orientation in its EXIF data cannot be read" in shown) is warns
    assert warns or not shown


def test_exif_rotation_is_left_where_the_json_counts_unrotated_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp()).save(tmp_path / "turned.png", exif=exif)
    image = read_image(tmp_path / "turned.png", (HEIGHT, WIDTH))
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), ramp())


def bound(path):
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 108 characters
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def truncated(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("gone.jpg", lambda path: None, "no such image file"),
        ("empty.jpg", lambda path: path.write_bytes(b""), "the image file is empty; replace it"),
        (
            "text.jpg",
            lambda path: path.write_text("hello"),
            "not an image, or of a kind that Pillow does not know; replace the file",
        ),
        ("cut.jpg", truncated, "the image cannot be read (image file is truncated"),
        ("cut.png", truncated, "the image cannot be read ("),
        (
            "float.tif",
            lambda path: Image.fromarray(np.ones((4, 4), np.float32)).save(path),
            "floating-point pixels have no known range; save the image with 8 or 16 bits",
        ),
        (
            "long.tif",
            lambda path: Image.fromarray(np.array([[-1, 70000]], np.int32)).save(path),
            "integer pixels from -1 to 70000 have no known range; save the image with 8 or 16 bits",
        ),
        ("pipe.jpg", os.mkfifo, "a pipe, not an image file"),
        ("folder.jpg", lambda path: path.mkdir(), "a folder, not an image file"),
        ("device.jpg", lambda path: path.symlink_to("/dev/zero"), "a device, not an image file"),
        ("socket.jpg", lambda path: bound(path), "a socket, not an image file"),
        (
            "link.jpg",
            lambda path: path.symlink_to("gone"),
            "no such image file: it is a link to a file that is",
        ),
        ("loop.jpg", lambda path: path.symlink_to("loop.jpg"), "the image cannot be read (Too many levels"),
        ("x" * 300, lambda path: None, "the image cannot be read (File name too long"),
        ("no\0name", lambda path: None, f"the image cannot be read ({NULL_IN_A_NAME}"),
    ],
)
def test_unusable_files_are_named(tmp_path, name, spoil, message):
    path = tmp_path / name
    spoil(path)
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: {message}")


JPEGS = {
    "fine": {"quality": 100, "subsampling": 0},
    "usual": {"quality": 75, "subsampling": 2},
    "wide": {"subsampling": 1, "restart_marker_rows": 1},
    "progressive": {"progressive": True, "subsampling": 2},
    "without YCbCr": {"keep_rgb": True},
}


def photo(path, size=(61, 90), **options):
    """A JPEG that is neither flat nor noise."""
    small = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    Image.fromarray(small).resize(size[::-1]).save(path, **options)


def by_pillow(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("behind", [b"", b"what a telephone puts behind a picture"])
def test_jpegs_have_pillows_pixels_without_pillow_decoding_them(tmp_path, monkeypatch, options, behind):
    path = tmp_path / "a.jpg"
    photo(path, **options)
    path.write_bytes(path.read_bytes() + behind)
    expected = by_pillow(path)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded by Pillow"))
    pixels = read_image(path).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.flags.writeable


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_modes_have_pillows_pixels(tmp_path, mode):
    path = tmp_path / "a.jpg"
    Image.fromarray(ramp()).convert(mode).save(path)
    np.testing.assert_array_equal(read_image(path).permute(1, 2, 0).numpy(), by_pillow(path))


def test_damaged_jpegs_are_read_or_refused_as_pillow_does(tmp_path):
    path, rng, fates = tmp_path / "a.jpg", np.random.default_rng(0), set()
    photo(path)
    sound = path.read_bytes()
    for _ in range(200):
        content = bytearray(sound)
        for place in rng.integers(2, len(sound), 2):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            expected = by_pillow(path)
        except Exception:
            with pytest.raises(InputError):
                read_image(path)
            fates.add("refused")
        else:
            np.testing.assert_array_equal(read_image(path).permute(1, 2, 0).numpy(), expected)
            fates.add("read")
    assert fates == {"refused", "read"}


def test_a_size_that_the_json_does_not_say_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(ramp()).save(path)
    with pytest.raises(InputError) as caught:
        read_image(path, (7, 9))
    assert str(caught.value) == (
        f"{path}: the image is 9x6 pixels, but its annotations say 9x7 and would be in the wrong place"
    )


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge(path, width=60_000, height=60_000):
    """A PNG of a few hundred bytes whose header says that it is 3.6 gigapixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )


def test_an_image_beyond_the_limit_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    huge(tmp_path / "a.png")
    for read in (read_image, read_size):
        with pytest.raises(InputError) as caught:
            read(tmp_path / "a.png")
        assert str(caught.value) == (
            f"{tmp_path}/a.png: the image is 60000x60000 pixels, more than 100,000,000 in all;"
            " --set data.max_pixels=3600000000 allows it"
        )
    with pytest.raises(InputError, match="is 60000x60000 pixels, but its annotations say 9x6"):
        read_image(tmp_path / "a.png", (6, 9))


def test_a_larger_image_is_read_where_it_is_allowed(tmp_path):
    Image.new("1", (1_000, 101_000)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_pixels=101_000_000).shape == (3, 101_000, 1_000)
    # Beyond 179 million pixels Pillow itself would stop.
    (tmp_path / "a.pgm").write_bytes(b"P5 14000 14000 255\n...")
    assert read_size(tmp_path / "a.pgm", max_pixels=14_000**2) == (14_000, 14_000)


def test_every_readable_format_in_a_folder_is_found(tmp_path):
    names = ["a.JPG", "b.Tif", "c.webp", "d.bmp", "e.gif", "f.ppm", "g.jp2", "h.avif", "i.jfif", "j.tga"]
    for name in [*names, ".hidden.png", "notes.txt", "a.pdf", "a.h5", "png"]:
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == names
