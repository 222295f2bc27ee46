"""With which config and files an unfinished run can go on."""

import json
from pathlib import Path

import pytest

from srfgan.models.errors import InputError
from srfgan_cli.presets import load_preset
from srfgan_cli.reproduction.jobs import JobFolder
from srfgan_cli.runs.folder import Run, logged

DATA = {"train": (Path("train.json"), "3f"), "val": (Path("val.json"), "a0")}


@pytest.mark.parametrize(
    ("began", "now", "changed"),
    [
        ([], ["data.workers=0", "finetune.solver.log_every=7"], None),
        ([], ["finetune.solver.lr=0.5"], r"finetune\.solver\.lr: 0\.02 -> 0\.5\."),
        (["finetune.self_training={ratio: 2.0}"], [], r".*self_training\.ratio: 2\.0 -> None"),
        ([], ["finetune.self_training={ratio: 2.0}"], r".*self_training\.ratio: None -> 2\.0"),
    ],
)
def test_a_run_goes_on_with_its_own_config_only(tmp_path, began, now, changed):
    run = Run(tmp_path / "run")
    run.begin(load_preset("mask_rcnn_r50_fpn_nn", began), {}, DATA)
    config = load_preset("mask_rcnn_r50_fpn_nn", now)
    if changed is None:
        run.check_same(config)
        return
    with pytest.raises(InputError, match=f"was started with another config. Changed: {changed}"):
        run.check_same(config)


def test_a_run_that_does_not_say_how_it_was_started_does_not_go_on(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(InputError, match=r"--resume: .*config\.yaml is not there any more"):
        run.check_same(load_preset("mask_rcnn_r50_fpn_nn"))
    run.config.touch()
    for read in (
        run.begun_config,
        lambda: JobFolder(tmp_path).began,
    ):  # not the config of no keys, all defaults
        run.checkpoint.touch()
        with pytest.raises(
            InputError, match=r"^[^ ]*config\.yaml is empty, which says how the run was started\."
        ):
            read()


def test_what_only_has_the_names_of_a_runs_files_is_not_replaced(tmp_path):
    """As a project's own: a new run would move it aside and remove it with its first checkpoint."""
    run, config = Run(tmp_path), load_preset("mask_rcnn_r18_fpn_nn")
    (tmp_path / "training").mkdir()
    run.config.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"holds config\.yaml, training, but no run that has left it"):
            run.check_free(resume=False, overwrite=overwrite)
    run.config.unlink()
    (tmp_path / "training").rmdir()
    run.begin(config, {}, DATA)
    run.config.unlink()  # as if it had been killed between its first two files
    run.check_free(resume=False, overwrite=False)


def test_results_of_a_run_that_is_replaced_go_with_it(tmp_path):
    """Those of TTA and of detectors that score their masks stood beside the new run's as if they were its own."""
    run, config = Run(tmp_path / "run"), load_preset("mask_rcnn_r18_fpn_nn")
    names = ("results.json", "results_tta.json", "segm/results.json", "segm/results_tta.json")
    run.begin(config, {}, DATA)
    (run.folder / "segm").mkdir()
    for path in (run.checkpoint, *(run.folder / name for name in names)):
        path.write_text("old")
    run.begin(config, {}, DATA)
    assert not any((run.folder / name).exists() for name in (*names, "segm"))
    run.bring_back()
    assert all((run.folder / name).read_text() == "old" for name in names)
    run.clear()
    assert not list(run.folder.iterdir())


def test_a_run_goes_on_with_the_content_of_its_own_files_only(tmp_path):
    guide, moved, other = (tmp_path / name for name in ("guide.pt", "moved.pt", "other.pt"))
    for path, content in ((guide, b"first"), (moved, b"first"), (other, b"other")):
        path.write_bytes(content)
    run = Run(tmp_path / "run")
    run.begin(load_preset("mask_rcnn_r18_fpn"), {"guide": guide}, DATA)
    run.check_sources({"guide": guide})
    run.check_sources({"guide": moved})
    guide.write_bytes(b"new!!")  # of the same name and size
    for files, changed in (
        ({"guide": guide}, rf"guide: {guide} \(sha256 a7937b64\) -> {guide} \(sha256 \w+\)\."),
        ({"guide": other}, rf"guide: {guide} .* -> {other} .*\)\."),
        ({"extractor": moved}, rf"extractor: none -> {moved} \(sha256 a7937b64\)\."),
    ):
        with pytest.raises(InputError, match=f"was started from other files than these. Changed: {changed}"):
            run.check_sources(files)
    run.sources.unlink()
    run.check_sources({"guide": other})  # a run of a version that kept no record goes on


@pytest.mark.parametrize(
    "line", ['{"iteration": 1e400}', '{"iteration": "x"}', "[]", "null", '{"iterat', "\xff"]
)
def test_a_log_is_read_without_its_damaged_lines(tmp_path, line):
    run = Run(tmp_path)
    run.metrics.write_text(f'{{"iteration": 2, "lr": 1}}\n{line}\n', encoding="latin-1")
    assert logged(run.metrics) == [{"iteration": 2, "lr": 1}] and JobFolder(tmp_path).last_iteration == 2


@pytest.mark.parametrize("content", ["", "[1]", "7", '{"data": [1]}', '{"guide": "a"}', "[" * 100_000])
def test_a_damaged_record_is_named(tmp_path, content):
    run = Run(tmp_path / "run")
    run.begin(load_preset("mask_rcnn_r18_fpn"), {}, DATA)
    run.sources.write_text(content)
    with pytest.raises(InputError, match=r"sources\.json is damaged\. --overwrite starts the run anew"):
        run.check_data(DATA)


def test_a_run_goes_on_with_the_data_of_its_own_splits_only(tmp_path):
    run = Run(tmp_path / "run")
    run.begin(load_preset("mask_rcnn_r50_fpn_nn"), {}, DATA)
    run.check_data(DATA | {"val": (Path("moved.json"), "a0")})
    for split in DATA:
        with pytest.raises(InputError, match=f"started with other {split} data than new.json is now"):
            run.check_data(DATA | {split: (Path("new.json"), "00")})
    begun = json.loads(run.sources.read_text())
    del begun["val"]  # as a version that kept no record of it began
    run.sources.write_text(json.dumps(begun))
    run.check_data(DATA | {"val": (Path("new.json"), "00")})
