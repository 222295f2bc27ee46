"""A shared folder holds the whole detector; `hf://` fetches it, here from a server of the test's own."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants as hub_constants
import pytest
import safetensors.torch
import torch
from trained_runs import save_run

from srfgan import load_detector
from srfgan.models.errors import InputError
from srfgan.models.weights import read_checkpoint
from srfgan_cli.data.shapes import example_image
from srfgan_cli.presets import load_preset

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def picture():
    return example_image(96)


@pytest.fixture
def run(tmp_path):
    folder = save_run(tmp_path / "run")
    (folder / "evaluation.json").write_text(
        json.dumps({"split": "val", "images": 7, "box": {"AP": 12.34, "AP50": 30.0}, "mask": {"AP": 10.0}})
    )
    return folder


@pytest.fixture
def shared(srfgan, run, tmp_path):
    done = srfgan("export", "--weights", run, "--format", "hub", "--output", "shared", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["files"] == ["model.safetensors", "config.yaml", "README.md"]
    return tmp_path / "shared"


@pytest.fixture
def hub(shared, tmp_path, monkeypatch):
    """A server that has the folder as the model `me/mine`."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            parts = self.path.split("?")[0].strip("/").split("/")
            file = shared / "/".join(parts[4:])
            known = parts[:3] == ["me", "mine", "resolve"] and file.is_file() and parts[3] in ("main", COMMIT)
            body = file.read_bytes() if known else b"no"
            self.send_response(200 if known else 404)
            if not known:
                code = "EntryNotFound" if parts[:2] == ["me", "mine"] else "RepoNotFound"
                self.send_header("X-Error-Code", code)
            self.send_header("ETag", '"abc"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub_constants, "ENDPOINT", address)
    monkeypatch.setattr(
        hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()


def test_damaged_scores_are_not_said_to_be_none(srfgan, run):
    (run / "evaluation.json").write_text('{"split": "va')
    done = srfgan("export", "--weights", run, "--format", "hub", "--output", "shared")
    assert done.code == 2 and "evaluation.json is damaged" in done.err and not Path("shared").exists()


def test_the_folder_is_the_detector(srfgan, run, shared, picture, tmp_path):
    ours, theirs = read_checkpoint(run / "model.pt"), read_checkpoint(shared / "model.safetensors")
    assert theirs.categories == ours.categories and theirs.model == ours.model
    assert all(torch.equal(value, ours.tensors[name]) for name, value in theirs.tensors.items())
    one, other = (load_detector(place).predict(picture, score_threshold=0)[0] for place in (run, shared))
    assert torch.equal(one.boxes, other.boxes) and one.names == other.names and len(one.boxes)

    card = (shared / "README.md").read_text()
    assert (
        card.startswith("---\nlibrary_name: srfgan\n")
        and "| box | 12.3 | 30.0 |" in card
        and "7 images" in card
    )
    upsampler = load_preset(shared / "config.yaml").model.neck.upsampler
    again = "finetune" if upsampler == "nn" else "fit"
    assert f"`srfgan {again} --preset config.yaml" in card, "a plain detector is no method to fit"
    (shared / "README.md").write_text("my own words")
    again = srfgan("export", "--weights", shared, "--format", "hub", "--output", shared)
    assert again.code == 0, again.err
    assert (shared / "README.md").read_text() == "my own words", "a card written by hand stays"


def test_an_extractor_is_shared_as_what_it_is(srfgan, picture, tmp_path):
    """Its card told of stage 3's schedule, and the file lost how far the training was."""
    schedule = "{iterations: 850, batch_size: 3, milestones: [], warmup_iterations: 0}"
    run = save_run(tmp_path / "run", f"extract.solver={schedule}", iteration=300, stage="extract")
    for source, output in ((run, "shared"), ("shared", "again")):
        done = srfgan("export", "--weights", source, "--format", "hub", "--output", output)
        assert done.code == 0 and "knows its own model" not in done.err, done.err
        ours, theirs = (
            read_checkpoint(file) for file in (run / "model.pt", Path(output, "model.safetensors"))
        )
        assert (theirs.stage, theirs.iteration, theirs.model) == ("extract", 300, ours.model)
        assert load_preset(Path(output, "config.yaml")).model.model_dump() == ours.config["model"]
        card = Path(output, "README.md").read_text()
        assert "- 300 iterations of the 850 that were planned, 3 images each" in card and "extractor" in card
    assert len(load_detector("again").predict(picture, score_threshold=0)[0].boxes)


def test_where_the_data_lies_is_not_shared(srfgan, tmp_path):
    named = "{annotations: /home/me/mine.json, images: /home/me/mine}"
    run = save_run(tmp_path / "run", f"data.train={named}", f"data.val={named}")
    assert srfgan("export", "--weights", run, "--format", "hub", "--output", "shared").code == 0
    assert load_preset(tmp_path / "shared" / "config.yaml").data.train is None
    assert not any(b"/home/me" in file.read_bytes() for file in (tmp_path / "shared").iterdir())


def test_a_card_has_the_scores_of_its_own_weights(srfgan, run, tmp_path):
    """`evaluation.json` is of the last weights, and another evaluation was the best's."""
    save_run(run, iteration=4, file="best.pt")
    shutil.copy(run / "best.pt", run / "mine.pt")
    logged = [
        {"iteration": at, "evaluation": {"box": {"AP": ap, "AR@1": 9, "AR@300": 50}}}
        for at, ap in ((4, 77), (8, 12))
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, logged)))

    def card(name):
        done = srfgan("export", "--weights", run / name, "--format", "hub", "--output", name)
        assert done.code == 0, done.err
        return (tmp_path / name / "README.md").read_text()

    best = card("best.pt")
    assert "| box | 77.0 |" in best and "| AR@300 |" in best and "7 images" in best and "12.3" not in best
    assert " that were planned, " in best.partition("- 4 iterations of the ")[2]
    assert "Not scored" in card("mine.pt"), "nothing says what these are"


