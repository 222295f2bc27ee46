"""A file for so many images of one size, and images of any number and size."""

import json
from types import SimpleNamespace

import torch

from srfgan_cli.export import exported_detector
from srfgan_cli.export.exported_detector import ExportedDetector


def test_images_of_one_size_go_together_and_come_back_in_order(monkeypatch, tmp_path):
    given = {"shape": [2, 3, "height", "width"], "smallest_side": 3}
    stored = {"resize": '{"short_side": 8, "max_side": 9}', "categories": "null", "outputs": "{}"}
    stored["input"] = json.dumps(given)
    session = SimpleNamespace(get_modelmeta=lambda: SimpleNamespace(custom_metadata_map=stored))
    batches = []

    def run(images):
        """As many boxes as an image's first pixel says, all with its width."""
        batches.append([int(image[0, 0, 0]) for image in images])
        index = torch.cat([torch.full((count,), at) for at, count in enumerate(batches[-1])])
        boxes = torch.full((len(index), 4), float(images.shape[-1]))
        return {"boxes": boxes, "scores": index.float(), "labels": index, "image_index": index}

    monkeypatch.setattr(exported_detector, "require_onnx", lambda: None)
    monkeypatch.setattr(exported_detector, "open_session", lambda path: session)
    monkeypatch.setattr(exported_detector, "runtime_of", lambda session: run)
    detector = ExportedDetector(tmp_path)
    assert detector.batch == 2
    sides = [(5, 4, 1), (5, 6, 2), (5, 4, 3), (1, 2, 4), (5, 4, 0)]
    images = [torch.full((3, height, width), count, dtype=torch.uint8) for height, width, count in sides]
    found = detector.detect(images)
    assert batches == [[1, 3], [0, 0], [2, 0], [4, 0]]  # the last of each size with a black one
    assert [len(one) for one in found] == [1, 2, 3, 4, 0]
    assert [one.boxes[0, 0] for one in found[:4]] == [
        4,
        6,
        4,
        3,
    ]  # an image as small as the last is filled up
