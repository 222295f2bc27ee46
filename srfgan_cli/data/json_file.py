"""A json file read whole, and what is wrong with one in a sentence."""

from __future__ import annotations

import gc
import json
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from srfgan.models.errors import InputError

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the quick parser raises."""

_MARK = b"\xef\xbb\xbf"
"""How files of some Windows programs begin."""


def read_json(path: Path, what: str) -> Any:
    """The content of a json file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        what: what it should be, for the message where it is not there: `annotation file`.

    Raises:
        InputError: missing, no regular file, of another encoding, truncated, or json that no reader can hold.
    """
    content = read_file(path, what)
    try:
        with collector_paused():
            return msgspec.json.decode(content)
    except UNREADABLE:
        return parse_json(content, path)


def read_file(path: Path, what: str) -> bytes:
    """The bytes of a file, without a byte order mark; arguments and errors as for `read_json`."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: cannot be read (not a regular file)")
        return path.read_bytes().removeprefix(_MARK)
    except FileNotFoundError:
        raise InputError(f"{path}: no such {what}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def check_utf8(content: bytes) -> None:
    """That a text is UTF-8, in strings too that the quick parser skips.

    Raises:
        UnicodeDecodeError: it is not.
    """
    if not content.isascii():
        decoder, view = getincrementaldecoder("utf-8")(), memoryview(content)
        for start in range(0, len(content), 2**20):
            decoder.decode(view[start : start + 2**20])
        decoder.decode(b"", final=True)


def parse_json(content: bytes, path: Path) -> Any:
    """The value of a json text by Python's own parser: it takes NaN and Infinity, and knows the line of what is wrong.

    Raises:
        InputError: as for `read_json`.
    """
    return _parsed(_decoded(content, path), path)


def _decoded(content: bytes, path: Path) -> str:
    encoding = json.detect_encoding(content)
    if not encoding.startswith("utf-8"):
        raise InputError(f"{path}: json must be UTF-8 text, this looks like {encoding}; save it as UTF-8")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: json must be UTF-8 text, but byte {error.start} is none of it") from None


def _parsed(text: str, path: Path) -> Any:
    try:
        with collector_paused():
            return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: not valid json, line {error.lineno} column {error.colno}: {error.msg};"
            " the file may be truncated"
        ) from None
    except ValueError:
        raise InputError(f"{path}: one of its integers has thousands of digits; that is no data") from None
    except RecursionError:
        raise InputError(f"{path}: its lists are nested thousands of levels deep; that is no data") from None


@contextmanager
def collector_paused() -> Iterator[None]:
    """Spares the cyclic collector, which millions of small objects make run again and again for nothing."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
