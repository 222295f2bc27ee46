"""The command line itself: help, names, exit codes, messages instead of tracebacks."""

import json
import subprocess
import sys

import pytest
from forked import COMMAND, start
from typer.main import get_command

from srfgan.models.errors import InputError
from srfgan_cli import main
from srfgan_cli.machine.devices import parse_devices
from srfgan_cli.training.checkpoint import load_checkpoint

MACHINE = "devices launcher nnodes precision rdzv_endpoint"
NAMED = "train_images train_json val_images val_json"
RECIPE = f"batch_size data_root dataset iterations preset seed set_ {NAMED}"
TRAINING = f"{RECIPE} {MACHINE} auto_resume dry_run json max_restarts output_dir overwrite resume"
OPTIONS = {
    "pretrain": f"{TRAINING} backbone compile distill guide",
    "extract": f"{TRAINING} compile generator guide weights",
    "finetune": f"{TRAINING} compile extractor generator teacher unlabeled weights",
    "eval": f"{MACHINE} {NAMED} "
    "against batch_size data_root dataset from_ json max_detections output_dir per_class preset "
    "report set_ split tta weights",
    "predict": "batch_size classes devices json output overlap precision preset save score_threshold set_ source "
    "strict tiles tta weights",
    "visualize": "class_ data_root devices generator image layer methods output preset score_threshold set_ weights "
    "val_images val_json what",
    "export": "batch_size format_ half image json output preset set_ weights",
    "fit": f"{NAMED} batch_size data_root dataset devices dry_run json launcher output_dir overwrite precision preset "
    "scale seed set_",
    "demo": "devices output_dir overwrite seed",
}
"""The surface that other people's scripts rely on: it grows on purpose only."""


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_are_these(name):
    command = get_command(main.app).get_command(None, name)
    assert sorted(parameter.name for parameter in command.params if parameter.name != "help") == sorted(
        OPTIONS[name].split()
    )


IMAGES = {"torchvision", "timm", "PIL", "matplotlib"}
ARRAYS = IMAGES | {"torch", "numpy"}
CONFIGS = ARRAYS | {"srfgan.models.config", "srfgan_cli.presets.library"}
"""What has all configs' classes, which take as long to build as typer and pydantic to import."""
SCORED = "--val-json val.json --val-images . --from results.json"


@pytest.mark.command
@pytest.mark.parametrize(
    ("arguments", "told", "unneeded"),
    [
        ("--version", "srfgan", CONFIGS | {"pydantic", "rich", "srfgan_cli.commands.train"}),
        ("--help", "finetune", CONFIGS | {"pydantic"}),
        ("presets list", "mask_rcnn_r50_fpn", CONFIGS | {"srfgan_cli.commands.train"}),
        ("presets list --json --table table1", "mask_rcnn_r50_fpn", CONFIGS),
        ("presets show mask_rcnn_r50_fpn", "parameters: 53.9 M", ARRAYS | {"ssl", "filelock"}),
        (
            f"eval --preset faster_rcnn_r18_fpn {SCORED}",
            "AP",
            {"torch", "scipy", "timm", "matplotlib", "ssl"},
        ),
    ],
)
def test_a_command_imports_only_what_it_runs(tmp_path, arguments, told, unneeded):
    place = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 8, 8]}
    image = {"id": 1, "file_name": "1.png", "height": 20, "width": 20}
    truth = {"images": [image], "categories": [{"id": 1, "name": "x"}], "annotations": [place | {"id": 1}]}
    (tmp_path / "val.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps([place | {"score": 0.9}]))
    (tmp_path / "1.png").touch()
    code = (
        f"import sys; sys.argv = ['srfgan', *{arguments.split()}]\n"
        "from srfgan_cli.main import run\n"
        "try: run()\n"
        "except SystemExit as e: assert not e.code\n"
        f"heavy = {unneeded} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "--preset", "mask_rcnn_r50_fnp"], "Unknown preset 'mask_rcnn_r50_fnp'. Did you mean"),
        (["finetune"], "Name the experiment with --preset"),
        (["finetune", "--preset", "demo_nn", "--output-dir", ""], "--output-dir is followed by nothing"),
        (["fit", "--preset", "demo", "--data-root="], "--data-root is followed by nothing"),
        (["data", "check", ""], "An argument is empty"),
        (["pretrain", "--preset", "mask_rcnn_r50_fpn_nn"], "has no stage 'pretrain' (it runs finetune)"),
        (["pretrain", "--backbone", "r50", "--preset", "x"], "--preset and --backbone exclude each other"),
        (["finetune", "--preset", "mask_rcnn_r18_fpn", "--generator", "g.pth"], "Add --set finetune.reuse=G"),
        (
            ["finetune", "--preset", "retinanet_r50_fpn_g", "--generator", "g.pt", "--extractor", "m.pt"],
            "--generator and --extractor exclude each other",
        ),
        (
            ["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--extractor", "m.pt"],
            "--extractor would not be used",
        ),
        (["pretrain", "--backbone", "r101"], "finetune --preset mask_rcnn_r101_fpn_nn"),
        (["pretrain", "--backbone", "r49"], "Invalid value for '--backbone'"),
        (["pretrain", "--backbone", "r18"], "pretrain needs the trained plain detector F"),
        (["extract", "--preset", "mask_rcnn_r18_fpn"], "srfgan finetune --preset mask_rcnn_r18_fpn_nn"),
        (["finetune", "--preset", "mask_rcnn_r18_fpn"], "srfgan extract --preset mask_rcnn_r18_fpn"),
        (
            ["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--iterations", "0"],
            "Invalid value for '--iterations'",
        ),
        (
            ["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--devices", "many"],
            "--devices many: expected auto, cpu",
        ),
        (
            ["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--devices", "cpu:²"],
            "--devices cpu:²: expected auto",
        ),
        (["finetune", "--preset", "demo_nn", "--iterations", "9999999999"], "there are at most 1000000000"),
        (["fit", "--preset", "demo", "--scale", "inf"], "Invalid value for '--scale'"),
        (["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--devices", "0,1"], "this machine has 0 GPU(s)"),
        (
            ["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--devices", "2", "--launcher", "none"],
            "starts one process",
        ),
        (
            ["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--launcher", "slurm"],
            "Start the command with srun",
        ),
        (["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--nnodes", "2"], "--rdzv-endpoint HOST:PORT"),
        (["finetune", "--preset", "mask_rcnn_r18_fpn_nn"], "--data-root DIR"),
        (["finetune", "--preset", "demo_nn", "--data-root", "mine"], "mine would not be used"),
        (["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--data-root", "nowhere"], "nowhere"),
        (["finetune", "--preset", "mask_rcnn_r50_fpn_nn", "--dataset", "shapes"], "R-50.pkl"),
        (
            ["eval", "--preset", "mask_rcnn_r18_fpn", "--dataset", "shapes"],
            "finetune/mask_rcnn_r18_fpn/model.pt",
        ),
        (["visualize", "P9"], "choose a level (P2, P3, P4, P5, P6, P7), gradcam, detections or compare"),
        (
            ["visualize", "P2", "--class", "cat"],
            "--class is an option of visualize gradcam, not of visualize P2",
        ),
        (["visualize", "compare"], "name two detectors, --weights FILE,FILE"),
        (["visualize", "gradcam"], "There is no trained detector"),
        (["visualize", "P2", "--methods", "nn,cubic"], "unknown method 'cubic'"),
        (["visualize", "P2", "--image", "none.png"], "--image none.png does not exist"),
        (["visualize", "detections"], "There is no trained detector"),
        (["export", "--preset", "mask_rcnn_r18_fpn", "--format", "tflite"], "Invalid value for '--format'"),
    ],
)
def test_wrong_usage_ends_with_one_message_and_exit_code_2(arguments, message, srfgan, monkeypatch, tmp_path):
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nothing may be fetched in a test
    done = srfgan(*arguments)
    assert done.code == 2
    said = " ".join(done.err.replace("│", " ").split())
    assert message in said and "Traceback" not in said
    assert not (tmp_path / "runs").exists()


