"""A thin generator through all stages, distilled from a full one, and what does not fit it."""

import json
from pathlib import Path

import pytest
import torch

FULL, THIN = "mask_rcnn_r18_fpn", "mask_rcnn_r18_fpn_thin"
ONE = ("--iterations", 1, "--batch-size", 2, "--devices", "cpu")


def model(stage, preset):
    return Path("runs") / stage / preset / "model.pt"


def one_line(outcome):
    return " ".join(outcome.err.split())


@pytest.fixture
def run(srfgan, tiny):
    """A stage of one iteration."""

    def stage(name, preset, *more):
        return srfgan(name, "--preset", preset, *ONE, *tiny(), *more)

    return stage


def test_the_whole_method_distilled(run, srfgan, tiny):
    for stage, preset in (("finetune", f"{FULL}_nn"), ("pretrain", FULL)):
        assert run(stage, preset).code == 0
    teacher = model("pretrain", FULL)
    missing = run("pretrain", THIN, "--distill", "nowhere.pt")
    assert (
        missing.code == 2
        and "pretrain needs the generator to learn from: nowhere.pt does not" in one_line(missing)
    )
    wrong = run("pretrain", THIN, "--distill", model("finetune", f"{FULL}_nn"))
    assert wrong.code == 2 and "holds no generator: give a stage-1 result" in one_line(wrong)
    planned = run("pretrain", THIN, "--set", "pretrain.distill.weight=2", "--dry-run", "--json")
    assert json.loads(planned.out)["distill"] == str(teacher), "the full preset's own run"

    done = run("pretrain", THIN, "--distill", teacher)
    assert done.code == 0, done.err
    folder = model("pretrain", THIN).parent
    assert set(json.loads((folder / "sources.json").read_text())) >= {"guide", "distill"}
    losses = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])["losses"]
    assert {"loss_content", "loss_distill", "loss_adversarial"} <= set(losses)
    generator = torch.load(model("pretrain", THIN), weights_only=True)["modules"]["generator"]
    assert generator["head.weight"].shape == (4, 4, 3, 3) and generator["tail.weight"].shape == (16, 4, 1, 1)

    # What an unfinished run began with, it goes on with.
    model("pretrain", THIN).unlink()
    torch.save({}, folder / "checkpoint.pt")
    torch.save(torch.load(teacher, weights_only=True) | {"iteration": 7}, "other.pt")
    other = run("pretrain", THIN, "--distill", "other.pt", "--resume")
    assert other.code == 2 and "was started from other files than these. Changed: distill: runs/" in one_line(
        other
    )
    unlike = run("pretrain", THIN, "--resume")
    assert unlike.code == 2 and "Changed: pretrain.distill.weight: 1.0 -> None" in one_line(unlike)
    assert run("pretrain", THIN, "--distill", teacher, "--overwrite").code == 0

    assert run("extract", THIN).code == 0
    finished = run("finetune", THIN, "--json")
    assert finished.code == 0, finished.err
    scored = srfgan("eval", "--weights", model("finetune", THIN), *tiny(), "--json", "--devices", "cpu")
    assert json.loads(scored.out)["box"] == json.loads(finished.out)["evaluation"]["box"]
    panel = ["visualize", "P2", "--preset", f"{FULL}_nn", "--generator", model("pretrain", THIN)]
    shown = srfgan(*panel, "--methods", "nn,srf")
    assert shown.code == 0 and "random weights" not in shown.err
    unused = srfgan(*panel, "--methods", "nn,afi")
    assert unused.code == 2 and "holds 'srf', which --methods does not name" in one_line(unused)

    for stage, option, whose in (
        ("extract", "--generator", "pretrain"),
        ("finetune", "--extractor", "extract"),
    ):
        refused = run(stage, FULL, option, model(whose, THIN), "--output-dir", "other")
        assert refused.code == 2, refused.err
        assert (
            "holds the generator 'srf' of 16 channels and 4 inside, 5 blocks; this preset's is 'srf' of 16 channels, "
            "5 blocks. Give the preset that it belongs to, or: --set model.neck.upsampler=srf --set "
            "'model.neck.generator={width: 4, blocks: 5}'"
        ) in one_line(refused)


def test_what_makes_no_sense_is_refused(run):
    nobody = run("pretrain", FULL, "--set", "pretrain.distill={}", "--dry-run")
    assert nobody.code == 2 and "--distill FILE, or --set sources.distill=PRESET" in one_line(nobody)
    sized = run("finetune", f"{FULL}_nn", "--set", "model.neck.generator.width=8", "--dry-run")
    assert sized.code == 2 and "got the upsampler 'nn' with it; model.neck.generator=null" in one_line(sized)