def test_a_model_on_the_hub(srfgan, run, hub, picture):
    for address in ("hf://me/mine", f"hf://me/mine@{COMMIT}"):
        found = load_detector(address).predict(picture, score_threshold=0)[0]
        assert torch.equal(found.boxes, load_detector(run).predict(picture, score_threshold=0)[0].boxes)
    planned = srfgan("finetune", "--preset", "mask_rcnn_r18_fpn_nn", "--weights", "hf://me/mine", "--dry-run")
    assert planned.code == 0, planned.err
    for address, told in (
        ("hf://me/other", "no such model"),
        ("hf://me", "hf://OWNER/NAME"),
        ("hf://me/mine@nowhere", "model.safetensors"),
    ):
        refused = srfgan("eval", "--weights", address, "--dataset", "shapes")
        assert refused.code == 2 and told in refused.err, refused.err


def test_what_is_no_shared_detector(srfgan, run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no model\.pt and no model\.safetensors"):
        load_detector(tmp_path / "empty")
    for said in ("[1]", '{"modules": 1}', "{", '{"stage": 3}'):
        damaged = tmp_path / "damaged.safetensors"
        safetensors.torch.save_file({"a": torch.zeros(1)}, damaged, {"srfgan": said})
        refused = srfgan("eval", "--weights", damaged, "--dataset", "shapes")
        assert refused.code == 2 and "damaged.safetensors" in refused.err and "Traceback" not in refused.err
    kept = read_checkpoint(run / "model.pt")
    said = {
        "stage": "finetune",
        "config": kept.config,
        "model": kept.model,
        "categories": kept.categories[:1],
    }
    tensors = {name: value.contiguous() for name, value in kept.tensors.items()}
    safetensors.torch.save_file(tensors, damaged, {"srfgan": json.dumps(said)})
    with pytest.raises(InputError, match=r"names 1 categories \(.*\), but is a detector of \d"):
        load_detector(damaged)
    (tmp_path / "taken").touch()
    taken = srfgan("export", "--weights", run, "--format", "hub", "--output", "taken")
    assert taken.code == 2 and "is a file" in taken.err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("mine")
    taken = srfgan("export", "--weights", run, "--format", "hub", "--output", "other")
    assert taken.code == 2 and "holds a config.yaml of something else" in taken.err
    theirs = tmp_path / "theirs" / "model.safetensors"
    theirs.parent.mkdir()
    safetensors.torch.save_file({"a": torch.zeros(1)}, theirs)
    before = theirs.read_bytes()
    taken = srfgan("export", "--weights", run, "--format", "hub", "--output", theirs.parent)
    assert taken.code == 2 and "model.safetensors that is not of srfgan" in taken.err
    assert theirs.read_bytes() == before and list(theirs.parent.iterdir()) == [theirs]
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["config.yaml"]
