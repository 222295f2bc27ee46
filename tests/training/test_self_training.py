"""A teacher labels a folder of images, a student trains on both kinds; through the command."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from srfgan_cli.data.mixed import MixedBatches
from srfgan_cli.data.sampler import TrainingBatches
from srfgan_cli.data.shapes import CATEGORY_IDS
from srfgan_cli.data.shapes_scene import draw_scene
from srfgan_cli.presets.config import SelfTrainingConfig

PRESET, BOXES_ONLY = "mask_rcnn_r18_fpn_nn", "faster_rcnn_r18_fpn_nn"
TEACHER = "teacher/model.pt"
LOW = "finetune.self_training.threshold=0.12"
"""Below what an untrained teacher gives: one of seven classes."""


@pytest.fixture
def finetune(srfgan, tiny):
    """Train for an iteration."""

    def call(*more, preset=PRESET, iterations=1, batch_size=3, overrides=(LOW,)):
        options = ["--iterations", iterations, "--batch-size", batch_size, "--devices", "cpu"]
        small = tiny(*overrides, detector=preset.split("_r18")[0])
        return srfgan("finetune", "--preset", preset, *options, *small, *more)

    return call


@pytest.fixture
def teacher(finetune):
    """A teacher with masks and three images, two of them wide and one tall."""
    Path("images").mkdir()
    for number in range(3):
        pixels = draw_scene(np.random.default_rng(number), 96)[0]
        rows, columns = (64, 96) if number < 2 else (96, 64)
        Image.fromarray(pixels[:rows, :columns]).save(f"images/{number}.png")
    assert finetune("--output-dir", "teacher", overrides=()).code == 0
    return ["--unlabeled", "images", "--teacher", TEACHER]


def labels():
    (path,) = Path("runs/pseudo_labels").iterdir()
    return path


def test_the_teachers_labels_are_made_once_and_trained_on(finetune, teacher):
    done = finetune(*teacher, "--set", "finetune.self_training.ratio=0.5")
    assert done.code == 0, done.err
    document = json.loads(labels().read_text())
    assert document["info"] == {"teacher": TEACHER, "folder": "images", "threshold": 0.12}
    sizes = {image["id"]: (image["height"], image["width"]) for image in document["images"]}
    assert sizes == {1: (64, 96), 2: (64, 96), 3: (96, 64)}
    assert len(document["annotations"]) > 5
    for found in document["annotations"]:
        assert found["score"] >= 0.12 and found["category_id"] in CATEGORY_IDS.values()
        mask = coco_mask.decode(found["segmentation"])
        assert mask.shape == sizes[found["image_id"]] and found["area"] == mask.sum()
    assert f"images have {len(document['annotations'])} pseudo-labels" in done.err

    again = finetune(*teacher, "--seed", 3, "--output-dir", "again")
    assert again.code == 0 and "Pseudo-labels are there" in again.err
    assert finetune(*teacher, preset=BOXES_ONLY).code == 0  # a student without masks takes the same labels
    labels()
    other = finetune(*teacher, "--overwrite", overrides=("finetune.self_training.threshold=0.13",))
    assert other.code == 0 and len(list(Path("runs/pseudo_labels").iterdir())) == 2
    assert finetune(*teacher, "--overwrite", overrides=(LOW, "model.inference.nms_iou=0.4")).code == 0
    assert len(list(Path("runs/pseudo_labels").iterdir())) == 3


def test_what_a_user_may_get_wrong(finetune, teacher):
    alone = finetune(*teacher[:2])
    assert alone.code == 2 and "Self-training needs --teacher" in alone.err
    by_preset = finetune(overrides=(LOW, "finetune.self_training.ratio=1.0"))
    assert by_preset.code == 2 and "Self-training needs --unlabeled and --teacher" in by_preset.err
    small = finetune(*teacher, batch_size=1, overrides=())
    assert small.code == 2 and "needs at least 2 images in a batch, got 1" in small.err
    nothing = finetune(*teacher, "--output-dir", "x", overrides=("finetune.self_training.threshold=0.99",))
    assert nothing.code == 2 and "finds nothing above 0.99 in images" in nothing.err

    Path("empty").mkdir()
    assert "the folder holds no image" in finetune("--unlabeled", "empty", *teacher[2:]).err
    assert "no such folder of images" in finetune("--unlabeled", "nowhere", *teacher[2:]).err
    assert "--teacher: none.pt does not exist" in finetune(*teacher[:3], "none.pt").err

    content = torch.load(TEACHER, weights_only=True)
    content["categories"][0]["name"] = "something else"
    torch.save(content, "other.pt")
    refused = finetune(*teacher[:3], "other.pt", "--output-dir", "x")
    assert refused.code == 2 and "was trained on other categories" in refused.err

    assert finetune("--output-dir", "boxes", preset=BOXES_ONLY, overrides=()).code == 0
    maskless = finetune(*teacher[:3], "boxes/model.pt", "--output-dir", "x")
    assert maskless.code == 2 and "gives no masks, which preset" in maskless.err

    Path("images/broken.png").write_bytes(Path("images/0.png").read_bytes()[:300])
    broken = finetune(*teacher, "--output-dir", "x")
    assert broken.code == 2 and "broken.png" in broken.err and "Traceback" not in broken.err
    assert not any("broken" in path.read_text() for path in Path("runs/pseudo_labels").glob("*.json"))


def test_a_run_goes_on_with_the_images_that_it_began_with_only(finetune, teacher):
    assert finetune(*teacher).code == 0
    model = Path(f"runs/finetune/{PRESET}/model.pt")
    Path("images").rename("elsewhere")
    moved = ["--unlabeled", "elsewhere", *teacher[2:]]
    assert finetune(*moved, "--auto-resume").code == 0
    Image.new("RGB", (96, 64)).save("elsewhere/more.png")
    model.rename("aside")
    for option in ("--resume", "--auto-resume"):
        refused = finetune(*moved, option)
        assert (
            refused.code == 2 and "was started with other unlabeled data than elsewhere is now" in refused.err
        )
    Path("aside").rename(model)
    assert "was started with other unlabeled data" in finetune(*moved, "--auto-resume").err
    assert len(list(Path("runs/pseudo_labels").iterdir())) == 1, "other images were labelled"


@pytest.mark.parametrize(
    ("ratio", "batch", "shares"), [(1.0, 16, (8, 8)), (0.5, 3, (2, 1)), (0.01, 4, (3, 1)), (9.0, 4, (1, 3))]
)
def test_the_shares_of_a_batch(ratio, batch, shares):
    assert SelfTrainingConfig(ratio=ratio).shares(batch) == shares


def test_mixed_batches_are_a_function_of_the_step():
    sizes = [np.array([[4, 6], [6, 4], [4, 6], [5, 5], [6, 4]]), np.array([[4, 6]] * 3)]

    def batches(rank, world, start=0):
        common = {"accumulate": 2, "rank": rank, "world_size": world, "seed": 7, "start": start}
        parts = [TrainingBatches(s, batch_size=b, **common) for s, b in zip(sizes, (8, 4), strict=True)]
        return list(islice(MixedBatches(*parts, len(sizes[0])), 12 - 2 * start))

    whole = batches(0, 1)
    for micro in whole:
        assert [position >= 5 for position, _ in micro] == [False] * 4 + [True] * 2
    assert {position for micro in whole for position, _ in micro} == set(range(8))
    assert batches(0, 1, start=4) == whole[8:], "a resumed run goes on where it stopped"
    halves = [batches(rank, 2) for rank in (0, 1)]
    for step in range(0, 12, 2):
        shared = sorted(r for half in halves for micro in half[step : step + 2] for r in micro)
        assert shared == sorted(r for micro in whole[step : step + 2] for r in micro)


@pytest.mark.slow
def test_processes_share_the_labelling_and_a_killed_student_resumes_exactly(finetune, teacher, tiny):
    often = (LOW, "finetune.solver.checkpoint_every=1", "finetune.solver.log_every=1")
    assert finetune(*teacher, iterations=4, batch_size=4, overrides=often).code == 0
    whole = Path(f"runs/finetune/{PRESET}/model.pt")
    alone = json.loads(labels().read_text())
    labels().unlink()

    code = (
        "import os, signal\n"
        "from srfgan_cli.training import train_stage\n"
        "save = train_stage.save_checkpoint\n"
        "def stop(path, content):\n"
        "    save(path, content)\n"
        "    content['iteration'] == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "train_stage.save_checkpoint = stop\n"
        "from srfgan_cli.main import run\n"
        "run()"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(program, *more):
        options = [
            "--preset",
            PRESET,
            "--iterations",
            "4",
            "--batch-size",
            "4",
            *teacher,
            *tiny(*often),
            *more,
        ]
        command = [sys.executable, "-P", *program, "finetune", *options]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    ours = ("-m", "srfgan_cli")
    killed = start(("-c", code), "--output-dir", "parts", "--devices", "cpu")
    assert killed.returncode == -9, killed.stderr
    resumed = start(ours, "--output-dir", "parts", "--devices", "cpu", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    first, second = (
        torch.load(path, weights_only=True)["modules"]["detector"] for path in (whole, "parts/model.pt")
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())

    labels().unlink()
    two = start(ours, "--output-dir", "two", "--devices", "2")
    assert two.returncode == 0, two.stderr
    assert json.loads(labels().read_text()) == alone
