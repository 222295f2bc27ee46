"""The README's Python runs as it stands, and its tables of what exists are whole.

Run as a program (`make readme`), this writes README's table of upsamplers.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest
from torchvision.transforms.v2.functional import to_pil_image

from srfgan.models.config import DETECTORS, BackboneName, NeckName
from srfgan.models.upsamplers import UPSAMPLERS
from srfgan_cli.data.shapes import example_image
from srfgan_cli.presets.tables import load_tables

README = Path(__file__).parents[1] / "README.md"
WHAT_EXISTS = {
    "detectors": list(DETECTORS),
    "necks": get_args(NeckName),
    "backbones": get_args(BackboneName),
    "tables": tuple(load_tables()),
}
MADE = re.compile(r"(?<=<!-- upsamplers, by `make readme` -->\n).*?(?=<!-- end -->)", re.DOTALL)
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)

STRICT = """
import warnings

warnings.filterwarnings("error", category=DeprecationWarning, module="srfgan")
"""


def test_there_are_examples():
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("what", WHAT_EXISTS)
def test_the_table_names_all_that_exists(what):
    (cells,) = re.findall(rf"^\| {what} \|(.*)\|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", cells)) == set(WHAT_EXISTS[what])


def table_of_upsamplers():
    """The names, and what their classes say of themselves in one line."""
    lines = ["| upsampler | |", "|---|---|"]
    for name, made_by in UPSAMPLERS.items():
        module, kind = made_by.split(":")
        made = getattr(import_module(f"srfgan.models.upsamplers.{module}"), kind)
        guided = ", guided" if getattr(made, "guided", False) else ""
        lines.append(f"| `{name}`{guided} | {made.__doc__.splitlines()[0]} |")
    return "\n".join([*lines, ""])


def test_the_table_of_upsamplers_is_the_codes():
    assert MADE.findall(README.read_text(encoding="utf-8")) == [table_of_upsamplers()], "run make readme"


@pytest.mark.command
@pytest.mark.parametrize("code", BLOCKS)
def test_python_example_runs(code, tmp_path):
    """In a process and a folder of its own, as a reader would run it who has trained a detector."""
    from forked import start  # not where this runs as a program
    from trained_runs import save_run

    save_run(tmp_path / "runs" / "finetune" / "mask_rcnn_r18_fpn")
    for name in ("a.jpg", "b.jpg"):
        to_pil_image(example_image(64)).save(tmp_path / name)
    ended, said = start(f"{STRICT}\n{code}", None, tmp_path).ended()
    assert ended == 0, said


if __name__ == "__main__":
    README.write_text(MADE.sub(lambda _: table_of_upsamplers(), README.read_text("utf-8")), "utf-8")
