"""The whole method through the command line, on the built-in data."""

import json
from pathlib import Path

import pytest
import timm
import torch
import yaml

from srfgan_cli.data.loaders import build_test_loader
from srfgan_cli.evaluation import evaluate
from srfgan_cli.runs.folder import Run
from srfgan_cli.runs.plan import announce, make_plan
from srfgan_cli.screen.options import TrainOptions
from srfgan_cli.training import train_stage

NN, SRF = "mask_rcnn_r18_fpn_nn", "mask_rcnn_r18_fpn"


@pytest.fixture
def method(srfgan, tiny):
    """Run a stage of the method for a few iterations."""

    def stage(name, preset, *more, iterations=2, batch_size=2):
        options = ["--iterations", iterations, "--batch-size", batch_size, "--devices", "cpu"]
        return srfgan(name, "--preset", preset, *options, *tiny(), *more)

    return stage


def metrics(stage, preset):
    return [
        json.loads(line) for line in Path(f"runs/{stage}/{preset}/metrics.jsonl").read_text().splitlines()
    ]


def test_the_whole_method(method, srfgan, tiny, monkeypatch):
    """Baseline, stages 1 to 3, evaluation, from one stage's default output to the next one's input."""
    scored_together = []

    def watched(*given, **options):
        scored_together.append(options["batch_size"])
        return build_test_loader(*given, **options)

    monkeypatch.setattr(evaluate, "build_test_loader", watched)
    every = ("--set", "finetune.solver.evaluate_every=1", "--set", "evaluation.batch_size=3")
    assert method("finetune", NN, *every).code == 0
    assert scored_together == [3, 3]
    assert [line["iteration"] for line in metrics("finetune", NN) if "evaluation" in line] == [1, 2]
    assert method("pretrain", SRF, "--precision", "bf16").code == 0
    assert method("extract", SRF, "--set", "extract.solver.accumulate=2", batch_size=4).code == 0
    published = ("--set", "extract.start_from_guide=true", "--set", "extract.solver.lr=1e-12")
    assert method("extract", SRF, *published, "--output-dir", "published", iterations=1).code == 0
    files = ("published/model.pt", f"runs/finetune/{NN}/model.pt")
    ours, guide = (torch.load(path, weights_only=True)["modules"]["detector"] for path in files)
    for name in ("backbone.body.layer4.0.conv2.weight", "neck.output.p2.weight", "head.box.classes.weight"):
        torch.testing.assert_close(ours[name], guide[name], rtol=1e-5, atol=1e-6, msg=name)
    done = method("finetune", SRF, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["weights"] == f"runs/finetune/{SRF}/model.pt" and set(document["evaluation"]["box"]) >= {
        "AP"
    }

    extractor = torch.load(f"runs/extract/{SRF}/model.pt", weights_only=True)
    assert extractor["model"]["anchors"]["sizes"] == [8.0, 16.0, 32.0, 64.0, 128.0]
    losses = set(metrics("extract", SRF)[0]["losses"])
    assert {"loss_content", "loss_adversarial", "loss_d_real", "loss_cls"} <= losses

    scored = srfgan("eval", "--preset", SRF, *tiny(), "--json", "--devices", "cpu")
    assert scored.code == 0, scored.err
    report = json.loads(scored.out)
    assert report["box"] == document["evaluation"]["box"] and report["images"] == 4
    again = srfgan("eval", "--preset", SRF, *tiny(), "--json", "--from", f"runs/finetune/{SRF}/results.json")
    assert json.loads(again.out)["mask"] == report["mask"]
    both = srfgan("eval", "--preset", SRF, *tiny(), "--from", "results.json", "--weights", "model.pt")
    assert both.code == 2 and "--weights would not be used" in both.err

    assert srfgan("visualize", "P2", "--methods", "nn,srf", "--preset", SRF, "--output", "p2.png").code == 0
    assert (
        srfgan("visualize", "detections", "--output", "pictures").out.strip().endswith("pictures/example.png")
    )


def test_the_target_takes_over_the_extractor(method):
    """`reuse: M` copies backbone and neck; one iteration at a vanishing rate leaves them recognisable."""
    for stage, preset in (("finetune", NN), ("pretrain", SRF), ("extract", SRF)):
        assert method(stage, preset, iterations=1).code == 0
    assert method("finetune", SRF, "--set", "finetune.solver.lr=1e-12", iterations=1).code == 0
    source = torch.load(f"runs/extract/{SRF}/model.pt", weights_only=True)["modules"]["detector"]
    target = torch.load(f"runs/finetune/{SRF}/model.pt", weights_only=True)["modules"]["detector"]
    taken = [n for n in source if n.startswith(("backbone.", "neck.")) and n.endswith((".weight", ".bias"))]
    assert taken
    for name in taken:
        torch.testing.assert_close(target[name], source[name], rtol=1e-5, atol=1e-6, msg=name)
    assert not torch.equal(target["head.box.classes.weight"], source["head.box.classes.weight"])


def test_stages_1_and_2_by_l1_alone_and_a_new_discriminator_after_such_a_stage_1(method):
    bare = {name: ("--set", f"{name}.adversarial.weight=0") for name in ("pretrain", "extract")}
    assert method("finetune", NN, iterations=1).code == 0
    assert method("pretrain", SRF, *bare["pretrain"], iterations=1).code == 0
    assert set(torch.load(f"runs/pretrain/{SRF}/model.pt", weights_only=True)["modules"]) == {"generator"}
    refused = method("extract", SRF, iterations=1)
    assert refused.code == 2 and "holds no discriminator: give stage 1's own result" in refused.err
    begun = method("extract", SRF, *bare["pretrain"], iterations=1)
    assert begun.code == 0 and "with pretrain.adversarial.weight 0, stage 1 trains none" in begun.err
    assert "loss_d_real" in metrics("extract", SRF)[0]["losses"]
    assert method("extract", SRF, *bare["extract"], "--output-dir", "bare", iterations=1).code == 0
    assert set(torch.load("bare/model.pt", weights_only=True)["modules"]) == {"detector"}


def test_the_target_continues_a_trained_detector_with_the_generator_in_it(method):
    continued = ("--set", "finetune.start_from_guide=true", "--set", "finetune.solver.lr=1e-12")
    refused = method("finetune", SRF, *continued)
    assert (
        refused.code == 2 and "finetune.start_from_guide needs finetune.reuse G or none, got M" in refused.err
    )
    continued += ("--set", "finetune.reuse=G", "--set", 'stages=["pretrain","finetune"]')
    without = method("finetune", SRF, *continued)
    assert without.code == 2 and "or name a file with --weights" in without.err
    for stage, preset in (("finetune", NN), ("pretrain", SRF)):
        assert method(stage, preset, iterations=1).code == 0
    assert method("finetune", SRF, *continued, iterations=1).code == 0
    named = ("--weights", f"runs/finetune/{NN}/model.pt", "--output-dir", "named")
    assert method("finetune", SRF, *continued, *named, iterations=1).code == 0
    guide, generator, target, other = (
        torch.load(path, weights_only=True)["modules"]
        for path in (
            f"runs/finetune/{NN}/model.pt",
            f"runs/pretrain/{SRF}/model.pt",
            f"runs/finetune/{SRF}/model.pt",
            "named/model.pt",
        )
    )
    assert set(target["detector"]) - set(guide["detector"]) == {
        f"neck.upsample.{name}" for name in generator["generator"]
    }
    started = guide["detector"] | {f"neck.upsample.{n}": t for n, t in generator["generator"].items()}
    for name in (name for name in started if name.endswith((".weight", ".bias"))):
        torch.testing.assert_close(target["detector"][name], started[name], rtol=1e-5, atol=1e-6, msg=name)
        assert torch.equal(other["detector"][name], target["detector"][name]), name


def test_dry_run_prints_the_plan_and_touches_nothing(srfgan, tmp_path):
    shown = srfgan(
        "pretrain", "--backbone", "r50", "--batch-size", 4, "--iterations", 1500, "--dry-run", "--json"
    )
    assert shown.code == 0, shown.err
    plan = json.loads(shown.out)
    assert plan["preset"] == "mask_rcnn_r50_fpn" and plan["lr"] == pytest.approx(0.0005)
    assert plan["config"]["pretrain"]["solver"]["milestones"] == [1200]
    assert plan["guide"] == "runs/finetune/mask_rcnn_r50_fpn_nn/model.pt (missing)"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stage", "given", "told"),
    [
        (
            "pretrain",
            ["pretrain.solver.evaluate_every=5"],
            "evaluate_every 5 is not used: stage 1 trains nothing",
        ),
        (
            "pretrain",
            ["sources.distill=mask_rcnn_r18_fpn"],
            "mask_rcnn_r18_fpn is not used without pretrain.distill",
        ),
        (
            "extract",
            ["extract.pairing=different", "extract.reduction=nn", 'extract.adversarial.levels=["p3"]'],
            "extract.reduction nn is not used: pairing different reduces no map",
        ),
        ("extract", ["extract.reduction=nn"], None),
        (
            "pretrain",
            ["pretrain.adversarial.weight=0", "pretrain.adversarial.window=16"],
            "pretrain.adversarial.window 16 is not used: with a weight of 0 there is no discriminator",
        ),
        ("extract", ["pretrain.adversarial.weight=0", "pretrain.adversarial.window=16"], None),
    ],
)
def test_a_setting_that_changes_nothing_beside_others_is_told(capsys, stage, given, told):
    announce(make_plan(TrainOptions(stage, preset="mask_rcnn_r18_fpn", set_=given, dry_run=True)))
    said = capsys.readouterr().err
    assert told in said if told else "not used" not in said


