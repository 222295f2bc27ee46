"""`srfgan eval --report`: a page without anything beside it, and its numbers."""

import json
import re

import pytest
from scenes import make
from torchvision.transforms.v2.functional import to_pil_image

from srfgan_cli.data.shapes import example_image


@pytest.fixture
def data(tmp_path):
    """The scene as a data set on disk, one of whose images is missing, and its results."""
    document, results = make(crowds=True)
    root = tmp_path / "data"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(document))
    for image in document["images"]:
        to_pil_image(example_image(240)[:, :200]).save(root / "val2017" / image["file_name"])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.json").write_text(json.dumps(results))
    (tmp_path / "other.json").write_text(json.dumps(results[::2]))
    return root


def test_the_page_and_its_numbers(srfgan, data, tmp_path):
    files = ("--from", "out/results.json", "--against", "other.json", "--data-root", data)
    done = srfgan("eval", "--preset", "faster_rcnn_r18_fpn_nn", *files, "--report", "--json")
    assert done.code == 0 and "Report: out/report.html" in done.err, done.err
    scores = json.loads(done.out)
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    box = told["analysis"]["box"]
    assert told["box"] == scores["box"] and box["AP50"] == pytest.approx(scores["box"]["AP50"], abs=1e-3)
    assert [one["name"] for one in box["per_class"]] == ["cat", "dog", "größe"]
    assert box["errors"]["missed"]["AP50"] == pytest.approx(4.3344, abs=1e-3)
    assert box["against"]["results"] == "other.json"
    assert box["against"]["interval"][0] <= box["against"]["AP50"] <= box["against"]["interval"][1]
    assert len(box["worst_images"]) == 12 and box["worst_images"][0]["missed"] > 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"\$\w", page) and "größe" in page and "Against other.json" in page
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|href)="([^"]{0,12})', page))
    assert page.count("data:image/jpeg") == 12


def test_an_image_that_cannot_be_read_costs_its_picture_only(srfgan, data, tmp_path):
    told = ("eval", "--preset", "faster_rcnn_r18_fpn_nn", "--from", "out/results.json", "--data-root", data)
    assert srfgan(*told, "--report").code == 0
    worst = json.loads((tmp_path / "out" / "report.json").read_text())["analysis"]["box"]["worst_images"][0]
    (data / "val2017" / worst["file_name"]).write_text("no image")
    assert srfgan(*told, "--report").code == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"{worst['file_name']}: the image cannot be read" in page or "not an image" in page
    assert page.count("data:image/jpeg") == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [("[{}]", "lacks 'image_id'"), ("nonsense", "other.json"), (None, "other.json")],
)
def test_bad_input_is_one_message(srfgan, data, tmp_path, content, message):
    other = tmp_path / "other.json"
    other.unlink()
    if content is not None:
        other.write_text(content)
    done = srfgan(
        *("eval", "--preset", "faster_rcnn_r18_fpn_nn", "--from", "out/results.json", "--data-root", data),
        *("--against", "other.json"),
    )
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "out" / "report.html").exists()
