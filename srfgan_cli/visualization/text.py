"""Text in pictures: which of it can be shown, by which fonts, and as what instead.

Class names and preset names are anybody's: they hold any letters, `$` and line ends. DejaVu Sans, which
matplotlib brings along, has Latin, Greek, Cyrillic, Arabic and Hebrew letters; for others a font is looked for on
the system, letter by letter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import matplotlib
from matplotlib.font_manager import findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font
from PIL import ImageDraw, ImageFont

LONGEST = 32
"""Characters of a class's name in a picture; of longer ones the middle is left out."""

_LONGEST_IN_CHARTS = 40

_OWN_FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
_JOINERS = "\u200c\u200d"
_font_of: dict[str, str | None] = {}
"""The font file of every character met, None where no font has it."""


def class_texts(names: Sequence[str], ids: Sequence[int]) -> list[str]:
    """What pictures show for classes: their names on one line, or `class 7` where a name cannot be shown.

    Args:
        names: the classes' names, any text.
        ids: of the classes; one stands for a name that is empty or has letters that no font here has.

    Returns:
        For each class 1 to `LONGEST` characters, which some font here has.
    """
    shown = [shortened(one_line(name), LONGEST) for name in names]
    return [text if text and drawable(text) else f"class {id_}" for text, id_ in zip(shown, ids, strict=True)]


def one_line(text: str) -> str:
    """Text with composed letters and single spaces for white space, without control or direction characters."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(char for char in composed if char.isspace() or _has_shape(char)).split())


def drawable(text: str) -> bool:
    """Whether each of its characters is in some font here."""
    return all(file is not None for file in _files(text))


class Lettering:
    """Letters of one size, each from a font that has it.

    Attributes:
        size: in pixels, as of a font.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def length(self, text: str) -> float:
        """Width of a line in pixels."""
        return sum(font.getlength(run) for run, font in self._runs(text))

    def bounds(self, text: str) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a line that begins at (0, 0) on its base line, in pixels."""
        tops, bottoms = [-0.76 * self.size], [0.22 * self.size]  # alike for "ace" and for "Égypte"
        for run, font in self._runs(text):
            _, top, _, bottom = font.getbbox(run, anchor="ls")
            tops.append(top)
            bottoms.append(bottom)
        return 0.0, min(tops), self.length(text), max(bottoms)

    def draw(
        self, pen: ImageDraw.ImageDraw, start: tuple[float, float], text: str, fill: tuple[int, ...]
    ) -> float:
        """Write a line that begins at `start` on its base line; returns where it ends."""
        x, y = start
        for run, font in self._runs(text):
            pen.text((x, y), run, font=font, fill=fill, anchor="ls")
            x += font.getlength(run)
        return x

    def fitted(self, parts: Sequence[str], width: float) -> list[str]:
        """The first parts of a line that are `width` pixels at most together; the last may be cut, and ends in dots."""
        kept: list[str] = []
        room = width
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            length = self.length(part)
            if length + (0 if last else self.length("…")) > room:
                return [*kept, self._cut(part, room)]
            kept.append(part)
            room -= length
        return kept

    def _cut(self, text: str, width: float) -> str:
        cut = text[:LONGEST]
        while cut and self.length(f"{cut.rstrip()}…") > width:
            cut = cut[:-1]
        return f"{cut.rstrip()}…"

    def _runs(self, text: str) -> Iterator[tuple[str, ImageFont.FreeTypeFont]]:
        for file, run in groupby(zip(_files(text), text, strict=True), key=lambda each: each[0]):
            yield "".join(char for _, char in run), _font(file or _OWN_FONT, self.size)


def chart_text(text: str) -> str:
    """Text for matplotlib, shown as it is: no `$` begins a formula, and letters that no font has are escapes.

    A legend leaves out what begins with `_`: such text begins with a space of no width.
    """
    line = shortened(one_line(text), _LONGEST_IN_CHARTS)
    shown = "".join(
        char if drawable(char) else char.encode("ascii", "backslashreplace").decode() for char in line
    )
    return ("\u200b" if shown.startswith("_") else "") + shown.replace("$", r"\$")


def chart_fonts(texts: Sequence[str]) -> list[str]:
    """Font families for matplotlib that have the letters of all texts."""
    files = dict.fromkeys(file for text in texts for file in _files(one_line(text)) if file is not None)
    families = ["DejaVu Sans"]
    for file in files:
        if file != _OWN_FONT:
            fontManager.addfont(file)
            families.append(FT2Font(file).family_name)
    return families


def shortened(text: str, longest: int) -> str:
    """Text of `longest` characters at most. Both ends stay: names may differ in either."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[: half - 1].rstrip()}…{text[-half:].lstrip()}"


def _has_shape(char: str) -> bool:
    """Whether a character is a letter, a sign, or one of those that join letters; surrogates are no letters either."""
    return char in _JOINERS or (
        unicodedata.category(char) not in ("Cc", "Cf") and not 0xFE00 <= ord(char) <= 0xFE0F
    )


def _files(text: str) -> list[str | None]:
    """The font file of each character."""
    unknown = set(text) - _font_of.keys()
    for file in _candidates():
        if not unknown:
            break
        for char in _those_in(file, unknown):
            _font_of[char] = file
            unknown.discard(char)
    _font_of.update(dict.fromkeys(unknown))
    return [_font_of[char] for char in text]


def _candidates() -> Iterator[str]:
    yield _OWN_FONT
    yield from _system_fonts()


@cache
def _system_fonts() -> list[str]:
    """The system's fonts, upright and sans serif before others; without those that have a box for everything."""
    files = [file for file in findSystemFonts() if "lastresort" not in Path(file).name.lower()]
    return sorted(files, key=lambda file: (_unlike_ours(Path(file).name.lower()), file))


def _unlike_ours(name: str) -> int:
    return sum(word in name for word in ("bold", "italic", "oblique", "mono", "light", "black")) + (
        "sans" not in name
    )


def _those_in(file: str, characters: set[str]) -> list[str]:
    """Those of the characters that a font file can draw; none where it cannot be read."""
    try:
        font = FT2Font(file)
        return [char for char in characters if font.scalable and font.get_char_index(ord(char))]
    except Exception:  # of any type: one broken font among a system's many is no reason to stop
        return []


@cache
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
