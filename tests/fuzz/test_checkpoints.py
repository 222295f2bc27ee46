"""Damaged and hostile weight files: a dict of tensors or one InputError, never a crash, a hang or much memory."""

import io
import json
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

pytestmark = pytest.mark.fuzz

TIMES = int(os.environ.get("SRFGAN_FUZZ", "1"))
SECONDS = 20
MEMORY = 3 * 2**30
"""Bytes of address space on top of what the imports take."""

READER = """
import resource, signal, sys
import torch
from pathlib import Path
from srfgan.models.errors import InputError
from srfgan.models.weights import read_checkpoint

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
signal.signal(signal.SIGALRM, signal.SIG_DFL)
for line in sys.stdin:
    path = line.rstrip("\\n")
    signal.alarm(int(sys.argv[2]))
    try:
        found = read_checkpoint(path)
        tensors = found.tensors.items()
        assert all(isinstance(n, str) and isinstance(t, torch.Tensor) for n, t in tensors)
        total = sum(float(t.flatten()[-1]) if t.numel() else 0 for _, t in tensors)  # the memory is there
        found.model_config()
        print("tensors", flush=True)
    except InputError as error:
        print("refused" if str(error).startswith(path) else f"unnamed: {error}", repr(str(error)), flush=True)
    except BaseException as error:
        print(f"{type(error).__name__}: {str(error)[:300]!r}", flush=True)
"""
"""Reads the files whose names come on stdin and answers one line each; a crash or the alarm ends it."""


class Reader:
    """A process that reads many files; it is started anew where one has ended it."""

    def __init__(self):
        self.process = None

    def read(self, path):
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-c", READER, str(MEMORY), str(SECONDS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer:
            return answer.strip()
        code, self.process = self.process.wait(), None
        return f"the process ended with {code}"

    def close(self):
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


@pytest.fixture(scope="module")
def reader():
    one = Reader()
    yield one
    one.close()


def whole_files():
    """Small files of every format that is read, by name."""
    state = {
        "backbone.bottom_up.stem.conv1.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
        "backbone.bottom_up.stem.conv1.norm.weight": torch.ones(2),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "half": torch.zeros(3, dtype=torch.bfloat16),
    }
    arrays = {k: v.numpy() for k, v in state.items() if v.dtype != torch.bfloat16}
    arrays["f"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    arrays["big"] = np.arange(3, dtype=">i4")
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))])
    own = {
        "format": "srfgan",
        "stage": "finetune",
        "modules": {"detector": state, "generator": {"head.weight": torch.ones(2)}},
        "model": {"num_classes": 3},
        "categories": [{"id": 1, "name": "a"}],
        "optimizers": {"detector": optimizer.state_dict()},
        "unlogged": [{"losses": {"loss": 1.5}, "norms": {}}],
    }
    files = {f"protocol{n}.pkl": pickle.dumps({"model": arrays, "n": np.float32(3)}, n) for n in range(6)}
    for name, content in (("own", own), ("foreign", {"model": state, "best": np.float64(2), "at": {1, 2}})):
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            files[f"{name}{'' if zipped else '_old'}.pth"] = buffer.getvalue()
    files["plain.safetensors"] = safetensors.torch.save({k: v.contiguous() for k, v in state.items()})
    return files


