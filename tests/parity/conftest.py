"""Every test here runs over case folders: the ones in `data`, or those in a folder of one's own.

    pytest tests/parity --cases DIR          # DIR holds case folders (spec.json, golden.npz), or is one

At the end stand each case's largest errors.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import parity_cases
import pytest
import torch
from parity_cases import ParityCase, write_afi_pth, write_detectron2_pkl
from parity_configs import kind_of_case

DATA = Path(__file__).parent / "data"
SLOW = {
    "afi_cascade_mask_rcnn_s101_fpn",
    "afi_cascade_mask_rcnn_s101_pafpn",
    "afi_cascade_mask_rcnn_swin_bifpn",
    "afi_cascade_mask_rcnn_swint_bifpn",
    "backbone_swin_l",
    "d2_faster_rcnn_r50_fpn",
}
"""Of `data`."""
DRAWN = ("kaiming_normal_", "kaiming_uniform_", "normal_", "trunc_normal_", "uniform_", "xavier_uniform_")
"""What draws weights, in torch.nn.init."""
COLUMNS = (*parity_cases.TOLERANCES, "ties")


def case_folders(config: pytest.Config) -> list[Path]:
    """The folders of all cases of this run."""
    given = config.getoption("--cases")
    if given is None:
        return sorted(path.parent for path in DATA.glob("*/spec.json"))
    folder = Path(given)
    found = (
        [folder] if (folder / "spec.json").is_file() else sorted(p.parent for p in folder.glob("*/spec.json"))
    )
    if not found:
        raise pytest.UsageError(f"--cases {given}: no case there (a folder with spec.json and golden.npz)")
    return found


def kind(folder: Path) -> str:
    """The kind of a case, by what its files say."""
    try:
        with np.load(folder / "golden.npz") as arrays:
            return kind_of_case(ParityCase(folder).spec, set(arrays.files))
    except (OSError, ValueError, KeyError) as error:
        raise pytest.UsageError(f"{folder}: not a parity case: {error!r}") from None


def pytest_generate_tests(metafunc):
    """A module's `KINDS` says which cases its tests are about."""
    if "case_folder" not in metafunc.fixturenames:
        return
    own = metafunc.config.getoption("--cases") is None
    folders = [folder for folder in case_folders(metafunc.config) if kind(folder) in metafunc.module.KINDS]
    parameters = [
        pytest.param(path, id=path.name, marks=pytest.mark.slow if own and path.name in SLOW else ())
        for path in folders
    ]
    metafunc.parametrize("case_folder", parameters, scope="module")


@pytest.fixture(scope="module", autouse=True)
def nothing_is_drawn():
    """Weights are no number until a case's are loaded: quicker than drawing them, and one left out is seen."""

    def spoil(tensor: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return tensor.detach().fill_(torch.nan)

    with pytest.MonkeyPatch.context() as patch:
        for name in DRAWN:
            patch.setattr(torch.nn.init, name, spoil)
        yield


@pytest.fixture(scope="module")
def load_case():
    """Build nothing: read a case of `data` by name."""
    return lambda name: ParityCase(DATA / name)


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    """Write a case's weights in its reference's format; the file is removed with the module's tests."""
    paths = []

    def write(case: ParityCase) -> Path:
        folder = tmp_path_factory.mktemp(case.name)
        if "detectron2" in case.spec["source"]["repository"]:
            paths.append(write_detectron2_pkl(case.weights(), folder / "model_final.pkl"))
        else:
            paths.append(write_afi_pth(case.weights(), folder / "model_final.pth"))
        return paths[-1]

    yield write
    for path in paths:
        path.unlink()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """What a test has measured goes with its report, also from another process."""
    parity_cases.measured.clear()
    try:
        return (yield)
    finally:
        item.user_properties += [("parity", list(found)) for found in parity_cases.measured]


def pytest_terminal_summary(terminalreporter):
    """Each case's largest errors."""
    largest: dict[str, dict[str, tuple[float, str]]] = defaultdict(dict)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, found in report.user_properties:
                if name == "parity":
                    case, what, where, error = found
                    largest[case][what] = max(largest[case].get(what, (-1.0, "")), (error, where))
    if not largest:
        return
    terminalreporter.section(
        "parity: each case's largest errors (boxes in pixels, ties counted, the rest relative)"
    )
    for case, errors in sorted(largest.items()):
        shown = [f"{what} {_number(*errors[what])}" for what in COLUMNS if what in errors]
        terminalreporter.write_line(f"{case}: {'; '.join(shown)}")


def _number(error: float, where: str) -> str:
    return f"{error:.1e} ({where})" if error != int(error) or not error else f"{error:.0f} ({where})"
