"""`models` by its short name: in a checkout `from models import ...` means `srfgan.models`, module for module.

Python would otherwise load each file a second time under the short name: two classes of each name, which are not equal.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


def stand_for_models() -> None:
    """Let `models`, which is being imported, and all modules under it be those of `srfgan.models`."""
    sys.meta_path.insert(0, _ShortName())
    sys.modules["models"] = import_module("srfgan.models")


class _ShortName(MetaPathFinder, Loader):
    """Finds `models.x` as `srfgan.models.x`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith("models.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(f"srfgan.{spec.name}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module has run under its own name; only its spec, which the import has replaced, is put back."""
        spec = module.__spec__
        assert spec is not None
        module.__spec__ = spec.loader_state