def mutated(rng, content, others):
    """A file with a few bytes changed, cut, repeated, filled, or spliced with another's."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not content:
            break
        place = rng.randrange(len(content))
        kind = rng.randrange(8)
        if kind == 0:
            content[place] = rng.randrange(256)
        elif kind == 1:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del content[place : place + rng.choice((1, 2, 8, 100))]
        elif kind == 3:
            content[place:place] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 4, 9))))
        elif kind == 4:
            del content[place:]
        elif kind == 5:
            other = rng.choice(others)
            start = rng.randrange(len(other))
            content[place:place] = other[start : start + rng.choice((3, 20, 200))]
        elif kind == 6:
            size = rng.choice(("<I", "<Q", ">Q", "<i"))
            value = rng.choice((0, 1, 2**31 - 1)) if size == "<i" else rng.choice((0, 2**31, 2**32 - 1))
            content[place : place + struct.calcsize(size)] = struct.pack(size, value)
        else:
            content[place : place + 8] = rng.choice((b"\xff", b"\x00", b"9", b"]")) * 8
    return bytes(content)


def repacked(rng, content):
    """A zip whose pickle is changed, with everything else right: what a damaged byte would hide behind a checksum."""
    if not content.startswith(b"PK"):
        return content
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        for member in old.infolist():
            inside = old.read(member)
            if member.filename.endswith("data.pkl"):
                inside = mutated(rng, inside, [inside])
            new.writestr(member.filename, inside)
    return result.getvalue()


# A grammar of pickles: each gives the bytes that push one value of a kind.


def text(value):
    encoded = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def raw(value):
    return b"B" + struct.pack("<I", len(value)) + value


def number(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    size = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def named(name):
    module, _, function = name.rpartition(".")
    return b"c" + f"{module}\n{function}\n".encode()


def tupled(*parts):
    return b"(" + b"".join(parts) + b"t"


def called(name, *arguments):
    return named(name) + tupled(*arguments) + b"R"


NAMES = [
    *("numpy.dtype", "numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar"),
    *("numpy._core.multiarray.scalar", "numpy.core.numeric._frombuffer", "_codecs.encode"),
    *("collections.OrderedDict", "collections.Counter", "builtins.set", "__builtin__.bytearray"),
    *(
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_parameter",
    ),
    *(
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_qtensor",
        "torch._tensor._rebuild_from_type_v2",
    ),
    *(
        "torch.FloatStorage",
        "torch.BoolStorage",
        "torch.storage.UntypedStorage",
        "torch.float32",
        "torch.Size",
    ),
    *("torch.device", "os.system", "builtins.eval", "builtins.getattr", "numpy.load", "datetime.datetime"),
    *("torch.nn.parameter.Parameter", "torch.Tensor", "torch.ComplexFloatStorage", "torch.QInt8Storage"),
]
DTYPES = [
    "f4",
    "<f4",
    ">f8",
    "O",
    "O8",
    "|O",
    "V8",
    "S3",
    "U2",
    "M8",
    "m8",
    "c8",
    "f16",
    "b1",
    "i8",
    "",
    "f4,O",
    "?",
    "f0",
]
SIZES = [0, 1, 2, 3, 8, 255, 2**16, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -1, -(2**40), 2**70]


class Grammar:
    """Random pickles that make sense to a degree."""

    def __init__(self, rng):
        self.rng = rng
        self.zipped = rng.random() < 0.5

    def good(self):
        """An array or a tensor with nothing wrong."""
        if self.zipped:
            identity = (
                tupled(text("storage"), named("torch.FloatStorage"), text("0"), text("cpu"), number(1)) + b"Q"
            )
            size, stride = tupled(number(1)), tupled(number(1))
            return called("torch._utils._rebuild_tensor_v2", identity, number(0), size, stride, b"\x89", b"}")
        made = called(
            "numpy.core.multiarray._reconstruct", named("numpy.ndarray"), tupled(number(0)), raw(b"b")
        )
        kind = called("numpy.dtype", text("f4"), b"\x89", b"\x88")
        return made + tupled(number(1), tupled(number(2)), kind, b"\x89", raw(b"\0" * 8)) + b"b"

    def shape(self):
        return tupled(*(number(self.rng.choice(SIZES)) for _ in range(self.rng.choice((0, 1, 1, 2, 3, 40)))))

    def dtype(self):
        made = called("numpy.dtype", text(self.rng.choice(DTYPES)), b"\x89", b"\x88")
        if self.rng.random() < 0.6:
            parts = [
                number(3),
                text(self.rng.choice("<>|=x")),
                *[b"N"] * 3,
                number(-1),
                number(-1),
                number(0),
            ]
            if self.rng.random() < 0.4:
                parts[self.rng.randrange(len(parts))] = self.value(1)
            made += tupled(*parts) + b"b"
        return made

    def content(self):
        return raw(bytes(self.rng.randrange(256) for _ in range(self.rng.choice((0, 1, 4, 8, 12, 24)))))

    def array(self):
        made = called(
            "numpy.core.multiarray._reconstruct", named("numpy.ndarray"), tupled(number(0)), raw(b"b")
        )
        state = [number(1), self.shape(), self.dtype(), b"\x89", self.content()]
        if self.rng.random() < 0.3:
            state[self.rng.randrange(5)] = self.value(1)
        return made + tupled(*state) + b"b"

    def scalar(self):
        return called("numpy.core.multiarray.scalar", self.dtype(), self.content())

    def buffer(self):
        return called("numpy.core.numeric._frombuffer", self.content(), self.dtype(), self.shape(), text("F"))

    def storage(self):
        kind = named(
            self.rng.choice(("torch.FloatStorage", "torch.BoolStorage", "torch.storage.UntypedStorage"))
        )
        count = number(self.rng.choice((1, 2, 6, *SIZES)))
        return tupled(text("storage"), kind, text(self.rng.choice("012")), text("cpu"), count) + b"Q"

    def tensor(self):
        steps = [number(self.rng.choice((0, 1, 2, 2**40))) for _ in range(2)]
        sides = [number(self.rng.choice((1, 2, *SIZES))) for _ in range(2)]
        offset = number(self.rng.choice((0, 0, 0, *SIZES)))
        parts = [self.storage(), offset, tupled(*sides), tupled(*steps), b"\x89", b"}"]
        if self.rng.random() < 0.2:
            parts[self.rng.randrange(6)] = self.value(1)
        return called("torch._utils._rebuild_tensor_v2", *parts)

    def bomb(self):
        rng = self.rng
        many = rng.choice((10, 1000, 50_000))
        return rng.choice(
            (
                b"\x8e" + struct.pack("<Q", rng.choice((2**62, 2**40, 2**33))),  # bytes
                b"\x8d" + struct.pack("<Q", 2**40) + b"x",  # text
                b"\x96" + struct.pack("<Q", 2**40) + b"x",  # bytearray
                b"\x8b" + struct.pack("<I", 2**31 - 1),  # integer
                b"\x8b" + struct.pack("<I", 5000) + b"\x7f" * 5000,
                b"I" + b"9" * many + b"\n",
                b"Nr" + struct.pack("<I", 2**32 - 1),  # memo
                b"Np" + b"9" * 30 + b"\n",
                b"N" + b"\x85" * many + b"}" + b"N" + b"\x85" * many + b"Ns",  # deep tuple, and as a key
                b"]" * many + b"a" * (many - 1),
                b"]q\x00h\x00a",  # a list in itself
                b"}q\x00X\x01\x00\x00\x00ah\x00s",
                b"(" * many,
                b"2" * many,
                b"N" + b"h\x00h\x00\x86q\x00" * min(many, 1000),  # twice as large each time
                b"\x95" + struct.pack("<Q", 2**60),  # frame
                b"((lo" + b"\x81" + b"\x92",
                b"\x82\x01",
                b"\x97\x98",
                b"Pabc\n",
                b"NQ",
            )
        )

    def value(self, depth=0):
        rng = self.rng
        kinds = [
            *[self.good] * 20,
            *[self.tensor if self.zipped else self.array] * 5,
            self.scalar,
            self.buffer,
            self.array,
            self.tensor,
            self.dtype,
            self.bomb,
            self.content,
            lambda: named(rng.choice(NAMES)),
            lambda: text(rng.choice(("a", "", "\ud800", "x" * 500, "model", "latin1"))),
            lambda: number(rng.choice(SIZES)),
            lambda: rng.choice(
                (b"N", b"\x88", b")", b"]", b"}", b"\x8f", b"h\x00", b"F1e400\n", b"S'\\xff'\n")
            ),
        ]
        if depth < 4:
            inside = [
                lambda: tupled(*(self.value(depth + 1) for _ in range(rng.randrange(4)))),
                lambda: self.mapping(depth + 1),
                lambda: called(rng.choice(NAMES), *(self.value(depth + 1) for _ in range(rng.randrange(5)))),
                lambda: self.value(depth + 1) + self.value(depth + 1) + b"b",
            ]
            kinds += inside + inside
        return rng.choice(kinds)()

    def mapping(self, depth):
        rng = self.rng
        names = [
            "a.weight",
            "a.norm.weight",
            "format",
            "modules",
            "model",
            "9" * 5000,
            "backbone.fpn_lateral9.",
        ]
        parts = []
        for _ in range(rng.randrange(1, 4)):
            key = text(rng.choice(names)) if rng.random() < 0.9 else self.value(depth)
            parts.append(key + self.value(depth))
        return b"}(" + b"".join(parts) + b"u"

    def file(self):
        """Bytes of a whole file, in a zip of torch's or on their own."""
        begin = b"\x80\x02"
        inner = b"}(" + text("model") + self.mapping(0) + b"u."
        if self.rng.random() < 0.4:
            own = (
                text("format")
                + text("srfgan")
                + text("modules")
                + b"}("
                + text("detector")
                + self.mapping(0)
                + b"u"
            )
            rest = (
                text("model")
                + self.value()
                + text("categories")
                + self.value()
                + text("stage")
                + self.value(4)
            )
            inner = b"}(" + own + rest + b"u."
        if not self.zipped:
            return begin + inner
        return zipped(begin + inner, {key: b"\x02" * self.rng.choice((4, 24)) for key in "012"})


