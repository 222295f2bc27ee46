"""A small detector with masks, and a picture."""

import pytest
from trained_runs import save_run

from srfgan_cli.data.shapes import example_image


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("run") / "finetune" / "mine")


@pytest.fixture(scope="session")
def picture():
    """(3, 120, 150) uint8."""
    return example_image(150)[:, :120].contiguous()
