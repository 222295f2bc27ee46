"""With which config an unfinished run can go on."""

import pytest

from models.errors import InputError
from srfgan_cli.presets import load_preset
from srfgan_cli.runs import Run


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
    run.begin(load_preset("mask_rcnn_r50_fpn_nn", began), resume=False)
    config = load_preset("mask_rcnn_r50_fpn_nn", now)
    if changed is None:
        run.begin(config, resume=True)
        return
    with pytest.raises(InputError, match=f"was started with another config. Changed: {changed}"):
        run.begin(config, resume=True)
