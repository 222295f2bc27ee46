"""Unpickling of plain containers and nothing else, by a machine of our own that calls no foreign code.

A pickle is a program: it can name any function and call it, set the state of any object, and ask for any amount of
memory. numpy and torch trust the states that they are given, so that even a file which names nothing but them can
crash the interpreter. Here a name stands for one of the few functions that the caller admits, which check what they
are given; every length is compared with what the file holds; and what is hashed or repeated stays small.
"""

from __future__ import annotations

import codecs
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

MAX_STEPS = 5_000_000
"""Operations that a pickle may have; a detector's has thousands. Bounds what a file of nothing but `]` takes."""
MAX_INTEGER = 512
"""Bytes of an integer."""
MAX_KEY = 2**60
"""Integers from here on can be made to fall into one place of a hash table."""
_SCALARS = (str, bytes, int, float, type(None))


class RefusedPickleError(pickle.UnpicklingError):
    """The pickle asks for something other than arrays, tensors and plain containers."""


class DamagedError(pickle.UnpicklingError):
    """The pickle ends too early or makes no sense."""


@dataclass(frozen=True)
class Function:
    """An admitted function, which checks its arguments; raises whatever it likes where they are wrong."""

    call: Callable[..., Any]


class Built:
    """An admitted object whose state the pickle sets after it was made."""

    def set_state(self, state: Any) -> None:
        """Take in the pickle's state; raises whatever it likes where that is wrong."""
        raise NotImplementedError


Names = Mapping[tuple[str, str], Any]
"""What stands for (module, name): a `Function`, or an object that does nothing."""


class Source:
    """Bytes of a file, never more than it holds.

    Args:
        file: seekable.
        size: of the file in bytes.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self.file, self.size = file, size

    def read(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            DamagedError: there are fewer.
        """
        # Asked for terabytes, a file would first allocate them.
        content = self.file.read(count) if 0 <= count <= self.size else b""
        if len(content) != count:
            raise DamagedError("it ends too early")
        return content

    def line(self) -> bytes:
        """The next bytes up to a line's end, without it.

        Raises:
            DamagedError: there is none.
        """
        content = self.file.readline()
        if not content.endswith(b"\n"):
            raise DamagedError("it ends too early")
        return content[:-1]