LIMITED = f"""
import resource
from srfgan_cli.training import train_stage

save, count = train_stage.save_checkpoint, 0

def limited(path, content):
    global count
    count += 1
    if count == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    save(path, content)

train_stage.save_checkpoint = limited
{COMMAND}
"""
"""A command whose second checkpoint the kernel refuses to write past a file size limit."""


@pytest.mark.command
def test_windows_is_told_where_the_commands_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 2
    assert "WSL 2" in capsys.readouterr().err


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path, tiny):
    options = ["finetune", "--preset", "faster_rcnn_r18_fpn_nn", "--iterations", "3", "--batch-size", "2"]
    options += ["--devices", "cpu", "--output-dir", str(tmp_path / "run")]
    options += tiny("finetune.solver.checkpoint_every=1", detector="faster_rcnn")
    code, said = start(LIMITED, options, tmp_path).ended()
    assert code == 2, said
    assert "checkpoint.pt: File too large. The last complete one is kept." in " ".join(said.split())
    assert load_checkpoint(tmp_path / "run" / "checkpoint.pt")["iteration"] == 1
    assert not list((tmp_path / "run").glob("*.part"))


@pytest.mark.parametrize(
    ("text", "gpus", "devices"),
    [
        ("auto", 0, ["cpu"]),
        ("auto", 2, ["cuda:0", "cuda:1"]),
        ("cpu", 2, ["cpu"]),
        ("cpu:3", 2, ["cpu", "cpu", "cpu"]),
        ("2", 0, ["cpu", "cpu"]),
        ("2", 4, ["cuda:0", "cuda:1"]),
        ("0,3", 4, ["cuda:0", "cuda:3"]),
        ("2,", 4, ["cuda:2"]),
    ],
)
def test_what_devices_means(text, gpus, devices, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    chosen = parse_devices(text)
    assert [str(chosen.device(rank)) for rank in range(chosen.count)] == devices


def test_more_processes_than_gpus_that_are_named_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(InputError, match=r"--devices 0,3, names 2 of .* process 3 there: .*ntasks-per-node"):
        parse_devices("0,3").device(2)


def test_devices_are_described_in_the_singular_and_the_plural():
    assert parse_devices("cpu").described(1) == "CPU, 1 process of 1 thread"
    assert parse_devices("cpu:2").described(4) == "CPU, 2 processes of 4 threads"
