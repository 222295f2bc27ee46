"""What a shell offers after Tab (`srfgan --install-completion`): presets, runs, and files as ever."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from srfgan import PRESETS_DIR


def presets(incomplete: str) -> list[str]:
    """Shipped presets, and YAML files."""
    files = (path for path in PRESETS_DIR.rglob("*.yaml") if not path.parent.name.startswith("_"))
    return [*_beginning(incomplete, (path.stem for path in files)), *_files(incomplete, (".yaml", ".yml"))]


def weights(incomplete: str) -> list[str]:
    """Finished runs below `runs/`, `published`, and files of weights."""
    runs = (str(path.parent) for path in Path("runs").glob("**/model.pt"))
    files = _files(incomplete, (".pt", ".pth", ".pkl", ".safetensors", ".onnx", ".xml"))
    return list(dict.fromkeys([*_beginning(incomplete, [*runs, "published"]), *files]))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _files(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Folders and files that the path so far can become."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    try:
        found = [path for path in folder.iterdir() if path.is_dir() or path.suffix in suffixes]
    except OSError:
        return []
    return _beginning(incomplete, (f"{path}/" if path.is_dir() else str(path) for path in found))
