"""What a user reads after an evaluation."""

from pathlib import Path

from rich.console import Console

from srfgan_cli.evaluation.coco import TaskScores
from srfgan_cli.evaluation.report import Report
from srfgan_cli.evaluation.table import report_table
from srfgan_cli.presets.facts import Scores, load_rows

PAPER = load_rows()["table1/mask_rcnn_m"]


def report(**changed):
    recall = {"AR@1": 20.0, "AR@10": 44.44, "AR@100": 50.0, "ARs": None, "ARm": 0.0, "ARl": 100.0}
    boxes = TaskScores(Scores(AP=41.03, AP50=60.0, APl=0.0), recall, {"[cat]": 51.2, "dog": None}, {})
    masks = TaskScores(Scores(AP=37.06), recall, {"[cat]": 40.0, "dog": None}, {})
    given = {
        "preset": "mask_rcnn", "split": "val2017", "scores": {"box": boxes, "mask": masks}, "images": 5000,
        "seconds": 9.0, "max_detections": 100, "reference": PAPER,
    }  # fmt: skip
    return Report(**{**given, **changed})


def printed(what, **options):
    console = Console(width=80, markup=False, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(report_table(what, **options))
    return console.export_text()


def cells(text, *starts):
    """The cells of the rows that begin with the given ones."""
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in text.splitlines()]
    return [row for row in rows if tuple(row[: len(starts)]) == starts]


def test_measured_numbers_stand_above_the_papers_and_the_difference():
    text = printed(report())
    assert cells(text, "box", "measured") == [["box", "measured", "41.0", "60.0", "-", "-", "-", "0.0"]]
    assert cells(text, "srfgan, table1")[0] == ["srfgan, table1", "41.2", "-", "-", "25.2", "45.0", "51.4"]
    assert [row[1] for row in cells(text, "difference")] == ["-0.2", "+0.1"]
    assert "5000 images, at most 100 detections per image" in text
    assert "other data" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_recalls_have_a_table_of_their_own():
    text = printed(report())
    assert "AR@1 ┃ AR@10 ┃ AR@100 ┃ ARs ┃ ARm ┃   ARl" in text
    assert cells(text, "box", "20.0") == [["box", "20.0", "44.4", "50.0", "-", "0.0", "100.0"]]
    assert "by size at 100 detections" in text
    assert "AR@400" in printed(report(scores={"box": TaskScores(Scores(), {"AR@400": 1.0}, {}, {})}))


def test_numbers_of_other_data_are_not_compared_in_silence():
    assert "COCO val2017, 5000 images: other data than these" in " ".join(printed(report(images=80)).split())


def test_what_one_has_to_know_of_the_papers_numbers_is_said():
    sparse = printed(report(reference=load_rows()["sparse_rcnn/r50"]))
    assert "the article's 45.0 is of 300 proposals and random crops." in " ".join(sparse.split())


def test_ground_truth_that_stays_out_is_said():
    said = " ".join(printed(report(left_out=3)).split())
    assert "Not scored, being of no area or outside the image: 3 of the ground truth." in said
    assert "--set evaluation.count_unusable=true" in said and "as pycocotools does" in said
    assert "Not scored" not in printed(report())


def test_classes_are_listed_on_request():
    text = printed(report(), per_class=True)
    assert cells(text, "[cat]") == [["[cat]", "51.2", "40.0"]]
    assert cells(text, "dog") == [["dog", "-", "-"]]
    assert "[cat]" not in printed(report())


def test_without_paper_and_without_annotations():
    assert not cells(printed(report(reference=None)), "difference")
    text = " ".join(printed(report(scores={}, images=1, split="test2017", results=Path("r.json"))).split())
    assert text == "mask_rcnn on test2017: 1 image without annotations, nothing to score; results in r.json"
