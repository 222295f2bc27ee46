"""`srfgan eval --report`: a page without anything beside it, and its numbers."""

import json
import re

import numpy as np
import pytest
from scenes import make
from torchvision.transforms.v2.functional import to_pil_image

from srfgan_cli.data.json_file import read_json
from srfgan_cli.data.rle import encode_mask
from srfgan_cli.data.shapes import example_image

EVAL = ("eval", "--preset", "faster_rcnn_r18_fpn_nn", "--data-root", "data", "--from")


def mask(box):
    """All of the box but its corner below the diagonal."""
    x, y, w, h = (max(0, round(side)) for side in box)
    window = np.triu(np.ones((max(1, min(h, 200 - y)), max(1, min(w, 240 - x))), bool))
    return encode_mask(window, (x, y), (200, 240))


@pytest.fixture
def data(tmp_path):
    """The scene as a data set on disk; its results as boxes with masks, as masks alone, and half of them as boxes."""
    document, results = make(crowds=True)
    for one in document["annotations"]:
        x, y, w, h = one["bbox"]
        one["segmentation"] = [[x, y, x + w, y, x + w, y + h]]  # a triangle
    root = tmp_path / "data"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(document))
    for image in document["images"]:
        to_pil_image(example_image(240)[:, :200]).save(root / "val2017" / image["file_name"])
    (tmp_path / "out").mkdir()
    masked = [one | {"segmentation": mask(one["bbox"])} for one in results]
    alone = [{name: value for name, value in one.items() if name != "bbox"} for one in masked]
    (tmp_path / "out" / "results.json").write_text(json.dumps(masked))
    (tmp_path / "out" / "masks.json").write_text(json.dumps(alone))
    (tmp_path / "other.json").write_text(json.dumps(results[::2]))
    return root


@pytest.mark.parametrize("digits", [0, 1, 7])
def test_a_score_that_is_advised_gives_the_rates_beside_it(srfgan, data, tmp_path, digits):
    """Where many scores are equal: all detections of one count from it on, not those alone that suit it best."""
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for number, one in enumerate(results):
        one["score"] = round(one["score"] + number * 1e-7, digits)
    (tmp_path / "out" / "results.json").write_text(json.dumps(results))
    assert srfgan(*EVAL, "out/results.json", "--report").code == 0
    for judged in read_json(tmp_path / "out" / "report.json", "report")["analysis"].values():
        table = np.array(judged["confusion"])  # at the threshold
        right, found, objects = table[:-1, :-1].trace(), table[:, :-1].sum(), table[:-1].sum()
        assert judged["precision"] == pytest.approx(100 * right / found, abs=0.01)
        assert judged["recall"] == pytest.approx(100 * right / objects, abs=0.01)
        scores = {one["score"] for one in results}
        assert judged["score_threshold"] in scores
        for one in judged["per_class"]:
            assert one["score_threshold"] in scores
            if digits == 0:
                assert one["score_threshold"] in (0, 1)


