"""One picture for each image, and nothing that was there is lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detector_configs import small_mask_rcnn
from PIL import Image

from srfgan.models.errors import InputError
from srfgan.models.factory import build_detector
from srfgan.models.structures import Detections
from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.presets import load_preset
from srfgan_cli.runs.trained import TrainedDetector
from srfgan_cli.visualization import draw
from srfgan_cli.visualization import request as requests
from srfgan_cli.visualization.draw import draw_detections, draw_level
from srfgan_cli.visualization.outputs import picture_names, save_as
from srfgan_cli.visualization.request import Request

CATEGORIES = [{"id": 4, "name": "猫\U0010fffd"}, {"id": 9, "name": "café"}]


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    detector = build_detector(small_mask_rcnn("srf")).eval()
    return TrainedDetector(detector, Path("model.pt"), CategoryMap.from_records(CATEGORIES, "test"))


@pytest.fixture
def request_for(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    overrides = ("data.test_short_side=32", "data.test_max_side=64", "data.max_pixels=5000")
    config = load_preset("mask_rcnn_r18_fpn", overrides)
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    for module in (draw, requests):
        monkeypatch.setattr(module, "find_detector", lambda *_: (config, trained))
    monkeypatch.setattr(draw, "detect", lambda *_: nothing)

    def request(image=None, output=None):
        paths = [Path(path) if path is not None else None for path in (image, output)]
        return Request(None, (), None, None, *paths, torch.device("cpu"))

    return request


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path, {".jfif": "JPEG"}.get(path.suffix))
    return path


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (["a.jpg", "b.png"], ["a.png", "b.png"]),
        (["a.jpg", "a.png", "b.gif"], ["a.jpg.png", "a.png.png", "b.png"]),
        (["A.jpg", "a.tif"], ["A.jpg.png", "a.tif.png"]),
        (["\u00e9.jpg", "e\u0301.png"], ["\u00e9.jpg.png", "e\u0301.png.png"]),
        (["a.jpg", "a.jpg.gif", "a.png"], ["a.jpg.png", "a.jpg-2.png", "a.png.png"]),
        (["x/a.jpg", "y/a.jpg"], ["a.jpg.png", "a.jpg-2.png"]),
    ],
)
def test_every_image_has_a_picture_of_its_own(images, names):
    assert picture_names([Path(image) for image in images]) == names


def test_a_folder_gives_a_picture_for_each_image_and_a_word_on_the_rest(request_for, tmp_path, capsys):
    folder = tmp_path / "in"
    good = ["a.jpg", "a.png", "B.JPG", "c.tif", "d.webp", "e.bmp", "f.gif", "g.jfif", "h.ppm"]
    for name in good:
        picture(folder / name)
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:99])
    (folder / "empty.jpg").touch()
    Image.new("1", (100, 51)).save(folder / "large.png")
    (folder / "sub").mkdir()
    (folder / "notes[red].txt").touch()
    with pytest.raises(InputError) as caught:
        draw_detections(request_for(folder, "out"), 1.0)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 12 images cannot be read; the others are drawn:"
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [
        str(folder / name) for name in ("broken.png", "empty.jpg", "large.png")
    ]
    out = {path.name for path in (tmp_path / "out").iterdir()}
    assert out == {"a.jpg.png", "a.png.png", *(f"{name[0]}.png" for name in good[2:])}
    shown = capsys.readouterr()
    assert "earlier run: 2 (notes[red].txt, sub/)" in shown.err
    assert "1 class name(s): pictures show their ids (4)" in shown.err
    assert len(shown.out.split()) == len(good)


def test_pictures_replace_only_earlier_ones_of_the_same_image(request_for, tmp_path):
    one, other = picture(tmp_path / "one" / "a.jpg", 1), picture(tmp_path / "other" / "a.jpg", 2)
    first = draw_detections(request_for(one.parent), 1.0)
    assert first == [Path("detections/a.png")] == draw_detections(request_for(one), 1.0)
    before = first[0].read_bytes()
    assert draw_detections(request_for(other), 1.0) == [Path("detections/a-2.png")]
    assert first[0].read_bytes() == before
    assert (
        draw_level(request_for(one), "P2", ["nn"])
        == Path("P2.png")
        == draw_level(request_for(one), "P2", ["nn"])
    )
    assert draw_level(request_for(other), "P2", ["nn"]) == Path("P2-2.png")


@pytest.mark.parametrize(
    ("name", "size"), [("a.webp", (2, 17_000)), ("a.jpg", (66_000, 2)), ("a.gif", (2, 66_000))]
)
def test_a_picture_that_is_too_large_for_its_format_is_told(name, size, tmp_path):
    with pytest.raises(InputError, match=rf"{name}: .* cannot hold {size[0]} x {size[1]} .* Name a .png"):
        save_as(Image.new("RGB", size), tmp_path / name)
    assert not any(tmp_path.iterdir())


def test_masks_are_pasted_one_by_one(request_for, trained, monkeypatch, tmp_path):
    """Those of a photo of many pixels together may be more than the memory holds."""
    image = picture(tmp_path / "a.png")
    boxes = torch.tensor([[0.0, 0.0, 20.0, 16.0], [9.0, 9.0, 30.0, 30.0], [4.0, 3.0, 40.0, 20.0]])
    probs = torch.rand(3, 14, 14)
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 0])
    findings = Detections(boxes, scores, labels, mask_probs=probs)
    paste, pasted = requests.paste_masks, []
    monkeypatch.setattr(requests, "paste_masks", lambda *given: pasted.append(len(given[0])) or paste(*given))
    monkeypatch.setattr(trained.detector, "detect", lambda _: [findings])
    monkeypatch.setattr(draw, "detect", requests.detect)
    (drawn,) = draw_detections(request_for(image), 0.0)
    assert pasted == [1, 1, 1]
    pixels = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)
    boxes = boxes * torch.tensor([60 / 48, 40 / 32] * 2)  # from the size at which the detector saw it
    together = Detections(boxes, scores, labels, paste(probs, boxes, (40, 60)))
    names = requests.class_names(trained)
    expected = draw.draw(pixels, together, names, score_threshold=0.0).permute(1, 2, 0)
    assert np.array_equal(np.array(Image.open(drawn)), expected)


def test_weights_with_a_comma_in_their_name_are_one(tmp_path, request_for):
    (tmp_path / "lr=0.1,wd=0").mkdir()
    named = lambda text: replace(request_for(), weights=Path(text)).weight_files  # noqa: E731
    assert named("lr=0.1,wd=0") == [Path("lr=0.1,wd=0")] and named("a,b") == [Path("a"), Path("b")]


@pytest.mark.parametrize("output", [".", None])
def test_images_are_never_drawn_over(request_for, tmp_path, output):
    """The images are where the pictures go. A second run replaces the pictures of the first, and draws none of them."""
    folder = tmp_path / (output or "detections")
    images = [picture(folder / "a.png", 1), picture(folder / "a-2.jpg", 2), picture(folder / "c.jpg", 3)]
    (folder / "c.png").symlink_to("a.png")
    before = [path.read_bytes() for path in images]
    for _ in range(2):
        written = draw_detections(request_for(folder, output), 1.0)
        assert sorted(path.name for path in written) == ["a-2.png", "a-3.png", "c.jpg.png", "c.png.png"]
        assert [path.read_bytes() for path in images] == before


def test_the_panel_is_not_drawn_over_its_image(request_for, tmp_path):
    image = picture(tmp_path / "P2.png")
    before = image.read_bytes()
    assert draw_level(request_for(image), "P2", ["nn"]) == Path("P2-2.png")
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.png", "is the image itself"),
        ("same.png", "is the image itself"),
        ("sub/../a.png", "is the image itself"),
    ],
)
def test_an_output_that_is_the_image_is_refused(request_for, tmp_path, output, message):
    image = picture(tmp_path / "a.png")
    (tmp_path / "sub").mkdir()
    (tmp_path / "same.png").symlink_to(image)
    before = image.read_bytes()
    for call in (lambda r: draw_detections(r, 1.0), lambda r: draw_level(r, "P2", ["nn"])):
        with pytest.raises(InputError, match=message):
            call(request_for(image, output))
    assert image.read_bytes() == before


def test_outputs_that_do_not_fit_are_refused(request_for, tmp_path):
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "b.png")
    with pytest.raises(InputError, match="several images make several pictures; name a folder"):
        draw_detections(request_for("in", "out.png"), 1.0)
    with pytest.raises(InputError, match=r"end it in .png or .jpg"):
        draw_level(request_for("in/a.png", "out.txt"), "P2", ["nn"])
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"Cannot write file/a\.png"):
        draw_detections(request_for("in/a.png", "file"), 1.0)
    assert draw_detections(request_for("in/a.png", "out.jpg"), 1.0) == [Path("out.jpg")]
    assert Image.open("out.jpg").format == "JPEG"
