"""The installed package: `srfgan.models`, every network, and `srfgan/presets`, the recipes.

In a checkout `models/` and `presets/` lie beside this folder. Links in it stand for them, for editors and type
checkers; Python itself looks beside, so that a checkout without links works too.
"""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

_HERE = Path(__file__).resolve().parent
if (_HERE / "models").is_symlink() or not (_HERE / "models").is_dir():
    __path__.insert(0, str(_HERE.parent))

# The folder of preset files.
PRESETS_DIR = Path(__path__[0]).resolve() / "presets"
