"""Reading a json of COCO's size and scoring results of 5,000 images: CPU-seconds and memory of ours and the usual.

    python benchmarks/annotations.py [--share 0.1]

Writes a json like instances_train2017 (118,287 images, 860,001 annotations, 450 MB), one of 5,000 images, and 100 boxes
for each of these, into a temporary folder. Each reading and scoring is a process of its own, in turns; the least of
`--rounds` (2 or more: from the second on, `again` finds what it kept) is told, with the start of Python and all imports
in it. Five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

READ = {
    "pycocotools": "from pycocotools.coco import COCO; COCO({train!r})",
    "msgspec alone, to Python objects, without the collector": "import gc; gc.disable(); import msgspec;"
    " content = msgspec.json.decode(open({train!r}, 'rb').read())",
    "srfgan": "from pathlib import Path; from srfgan_cli.data.coco import CocoIndex; CocoIndex.load(Path({train!r}))",
    "srfgan, again": "from srfgan_cli.data.open_index import open_index;"
    " from srfgan_cli.presets.config import DataConfig;"
    " split = dict(annotations={train!r}, images={images!r}); open_index(DataConfig(train=split), None, 'train')",
}
_EVALUATE = (
    "evaluation = {evaluator}(truth, truth.loadRes({results!r}), iouType='bbox');"
    "evaluation.evaluate(); evaluation.accumulate(); evaluation.summarize()"
)
SCORE = {
    "pycocotools": "from pycocotools.coco import COCO; from pycocotools.cocoeval import COCOeval;"
    " truth = COCO({val!r});" + _EVALUATE.replace("{evaluator}", "COCOeval"),
    "faster-coco-eval": "from faster_coco_eval import COCO, COCOeval_faster; truth = COCO({val!r});"
    + _EVALUATE.replace("{evaluator}", "COCOeval_faster"),
    "srfgan eval --from": "import sys; from srfgan_cli.main import run; sys.argv = ['srfgan', 'eval', '--preset',"
    " 'faster_rcnn_r50_fpn', '--val-json', {val!r}, '--val-images', {images!r}, '--from', {results!r}]; run()",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of COCO's size")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = {name: str(Path(folder) / name) for name in ("train", "val", "results", "images")}
        places = {name: place + ".json" if name != "images" else place for name, place in places.items()}
        rng = np.random.default_rng(0)
        write_annotations(
            Path(places["train"]), rng, int(118_287 * arguments.share), int(860_001 * arguments.share)
        )
        images = int(5000 * arguments.share)
        write_annotations(Path(places["val"]), rng, images, int(36_781 * arguments.share))
        write_results(Path(places["results"]), rng, images)
        write_blank_images(Path(places["images"]), int(118_287 * arguments.share))
        for title, programs in (("reading", READ), ("scoring", SCORE)):
            best: dict[str, tuple[float, float]] = {}
            for _ in range(arguments.rounds):
                for name, code in programs.items():
                    best[name] = min(measured(code.format(**places), folder), best.get(name, (1e9, 0.0)))
            for name, (seconds, gib) in best.items():
                print(f"{title}, {name}: {seconds:.1f} CPU-seconds, {gib:.2f} GiB at the peak", flush=True)


def measured(code: str, cache: str) -> tuple[float, float]:
    """CPU-seconds and peak memory in GiB of a Python process of its own, with the user's cache in this folder."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": cache}
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {code}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20


def write_annotations(path: Path, rng: np.random.Generator, images: int, annotations: int) -> None:
    """A json of objects with outlines of COCO's length, one in ninety a crowd of runs, in images of 640x480."""
    named = [{"id": n, "file_name": f"{n:012}.jpg", "height": 480, "width": 640} for n in range(images)]
    classes = [{"id": n, "name": f"class {n}"} for n in range(80)]
    with path.open("w") as file:
        file.write(f'{{"images": {json.dumps(named)}, "categories": {json.dumps(classes)}, "annotations": [')
        for number, record in enumerate(_annotations(rng, images, annotations)):
            file.write((", " if number else "") + json.dumps(record))
        file.write("]}")


def _annotations(rng: np.random.Generator, images: int, count: int) -> Iterator[dict]:
    for number in range(count):
        (x, y), (w, h) = rng.uniform(10, [400, 300]), rng.uniform(8, 150, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, max(3, int(rng.gamma(2, 11)))))
        outline = np.stack([x + w / 2 + w / 2 * np.cos(angles), y + h / 2 + h / 2 * np.sin(angles)], 1).round(
            2
        )
        segmentation: list | dict = [outline.ravel().tolist()]
        if number % 90 == 0:
            runs = [int(x) * 480 + int(y), *[int(h), 480 - int(h)] * int(w)]
            segmentation = {"size": [480, 640], "counts": [*runs, 640 * 480 - sum(runs)]}
        yield {
            "segmentation": segmentation,
            "area": round(w * h * 0.7, 4),
            "iscrowd": int(number % 90 == 0),
            "image_id": int(rng.integers(images)),
            "bbox": [round(x, 2), round(y, 2), round(w, 2), round(h, 2)],
            "category_id": int(rng.integers(80)),
            "id": number + 1,
        }


def write_results(path: Path, rng: np.random.Generator, images: int) -> None:
    """100 boxes for every image."""
    count = 100 * images
    boxes = np.concatenate([rng.uniform(10, 300, (count, 2)), rng.uniform(8, 150, (count, 2))], 1).round(3)
    classes, scores = rng.integers(80, size=count), rng.random(count).round(7)
    found = [
        {"image_id": row // 100, "category_id": kind, "bbox": box, "score": score}
        for row, (kind, box, score) in enumerate(
            zip(classes.tolist(), boxes.tolist(), scores.tolist(), strict=True)
        )
    ]
    path.write_text(json.dumps(found))


def write_blank_images(folder: Path, images: int) -> None:
    """Files of the names that the json has; they are counted and not opened."""
    folder.mkdir()
    for number in range(images):
        (folder / f"{number:012}.jpg").touch()


if __name__ == "__main__":
    main()
