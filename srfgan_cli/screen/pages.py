"""What the tool's HTML pages share: their style, pictures inside the file, and numbers for people."""

from __future__ import annotations

import base64
import importlib.metadata
import platform
from html import escape
from pathlib import Path

from srfgan_cli import __version__

STYLE = Path(__file__).with_name("pages.css")
MIME = {".png": "image/png", ".jpg": "image/jpeg"}
PACKAGES = ("torch", "torchvision", "timm")


_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<style>
{}</style>
"""


def head() -> str:
    """How every page begins; its title, what else it has of styles and `</head>` follow."""
    return _HEAD.format(STYLE.read_text(encoding="utf-8"))


def signed(value: float) -> str:
    """One decimal with its sign, a real minus included; no sign on what rounds to zero."""
    rounded = round(value, 1)
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.0"


def duration(seconds: float) -> str:
    """`5 min 12 s`, or `48 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def figure(path: Path, description: str, kind: str = "") -> str:
    """A picture file as an HTML figure; of kind `wide` it scrolls sideways on a narrow screen."""
    image = f'<img src="{inlined(path)}" alt="{escape(description)}">'
    if not kind:
        return f"<figure>{image}</figure>"
    return f'<figure class="{kind}"><div class="scroll">{image}</div></figure>'


def inlined(path: Path) -> str:
    """The file as a data URI, so that the page needs nothing beside it."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f"data:{MIME[path.suffix]};base64,{content}"


def versions() -> dict[str, str]:
    """What the numbers were measured with, by package."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"srfgan": __version__, "python": platform.python_version(), **found}
