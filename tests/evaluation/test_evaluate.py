"""A detector over a data set: right images, ids and sizes; the modes it leaves; several processes."""

import json
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from detector_configs import model_config, small_mask_rcnn
from forked import HANGS
from pycocotools import mask as coco_mask
from torch import nn

from srfgan.models.errors import InputError
from srfgan.models.factory import build_detector
from srfgan.models.structures import Detections
from srfgan_cli.data.loaders import build_test_loader
from srfgan_cli.evaluation.coco import ground_truth
from srfgan_cli.evaluation.evaluate import evaluate, predict, results_name
from srfgan_cli.evaluation.score_file import evaluate_results, split_name
from srfgan_cli.machine.distributed import World

ALONE = World(torch.device("cpu"))


class Oracle(nn.Module):
    """A detector that finds the ground truth of the images in the order of the data set."""

    config = model_config(num_classes=2)

    def __init__(self, dataset):
        super().__init__()
        self.frozen = nn.BatchNorm2d(1).eval()
        self.dataset, self.seen, self.autocast = dataset, 0, False

    def detect(self, images):
        assert not self.training and torch.is_inference_mode_enabled()
        self.autocast |= torch.is_autocast_enabled("cpu")
        found = []
        for image in images:
            target = self.dataset[(self.seen, 0)].target
            self.seen += 1
            probs = torch.ones(len(target.boxes), 28, 28)
            found.append(
                Detections(target.boxes, torch.ones(len(target.boxes)), target.labels, mask_probs=probs)
            )
            assert image.shape[1:] == self.dataset[(self.seen - 1, 0)].image.shape[1:]
        return found


PERFECT = {
    **{"AP": 100.0, "AP50": 100.0, "AP75": 100.0, "APs": 100.0, "APm": None, "APl": None},
    **{"AR@1": 100.0, "AR@10": 100.0, "AR@100": 100.0, "ARs": 100.0, "ARm": None, "ARl": None},
}
"""Small objects only, each the only one of its class in its image."""


def alone(objects):
    """All of them found, each for itself."""
    none = {"objects": 0, "AP": None}
    return {"alone": {"objects": objects, "AP": 100.0}, "touching": none, "crowded": none}


def test_ground_truth_through_a_detector_is_perfect(open_tiny, tmp_path):
    """Boxes come back from the resized images with the data set's ids; what the check drops does not count."""
    dataset = open_tiny("val")
    path = tmp_path / "out" / "results.json"
    report = evaluate(
        Oracle(dataset),
        dataset,
        preset="tiny",
        world=ALONE,
        results_path=path,
        batch_size=3,
        by_group=True,
    )
    assert report.as_json(per_class=True) == {
        "preset": "tiny",
        "split": "val2017",
        "box": PERFECT,
        "mask": PERFECT,
        "images": 4,
        "seconds": report.as_json()["seconds"],
        "reference": {},
        "max_detections": 100,
        "left_out": 1,
        "crowding": {"box": alone(4), "mask": alone(3)},
        "tta": False,
        "results": str(path),
        "per_class": {"box": {"cat": 100.0, "dog": 100.0}, "mask": {"cat": 100.0, "dog": 100.0}},
    }
    results = json.loads(path.read_text())
    assert {(r["image_id"], r["category_id"]) for r in results} == {(4, 2), (4, 70), (9, 70), (10, 2)}
    again = evaluate_results(path, dataset.index, preset="tiny", by_group=True)
    assert again.scores == report.scores
    assert "crowding" not in evaluate_results(path, dataset.index, preset="tiny").as_json()


class MaskScoring(Oracle):
    """Finds every object and, with a box as good, one that is none: only the mask score tells them apart."""

    config = model_config(num_classes=2, detector="centermask")

    def detect(self, images):
        found = []
        for right in super().detect(images):
            wrong = torch.zeros_like(right.mask_probs)
            count = len(right)
            found.append(
                Detections(
                    right.boxes.repeat(2, 1),
                    right.scores.repeat(2),
                    right.labels.repeat(2),
                    mask_probs=torch.cat([wrong, right.mask_probs]),
                    mask_scores=torch.tensor([0.1, 0.9]).repeat_interleave(count),
                )
            )
        return found


def test_masks_are_ranked_by_their_own_scores(open_tiny, tmp_path):
    dataset = open_tiny("val")
    path = tmp_path / "results.json"
    report = evaluate(MaskScoring(dataset), dataset, preset="tiny", world=ALONE, results_path=path)
    assert report.scores["mask"].overall.AP == 100.0 and report.scores["box"].overall.AP < 100.0
    assert evaluate_results(path, dataset.index, preset="tiny").scores == report.scores
    both, alone = (json.loads(file.read_text()) for file in (path, tmp_path / "segm" / path.name))
    assert [entry["mask_score"] for entry in both] == [entry["score"] for entry in alone]
    assert {entry["score"] for entry in both} == {1.0} and all("bbox" not in entry for entry in alone)


def test_what_the_check_dropped_is_not_ground_truth(open_tiny):
    index = open_tiny("val").index
    assert index.annotation_ids.tolist() == [0, 1, 2, 3, 4], "the box of negative width"
    boxes, masks = (ground_truth(index, task)["annotations"] for task in ("box", "mask"))
    assert [a["bbox"] for a in boxes][-1] == [30, 40, 12, 12] and [a["iscrowd"] for a in boxes] == [
        0,
        0,
        0,
        1,
        0,
    ]
    assert [a["id"] for a in masks] == [1, 2, 3, 4], "the box without a mask"
    assert masks[0]["segmentation"] == [[4, 4, 14, 4, 14, 14, 4, 14]], "the polygon of two points"


