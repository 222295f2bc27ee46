"""What file hosts do to an address: Dropbox's `dl=1`, and Google Drive's page before a large file."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from srfgan.models.errors import InputError


@dataclass(frozen=True)
class Step:
    """The request that a confirmation page asks for; `form` is sent as a POST where it is not None."""

    url: str
    form: bytes | None = None


def direct_address(url: str) -> str:
    """The address of the file itself, where the published one leads to a page about it.

    Raises:
        InputError: the address is not one of http or https.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"The address of the weights must begin with http:// or https://, got '{url}'.")
    if parts.hostname == "dropbox.com" or parts.hostname.endswith(".dropbox.com"):
        return _with_query(url, dl="1")
    return url


def confirmed(html: str, url: str, cookies: CookieJar) -> Step | None:
    """The way from Google Drive's "cannot be scanned for viruses" page to the file; None if it is another page.

    Today's page has a form with hidden inputs `confirm` and `uuid`; the old one sets a cookie
    `download_warning*`, whose value has to come back as `confirm`.

    Args:
        html: the page.
        url: its address, from which the form's is resolved.
        cookies: those that came with it.
    """
    form = _read(html).form
    if form is not None and "confirm" in form.inputs:
        action = urljoin(url, form.action)
        if urlsplit(action).scheme not in ("http", "https"):
            return None
        if form.method == "post":
            return Step(action, urlencode(form.inputs).encode())
        return Step(_with_query(action, **form.inputs))
    for cookie in cookies:
        if cookie.name.startswith("download_warning") and cookie.value:
            return Step(_with_query(url, confirm=cookie.value))
    return None


def title(html: str) -> str:
    """A page's title on one line, at most 80 characters; empty if it has none."""
    return " ".join(_read(html).title.split())[:80]


@dataclass
class _Form:
    action: str
    method: str
    inputs: dict[str, str] = field(default_factory=dict)


class _Page(HTMLParser):
    """The title, and the form that holds an input `confirm` (else the last one)."""

    def __init__(self) -> None:
        super().__init__()
        self.title = ""
        self.form: _Form | None = None
        self._in_title = False
        self._in_form = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "title":
            self._in_title = True
        elif tag == "form" and (self.form is None or "confirm" not in self.form.inputs):
            self.form = _Form(given.get("action", ""), given.get("method", "get").lower())
            self._in_form = True
        elif tag == "input" and self._in_form and self.form is not None and given.get("name"):
            self.form.inputs[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag == "form":
            self._in_form = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data


def _read(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    return page


def _with_query(url: str, **values: str) -> str:
    """`url` with these query values set or replaced."""
    parts = urlsplit(url)
    kept = [
        (key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key not in values
    ]
    return urlunsplit(parts._replace(query=urlencode([*kept, *values.items()])))
