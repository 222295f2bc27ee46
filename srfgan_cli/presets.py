"""Presets: YAML files with inheritance, checked against the typed config.

A preset is a mapping of the shape of `srfgan_cli.config.Config`, plus `base`: the name of another preset
(or, in a user's own file, a path beside it), or a list of them, whose values it builds on. Mappings merge
key by key; everything else replaces. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from models.errors import InputError, kind_of
from srfgan_cli.config import Config
from srfgan_cli.console import visible

OWN = ("name", "description", "references")
"""What a row is called and reports belongs to that row alone: not inherited, not overlaid."""

# Beside this package in a checkout and in site-packages alike; importing `presets` by name could find a
# foreign folder of that name first.
PRESETS_DIR = Path(__file__).resolve().parent.parent / "presets"


def list_presets() -> list[str]:
    """Names of all shipped presets, sorted; what lies in `_base` and `_facts` is none."""
    return sorted(_preset_files())


def load_preset(name: str | Path, overrides: Iterable[str] = (), overlay: str | Path | None = None) -> Config:
    """Read a preset and check it.

    Args:
        name: a shipped preset's name, or the path of a YAML file (recognised by its suffix).
        overrides: `a.b=value` strings; the value is read as YAML.
        overlay: a preset's or base's name, or a YAML file, whose values replace the preset's own.

    Raises:
        InputError: no such preset or file, broken YAML, an unknown key, a value of a wrong type; or arguments of
            other types.
    """
    for given in (name, *([overlay] if overlay is not None else [])):
        if not isinstance(given, str | Path):
            raise InputError(f"a preset is a name or the path of a YAML file, not {kind_of(given)}")
    if isinstance(overrides, str | Mapping) or not isinstance(overrides, Iterable):
        raise InputError(f"overrides is {kind_of(overrides)}; give a list, as ['model.neck.upsampler=afi']")
    path = find_preset(name)
    values = _merged(path)
    if overlay is not None:
        above = _merged(_find_base(str(overlay), Path(overlay)))
        values = _merge(values, {key: value for key, value in above.items() if key not in OWN})
    return _build(values, overrides, path)


def find_preset(name: str | Path) -> Path:
    """The YAML file of a preset.

    Raises:
        InputError: there is none, with the closest names.
    """
    if str(name).endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"Preset file {path} does not exist.")
        return path
    files = _preset_files()
    if str(name) not in files:
        raise InputError(
            f"Unknown preset '{name}'.{_did_you_mean(str(name), files)} `srfgan presets list` shows them all."
        )
    return files[str(name)]


def flatten(config: BaseModel) -> dict[str, Any]:
    """A config as dotted keys and plain values, in the order of the schema."""
    return dict(_walk(config.model_dump(), ""))


def dump_yaml(config: Config, encoding: str = "utf-8") -> str:
    """The fully resolved config as YAML text that `load_preset` reads back to an equal config.

    Letters stand as they are, but where one of the text cannot be encoded or shown: then in YAML's own escapes.
    """
    values = config.model_dump(exclude_none=True)
    text = yaml.safe_dump(values, sort_keys=False, width=100, allow_unicode=True)
    if visible(text, encoding) == text:
        return text
    return yaml.safe_dump(values, sort_keys=False, width=100)


def _preset_files() -> dict[str, Path]:
    files = sorted(PRESETS_DIR.rglob("*.yaml"))
    return {path.stem: path for path in files if not path.parent.name.startswith("_")}


def _merged(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in above:
        chain = " -> ".join(p.stem for p in (*above, path))
        raise InputError(f"Preset inheritance runs in a circle: {chain}.")
    values = read_yaml(path)
    bases = values.pop("base", [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged = _merge(merged, _merged(_find_base(base, path), (*above, path)))
        for own in OWN:
            merged.pop(own, None)
    return _merge(merged, values)


def _find_base(base: str, path: Path) -> Path:
    candidates = [PRESETS_DIR / "_base" / f"{base}.yaml", path.parent / base]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    try:
        return find_preset(base)
    except InputError as error:
        raise InputError(f"{path}: base '{base}' not found. {error}") from None


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _build(values: dict[str, Any], overrides: Iterable[str], path: Path) -> Config:
    values.setdefault("name", path.stem)
    for override in overrides:
        if not isinstance(override, str):
            raise InputError(f"an override is a text, as 'model.neck.upsampler=afi', not {kind_of(override)}")
        _apply_override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_explain(error, path.stem)) from None


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise InputError(
            f"--set {override}: expected KEY=VALUE with a dotted key, as model.neck.upsampler=afi."
        )
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        raise InputError(f"--set {override}: the value is not valid YAML.") from None
    *parents, last = keys
    for depth, parent in enumerate(parents):
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {override}: '{'.'.join(keys[: depth + 1])}' is a value, not a section.")
    values[last] = value


class _Loader(yaml.SafeLoader):
    """YAML that reads `1e-4` as a number and refuses a key given twice."""


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.constructor.ConstructorError(
            None, None, f"key {sorted(map(str, twice))[0]!r} is given twice", node.start_mark
        )
    return loader.construct_mapping(node, deep=True)


def _number(loader: _Loader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    try:
        return float(text)
    except ValueError:
        return text


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)
_Loader.add_constructor("!exponent", _number)
_Loader.add_implicit_resolver(
    "!exponent", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty for an empty file.

    Raises:
        InputError: broken YAML, a key given twice, or no mapping.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise InputError(f"{path}{where}: not valid YAML: {problem}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"{path}: a preset is a mapping of keys to values, not a {type(values).__name__}.")
    return values


def _explain(error: ValidationError, preset: str) -> str:
    lines = [_explain_one(dict(item)) for item in error.errors()]
    return "\n".join(f"Preset '{preset}': {line}" for line in lines)


def _explain_one(item: dict[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    if item["type"] == "extra_forbidden":
        return f"unknown key '{key}'.{_did_you_mean(location[-1], _fields_at(location[:-1]))}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "literal_error":
        expected = item["ctx"]["expected"]
        options = [option.strip("'") for option in expected.replace(" or ", ", ").split(", ")]
        return (
            f"{key}: {item['input']!r} is not one of {expected}.{_did_you_mean(str(item['input']), options)}"
        )
    where = f"{key}: " if key else ""
    return f"{where}{message}" + ("" if "got" in message else f", got {item['input']!r}") + "."


def _fields_at(location: list[str]) -> list[str]:
    """Field names of the schema's section at `location`; empty where it has none."""
    section: Any = Config
    for part in location:
        if part.isdigit():
            continue
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        if field is None:
            return []
        section = field.annotation
        section = getattr(section, "__args__", [section])[0]
    return list(section.model_fields) if hasattr(section, "model_fields") else []


def _did_you_mean(name: str, options: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(options), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(option) for option in close)}?" if close else ""


def _walk(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