def test_masks_without_boxes_are_scored_as_masks(open_tiny, tmp_path):
    """COCO's own format of masks, our `segm/` files, and tools that write an empty or no bbox; with a mark or not."""
    dataset = open_tiny("val")
    path = tmp_path / "results.json"
    report = evaluate(MaskScoring(dataset), dataset, preset="tiny", world=ALONE, results_path=path)
    alone = json.loads((tmp_path / "segm" / path.name).read_text())
    for bbox in ({}, {"bbox": []}, {"bbox": None}):
        path.write_bytes(json.dumps([entry | bbox for entry in alone]).encode("utf-8-sig"))
        again = evaluate_results(path, dataset.index, preset="tiny")
        assert again.scores == {"mask": report.scores["mask"]} and again.as_json()["box"] is None
    path.write_text(json.dumps([*alone, alone[0] | {"bbox": [1, 2, 3, 4]}]))
    with pytest.raises(
        InputError, match="entry 0: has no 'bbox', but other entries have; give boxes for all"
    ):
        evaluate_results(path, dataset.index, preset="tiny")


@pytest.mark.parametrize("shift", [-5, -(2**62), 2**62])
def test_ids_may_be_any_integers(open_tiny, tiny_root, tmp_path, shift):
    path = tiny_root / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    for record in document["images"]:
        record["id"] += shift
    for record in document["annotations"]:
        record |= {"id": record["id"] + shift, "image_id": record["image_id"] + shift}
        record["category_id"] += shift
    for record in document["categories"]:
        record["id"] += shift
    path.write_text(json.dumps(document))
    dataset = open_tiny("val")
    results = tmp_path / "results.json"
    report = evaluate(Oracle(dataset), dataset, preset="tiny", world=ALONE, results_path=results)
    assert report.scores["box"].overall.AP == report.scores["mask"].overall.AP == 100.0
    assert evaluate_results(results, dataset.index, preset="tiny").scores == report.scores


def test_the_detection_limit_is_passed_on(open_tiny):
    dataset = open_tiny("val")
    report = evaluate(Oracle(dataset), dataset, preset="tiny", world=ALONE, max_detections=1)
    assert report.max_detections == 1
    assert report.scores["box"].overall.AP == 100.0, "no image has two objects of one class"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/image_info_test-dev2017.json", "test-dev2017"),
        ("valid/_annotations.coco.json", "valid"),
        ("mine.json", "mine"),
    ],
)
def test_splits_are_called_by_their_files(path, name):
    assert split_name(SimpleNamespace(path=Path(path))) == name


def test_a_split_without_annotations_gets_a_file_for_the_server(open_tiny, tmp_path):
    dataset = open_tiny("test")
    assert (
        results_name(dataset.index, "my/mask_rcnn.yaml") == "detections_test-dev2017_mask_rcnn_results.json"
    )
    path = tmp_path / results_name(dataset.index, "x")
    report = evaluate(Oracle(dataset), dataset, preset="x", world=ALONE, results_path=path)
    assert (report.split, report.scores, report.as_json()["box"]) == ("test-dev2017", {}, None)
    assert json.loads(path.read_text()) == []
    with pytest.raises(InputError, match=r"image_info_test-dev2017\.json: has no annotations"):
        evaluate_results(path, dataset.index, preset="x")


def test_every_module_keeps_its_mode_and_stdout_stays_clean(open_tiny, capsys):
    dataset = open_tiny("val")
    model = Oracle(dataset).train()
    model.frozen.eval()
    evaluate(model, dataset, preset="tiny", world=ALONE, precision="bf16")
    assert model.training and not model.frozen.training
    assert model.autocast
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "4/4" in captured.err


def test_a_real_detector_gives_valid_results(open_tiny):
    dataset = open_tiny("val")
    torch.manual_seed(0)
    inference = {"score_threshold": 0.0, "detections_per_image": 5}
    model = build_detector(small_mask_rcnn("nn", inference=inference))
    loader = build_test_loader(dataset, batch_size=2)
    results = predict(model, loader, category_ids=(2, 70), world=ALONE, progress=False)
    assert len(results) == 20
    sizes = {4: [48, 64], 9: [64, 48], 10: [64, 64], 31: [40, 40]}
    for result in results:
        height, width = result["segmentation"]["size"]
        x, y, w, h = result["bbox"]
        assert [height, width] == sizes[result["image_id"]]
        assert 0 <= x < x + w <= width + 1e-3 and 0 <= y < y + h <= height + 1e-3
        assert coco_mask.area(result["segmentation"]) <= (w + 2) * (h + 2)


def test_processes_share_the_images_and_the_main_one_reports(open_tiny, tmp_path):
    dataset = open_tiny("val")
    alone = predict(Oracle(dataset), build_test_loader(dataset), category_ids=(2, 70), world=ALONE)
    address = f"file://{tmp_path}/rendezvous"
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [
        context.Process(target=_evaluate_share, args=(dataset, rank, address, queue)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    answers = dict(queue.get(timeout=HANGS) for _ in processes)
    for process in processes:
        process.join()
    assert answers[1] is None
    assert answers[0] == alone


def _evaluate_share(dataset, rank, address, queue):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    world = World(torch.device("cpu"), rank, 2, dist.group.WORLD)
    model = Oracle(dataset)
    model.seen = 2 * rank
    loader = build_test_loader(dataset, rank=rank, world_size=2)
    queue.put((rank, predict(model, loader, category_ids=(2, 70), world=world)))
    dist.destroy_process_group()
