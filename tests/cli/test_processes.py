"""Several processes: torchrun and SLURM's variables, on CPU with gloo."""

import json
import os
import subprocess
import sys

import pytest
import torch
from forked import COMMAND, HANGS, free_port, start
from torch.distributed.launcher.api import LaunchConfig
from torch.distributed.run import config_from_args

from srfgan.models.errors import InputError
from srfgan_cli.machine.devices import Devices
from srfgan_cli.machine.launcher import launch, slurm_environment

pytestmark = pytest.mark.command

WORKER = """
import sys, torch
from srfgan.models import build_detector
from srfgan.models.structures import Target
from srfgan_cli.presets.config import FinetuneConfig
from srfgan_cli.machine.devices import Devices
from srfgan_cli.machine.distributed import open_world
from srfgan_cli.data.loaders import Batch
from srfgan_cli.presets import load_preset
from srfgan_cli.training.finetune import FinetuneStage

torch.randperm = lambda n, **_: torch.arange(n)
config = load_preset("faster_rcnn_r18_fpn_nn", ["model.neck.channels=16", "model.box_head.fc_dim=32"])
seeded = [torch.Generator().manual_seed(i) for i in (0, 1)]
images = [torch.randint(0, 256, (3, 64, 96), generator=generator).to(torch.uint8) for generator in seeded]
boxes = [torch.tensor([[8.0, 8, 60, 50]]), torch.zeros(0, 4)]

def gradients(world, chosen):
    torch.manual_seed(0)
    detector = build_detector(config.model)
    stage = FinetuneStage(detector, FinetuneConfig(freeze=["backbone.body.layer2.*", "head.rpn.*"]), world)
    detector.eval()
    for module in (detector, detector.head, detector.head.rpn, detector.head.box):
        module.training = True
    targets = [Target(boxes[i], torch.zeros(len(boxes[i]), dtype=torch.int64)) for i in chosen]
    for losses in stage.losses(Batch([images[i] for i in chosen], targets, list(chosen), [(64, 96)] * len(chosen))):
        sum(losses.values()).backward()
    assert all(p.grad is None for p in detector.head.rpn.parameters())
    grads = {name: p.grad for name, p in detector.named_parameters() if p.requires_grad}
    stage.optimizers["detector"].step()
    after = [float(p.detach().double().sum()) for p in detector.parameters()]
    return grads, after

with open_world(Devices("cpu", 2)) as world:
    from srfgan_cli.machine.distributed import World
    mine, after = gradients(world, [world.rank])
    first, second = world.gather(after)
    assert first == second, "the processes' parameters differ after a step"
    halves = [gradients(World(world.device), [rank])[0] for rank in (0, 1)]
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, (halves[0][name] + halves[1][name]) / 2, rtol=1e-4, atol=1e-6, msg=name)
    assert any(g.abs().sum() > 0 for g in halves[1].values())
    print("equal", len(mine))
"""


def run(arguments, folder, **environ):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
    return subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, timeout=HANGS, env=environment
    )


def test_the_gradient_is_the_mean_of_the_halves_also_when_one_has_no_boxes(tmp_path):
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    workers = [start(WORKER, None, tmp_path, **meeting, **rank) for rank in ranks]
    for code, said in [worker.ended() for worker in workers]:
        assert code == 0 and "equal" in said, said


