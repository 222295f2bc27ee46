"""Names in pictures are anybody's: they are shown as they are, or a number stands for them."""

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from srfgan.models.structures import Detections
from srfgan_cli.reproduction import charts
from srfgan_cli.visualization import text
from srfgan_cli.visualization.detections import draw
from srfgan_cli.visualization.text import LONGEST, Lettering, chart_text, class_texts


@pytest.fixture(autouse=True)
def own_font_only(monkeypatch):
    """What a system has of fonts is another matter; here it has none, and one that is broken."""
    monkeypatch.setattr(text, "_system_fonts", lambda: [__file__])
    monkeypatch.setattr(text, "_font_of", {})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("café, ünï, µm, Ж, Ω", "café, ünï, µm, Ж, Ω"),
        ("e\u0301te\u0301", "été"),
        ("שלום", "שלום"),
        ("a$b$ c_d^e\\f {x}", "a$b$ c_d^e\\f {x}"),
        ("two\nlines\tand\r\n more ", "two lines and more"),
        ("\u202egnp.exe\u200b\x1b[31m\0", "gnp.exe[31m"),
        ("猫", "class 7"),
        ("cat 猫", "class 7"),
        ("surrogate \ud800", "class 7"),
        ("", "class 7"),
        (" \n\u200b", "class 7"),
        ("a" * 40 + "b" * 40, "a" * 15 + "…" + "b" * 16),
    ],
)
def test_a_class_is_shown_by_its_name_or_its_id(name, shown):
    assert class_texts([name], [7]) == [shown]
    assert len(shown) <= LONGEST and class_texts([shown], [8]) == [shown]


def written(line):
    picture = Image.new("L", (300, 40))
    Lettering(20).draw(ImageDraw.Draw(picture), (5, 28), line, (255,))
    return np.array(picture)


def test_letters_outside_ascii_have_shapes_of_their_own():
    """The empty box of a missing letter would make them all alike."""
    shapes = [written(letter).tobytes() for letter in "éüµЖΩאش"]
    assert len(set(shapes)) == len(shapes)


def test_letters_come_from_any_font_that_has_them(monkeypatch):
    """Here a second font has nothing but the letters that the first one lacks."""
    other = text._OWN_FONT.replace("DejaVuSans", "DejaVuSerif")
    own = text._those_in
    monkeypatch.setattr(text, "_system_fonts", lambda: [other])
    monkeypatch.setattr(
        text, "_those_in", lambda file, chars: [c for c in own(file, chars) if (c == "Ж") is (file == other)]
    )
    assert class_texts(["a Ж b"], [7]) == ["a Ж b"]
    letters = Lettering(20)
    assert [run for run, _ in letters._runs("a Ж b")] == ["a ", "Ж", " b"]
    assert letters.length("a Ж b") == pytest.approx(sum(map(letters.length, ["a ", "Ж", " b"])))


def test_a_line_is_cut_to_its_width_however_long_it_is():
    letters = Lettering(12)
    parts = [part for number in range(5000) for part in (f", {number} ", "name" * 8)]
    fitted = letters.fitted(parts, 400)
    assert 350 < sum(map(letters.length, fitted)) <= 400 and fitted[-1].endswith("…")
    assert letters.fitted(["short", " enough"], 400) == ["short", " enough"]


@pytest.mark.parametrize("width", [30, 200, 900])
def test_pictures_hold_names_of_any_kind(width):
    names = ["x" * 500, "猫", "a\nb", "", "$x$", "שלום", "Ж" * 100]
    found = Detections(
        torch.tensor([[5.0, 5, 25, 35]]).repeat(len(names), 1),
        torch.ones(len(names)),
        torch.arange(len(names)),
    )
    image = torch.zeros(3, 40, width, dtype=torch.uint8)
    picture = draw(image, found, names)
    assert picture.shape[2] % width == 0 and picture.shape[0] == 3


NAMES = ["a$b$c", "x_{1}^2 $\\frac$", "$", "_hidden", "two\nlines", "猫", "Ж" * 200, "\\$", "ok"]


def test_charts_show_names_as_they_are():
    """matplotlib reads `$...$` as a formula, fails on a broken one, and leaves `_...` out of legends."""
    shown = [
        "a$b$c",
        "x_{1}^2 $\\frac$",
        "$",
        "_hidden",
        "two lines",
        "\\u732b",
        "Ж" * 19 + "…" + "Ж" * 20,
        "\\$",
        "ok",
    ]
    figure = Figure()
    axes = figure.subplots()
    for name in NAMES:
        axes.plot([0], [0], label=chart_text(name))
    drawn = axes.legend().get_texts()
    figure.savefig(io.BytesIO())
    assert [each.get_text().replace("\u200b", "") for each in drawn] == [s.replace("$", r"\$") for s in shown]
    parsed = [each._preprocess_math(each.get_text()) for each in drawn]
    assert [(line.replace("\u200b", ""), math) for line, math in parsed] == [(s, False) for s in shown]


@pytest.mark.filterwarnings(
    "error"
)  # matplotlib warns of axes that have no room left, and of missing letters
def test_the_reports_charts_take_presets_of_any_name():
    rows = [
        {
            "preset": name,
            "baseline": "b",
            "difference": {"box": {"values": [1.0, 2.0], "mean": 1.5, "interval": [0.5, 2.5]}},
            "measured": {"box": {"AP": {"values": [1.0, 2.0], "mean": 1.5}}},
            "images": {"last_stage": 8, "stages_1_and_2": 0, "guide": 8},
            "seconds": {"CPU": {"stages": 1.0, "guide": 1.0}},
            "printed_difference": {},
        }
        for name in NAMES
    ]
    for picture in (
        charts._differences(rows),
        charts._budgets(rows),
        charts._training({name: {0: [1.0], 9: [2.0, 2.5]} for name in NAMES}),
    ):
        assert Image.open(io.BytesIO(picture)).width < 2000
