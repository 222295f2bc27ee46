"""A run's folder as a training leaves it, of a small detector with random weights."""

from pathlib import Path

from small_runs import preset, small_detector

from srfgan_cli.data.categories import CategoryMap
from srfgan_cli.training.checkpoint import save_checkpoint

NAMES = CategoryMap((2, 5, 9), ("cat", "größe", "a/b"))
TEST_SIZE = ["data.test_short_side=96", "data.test_max_side=160"]


def save_run(
    folder: Path, *more: str, file: str = "model.pt", iteration: int | None = None, stage: str = "finetune"
) -> Path:
    """`folder/model.pt`, or another file, with config and categories."""
    config = preset(*TEST_SIZE, *more)
    model = config.model.scaled(config.extract.anchor_scale) if stage == "extract" else config.model
    header = {"stage": stage, "config": config.model_dump(), "model": model.model_dump()}
    weights = {"detector": small_detector(*TEST_SIZE, *more).state_dict()}
    folder.mkdir(parents=True, exist_ok=True)
    said = header | {"iteration": iteration, "categories": NAMES.to_records()}
    save_checkpoint(folder / file, said | {"modules": weights})
    return folder
