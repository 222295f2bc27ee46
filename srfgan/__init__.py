"""The installed package: `srfgan.models`, every network, `srfgan/presets`, the recipes, and what uses a trained one.

    from srfgan import load_detector
    found = load_detector("runs/finetune/mine").predict(["a.jpg"], score_threshold=0.5)

In a checkout `models/` and `presets/` lie beside this folder. Links in it stand for them, for editors and type
checkers; Python itself looks beside, so that a checkout without links works too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srfgan_cli.prediction.load import load_detector

__all__ = ["PRESETS_DIR", "__version__", "load_detector"]
__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
if (_HERE / "models").is_symlink() or not (_HERE / "models").is_dir():
    __path__.insert(0, str(_HERE.parent))

# The folder of preset files.
PRESETS_DIR = Path(__path__[0]).resolve() / "presets"


def __getattr__(name: str) -> Any:
    if name != "load_detector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from srfgan_cli.prediction.load import load_detector  # on first use: it imports torch

    return load_detector
