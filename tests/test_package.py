"""What pip installs is a good neighbour, and a checkout knows `models` by its short name too."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.command
ROOT = Path(__file__).parents[1]
SHORT_NAME = """
import pickle

import models.necks.fpn
import srfgan.models.factory
from models.config import parse_model
from models.structures import Target

assert models is srfgan.models and models.necks.fpn is srfgan.models.necks.fpn
assert models.factory.build_detector is srfgan.models.build_detector is models.build_detector
assert models.necks.fpn.__spec__.name == models.necks.fpn.__name__ == "srfgan.models.necks.fpn"
assert Target is srfgan.models.Target and parse_model is srfgan.models.config.parse_model
assert pickle.loads(pickle.dumps(Target)) is Target
"""
INSTALLED = """
import srfgan.models.config
from srfgan_cli.presets import list_presets

srfgan.models.build_upsampler("bilinear", 8)
print(len(list_presets()))
"""


def run(code, folder, path):
    """What Python prints that finds packages in the folder `path` first; it runs without site's own `srfgan`."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_short_name_means_the_same_modules(tmp_path):
    run(SHORT_NAME, tmp_path, ROOT)


@pytest.mark.slow
def test_a_checkout_without_links_works(tmp_path):
    """Windows without its developer mode and zip archives have none."""
    checkout = tmp_path / "checkout"
    for name in ("models", "presets", "srfgan_cli"):
        shutil.copytree(ROOT / name, checkout / name)
    (checkout / "srfgan").mkdir()
    for file in (ROOT / "srfgan").glob("*.py"):
        shutil.copy(file, checkout / "srfgan")
    for name in ("models", "presets"):
        (checkout / "srfgan" / name).write_text(f"../{name}")  # what git writes there
    run(SHORT_NAME, tmp_path, checkout)
    assert int(run(INSTALLED, tmp_path, checkout)) > 100


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel of the checkout, and one of its source distribution."""
    folder = tmp_path_factory.mktemp("built")

    def build(source, kind):
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder / kind)]
        subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
        (made,) = (folder / kind).iterdir()
        return made.rename(folder / f"{source.name}-{made.name}")

    with tarfile.open(build(ROOT, "sdist")) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.glob("srfgan-*/")
    return build(ROOT, "wheel"), build(source, "wheel")


def test_one_package_and_the_command_are_installed(built):
    of_checkout, of_source = [set(zipfile.ZipFile(wheel).namelist()) for wheel in built]
    assert of_checkout == of_source
    assert {name.split("/")[0] for name in of_checkout} == {"srfgan", "srfgan_cli", "srfgan-0.1.0.dist-info"}
    files = {file for room in ("models", "presets") for file in (ROOT / room).rglob("*") if file.is_file()}
    shipped = {f"srfgan/{file.relative_to(ROOT)}" for file in files if "__pycache__" not in file.parts}
    assert shipped <= of_checkout
    assert not [name for name in of_checkout if name.endswith(".pyc")]


def test_the_lowest_versions_are_those_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["lite"] + extras["video"] + extras["export"]
    pinned = [line.split("==") for line in (ROOT / "constraints-lowest.txt").read_text().splitlines()[1:]]
    assert sorted(wanted) == sorted(f"{name}>={version.removesuffix('.*')}" for name, version in pinned)


def test_an_installed_copy_works_beside_foreign_folders_of_our_names(built, tmp_path):
    site, foreign = tmp_path / "site", tmp_path / "foreign"
    zipfile.ZipFile(built[0]).extractall(site)
    for name in ("models", "presets"):
        (foreign / name).mkdir(parents=True)
        (foreign / name / "__init__.py").write_text("raise SystemExit('a foreign folder was imported')")
    shutil.copytree(foreign, site, dirs_exist_ok=True)
    assert int(run(INSTALLED, foreign, site)) > 100
