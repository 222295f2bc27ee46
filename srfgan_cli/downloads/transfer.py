"""One file over HTTP: what is already here is kept if the server still has the same file, else it starts over."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from http.client import HTTPException
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

from srfgan.models.errors import InputError
from srfgan_cli.downloads.addresses import Step, confirmed, direct_address, title

Report = Callable[[int, int | None], object]
"""Called with the bytes that are here and the whole file's, None where the server does not say."""

ATTEMPTS = 4
"""Connections per call before it gives up; each goes on where the one before was cut."""
_TIMEOUT = 30
_CHUNK = 1 << 20
_PAGE = 1 << 20
_HEADERS = {"User-Agent": "srfgan", "Accept-Encoding": "identity"}


class TransferError(Exception):
    """The file cannot be had from this address now; the text says why and reads after the address."""


class _CutError(Exception):
    """The connection ended before the file did."""


@dataclass(frozen=True)
class _Version:
    """Which file the server has: its strong ETag or date, and its size in bytes."""

    validator: str | None
    size: int | None


def transfer(url: str, path: Path, report: Report = lambda done, size: None) -> None:
    """Fetch `url` into `path`, which an earlier, interrupted call may have begun.

    Beside `path`, a file `<name>.json` says which version of the file the part belongs to; it is removed at the end.
    Without an ETag or a date from the server nothing is continued: the parts might be of different files.

    Raises:
        TransferError: not reachable, refused, a web page instead of a file, or cut again and again.
        InputError: a wrong address, or the disk is full.
    """
    direct = direct_address(url)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue(direct, path, report)
            _state(path).unlink(missing_ok=True)
            return
        except _CutError as error:
            if attempt == ATTEMPTS:
                raise TransferError(f"was cut {ATTEMPTS} times ({error}){_kept(path)}") from None


def _continue(url: str, path: Path, report: Report) -> None:
    known = _known(path)
    have = path.stat().st_size if known is not None else 0
    if known is not None and known.size == have:
        return
    response = _open_file(url, _range_headers(known, have))
    if response.status == 206 and not _continues(response.headers, known, have):
        response.close()
        response = _open_file(url, {})
    with response:
        _store(response, path, have if response.status == 206 else 0, report)


def _store(response: Any, path: Path, start: int, report: Report) -> None:
    """Write the response's bytes at `start`, where those of an earlier response end."""
    version = _version(response.headers)
    chunk = _next_chunk(response)
    if start == 0 and chunk.lstrip()[:1] == b"<":
        raise TransferError(_page_instead(chunk[:_PAGE].decode("utf-8", "replace")))
    try:
        with path.open("r+b" if start else "wb") as file:
            if start == 0:  # only now that no byte of another version is left
                _state(path).write_text(json.dumps(asdict(version)), encoding="utf-8")
            done = file.seek(start)
            file.truncate()
            while chunk:
                file.write(chunk)
                done += len(chunk)
                report(done, version.size)
                chunk = _next_chunk(response)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"Cannot write {path}: {error.strerror or error}.") from None
    if version.size is not None and done != version.size:
        raise _CutError(f"{done} of {version.size} bytes came")


def _next_chunk(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(_CHUNK)
    except (OSError, HTTPException) as error:
        raise _CutError(str(error) or type(error).__name__) from None
    return chunk


def _open_file(url: str, headers: dict[str, str]) -> Any:
    """The response that holds the file, past a host's page that asks whether one really wants it."""
    cookies = CookieJar()
    opener = build_opener(HTTPCookieProcessor(cookies))
    response = _open(opener, Step(url), headers)
    if not _is_page(response.headers):
        return response
    if response.status == 206:  # a piece of the page is of no use
        response.close()
        response = _open(opener, Step(url), {})
    html, address = _page_text(response), response.url
    step = confirmed(html, address, cookies)
    if step is None:
        raise TransferError(_page_instead(html))
    response = _open(opener, step, headers)
    if _is_page(response.headers):
        raise TransferError(_page_instead(_page_text(response)))
    return response


def _open(opener: OpenerDirector, step: Step, headers: dict[str, str]) -> Any:
    request = Request(step.url, data=step.form, headers=_HEADERS | headers)
    try:
        return opener.open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416 and headers:  # the part is longer than the file is now
                return _open(opener, step, {})
            page = _page_text(error) if _is_page(error.headers) else ""
            said = f" ({title(page)})" if title(page) else ""
            raise TransferError(f"was refused: {error.code} {error.reason}{said}") from None
    except URLError as error:
        raise TransferError(f"cannot be reached: {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _CutError(str(error) or type(error).__name__) from None


def _page_text(response: IO[bytes]) -> str:
    with response:
        return _next_chunk(response)[:_PAGE].decode("utf-8", "replace")


def _is_page(headers: Message) -> bool:
    return headers.get_content_type() in ("text/html", "application/xhtml+xml")


def _page_instead(html: str) -> str:
    named = title(html)
    return f"gives a web page{f' ({named})' if named else ''} instead of a file"


def _range_headers(known: _Version | None, have: int) -> dict[str, str]:
    if known is None or known.validator is None or have == 0:
        return {}
    return {"Range": f"bytes={have}-", "If-Range": known.validator}


def _continues(headers: Message, known: _Version | None, have: int) -> bool:
    """Whether a partial response goes on where our part ends, and is of the same file."""
    return known == _version(headers) and headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _version(headers: Message) -> _Version:
    etag = headers.get("ETag", "")
    validator = etag if etag.startswith('"') else headers.get("Last-Modified")
    part_of = headers.get("Content-Range", "").rpartition("/")[2]
    size = part_of or headers.get("Content-Length") or ""
    return _Version(validator, int(size) if size.isdecimal() else None)


def _known(path: Path) -> _Version | None:
    """The version that the part in `path` is of; None if there is nothing to continue."""
    try:
        version = _Version(**json.loads(_state(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return version if path.is_file() else None


def _kept(path: Path) -> str:
    known = _known(path)
    if known is None or known.validator is None:
        return ""
    return f"; {path.stat().st_size} bytes of {known.size or 'it'} are kept, and the same command continues"


def _state(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
