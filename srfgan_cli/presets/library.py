"""Presets: YAML files with inheritance, checked against the typed config.

A preset is a mapping of the shape of `srfgan_cli.presets.config.Config`, plus `base`: the name of another preset
(or, in a user's own file, a path beside it), or a list of them, whose values it builds on. Mappings merge
key by key; everything else replaces. What names a detector leaves the sections below it that only other detectors
have, and a backbone `timm/NAME` brings its own order of colours, mean and standard deviation where `model.pixel` is
not given together with it or above it. Only to ask timm for these does anything here import torch.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from srfgan import PRESETS_DIR
from srfgan.models.config import DEFAULT, DETECTORS, TIMM, own_sections, owners
from srfgan.models.errors import InputError, kind_of
from srfgan_cli.presets import yaml_text
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.facts import load_rows
from srfgan_cli.presets.upsampling import without_absent
from srfgan_cli.presets.version_0_1 import naming_rows
from srfgan_cli.presets.yaml_text import parse_shipped, parse_yaml, read_yaml
from srfgan_cli.screen.console import visible

OWN = ("name", "description", "rows", "references")
"""What a row is called and reports belongs to that row alone: not inherited, not overlaid."""

DEEPEST = 50
"""Presets that may build on each other, one on the next."""

MOST, LONGEST = 10, 200
"""Faults that one message lists, and characters of a user's text that it repeats."""

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = LONGEST


def list_presets() -> list[str]:
    """Names of all shipped presets, sorted; what lies in `_base` and `_facts` is none."""
    return sorted(_preset_files())


def load_preset(name: str | Path, overrides: Iterable[str] = (), overlay: str | Path | None = None) -> Config:
    """Read a preset and check it.

    Args:
        name: a shipped preset's name, or the path of a YAML file (recognised by its suffix).
        overrides: `a.b=value` strings; the value is read as YAML.
        overlay: a preset's or base's name, or a YAML file, whose values replace the preset's own. It is for presets
            of any detector: sections that this one does not have are left out.

    Raises:
        InputError: no such preset or file, broken YAML, an unknown key, a value of a wrong type, a backbone that timm
            has not; or arguments of other types.
    """
    for given in (name, *([overlay] if overlay is not None else [])):
        if not isinstance(given, str | Path):
            raise InputError(f"a preset is a name or the path of a YAML file, not {kind_of(given)}")
    if isinstance(overrides, str | Mapping) or not isinstance(overrides, Iterable):
        raise InputError(f"overrides is {kind_of(overrides)}; give a list, as ['model.neck.upsampler=afi']")
    path = find_preset(name)
    values = naming_rows(_values(path), path)
    if overlay is not None:
        values = _laid_over(values, _overlaid(overlay))
        values = _suiting(values, {"model": {"detector": _detector(values)}})
    values = {"name": path.stem} | values
    where = str(path) if path == Path(name) else f"Preset '{path.stem}'"
    return _validated(_overridden(values, overrides), where)


def overlay_values(overlay: str | Path) -> dict[str, Any]:
    """What an overlay of `load_preset` lays over presets, as dotted keys and plain values.

    Raises:
        InputError: no such preset or file, or broken YAML.
    """
    return dict(_dotted(_overlaid(overlay)))


def stored_config(values: Mapping[str, Any], path: Path, overrides: Iterable[str] = ()) -> Config:
    """The config that a checkpoint carries (`Checkpoint.config`), with `overrides` as for `load_preset`.

    Args:
        values: it, as plain data.
        path: the checkpoint, for messages.

    Raises:
        InputError: it is of a version with other keys, or as `load_preset`.
    """
    return _validated(_overridden(naming_rows(dict(values), path), overrides), str(path))


def plain_twin(config: Config) -> Config:
    """The experiment with nearest-neighbour upsampling and one stage, called `<name>_nn`: what it is compared with.

    What a trained detector goes on with (`finetune.start_from_guide`) is compared with what the same one gains so.

    Raises:
        InputError: the detector upsamples nothing.
    """
    above = _values(PRESETS_DIR / "_base" / "plain.yaml") | {"name": f"{config.name}_nn"}
    below = {key: value for key, value in config.model_dump(exclude_none=True).items() if key not in OWN}
    values = _laid_over(below, above)
    if config.finetune.start_from_guide:
        values = _laid_over(values, {"sources": {"guide": config.guide}})
    return without_absent(_validated(values, f"The plain twin of '{config.name}'"))[0]


def _validated(values: dict[str, Any], where: str) -> Config:
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise InputError(_explain(error, where)) from None
    return _with_own_pixels(config)


def find_preset(name: str | Path) -> Path:
    """The YAML file of a preset; of a user's own, the path as it was given, which may name nothing.

    Raises:
        InputError: no preset has the name; gives the closest ones.
    """
    if str(name).endswith((".yaml", ".yml")):
        return Path(name)
    files = _preset_files()
    if str(name) not in files:
        named = f"'{_cut(str(name))}'.{did_you_mean(str(name), files)}"
        raise InputError(f"Unknown preset {named} `srfgan presets list` shows them all.")
    return files[str(name)]


