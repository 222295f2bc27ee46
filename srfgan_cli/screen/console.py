"""The one way to print: text for people to stderr, so that stdout is free for results and `--json`.

Text is text. Nothing printed here is markup (`[red]` is five characters) and no emoji name; a style is given apart from
the text, by `styled` or `style=`. Control characters, which a file's or a class's name may hold, reach no terminal:
they are shown by their escapes, and so is what a stream cannot encode. Only a terminal's width wraps anything.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

BROKEN_PIPE = 141
"""Exit code where the reader of stdout has gone, as of a program that SIGPIPE ends: `srfgan presets list | head -1`."""

UNBOUNDED = 100_000
"""Columns where nobody's terminal limits them."""

_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but the line feed, what reverses the reading direction, and halves of surrogate pairs, by which
Python stands for the bytes of a file name that are not UTF-8."""


def visible(text: str, encoding: str = "utf-8") -> str:
    """The text with escapes, as `\\x1b`, for what would act on a terminal or cannot be encoded."""
    seen = _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return seen.encode(encoding, "backslashreplace").decode(encoding)


def _is_plain(text: str) -> bool:
    """Whether `visible` surely leaves it as it is; a table's cells come by here half a dozen times each."""
    return text.isascii() and text.isprintable()


def styled(*parts: str | tuple[str, str]) -> Text:
    """One text of several, each with a style of its own: `styled(("Done.", "bold"), f" Weights: {path}")`."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((visible(text), style) for text, style in pairs))


class TextConsole(Console):
    """A console that shows every text as it is; see the module."""

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        """Columns and lines of the terminal; as many columns as it takes where there is none."""
        size = super().size
        return size if self.file.isatty() else ConsoleDimensions(UNBOUNDED, size.height)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's, but lines of text are left to the terminal to wrap, so that a path can be copied."""
        if all(isinstance(one, (str, Text)) for one in objects):
            options.setdefault("soft_wrap", True)
        super().print(*objects, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text of a string, wherever it stands: a line, a cell, a title."""
        return super().render_str(text if _is_plain(text) else visible(text, self.encoding), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The last word on what is written, whoever made the text."""
        for segment in super().render(renderable, options):
            as_it_is = segment.control or _is_plain(segment.text)
            yield segment if as_it_is else segment._replace(text=visible(segment.text, self.encoding))

    def on_broken_pipe(self) -> None:
        """Nobody reads any more: messages go nowhere and the work goes on; without a reader of results it ends."""
        self.quiet = True
        _abandon(self.file)
        if not self.stderr:
            raise SystemExit(BROKEN_PIPE)


stderr = TextConsole(stderr=True)
stdout = TextConsole(stderr=False)


def print_path(path: str | os.PathLike[str]) -> None:
    """Print a path on a line of stdout: for a program the very bytes of its name, for a terminal what can be shown."""
    if stdout.file.isatty():
        stdout.print(os.fspath(path))
    else:
        _write(os.fsencode(path) + b"\n")


def print_json(document: Any) -> None:
    """Print a JSON document on a line of stdout, in ASCII: every text in it reads back equal, halves of pairs too."""
    _write(json.dumps(document).encode("ascii") + b"\n")


def abandon_output() -> None:
    """Drop what stdout cannot take, so that Python does not try it once more on its way out."""
    _abandon(stdout.file)


def _abandon(stream: IO[str]) -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):  # it is no file of the system's
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def _write(line: bytes) -> None:
    if sys.stdout is None:  # closed by whoever started the command
        return
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        stdout.on_broken_pipe()