class Unpickler:
    """Reads one pickle.

    Args:
        source: standing at its begin.
        names: what it may name.
        persistent: gives the object of a persistent id; without it there are none.
    """

    def __init__(self, source: Source, names: Names, persistent: Callable[[Any], Any] | None = None) -> None:
        self.source, self._names, self._persistent = source, names, persistent
        self.stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The pickled object: dicts, lists, tuples, sets, texts, bytes, numbers, and what the names give.

        Raises:
            RefusedPickleError: it asks for anything else; nothing of it has been run.
            DamagedError: it ends too early.
            Exception: of nearly any kind, where it makes no sense.
        """
        for _ in range(MAX_STEPS):
            code = self.source.read(1)
            if code == pickle.STOP:
                return self.stack.pop()
            step = _STEPS.get(code)
            if step is None:
                raise (
                    RefusedPickleError("it makes objects")
                    if code in _REFUSED
                    else DamagedError("it is no pickle")
                )
            step(self)
        raise RefusedPickleError(f"it has more than {MAX_STEPS:,} operations")

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def mark(self) -> None:
        """Begin a group of values."""
        self._marked.append(self.stack)
        self.stack = []

    def group(self) -> list[Any]:
        """The values since the last mark."""
        values, self.stack = self.stack, self._marked.pop()
        return values

    def several(self, count: int) -> tuple[Any, ...]:
        """The last values, first one first."""
        values = tuple(self.stack[-count:])
        if len(values) < count:
            raise DamagedError("its stack is empty")
        del self.stack[-count:]
        return values

    def remember(self, place: int) -> None:
        """Keep the last value for later."""
        self._memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        """Put a kept value on the stack."""
        self.push(self._memo[place])

    def memoize(self) -> None:
        """Keep the last value at the next place."""
        self.remember(len(self._memo))

    def name(self, module: str, name: str) -> None:
        """Put what a name stands for on the stack."""
        # numpy 2 renamed numpy.core, Python 3 __builtin__; files of any age are read.
        old = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        known = self._names.get((old, name))
        if known is None:
            raise _refused(module, name)
        self.push(known)

    def call(self) -> None:
        """Call a function with its arguments."""
        function, arguments = self.several(2)
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise RefusedPickleError(f"it calls a {type(function).__name__}")
        self.push(function.call(*arguments))

    def build(self) -> None:
        """Set the state of an object; a dict's attributes (torch's `_metadata`) are passed over."""
        (state,) = self.several(1)
        target = self.stack[-1]
        if isinstance(target, Built):
            target.set_state(state)
        elif not isinstance(target, dict):
            raise RefusedPickleError(f"it sets the state of a {type(target).__name__}")

    def refer(self, key: Any) -> None:
        """Put a persistent id's object on the stack."""
        if self._persistent is None:
            raise RefusedPickleError("it refers to objects outside of it")
        self.push(self._persistent(key))

    def append(self, values: list[Any]) -> None:
        """Lengthen the list that is last on the stack."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise RefusedPickleError(f"it appends to a {type(target).__name__}")
        target.extend(values)

    def add(self, values: list[Any]) -> None:
        """Fill the set that is last on the stack."""
        target = self.stack[-1]
        if not isinstance(target, set):
            raise RefusedPickleError(f"it adds to a {type(target).__name__}")
        target.update(hashable(value) for value in values)

    def set_items(self, values: list[Any]) -> None:
        """Fill the dict that is last on the stack with keys and values in turn."""
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise RefusedPickleError(f"it sets items of a {type(target).__name__}")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[hashable(key)] = value


def hashable(value: Any) -> Any:
    """A value as a key: Python hashes nested tuples without end, and equal hashes make a dict slow.

    Raises:
        RefusedPickleError: neither a text, bytes nor a number, nor a short tuple of such.
    """
    parts = value if isinstance(value, tuple) else (value,)
    plain = all(isinstance(part, _SCALARS) for part in parts) and len(parts) < 100
    if not plain or any(isinstance(part, int | float) and abs(part) >= MAX_KEY for part in parts):
        raise RefusedPickleError(f"it has a {type(value).__name__} as a key")
    return value


def _number(layout: str) -> Callable[[Unpickler], Any]:
    """A reader of one packed number."""
    size = struct.calcsize(layout)
    return lambda machine: struct.unpack(layout, machine.source.read(size))[0]


_BYTE, _SHORT, _INT, _UINT, _LONG = (_number(layout) for layout in ("<B", "<H", "<i", "<I", "<Q"))
_DOUBLE = _number(">d")


def _sized(
    length: Callable[[Unpickler], int], convert: Callable[[bytes], Any]
) -> Callable[[Unpickler], None]:
    """A step that pushes what follows its own length."""
    return lambda machine: machine.push(convert(machine.source.read(length(machine))))


def _integer(content: bytes) -> int:
    if len(content) > MAX_INTEGER:
        raise RefusedPickleError(f"it has an integer of {len(content)} bytes")
    return int.from_bytes(content, "little", signed=True)


def _decimal(line: bytes) -> int | bool:
    if line in (b"00", b"01"):
        return line == b"01"
    if len(line) > 2 * MAX_INTEGER:
        raise RefusedPickleError(f"it has an integer of {len(line)} digits")
    return int(line.removesuffix(b"L"))


def _quoted(line: bytes) -> str:
    """A text of Python 2, whose bytes are latin-1 here."""
    line = line.strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise DamagedError("a text has no quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin-1")


def _utf8(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _latin1(content: bytes) -> str:
    return content.decode("latin-1")


def _name_of_lines(machine: Unpickler) -> None:
    machine.name(machine.source.line().decode(), machine.source.line().decode())


def _name_of_texts(machine: Unpickler) -> None:
    module, name = machine.several(2)
    if not isinstance(module, str) or not isinstance(name, str):
        raise DamagedError("a name is no text")
    machine.name(module, name)


def _instance(machine: Unpickler) -> None:
    raise _refused(machine.source.line().decode(), machine.source.line().decode())


def _refused(module: str, name: str) -> pickle.UnpicklingError:
    # Of a text, the first words may look like an operation and the next lines like its names.
    if not all(part.isidentifier() for part in f"{module}.{name}".split(".")):
        return DamagedError("it is no pickle")
    return RefusedPickleError(f"it asks for {module[:100]}.{name[:100]}")


_STEPS: dict[bytes, Callable[[Unpickler], Any]] = {
    pickle.PROTO: _BYTE,
    pickle.FRAME: _LONG,
    pickle.NONE: lambda m: m.push(None),
    pickle.NEWTRUE: lambda m: m.push(True),
    pickle.NEWFALSE: lambda m: m.push(False),
    pickle.INT: lambda m: m.push(_decimal(m.source.line())),
    pickle.LONG: lambda m: m.push(_decimal(m.source.line())),
    pickle.BININT: lambda m: m.push(_INT(m)),
    pickle.BININT1: lambda m: m.push(_BYTE(m)),
    pickle.BININT2: lambda m: m.push(_SHORT(m)),
    pickle.LONG1: _sized(_BYTE, _integer),
    pickle.LONG4: _sized(_UINT, _integer),
    pickle.FLOAT: lambda m: m.push(float(m.source.line())),
    pickle.BINFLOAT: lambda m: m.push(_DOUBLE(m)),
    pickle.STRING: lambda m: m.push(_quoted(m.source.line())),
    pickle.BINSTRING: _sized(_UINT, _latin1),
    pickle.SHORT_BINSTRING: _sized(_BYTE, _latin1),
    pickle.UNICODE: lambda m: m.push(m.source.line().decode("raw-unicode-escape")),
    pickle.BINUNICODE: _sized(_UINT, _utf8),
    pickle.SHORT_BINUNICODE: _sized(_BYTE, _utf8),
    pickle.BINUNICODE8: _sized(_LONG, _utf8),
    pickle.BINBYTES: _sized(_UINT, bytes),
    pickle.SHORT_BINBYTES: _sized(_BYTE, bytes),
    pickle.BINBYTES8: _sized(_LONG, bytes),
    pickle.BYTEARRAY8: _sized(_LONG, bytes),
    pickle.MARK: Unpickler.mark,
    pickle.POP: lambda m: m.stack.pop() if m.stack else m.group(),
    pickle.POP_MARK: Unpickler.group,
    pickle.DUP: lambda m: m.push(m.stack[-1]),
    pickle.EMPTY_TUPLE: lambda m: m.push(()),
    pickle.TUPLE: lambda m: m.push(tuple(m.group())),
    pickle.TUPLE1: lambda m: m.push(m.several(1)),
    pickle.TUPLE2: lambda m: m.push(m.several(2)),
    pickle.TUPLE3: lambda m: m.push(m.several(3)),
    pickle.EMPTY_LIST: lambda m: m.push([]),
    pickle.LIST: lambda m: m.push(m.group()),
    pickle.APPEND: lambda m: m.append(list(m.several(1))),
    pickle.APPENDS: lambda m: m.append(m.group()),
    pickle.EMPTY_DICT: lambda m: m.push({}),
    pickle.DICT: lambda m: _dict(m),
    pickle.SETITEM: lambda m: m.set_items(list(m.several(2))),
    pickle.SETITEMS: lambda m: m.set_items(m.group()),
    pickle.EMPTY_SET: lambda m: m.push(set()),
    pickle.ADDITEMS: lambda m: m.add(m.group()),
    pickle.FROZENSET: lambda m: m.push(frozenset(map(hashable, m.group()))),
    pickle.PUT: lambda m: m.remember(_decimal(m.source.line())),
    pickle.BINPUT: lambda m: m.remember(_BYTE(m)),
    pickle.LONG_BINPUT: lambda m: m.remember(_UINT(m)),
    pickle.MEMOIZE: Unpickler.memoize,
    pickle.GET: lambda m: m.recall(_decimal(m.source.line())),
    pickle.BINGET: lambda m: m.recall(_BYTE(m)),
    pickle.LONG_BINGET: lambda m: m.recall(_UINT(m)),
    pickle.GLOBAL: _name_of_lines,
    pickle.STACK_GLOBAL: _name_of_texts,
    pickle.INST: _instance,
    pickle.REDUCE: Unpickler.call,
    pickle.BUILD: Unpickler.build,
    pickle.PERSID: lambda m: m.refer(m.source.line().decode()),
    pickle.BINPERSID: lambda m: m.refer(m.stack.pop()),
}
"""What each operation does."""
_REFUSED = frozenset(
    (
        *(pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    )
)
"""Those that make instances of classes, or need a registry or buffers from elsewhere."""


def _dict(machine: Unpickler) -> None:
    values = machine.group()
    machine.push({})
    machine.set_items(values)
