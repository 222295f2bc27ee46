"""The table of every config key: from the typed configs' JSON schema, and the texts beside their fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import griffe

from srfgan.models.config import DETECTORS
from srfgan_cli.presets.config import Config

HEAD = "| key | value | default | |\n|---|---|---|---|"
INTRODUCTION = """# Config

What a preset can say, key by key. `srfgan presets show NAME` prints one whole; `--set a.b=value` changes a key;
`srfgan presets copy NAME own.yaml` makes a file of your own. Unknown keys are errors.
"""


def config_page() -> str:
    """Every key with its type, default and text: the experiment's, all detectors', and each detector's own."""
    schema = Config.model_json_schema()
    kinds, fields, texts = schema["$defs"], dict(schema["properties"]), _texts()
    union = fields.pop("model")
    detectors = {name: kinds[_name(ref)] for name, ref in union["discriminator"]["mapping"].items()}
    assert set(detectors) == set(DETECTORS)

    def table(title: str, some: dict[str, Any], kind: str, prefix: str = "") -> str:
        return "\n".join([f"\n## {title}\n\n{HEAD}", *_lines(some, kind, kinds, texts, prefix)])

    sections = {name: field for name, field in fields.items() if _section(field, kinds)}
    plain = {name: field for name, field in fields.items() if name not in sections}
    parts = [INTRODUCTION, table("The experiment", plain, "Config")]
    parts += [table(f"`{name}`", {name: field}, "Config") for name, field in sections.items()]
    first, common = next(iter(detectors.values())), _common(list(detectors.values()))
    shared = {"detector": {"enum": list(detectors)}} | {name: first["properties"][name] for name in common}
    parts.append(table("`model` of every detector", shared, first["title"], "model."))
    for name, kind in detectors.items():
        own = {key: field for key, field in kind["properties"].items() if key not in (*common, "detector")}
        if own:
            parts.append(table(f"`model` of `{name}`", own, kind["title"], "model."))
    return "\n".join(parts)


def _common(kinds: list[dict[str, Any]]) -> list[str]:
    """Keys that all detectors have, whatever their defaults."""
    return [
        key
        for key in kinds[0]["properties"]
        if key != "detector" and all(key in kind["properties"] for kind in kinds)
    ]


def _lines(
    fields: dict[str, Any], kind: str, kinds: dict[str, Any], texts: dict[str, str], prefix: str = ""
) -> Iterator[str]:
    for name, field in fields.items():
        section, text = _section(field, kinds), texts.get(f"{kind}.{name}", "")
        if section is not None:
            if "default" in field and field["default"] is None:
                yield f"| `{prefix}{name}` | nothing, or the keys below | `null` | {text} |"
            yield from _lines(kinds[section]["properties"], section, kinds, texts, f"{prefix}{name}.")
        else:
            default = "" if "default" not in field else f"`{json.dumps(field['default'])}`"
            yield f"| `{prefix}{name}` | {_type(field, kinds)} | {default} | {text} |"


def _section(field: dict[str, Any], kinds: dict[str, Any]) -> str | None:
    """The config class that a field holds, if it holds one."""
    for one in (field, *field.get("anyOf", []), *field.get("allOf", [])):
        if "$ref" in one and "properties" in kinds[_name(one["$ref"])]:
            return _name(one["$ref"])
    return None


def _name(ref: str) -> str:
    return ref.rsplit("/", 1)[1]


def _type(field: dict[str, Any], kinds: dict[str, Any]) -> str:
    if "$ref" in field:
        return _type(kinds[_name(field["$ref"])], kinds)
    if "anyOf" in field:
        return " or ".join(_type(one, kinds) for one in field["anyOf"])
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {_type(field['items'], kinds)}" if field.get("items") else "list"
    if "additionalProperties" in field and field.get("type") == "object":
        return f"names with {_type(field['additionalProperties'], kinds)}"
    below, above = (
        field.get("minimum", field.get("exclusiveMinimum")),
        field.get("maximum", field.get("exclusiveMaximum")),
    )
    limits = f" {below:g} to {above:g}" if below is not None and above is not None else ""
    return f"{field.get('type', '').replace('null', 'nothing')}{limits}"


def _texts() -> dict[str, str]:
    """The docstring of each field, in one line, by class and name; what a class inherits, too."""
    found: dict[str, str] = {}
    classes = [
        kind
        for root in ("srfgan_cli.presets.config", "srfgan.models.config")
        for kind in _classes(griffe.load(root))
    ]
    known = {kind.name: kind for kind in classes}

    def collect(kind: griffe.Class, into: str) -> None:
        for base in kind.bases:
            if (parent := known.get(str(base).rsplit(".", 1)[-1])) is not None:
                collect(parent, into)
        for name, member in kind.members.items():
            if member.docstring is not None:
                found[f"{into}.{name}"] = " ".join(member.docstring.value.split()).replace("|", "\\|")

    for kind in classes:
        collect(kind, kind.name)
    return found


def _classes(module: griffe.Module) -> Iterator[griffe.Class]:
    for member in module.members.values():
        if member.is_alias:
            continue
        if member.is_module:
            yield from _classes(member)
        elif member.is_class:
            yield member