def called(name: str) -> str:
    """How a command takes the preset of this name: a shipped one as it is, another by its file, as far as is known."""
    return name if name in _preset_files() else f"{name}.yaml"


def flatten(config: BaseModel) -> dict[str, Any]:
    """A config as dotted keys and plain values, in the order of the schema; a mapping of free keys is one value."""
    return dict(_walk(config, ""))


def dump_yaml(config: Config, encoding: str = "utf-8", without: Iterable[str] = ()) -> str:
    """The fully resolved config as YAML text that `load_preset` reads back to an equal config.

    Letters stand as they are, but where one of the text cannot be encoded or shown: then in YAML's own escapes.

    Args:
        without: keys that are left out.
    """
    values = config.model_dump(exclude_none=True, exclude=set(without))
    text = yaml.safe_dump(values, sort_keys=False, width=100, allow_unicode=True)
    if visible(text, encoding) == text:
        return text
    return yaml.safe_dump(values, sort_keys=False, width=100)


@cache
def _preset_files() -> dict[str, Path]:
    files = sorted(PRESETS_DIR.rglob("*.yaml"))
    return {path.stem: path for path in files if not path.parent.name.startswith("_")}


def _values(path: Path) -> dict[str, Any]:
    """The values of a preset's file and its bases: not to be changed, as other presets share them."""
    return _merged_shipped(path) if _is_shipped(path) else _merged(path)


@cache
def _merged_shipped(path: Path) -> dict[str, Any]:
    """Those of a shipped file, on which many build."""
    return _merged(path)


def _merged(
    path: Path, above: tuple[Path, ...] = (), known: dict[Path, dict] | None = None
) -> dict[str, Any]:
    """The values of a file on top of those of its bases.

    Args:
        above: the files that build on this one, by the places where they lie, however they were spelled.
        known: what has been read already, for files that several others build on.
    """
    known = {} if known is None else known
    place = path.resolve()
    if place in above:
        chain = " -> ".join(file.stem for file in (*above, place))
        raise InputError(f"{path}: base: preset inheritance runs in a circle: {chain}.")
    if len(above) == DEEPEST:
        raise InputError(f"{path}: base: presets build on each other {DEEPEST} files deep.")
    if place not in known:
        values = _read(path)
        merged: dict[str, Any] = {}
        for base in _bases(values.pop("base", []), path):
            file = _find_base(base, path)
            below = _merged_shipped(file) if _is_shipped(file) else _merged(file, (*above, place), known)
            merged = _laid_over(merged, {key: value for key, value in below.items() if key not in OWN})
        known[place] = _laid_over(merged, values)
    return known[place]


def _read(path: Path) -> dict[str, Any]:
    return parse_shipped(path) if _is_shipped(path) else read_yaml(path)


def _is_shipped(path: Path) -> bool:
    return path.is_relative_to(PRESETS_DIR)


def _bases(given: Any, path: Path) -> list[str]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{path}: base: expected a preset's name or a list of names, got {_shown(given)}.")
    return names