def zipped(pickled, storages, compression=zipfile.ZIP_STORED):
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", compression) as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/byteorder", "little")
        for key, content in storages.items():
            archive.writestr(f"x/data/{key}", content)
    return result.getvalue()


def hostile_safetensors(rng):
    """A header that lies about shapes, types or places."""
    entry = {
        "dtype": rng.choice(("F32", "F64", "BOOL", "C64", "F8_E4M3", "X", "U64", 3, None)),
        "shape": [rng.choice(SIZES) for _ in range(rng.choice((0, 1, 2, 3)))],
        "data_offsets": [rng.choice((0, 0, *SIZES)), rng.choice((4, 8, *SIZES))],
    }
    header = rng.choice(
        (
            json.dumps({"a.weight": entry}),
            json.dumps({"a.weight": entry, "b.norm.weight": entry, "__metadata__": {"x": "y"}}),
            json.dumps({"__metadata__": {"x": [entry]}, "a" * rng.choice((1, 5000)): entry}),
            "[" * rng.choice((10, 100_000)),
            '{"a":' * rng.choice((10, 100_000)),
            '{"a.weight":{"dtype":"F32","shape":[1e400],"data_offsets":[0,4]}}',
            "{}",
        )
    ).encode()
    length = rng.choice((len(header), len(header), len(header), 2**63, 2**40, 0, len(header) - 1))
    return struct.pack("<Q", length) + header + bytes(rng.choice((0, 4, 8, 100)))