def test_what_an_own_preset_rests_on_is_named_by_files_that_commands_take(srfgan):
    """`own_nn` and `own` are no presets' names: the commands that were advised had ended in "Unknown preset"."""
    Path("own.yaml").write_text("base: mask_rcnn_r18_fpn")

    def said(*arguments):
        done = srfgan(*arguments, "--dataset", "shapes")
        assert done.code == 2
        return done.err

    stage_1 = ("pretrain", "--preset", "own.yaml")
    advice = "by hand, write own_nn.yaml, which is `base: [own.yaml, plain]`, and train that first (srfgan finetune "
    assert "`srfgan fit --preset own.yaml` trains it" in said(*stage_1) and advice in said(*stage_1)
    Path("own_nn.yaml").write_text("base: [own.yaml, plain]")
    assert "Train it first (srfgan finetune --preset own_nn.yaml), or name a file with --guide" in said(
        *stage_1
    )
    twin = json.loads(srfgan("finetune", "--preset", "own_nn.yaml", "--dry-run", "--json").out)
    assert (
        twin["output_dir"] == "runs/finetune/own_nn" and twin["config"]["model"]["neck"]["upsampler"] == "nn"
    )
    Run.default("finetune", "own_nn").folder.mkdir(parents=True)
    Run.default("finetune", "own_nn").model.touch()
    assert "(srfgan pretrain --preset own.yaml), or name" in said("extract", "--preset", "own.yaml")
    assert "(srfgan finetune --preset own.yaml), or name" in said("eval", "--preset", "own.yaml")