def test_the_page_and_its_numbers(srfgan, data, tmp_path):
    done = srfgan(*EVAL, "out/results.json", "--against", "other.json", "--report", "--json")
    assert done.code == 0 and "Report: out/report.html" in done.err, done.err
    scores = json.loads(done.out)
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    box = told["analysis"]["box"]
    assert told["box"] == scores["box"] and box["AP50"] == pytest.approx(scores["box"]["AP50"], abs=1e-3)
    assert [one["name"] for one in box["per_class"]] == ["cat", "dog", "größe"]
    assert box["errors"]["missed"]["AP50"] == pytest.approx(4.3344, abs=1e-3)
    assert box["against"]["results"] == "other.json"
    assert scores["against"] == {"box": box["against"]}
    differences = box["against"]["differences"]
    assert differences.pop("APl") == {"difference": None, "interval": None}
    assert list(differences) == ["AP", "AP50", "AP75", "APs", "APm"]
    for metric, change in differences.items():
        less = scores["box"][metric] - box["against"]["scores"][metric]
        assert change["difference"] == pytest.approx(less, abs=2e-4)
        assert change["interval"][0] < change["difference"] < change["interval"][1]
    assert [one["interval"] is None for one in box["against"]["per_class"]] == [True, False, False]
    of_classes = [one["difference"] for one in box["against"]["per_class"]]
    assert sum(of_classes) / 3 == pytest.approx(differences["AP"]["difference"], abs=2e-4)
    assert "This run is better. Box AP differs by +" in done.err
    assert told["crowding"] == scores["crowding"] and list(told["crowding"]) == ["box", "mask"]
    sliced, theirs = box["recall_by_crowding"], box["against"]["crowding"]
    assert {one["name"]: one["objects"] for one in sliced} == {
        name: group["objects"] for name, group in told["crowding"]["box"].items()
    }
    assert None is not theirs["alone"]["AP"] != told["crowding"]["box"]["alone"]["AP"]
    for name, group in theirs.items():
        less = told["crowding"]["box"][name]["AP"] - group["AP"]
        assert group["difference"] == pytest.approx(less, abs=2e-4)
    low, high = theirs["alone"]["interval"]
    assert low < theirs["alone"]["difference"] < high
    assert theirs["touching"]["interval"] is theirs["crowded"]["interval"] is None
    assert box["against"]["scores"]["AP"] < told["box"]["AP"] and "against" not in told["analysis"]["mask"]
    assert len(box["worst_images"]) == 12 and box["worst_images"][0]["missed"] > 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"\$\w", page) and "größe" in page and "Boxes against other.json" in page
    assert "Masks are not compared: the other run has none." in page
    table = page[page.index("steps compared") :].split("<tbody>")[1].split("</tbody>")[0]
    assert table.count("<tr>") == 9 and table.count("<svg") == 6, (
        "none of large, touching and crowded objects"
    )
    assert re.search(r"Detections from a score of 0\.\d\d on, the other run's from 0\.\d\d on\.", page)
    assert (
        "This run is better. Box AP differs by +" in page and page.count("<small>too few images</small>") == 3
    )
    assert page.count("precision over recall, and F1 over the score") == 2
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|href)="([^"]{0,12})', page))
    assert page.count("data:image/jpeg") == 12


def test_boxes_that_end_anywhere_and_no_boxes_at_all_have_a_page(srfgan, data, tmp_path):
    results = json.loads((tmp_path / "other.json").read_text())
    for one, far in zip(results, ([1e300] * 4, [-1e308, 0, 1e308, 1e308]), strict=False):
        one["bbox"] = far
    for found in (results, []):
        (tmp_path / "out" / "results.json").write_text(json.dumps(found))
        done = srfgan(*EVAL, "out/results.json", "--report")
        assert done.code == 0 and "Warning" not in done.err, done.err
        assert "data:image/jpeg" in (tmp_path / "out" / "report.html").read_text()


def test_a_class_may_be_called_as_a_cell_begins(srfgan, data, tmp_path):
    annotations = data / "annotations" / "instances_val2017.json"
    document = json.loads(annotations.read_text())
    document["categories"][0]["name"] = "<td onclick='x'>"
    annotations.write_text(json.dumps(document))
    assert srfgan(*EVAL, "out/results.json", "--against", "other.json", "--report").code == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<td onclick" not in page and page.count("<td>&lt;td onclick=&#x27;x&#x27;&gt;</td>") >= 2