def check(reader, tmp_path, name, content, told):
    """What becomes of a file; fails where that is neither tensors nor a refusal."""
    path = tmp_path / name
    path.write_bytes(content)
    answer = reader.read(path)
    if not answer.startswith(("tensors", "refused")):
        kept = repr(content if len(content) < 3000 else content[:3000] + b"...")
        pytest.fail(f"{told}: {answer}\n{kept}")
    return answer


def test_whole_files_are_read(reader, tmp_path):
    for name, content in whole_files().items():
        assert check(reader, tmp_path, name, content, name) == "tensors", name


@pytest.mark.parametrize("seed", range(10))
def test_damaged_files(reader, tmp_path, seed):
    files = whole_files()
    others = list(files.values())
    for number in range(30 * TIMES):
        rng = random.Random(f"damaged {seed} {number}")
        name, content = rng.choice(list(files.items()))
        changed = repacked(rng, content) if rng.random() < 0.4 else mutated(rng, content, others)
        check(reader, tmp_path, name, changed, f"seed {seed} number {number}")


@pytest.mark.parametrize("seed", range(10))
def test_hostile_files(reader, tmp_path, seed):
    for number in range(40 * TIMES):
        rng = random.Random(f"hostile {seed} {number}")
        if rng.random() < 0.15:
            name, content = "x.safetensors", hostile_safetensors(rng)
        else:
            name, content = rng.choice(("x.pkl", "x.pth")), Grammar(rng).file()
        check(reader, tmp_path, name, content, f"seed {seed} number {number}")


def test_the_grammar_reaches_what_it_is_about(reader, tmp_path):
    """Each part of the reader refuses something, and something is read."""
    answers = set()
    for number in range(400):
        content = Grammar(random.Random(f"reach {number}")).file()
        answer = check(reader, tmp_path, "x.pth", content, f"number {number}")
        answers.add(re.sub(r"/\S*|\d+", "", answer)[:150])
    assert len(answers) > 25 and "tensors" in answers, "\n".join(sorted(answers))