def test_resume_after_the_end_and_with_nothing_there(method):
    assert "holds no checkpoint" in method("finetune", NN, "--resume").err
    assert method("finetune", NN, iterations=1).code == 0
    finished = method("finetune", NN)
    assert finished.code == 2 and "holds a finished run" in finished.err and "--overwrite" in finished.err
    assert "is finished" in method("finetune", NN, "--resume").err
    assert method("finetune", NN, "--overwrite", iterations=1).code == 0


@pytest.mark.parametrize("kept", [0.0, 0.6])
def test_a_damaged_file_of_a_run_is_named_with_what_to_do(kept, method):
    """An empty or truncated model is no finished run, and nothing says to fetch what the run itself has made."""
    assert method("finetune", NN, iterations=1).code == 0
    run = Run.default("finetune", NN)

    def cut(path):
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])

    def ends(option, *said):
        done = method("finetune", NN, option, "--json", iterations=1)
        assert done.code == 2 and "fetch it" not in done.err and all(text in done.err for text in said), (
            done.err
        )

    cut(run.model)
    ends("--auto-resume", "model.pt is empty or damaged", "remove it, and the same command makes it again")
    run.model.unlink()
    assert method("finetune", NN, "--auto-resume", iterations=1).code == 0
    cut(run.evaluation)
    ends("--auto-resume", "evaluation.json is damaged")
    run.model.unlink()
    cut(run.checkpoint)
    ends(
        "--resume",
        "--resume: ",
        "checkpoint.pt: cannot be read",
        "Put a whole one back, or --overwrite to start",
    )


@pytest.mark.parametrize(("has_it", "precision"), [(False, "bf16"), (False, "fp32"), (True, "bf16")])
def test_bfloat16_without_instructions_for_it_is_told(method, monkeypatch, has_it, precision):
    monkeypatch.setattr(train_stage, "cpu_has_bfloat16", lambda: has_it)
    done = method("finetune", NN, "--precision", precision, iterations=1)
    assert done.code == 0
    assert ("bf16: this CPU has no instructions for it" in done.err) == (not has_it and precision == "bf16")


def test_a_backbone_of_timms_from_a_file(srfgan, tiny):
    """Its pixels are in the plan, the run's config and its checkpoint; the checkpoint gives the run's scores again."""
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), "own.pth")
    chosen = (
        "model.backbone.name=timm/mobilenetv3_small_050",
        "initial_weights=own.pth",
        "model.num_classes=3",
    )
    options = ["--preset", NN, *tiny(*chosen), "--devices", "cpu"]
    imagenet = {"order": "RGB", "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    plan = srfgan("finetune", *options, "--dry-run", "--json")
    assert json.loads(plan.out)["config"]["model"]["pixel"] == imagenet, plan.err
    done = srfgan("finetune", *options, "--iterations", 2, "--batch-size", 2, "--json")
    assert done.code == 0, done.err
    folder = Path(f"runs/finetune/{NN}")
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert written["model"]["pixel"] == imagenet and written["initial_weights"] == "own.pth"
    checkpoint = torch.load(folder / "model.pt", weights_only=True)
    assert checkpoint["model"]["pixel"] == imagenet
    assert checkpoint["model"]["backbone"]["name"] == "timm/mobilenetv3_small_050"
    scored = srfgan(
        "eval", "--preset", NN, *tiny(), "--weights", folder / "model.pt", "--json", "--devices", "cpu"
    )
    assert scored.code == 0, scored.err
    assert json.loads(scored.out)["box"] == json.loads(done.out)["evaluation"]["box"]
    torch.save(timm.create_model("resnet18").state_dict(), "own.pth")
    refused = srfgan("finetune", *options, "--iterations", 2, "--overwrite")
    assert refused.code == 2
    assert "own.pth does not fit the backbone timm/mobilenetv3_small_050" in refused.err