def _find_base(base: str, path: Path) -> Path:
    for candidate in (PRESETS_DIR / "_base" / f"{base}.yaml", path.parent / base):
        if _is_file(candidate):
            return candidate
    try:
        found = find_preset(base)
    except InputError as error:
        raise InputError(f"{path}: base '{_cut(base)}' not found. {error}") from None
    if not _is_file(found):
        raise InputError(f"{path}: base '{_cut(base)}' not found: it is no file.")
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _laid_over(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    return _merge(_suiting(low, high), high)


def _overlaid(overlay: str | Path) -> dict[str, Any]:
    """The values of an overlay with those of its bases, but for what belongs to a row alone."""
    above = _values(_find_base(str(overlay), Path(overlay)))
    return {key: value for key, value in above.items() if key not in OWN}


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _suiting(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """What of the values below can stay: not another backbone's pixels, no sections that only other detectors have."""
    own, below = high.get("model"), low.get("model")
    if isinstance(own, dict) and isinstance(below, dict) and "detector" in own:
        low = low | {"model": own_sections(below, own["detector"])}
    return _without_pixels(low) if _names_timm(high) else low


def _detector(values: dict[str, Any]) -> Any:
    model = values.get("model")
    return model.get("detector", DEFAULT) if isinstance(model, dict) else DEFAULT


def _names_timm(values: dict[str, Any]) -> bool:
    """Whether values name a backbone of timm's.

    Who does so names its pixels too, or leaves them to timm: those of another backbone below do not suit it.
    """
    for key in ("model", "backbone", "name"):
        values = values.get(key, {}) if isinstance(values, dict) else {}
    return isinstance(values, str) and values.startswith(TIMM)


def _without_pixels(values: dict[str, Any]) -> dict[str, Any]:
    model = values.get("model")
    if not isinstance(model, dict):
        return values
    return values | {"model": {key: value for key, value in model.items() if key != "pixel"}}


def _with_own_pixels(config: Config) -> Config:
    if not config.model.leaves_pixels_to_timm:
        return config
    from srfgan.models.backbones.timm_names import with_own_pixels  # brings torch, which others do without

    return config.model_copy(update={"model": with_own_pixels(config.model)})


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _overridden(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """The values with the overrides, in their order."""
    parsed = [_parsed(override) for override in overrides]
    alone: dict[str, Any] = {}
    for override in parsed:
        alone = _put(alone, *override)
    values = _suiting(values, alone)
    for override in parsed:
        values = _put(values, *override)
    return values


def _parsed(override: Any) -> tuple[list[str], Any, str]:
    """The keys of an override `a.b=value`, its value, and how messages call it."""
    if not isinstance(override, str):
        raise InputError(f"an override is a text, as 'model.neck.upsampler=afi', not {kind_of(override)}")
    where = f"--set {_cut(override)}"
    key, equals, text = override.partition("=")
    keys = key.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"{where}: expected KEY=VALUE with a dotted key, as model.neck.upsampler=afi.")
    if len(keys) > yaml_text.DEEPEST:
        raise InputError(f"{where}: the key is nested too deeply; `srfgan presets show` lists the keys.")
    return keys, parse_yaml(text, where), where


def _put(values: dict[str, Any], keys: list[str], value: Any, where: str, depth: int = 0) -> dict[str, Any]:
    """The values with this one below the keys from `depth` on."""
    key = keys[depth]
    if depth == len(keys) - 1:
        return values | {key: value}
    section = {} if values.get(key) is None else values[key]  # None: it is left out
    if not isinstance(section, dict):
        raise InputError(f"{where}: '{_cut('.'.join(keys[: depth + 1]))}' is a value, not a section.")
    return values | {key: _put(section, keys, value, where, depth + 1)}


def _explain(error: ValidationError, preset: str) -> str:
    found = error.errors(include_url=False)
    lines = [f"{preset}: {_explain_one(dict(item))}" for item in found[:MOST]]
    lines += [f"... and {len(found) - MOST} more."] if len(found) > MOST else []
    if any(map(_is_of_others, found)):
        lines.append("A preset that names model.detector leaves out what its bases have for other detectors.")
    return "\n".join(lines)


def _is_of_others(item: Mapping[str, Any]) -> bool:
    """Whether an error is of a section that only other detectors have: `model`, the detector, the section."""
    place = item["loc"]
    of_model = item["type"] == "extra_forbidden" and len(place) == 3 and place[0] == "model"
    return of_model and bool(owners(place[2]))


def _explain_one(item: dict[str, Any]) -> str:
    location, detector = [str(part) for part in item["loc"]], ""
    if location[:1] == ["model"] and len(location) > 1:
        detector = location.pop(1)  # as which the model was read
    key = _cut(".".join(location))
    if item["type"] == "extra_forbidden":
        if _is_of_others(item):
            return f"{key}: {detector} has no such section; it is of {', '.join(owners(location[1]))}."
        return f"unknown key '{key}'.{did_you_mean(location[-1], _fields_at(location[:-1], detector))}"
    if item["type"] == "union_tag_invalid":
        value, names = _shown(item["input"].get("detector")), [repr(name) for name in DETECTORS]
        known = f"{', '.join(names[:-1])} or {names[-1]}"
        return f"{key}.detector: {value} is not one of {known}.{did_you_mean(value[1:-1], DETECTORS)}"
    if item["type"] == "unknown_row":
        row = _shown(item["input"])
        known = f"{did_you_mean(row[1:-1], load_rows())} `srfgan presets list --json` names them."
        return f"{key}: no table has a row {row}.{known}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "literal_error":
        expected = item["ctx"]["expected"]
        options = [option.strip("'") for option in expected.replace(" or ", ", ").split(", ")]
        value = _shown(item["input"])
        return f"{key}: {value} is not one of {expected}.{did_you_mean(value[1:-1], options)}"
    where = f"{key}: " if key else ""
    return f"{where}{message}" + ("" if "got" in message else f", got {_shown(item['input'])}") + "."


def _shown(value: Any) -> str:
    """A value in a message, as Python writes it, cut where it is long."""
    try:
        return _REPR.repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _fields_at(location: list[str], detector: str) -> list[str]:
    """Field names of the schema's section at `location`; empty where it has none."""
    section: Any = Config
    if location[:1] == ["model"]:
        section, location = DETECTORS[detector], location[1:]
    for part in location:
        if part.isdigit():
            continue
        field = section.model_fields.get(part) if hasattr(section, "model_fields") else None
        if field is None:
            return []
        section = field.annotation
        section = getattr(section, "__args__", [section])[0]
    return list(section.model_fields) if hasattr(section, "model_fields") else []


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """A sentence with up to three of `options` that are nearly `name`, behind a space; empty where none is."""
    close = difflib.get_close_matches(_cut(name), list(options), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(option) for option in close)}?" if close else ""


def _walk(section: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in section:
        if isinstance(value, BaseModel):
            yield from _walk(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