@pytest.mark.parametrize(
    ("preset", "more"),
    [
        ("mask_rcnn_r18_fpn_nn", []),
        *(
            pytest.param(preset, more, marks=pytest.mark.slow)
            for preset, more in [
                ("atss_r18_fpn_nn", ["model.neck.channels=64", "model.inference.score_threshold=0"]),
                ("libra_rcnn_r18_fpn_nn", []),
                ("panet_r18_pafpn_nn", ["sync_bn=true"]),
                ("tridentnet_r18_c4", []),
                ("mask_rcnn_r18_augfpn_nn", []),
            ]
        ),
    ],
)
def test_two_processes_train_and_score_beside_a_foreign_models_folder(tmp_path, tiny, srfgan, preset, more):
    """No process may import the user's own `models`, be it in the current folder and first on the path."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text(
        "raise SystemExit('the foreign models folder was imported')"
    )
    command = [sys.executable, "-P", "-m", "srfgan_cli", "finetune", "--preset", preset]
    options = ["--iterations", "2", "--batch-size", "4", "--devices", "2", "--launcher", "torchrun", "--json"]
    recipe = tiny("finetune.solver.ema_decay=0.5", *more, detector=preset.split("_r18")[0])
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = run([*command, *options, *recipe], tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evaluation"]["images"] == 4
    folder = tmp_path / "runs/finetune" / preset
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["iteration"] == 2 and len(state["rng"]) == 2

    # Every process scored the detector that was saved: one that loads it finds the same.
    found = json.loads((folder / "results.json").read_text())
    scored = srfgan("eval", "--preset", preset, "--devices", "cpu", "--output-dir", "alone", *recipe)
    assert scored.code == 0, scored.err
    again = json.loads((tmp_path / "alone" / "results.json").read_text())
    assert len({result["image_id"] for result in found}) == 4 and again == found


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(LaunchConfig, "shutdown_timeout"), reason="this torch cannot be told")
def test_processes_have_time_to_save_after_a_signal(monkeypatch):
    """Of a step longer than torchrun's 30 seconds nothing had been saved."""
    for name in ("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)
    seen = []
    monkeypatch.setattr("torch.distributed.run.run", lambda args: seen.append(config_from_args(args)[0]))
    assert launch(Devices("cpu", 2), "torchrun") == 0
    assert seen[0].shutdown_timeout == 600


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("localhost:abc", "must be HOST:PORT, with a port from 1 to 65535"),
        ("localhost:99999", "must be HOST:PORT, with a port from 1 to 65535"),
        (":29500", "must be HOST:PORT, with a port from 1 to 65535"),
        ("nohost.invalid:29500", "there is no such host"),
    ],
)
def test_a_place_to_meet_that_cannot_be_one_is_named(endpoint, said):
    with pytest.raises(InputError, match=f"--rdzv-endpoint {endpoint}: {said}"):
        launch(Devices("cpu", 1), "torchrun", 2, endpoint)


def test_an_error_on_the_workers_ends_with_its_own_exit_code(tmp_path, tiny):
    command = [sys.executable, "-P", "-m", "srfgan_cli", "finetune", "--preset", "mask_rcnn_r18_fpn_nn"]
    done = run([*command, "--devices", "2", "--launcher", "torchrun", "--batch-size", "3", *tiny()], tmp_path)
    assert done.returncode == 2 and "cannot be divided" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [("gpu03", "gpu03"), ("gpu[03-05,9],cpu1", "gpu03"), ("a-1,a-2", "a-1"), ("rack2n[7,9]x", "rack2n7x")],
)
def test_slurm_variables_become_torch_distributed_ones(nodelist, host):
    variables = slurm_environment(
        {
            "SLURM_PROCID": "3",
            "SLURM_NTASKS": "8",
            "SLURM_LOCALID": "1",
            "SLURM_JOB_ID": "41234",
            "SLURM_STEP_NODELIST": nodelist,
        }
    )
    assert variables == {
        "RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": host,
        "MASTER_PORT": "21234",
    }


def test_slurm_starts_its_processes_without_torchrun(tmp_path, tiny):
    """Two tasks as `srun` would start them, each with SLURM's variables only."""
    command = ["finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--devices", "cpu", "--launcher", "slurm"]
    options = ["--iterations", "1", "--batch-size", "2", *tiny()]
    job = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost"}
    ranks = [{"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in (0, 1)]
    tasks = [start(COMMAND, [*command, *options], tmp_path, **job, **rank) for rank in ranks]
    ends = [task.ended() for task in tasks]
    assert [code for code, _ in ends] == [0, 0], ends
    assert (tmp_path / "runs/finetune/mask_rcnn_r18_fpn_nn/model.pt").is_file()


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, .* but there is no RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "but there is no MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "1", "RANK": "x"}, "RANK is 'x', which is no number"),
        ({"LOCAL_RANK": "²"}, "LOCAL_RANK is '²'"),
        ({"RANK": "0"}, None),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None),
    ],
)
def test_variables_that_another_job_has_left_are_told_of(left, said, monkeypatch):
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    if said is None:
        assert launch(Devices("cpu", 1), "auto") is None
        return
    with pytest.raises(InputError, match=said):
        launch(Devices("cpu", 1), "auto")
