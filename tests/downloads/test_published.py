"""`published` on the command line: the cache, its hashes, and the authors' files through every command."""

import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from srfgan.models import build_detector
from srfgan.models.errors import InputError
from srfgan.models.weights import read_checkpoint
from srfgan.models.weights.names import to_detectron2
from srfgan_cli.downloads.cache import fetch
from srfgan_cli.downloads.places import cached_path, weights_folder
from srfgan_cli.presets import load_preset
from srfgan_cli.runs.plan import make_plan
from srfgan_cli.screen.options import TrainOptions

URL = "http://docs.google.com/uc?export=download&id=big"
OWN = """base: mask_rcnn_r18_fpn
model: {neck: {upsampler: afi}}
rows: [mine/first, theirs/first, mine/second]
"""
TABLES = """
mine:
  {document: mine, split: val2017, about: "", common: {detector: mask_rcnn, backbone: r18, neck: fpn}, rows: {
    first: {box: {AP: 11.0}},
    second: {box: {AP: 13.0}, weights: "http://docs.google.com/uc?export=download&id=never"}}}
theirs:
  {document: theirs, split: test-dev, about: "", common: {detector: mask_rcnn, backbone: r18, neck: fpn}, rows: {
    first: {box: {AP: 42.0}, weights: "http://docs.google.com/uc?export=download&id=big"}}}
"""


def authors_file(config, **changes):
    """A checkpoint as detectron2's trainer writes it, in the authors' naming, with a rest of the GAN's training."""
    state = build_detector(config.model).state_dict()
    weights = {to_detectron2(name): value for name, value in state.items()} | changes
    weights = {name: value for name, value in weights.items() if value is not None}
    weights["backbone.srf_module.Discriminators.0.0.0.weight"] = torch.zeros(8, 16, 3, 3)
    buffer = io.BytesIO()
    torch.save({"model": weights, "optimizer": {"state": {}}, "iteration": 89_999}, buffer)
    return buffer.getvalue()


@pytest.fixture
def own(web, tiny, tmp_path, more_tables):
    """A preset of the user's own, and its published file on the server."""
    more_tables(TABLES)
    (tmp_path / "own.yaml").write_text(OWN)
    config = load_preset(tmp_path / "own.yaml", [*tiny()[1::2], "model.num_classes=6"])
    web.content = authors_file(config)
    return config


@pytest.fixture
def command(srfgan, tiny, own):
    def call(name, *more):
        return srfgan(*name.split(), "--preset", "own.yaml", *tiny("model.num_classes=6"), *more)

    return call


def test_the_cache_follows_torch_hub(monkeypatch, torch_home):
    assert weights_folder() == torch_home / "hub" / "checkpoints" / "srfgan"
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert weights_folder() == Path("/elsewhere/torch/hub/checkpoints/srfgan")


def test_a_file_is_fetched_once_and_known_by_its_hash(own, web, capsys):
    path = fetch(URL, read_checkpoint)
    digest = hashlib.sha256(web.content).hexdigest()
    assert path == cached_path(URL) and path.read_bytes() == web.content
    record = path.with_name(f"{path.name}.sha256")
    assert record.read_text() == f"{digest}  {path.name}\n"
    said = capsys.readouterr()
    assert said.out == "" and digest in said.err.replace("\n", "")
    asked = len(web.requests)
    assert fetch(URL, read_checkpoint) == path and len(web.requests) == asked

    path.write_bytes(web.content[:-1] + b"?")
    other = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=rf"(?s)is not the file that came from .*{other}, .* says {digest}"):
        fetch(URL, read_checkpoint)
    path.unlink()
    web.content = authors_file(own)
    with pytest.raises(InputError, match=rf"(?s)gives another file now: .*{digest}\. Delete .*\.sha256"):
        fetch(URL, read_checkpoint)
    assert not path.exists()
    record.unlink()
    assert fetch(URL, read_checkpoint).read_bytes() == web.content
    assert {file.suffix for file in path.parent.iterdir()} <= {".pth", ".sha256", ".lock"}
    assert not list(path.parent.glob("*.part*"))


def test_of_several_at_once_one_fetches(own, web):
    """As the processes of a SLURM run do, which start by themselves."""
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(URL, read_checkpoint), range(4)))
    assert len(set(paths)) == 1 and len(web.requests) == 3