def test_the_other_runs_errors_are_those_of_its_own_report(srfgan, data, tmp_path):
    assert srfgan(*EVAL, "out/results.json", "--against", "other.json", "--report").code == 0
    assert srfgan(*EVAL, "other.json", "--report").code == 0
    told, alone = (
        json.loads((place / "report.json").read_text())["analysis"]["box"]
        for place in (tmp_path / "out", tmp_path)
    )
    assert told["against"]["errors"] == alone["errors"] != told["errors"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    table = page[page.index("What they get wrong") :].split("<tbody>")[1].split("</tbody>")[0]
    missed = [one["errors"]["missed"]["count"] for one in (told, alone)]
    assert "<td>missed</td><td>{:,}</td><td>{:,}</td>".format(*missed) in table


def test_an_image_that_cannot_be_read_costs_its_picture_only(srfgan, data, tmp_path):
    told = (*EVAL, "out/masks.json", "--report")
    assert srfgan(*told).code == 0
    worst = json.loads((tmp_path / "out" / "report.json").read_text())["analysis"]["mask"]["worst_images"][0]
    (data / "val2017" / worst["file_name"]).write_text("no image")
    assert srfgan(*told).code == 0
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"{worst['file_name']}: the image cannot be read" in page or "not an image" in page
    assert page.count("data:image/jpeg") == 10


def test_the_worst_pictures_show_the_detections_that_were_counted(srfgan, data, tmp_path, monkeypatch):
    """Of masks with scores of their own, by these; of more than count, the best."""
    results = json.loads((tmp_path / "out" / "masks.json").read_text())
    for one in results:
        one["mask_score"] = round(1 - one["score"], 4)
    (tmp_path / "out" / "masks.json").write_text(json.dumps(results))
    shown = []

    def drawn(image, detections, names, *, score_threshold, scores):
        if scores:
            shown.append(int((detections.scores >= np.float32(score_threshold)).sum()))
        return image

    monkeypatch.setattr("srfgan_cli.analysis.write_report.draw", drawn)
    told = (*EVAL, "out/masks.json", "--report", "--set", "data.workers=0", "--max-detections", "1")
    assert srfgan(*told).code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    crowded = {
        one["image_id"]
        for one in json.loads((data / "annotations" / "instances_val2017.json").read_text())["annotations"]
        if one["iscrowd"]
    }
    worst = report["analysis"]["mask"]["worst_images"][: len(shown)]
    plain = [
        (count, one["right"] + one["false"])
        for count, one in zip(shown, worst, strict=True)
        if one["image_id"] not in crowded  # what lies in a crowd region is shown, and neither right nor false
    ]
    assert len(plain) > 1 and all(count == said for count, said in plain)


def test_options_of_a_model_are_told_to_be_of_no_use_where_a_file_is_scored(srfgan, data):
    plain = srfgan(*EVAL, "out/results.json", "--json")
    told = srfgan(
        *EVAL, "out/results.json", "--json", "--devices", "cpu", "--batch-size", 4, "--precision", "bf16"
    )
    assert plain.code == told.code == 0 and plain.out == told.out
    assert "no model runs: --batch-size, --precision, --devices." in " ".join(told.err.split())
    assert "Not used" not in plain.err


def test_the_worst_pictures_say_the_score_with_one_decimal(srfgan, data, tmp_path, monkeypatch):
    """For people; scripts have all digits, in report.json."""
    captions = []

    def captioned(picture, parts):
        captions.append(parts[0])
        return picture

    monkeypatch.setattr("srfgan_cli.visualization.detections._with_caption", captioned)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for one in results:
        one["score"] = one["score"] * 0.5 + 0.127956
    (tmp_path / "out" / "results.json").write_text(json.dumps(results))
    assert srfgan(*EVAL, "out/results.json", "--report").code == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    score = report["analysis"]["box"]["score_threshold"]
    assert score in {one["score"] for one in results} and score != round(score, 3)
    told = [re.fullmatch(r"score at least (\d+\.\d) %: .*", one) for one in captions[1::2]]
    assert len(told) == 6 and all(one and abs(float(one[1]) - 100 * score) <= 0.05 for one in told)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[{}]", "lacks 'image_id'"),
        ("nonsense", "other.json"),
        (None, "other.json"),
        ("boxes", "nothing in common"),
    ],
)
def test_bad_input_is_one_message(srfgan, data, tmp_path, content, message):
    other = tmp_path / "other.json"
    if content is None:
        other.unlink()
    elif content != "boxes":
        other.write_text(content)
    done = srfgan(*EVAL, "out/masks.json", "--against", "other.json")
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not (tmp_path / "out" / "report.html").exists()


def test_the_results_are_read_once(srfgan, data, monkeypatch):
    read = []
    monkeypatch.setattr(
        "srfgan_cli.evaluation.results.read_json",
        lambda path, kind: read.append(path) or read_json(path, kind),
    )
    assert srfgan(*EVAL, "out/masks.json", "--report").code == 0
    assert list(map(str, read)) == ["out/masks.json"]


def test_the_page_goes_where_it_is_told(srfgan, data, tmp_path):
    """Beside the results it would replace the page of the run that they are from."""
    before = sorted((tmp_path / "out").iterdir())
    done = srfgan(*EVAL, "out/results.json", "--report", "--output-dir", "new")
    assert done.code == 0 and "Report: new/report.html" in done.err, done.err
    assert sorted((tmp_path / "out").iterdir()) == before
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["report.html", "report.json"]
    unused = srfgan(*EVAL, "out/results.json", "--output-dir", "unused")
    assert unused.code == 2 and "add that, or leave --output-dir out" in unused.err, unused.err
    assert not (tmp_path / "unused").exists()
