"""Files over HTTP: file hosts' pages, resuming, and what must never be taken for a file."""

import os

import pytest

from srfgan.models.errors import InputError
from srfgan_cli.downloads.addresses import direct_address
from srfgan_cli.downloads.places import file_name
from srfgan_cli.downloads.transfer import TransferError, transfer


def checkpoint(size):
    """Random bytes that begin as torch's files do: what begins with `<` is a page, as 1 in 256 of them would."""
    return b"PK\x03\x04" + os.urandom(size - 4)


CONTENT = checkpoint(300_000)
URL = "http://files.example/model.pth"


@pytest.fixture
def file(tmp_path, web):
    web.content = CONTENT
    return tmp_path / "model.part.pth"


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        ("https://www.dropbox.com/s/k/model_final.pth", "https://www.dropbox.com/s/k/model_final.pth?dl=1"),
        ("https://www.dropbox.com/scl/m.pth?rlkey=a&dl=0", "https://www.dropbox.com/scl/m.pth?rlkey=a&dl=1"),
        ("https://notdropbox.com/m.pth?dl=0", "https://notdropbox.com/m.pth?dl=0"),
        (
            "https://docs.google.com/uc?export=download&id=1Z",
            "https://docs.google.com/uc?export=download&id=1Z",
        ),
    ],
)
def test_the_direct_address(url, direct):
    assert direct_address(url) == direct


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/m.pth", "model_final.pth"])
def test_only_web_addresses(url, file):
    with pytest.raises(InputError, match="must begin with http:// or https://"):
        transfer(url, file)


def test_names_of_files_differ_though_authors_call_them_all_the_same():
    names = [file_name(f"https://www.dropbox.com/s/{key}/model_final.pth") for key in "ab"]
    assert len(set(names)) == 2 and all(name.startswith("model_final-") for name in names)
    assert file_name("https://docs.google.com/uc?export=download&id=1_Z-x").startswith("1_Z-x-")
    assert file_name("https://host/R-50.pkl").endswith(".pkl")
    assert "/" not in file_name("https://host/?id=../../x")


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        (
            "http://docs.google.com/uc?export=download&id=big",
            [
                ("GET", "docs.google.com", "/uc?export=download&id=big"),
                ("GET", "drive.usercontent.google.com", "/download?id=big&export=download"),
                (
                    "GET",
                    "drive.usercontent.google.com",
                    "/download?id=big&export=download&confirm=t%261&uuid=0c9",
                ),
            ],
        ),
        (
            "http://docs.google.com/uc?export=download&id=posted",
            [
                ("GET", "docs.google.com", "/uc?export=download&id=posted"),
                ("GET", "drive.usercontent.google.com", "/download?id=posted&export=download"),
                ("POST", "drive.usercontent.google.com", "/download?"),
            ],
        ),
        (
            "http://docs.google.com/uc?export=download&id=old",
            [
                ("GET", "docs.google.com", "/uc?export=download&id=old"),
                ("GET", "docs.google.com", "/uc?export=download&id=old&confirm=x7"),
            ],
        ),
        (
            "http://www.dropbox.com/s/key/model_final.pth",
            [("GET", "www.dropbox.com", "/s/key/model_final.pth?dl=1"), ("GET", "files.example", "/model?")],
        ),
    ],
)
def test_file_hosts(url, asked, web, file):
    seen = []
    transfer(url, file, lambda done, size: seen.append((done, size)))
    assert file.read_bytes() == CONTENT and seen[-1] == (len(CONTENT), len(CONTENT))
    assert [request[:3] for request in web.requests] == asked
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == [file.name]


def test_a_cut_connection_is_continued_where_it_broke(web, file):
    web.cut_after = [100_000, 50_000]
    transfer(URL, file)
    assert file.read_bytes() == CONTENT
    assert web.starts == [None, "bytes=100000-", "bytes=150000-"]


def test_a_cut_behind_a_confirmation_page(web, file):
    web.cut_after = [100_000]
    transfer("http://docs.google.com/uc?export=download&id=old", file)
    assert file.read_bytes() == CONTENT and web.starts[-1] == "bytes=100000-"


def cut_short(web, file):
    """Let every connection break, so that a part stays behind."""
    web.cut_after = [70_000, 0, 0, 0]
    with pytest.raises(
        TransferError, match=r"was cut 4 times .* 70000 bytes of 300000 are kept, and the same"
    ):
        transfer(URL, file)
    web.requests.clear()
    assert file.stat().st_size == 70_000


def test_a_later_call_continues(web, file):
    cut_short(web, file)
    transfer(URL, file)
    assert file.read_bytes() == CONTENT and web.starts == ["bytes=70000-"]


@pytest.mark.parametrize("ignores_if_range", [False, True])
def test_a_file_that_changed_meanwhile_is_not_glued(ignores_if_range, web, file):
    cut_short(web, file)
    web.content, web.etag, web.ignores_if_range = checkpoint(300_000), '"two"', ignores_if_range
    transfer(URL, file)
    assert file.read_bytes() == web.content


def test_a_file_that_is_shorter_now_starts_over(web, file):
    cut_short(web, file)
    web.content, web.etag, web.ignores_if_range = checkpoint(1000), '"two"', True
    transfer(URL, file)
    assert file.read_bytes() == web.content


@pytest.mark.parametrize(("ranges", "etag"), [(False, '"one"'), (True, None), (True, 'W/"weak"')])
def test_what_cannot_be_continued_safely_starts_over(ranges, etag, web, file):
    web.ranges, web.etag, web.cut_after = ranges, etag, [100_000]
    transfer(URL, file)
    assert file.read_bytes() == CONTENT and len(web.requests) == 2


def test_a_file_of_unknown_length(web, file):
    web.length = False
    transfer(URL, file)
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "http://docs.google.com/uc?export=download&id=full",
            r"gives a web page \(Google Drive - Quota exceeded\)",
        ),
        ("http://files.example/disguised.pth", r"gives a web page \(Google Drive - Quota exceeded\)"),
        ("http://files.example/missing.pth", r"was refused: 404 Not Found \(Gone\)"),
    ],
)
def test_a_page_is_not_a_file(url, message, web, file):
    with pytest.raises(TransferError, match=message):
        transfer(url, file)
    assert not file.exists()


def test_offline(monkeypatch, tmp_path):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(TransferError, match=r"cannot be reached: .*refused"):
        transfer(URL, tmp_path / "m.pth")