@pytest.mark.parametrize("length", [True, False])
def test_what_is_no_checkpoint_is_not_kept(length, own, web):
    """Half a file that the server calls whole, or of unknown length: only reading it tells."""
    web.content, web.length = web.content[: len(web.content) // 2], length
    with pytest.raises(
        InputError, match=r"(?s)gave no checkpoint\. Fetch it by hand.*cannot be read as weights"
    ):
        fetch(URL, read_checkpoint)
    assert not [file for file in weights_folder().iterdir() if file.suffix != ".lock"]


def test_evaluation_of_published_weights(command, web):
    """Fetched, converted, scored, beside the row whose weights they are; the second time from the cache."""
    web.cut_after = [10_000]
    done = command("eval", "--weights", "published", "--json", "--devices", "cpu")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["images"] == 4 and report["reference"]["box"] == {"AP": 42.0}
    assert report["results"] == "runs/published/own/results.json"
    assert "1 in the file, not in this model: backbone.srf_module.Discriminators.0.0.0.weight" in done.err
    asked = len(web.requests)
    by_path = command(
        "eval", "--weights", cached_path(URL), "--json", "--devices", "cpu", "--output-dir", "out"
    )
    again = json.loads(by_path.out)
    assert again["box"] == report["box"] and again["reference"]["box"] == {"AP": 11.0}
    assert Path("out/results.json").read_bytes() == Path("runs/published/own/results.json").read_bytes()
    assert len(web.requests) == asked


def test_a_published_file_that_misses_a_parameter_is_refused(command, own, web):
    web.content = authors_file(own, **{"proposal_generator.rpn_head.conv.bias": None})
    done = command("eval", "--weights", "published", "--devices", "cpu")
    assert done.code == 2 and "1 not in the file, left as they were: head.rpn.conv.bias" in done.err
    assert not Path("runs").exists()


def test_pictures_and_training_from_published_weights(command, srfgan, web):
    size = ["--devices", "cpu", "--iterations", 1, "--batch-size", 1]
    drawn = command("visualize detections", "--weights", "published", "--output", "a.png", "--devices", "cpu")
    assert drawn.code == 0 and Path("a.png").is_file(), drawn.err
    trained = command("finetune", "--weights", "published", "--set", "finetune.reuse=none", *size)
    assert trained.code == 0 and "not in this model" in trained.err, trained.err
    reused = command(
        "finetune", "--generator", "published", "--set", "finetune.reuse=G", "--overwrite", *size
    )
    assert reused.code == 0, reused.err
    guide = command("pretrain", "--guide", "published", *size)
    assert guide.code == 2 and "Unknown preset 'own_nn'" in guide.err
    assert len({request[2] for request in web.requests}) == 3, "one download serves all"


@pytest.mark.slow
def test_export_of_published_weights(command):
    plain = ["model.neck.upsampler=nn", "model.inference.score_threshold=0.0"]  # traced in seconds
    overrides = [part for override in plain for part in ("--set", override)]
    done = command("export", "--weights", "published", "--format", "pt2", "--json", *overrides)
    assert done.code == 0, done.err
    assert json.loads(done.out)["output"] == "runs/published/own/model.pt2"


def test_a_dry_run_fetches_nothing(web, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = TrainOptions(
        "extract", "cascade_s101_pafpn", guide=Path("published"), weights=Path("published")
    )
    options = TrainOptions(**{**vars(options), "dry_run": True})
    plan = make_plan(options)
    nn, srf = load_preset("cascade_s101_pafpn_nn"), load_preset("cascade_s101_pafpn")
    assert plan.guide == cached_path(nn.references[0].weights)
    assert plan.weights == cached_path(srf.references[0].weights)
    taught = {"stage": "finetune", "unlabeled": tmp_path, "teacher": Path("published")}
    assert make_plan(TrainOptions(**{**vars(options), **taught})).teacher == plan.weights
    assert web.requests == []


def test_offline_names_the_address_and_the_file_to_put_there(command, web, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    done = command("eval", "--weights", "published", "--devices", "cpu")
    path = cached_path(URL)
    said = " ".join(done.err.split())
    assert done.code == 2 and f"{URL} cannot be reached" in said and f"put it to {path}." in said
    path.write_bytes(web.content)
    assert command("eval", "--weights", "published", "--devices", "cpu").code == 0


def test_detectron2s_own_guide():
    """The published configurations' F, and the one of 12 epochs, by the guide's own row."""
    for preset, file in (
        ("mask_rcnn_r50_fpn_afi", "model_final_f10217"),
        ("mask_rcnn_r50_fpn", "model_final_a54504"),
    ):
        options = TrainOptions(
            **{**vars(TrainOptions("pretrain", preset, guide=Path("published"))), "dry_run": True}
        )
        path = make_plan(options).guide
        assert path.name.startswith(file) and path.suffix == ".pkl"


def test_a_preset_without_published_weights_names_those_that_have(srfgan):
    done = srfgan("eval", "--preset", "mask_rcnn_r18_fpn", "--dataset", "shapes", "--weights", "published")
    assert done.code == 2 and "no weights for preset 'mask_rcnn_r18_fpn'" in done.err
    assert "cascade_s101_pafpn, cascade_s101_pafpn_nn" in done.err
    assert "--preset" in srfgan("visualize", "detections", "--weights", "published").err


def test_presets_show_says_where_they_are(srfgan, own):
    assert f"# published weights: {URL} (not fetched yet)" in srfgan("presets", "show", "own.yaml").out
    path = fetch(URL, read_checkpoint)
    assert f"# published weights: {URL} ({path})" in srfgan("presets", "show", "own.yaml").out
    assert "# published weights: none" in srfgan("presets", "show", "mask_rcnn_r18_fpn").out
