import numpy as np
import pytest
from PIL import Image

from models.errors import InputError
from srfgan_cli.data.images import read_image

HEIGHT, WIDTH = 6, 9


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
        ("bilevel.png", bilevel, grey((ramp()[:, :, 0] > 100) * np.uint8(255))),
        ("cmyk.tif", cmyk, ramp()),
        ("sixteen.png", lambda: Image.fromarray(SIXTEEN), SIXTEEN_AS_8),
        ("sixteen.tif", lambda: Image.fromarray(SIXTEEN), SIXTEEN_AS_8),
        ("integer.tif", lambda: Image.fromarray(SIXTEEN.astype(np.int32)), SIXTEEN_AS_8),
    ],
)
def test_every_mode_is_read_as_rgb(tmp_path, name, picture, expected):
    picture().save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.shape == (3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_rotation_is_applied(tmp_path, orientation, turn):
    """Orientation 6 says: turn by 90 degrees clockwise to look right."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ramp()).save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(ramp(), turn)
    image = read_image(tmp_path / "turned.png", expected.shape[:2])
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_exif_rotation_is_left_where_the_json_counts_unrotated_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(ramp()).save(tmp_path / "turned.png", exif=exif)
    image = read_image(tmp_path / "turned.png", (HEIGHT, WIDTH))
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), ramp())


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
    ],
)
def test_unusable_files_are_named(tmp_path, name, spoil, message):
    path = tmp_path / name
    spoil(path)
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_size_that_the_json_does_not_say_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(ramp()).save(path)
    with pytest.raises(InputError) as caught:
        read_image(path, (7, 9))
    assert str(caught.value) == (
        f"{path}: the image is 9x6 pixels, but its json says 9x7; its annotations would be in the wrong place"
    )
