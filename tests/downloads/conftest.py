"""A web server in a thread that answers for every host: the tests' commands reach it as their HTTP proxy."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest

DRIVE, DRIVE_FILES = "docs.google.com", "drive.usercontent.google.com"
FORM = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<form action="http://elsewhere.example/search"><input name="q"></form>
<form id="download-form" action="http://drive.usercontent.google.com/download" method="{method}">
<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="big">
<input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t&amp;1">
<input type="hidden" name="uuid" value="0c9"></form></body></html>"""
WARNING = "<html><title>Google Drive - Virus scan warning</title><a href='/uc?confirm=x7'>anyway</a></html>"
QUOTA = "<html><head><title>Google Drive -\n Quota exceeded</title></head><body>Sorry</body></html>"


@dataclass
class Web:
    """What the server holds and how it behaves.

    Attributes:
        content: the one file.
        etag: its strong ETag, or None for a server without one.
        ranges: whether it answers Range.
        ignores_if_range: whether it sends a piece even if the file is another by now.
        length: whether it says how long the file is.
        cut_after: the bytes that each connection gives before it breaks, one entry per connection.
        requests: (method, host, path and query, Range) of every request so far.
    """

    content: bytes = b""
    etag: str | None = '"one"'
    ranges: bool = True
    ignores_if_range: bool = False
    length: bool = True
    cut_after: list[int] = field(default_factory=list)
    requests: list[tuple[str, str, str, str | None]] = field(default_factory=list)

    @property
    def starts(self) -> list[str | None]:
        """The Range of each request."""
        return [one[3] for one in self.requests]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.do_GET()

    def do_GET(self):
        web, parts = self.server.web, urlsplit(self.path)
        query = dict(parse_qsl(self.body if self.command == "POST" else parts.query))
        web.requests.append(
            (self.command, parts.netloc, f"{parts.path}?{parts.query}", self.headers["Range"])
        )
        if parts.netloc == DRIVE and query["id"] == "old":
            if query.get("confirm") == "x7" and "download_warning_1=x7" in self.headers["Cookie"]:
                return self.file(web)
            return self.page(WARNING, cookie="download_warning_1=x7; Path=/")
        if parts.netloc == DRIVE and query["id"] == "full":
            return self.page(QUOTA)
        if parts.netloc == DRIVE:
            return self.moved(f"http://{DRIVE_FILES}/download?id={query['id']}&export=download")
        if parts.netloc == DRIVE_FILES and (query.get("confirm"), query.get("uuid")) != ("t&1", "0c9"):
            return self.page(FORM.format(method="post" if query["id"] == "posted" else "get"))
        if parts.netloc == "www.dropbox.com":
            return self.moved("http://files.example/model") if query.get("dl") == "1" else self.page(QUOTA)
        if parts.path == "/missing.pth":
            return self.page("<title>Gone</title>", code=404)
        if parts.path == "/disguised.pth":
            return self.page(QUOTA, kind="application/octet-stream")
        return self.file(web)

    def page(self, text, code=200, kind="text/html; charset=utf-8", cookie=None):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if cookie:
            self.send_header("Set-Cookie", cookie)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def moved(self, address):
        self.send_response(303)
        self.send_header("Location", address)
        self.end_headers()

    def file(self, web):
        start = self.start(web)
        if start is not None and start >= len(web.content):
            return self.send_error(416)
        self.send_response(200 if start is None else 206)
        self.send_header("Content-Type", "application/octet-stream")
        if web.etag:
            self.send_header("ETag", web.etag)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(web.content) - 1}/{len(web.content)}")
        body = web.content[start or 0 :]
        if web.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: web.cut_after.pop(0)] if web.cut_after else body)
        return None

    def start(self, web):
        wanted, same = self.headers["Range"], self.headers["If-Range"] in (None, web.etag)
        if not (wanted and web.ranges and (same or web.ignores_if_range)):
            return None
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *args):
        pass


@pytest.fixture
def web(monkeypatch):
    """The server, as every http address of this test's commands reaches it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.web = Web()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    yield server.web
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def torch_home(monkeypatch, tmp_path):
    """A cache of each test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"
