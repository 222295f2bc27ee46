"""YAML as presets and `--set` have it: texts, numbers, lists and mappings, from files of a sane size.

What YAML can do besides is refused: aliases (a few lines of them unfold to gigabytes, or hold themselves), keys that
are no texts or stand there twice, tags of Python's. A date stays the text that it looks like.
"""

from __future__ import annotations

import re
import stat
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

from srfgan.models.errors import InputError

LARGEST = 200_000
"""Bytes of a file. Presets have some thousands; YAML of this size takes seconds to read."""


DEEPEST = 64
"""Brackets inside one another; reading them takes PyYAML a time that grows with the square of the depth."""


class UnreadableYamlError(ValueError):
    """YAML that is broken, or not read here; `line` is where, from 1, if that is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


class Loader(yaml.SafeLoader):
    """YAML that reads `1e-4` as a number.

    Attributes:
        keys: types that keys may have.
    """

    keys: tuple[type, ...] = (str,)

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node; aliases are refused."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            problem = f"*{event.anchor}: aliases are not read here; write the value out"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        return super().compose_node(parent, index)


def _mapping(loader: Loader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "this is no mapping", node.start_mark)
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        allowed = type(key) in loader.keys
        problem = "is given twice" if allowed and key in mapping else "is no text; quote it"
        if not allowed or key in mapping:
            named = f"key {key_node.value!r}" if isinstance(key_node, yaml.ScalarNode) else "a key"
            raise yaml.constructor.ConstructorError(None, None, f"{named} {problem}", key_node.start_mark)
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


def _number(loader: Loader, node: yaml.ScalarNode) -> Any:
    text = loader.construct_scalar(node)
    try:
        return float(text)
    except ValueError:
        return text


class _QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The same by PyYAML's compiled reader, where it has one, for files that are known to need no such checks."""

    yaml_implicit_resolvers = Loader.yaml_implicit_resolvers.copy()


Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
for _reads in (Loader, _QuickLoader):
    _reads.add_constructor("!exponent", _number)
    _reads.add_implicit_resolver(
        "!exponent", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )


def parse_yaml(text: str | bytes, where: str) -> Any:
    """The value that a YAML text stands for.

    Args:
        text: bytes are UTF-8, or UTF-16 with its byte order mark.
        where: what the text is called in an error: a file, an option.

    Raises:
        InputError: broken YAML, or some that is not read here.
    """
    try:
        return load_yaml(text)
    except UnreadableYamlError as error:
        line = f", line {error.line}" if error.line and isinstance(text, bytes) else ""
        raise InputError(f"{where}{line}: not valid YAML: {error}.") from None


def load_yaml(text: str | bytes, loader: type[Loader] = Loader) -> Any:
    """As `parse_yaml`, for other messages.

    Raises:
        UnreadableYamlError: broken YAML, or some that is not read here.
    """
    if _depth(text) > DEEPEST:
        raise UnreadableYamlError("it is nested too deeply")
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = [getattr(error, part, None) for part in ("context", "problem", "reason")]
        problem = ", ".join(part for part in said if isinstance(part, str)) or "it cannot be read"
        raise UnreadableYamlError(problem, mark.line + 1 if mark else None) from None
    except RecursionError:
        raise UnreadableYamlError("it is nested too deeply") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError):
        # PyYAML's own readers of numbers, dates and the like, where a value has not the form that its tag asks for.
        raise UnreadableYamlError(
            "a value has not the form of its type, or is a number of thousands of digits"
        ) from None


def _depth(text: str | bytes) -> int:
    """How deep brackets are nested, at most: those in quotes and comments count as well."""
    steps = {"[": 1, "{": 1, "]": -1, "}": -1}
    signs = re.findall(r"[\[\]{}]", text if isinstance(text, str) else text.decode("latin-1"))
    return max(accumulate((steps[sign] for sign in signs), initial=0))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: no such file, none of a preset's size, broken YAML, no mapping, or nothing at all: a file that a
            full disk or a shell has emptied would be an experiment of defaults.
    """
    values = parse_yaml(_content(path), str(path))
    if values is None:
        raise InputError(f"{path} is empty. Write it again; a preset of defaults alone is {{}}.")
    if not isinstance(values, dict):
        raise InputError(f"{path}: a preset is a mapping of keys to values, not a {type(values).__name__}.")
    return values


def parse_shipped(path: Path) -> dict[str, Any]:
    """The mapping in a file of the package's own, read as `read_yaml` would, in a tenth of its time."""
    values: dict[str, Any] = yaml.load(path.read_bytes(), Loader=_QuickLoader)
    return values


def _content(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is no file that holds a preset, but a folder, a pipe or a device.")
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise InputError(f"Preset file {path} does not exist.") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    if len(content) > LARGEST:
        raise InputError(f"{path}: a preset has at most {LARGEST} bytes.")
    return content
