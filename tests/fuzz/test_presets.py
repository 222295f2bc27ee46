"""Whatever a preset's file or a `--set` holds: the plan, or exit code 2 and one message that names the file or key."""

import json
import os
import random
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from srfgan import PRESETS_DIR
from srfgan_cli.presets.config import Config
from srfgan_cli.presets.library import dump_yaml, flatten, list_presets, load_preset

pytestmark = pytest.mark.fuzz

TIMES = int(os.environ.get("SRFGAN_FUZZ", "1"))
SECONDS = 60
"""After which an input counts as one that hangs."""

SCALARS = [
    "3", "-1", "0", "0.0", "null", "~", "", "true", "no", "1e12", "1000000000000", "1e308", "1e400", "-1e-400", ".nan",
    ".inf", "-.INF", "9" * 5000, "0x" + "f" * 5000, "1:30:00", "1_000", "0o17", "0777", "2024-01-01", "2024-13-45",
    "2001-12-14t21:59:43.10-05:00", "../x", "/abs/x", ".", "..", "''", '"\\0"', '"\\e[31m"', '"\\uD800"', '"a\\nb"',
    "x" * 300, "é猫", "[red]", "'[/x]'", "@x", "`x`", "%TAG", "|", ">-", "- 1", "a: b", "'unfinished", "*a", "&a 3",
    "!!python/object/apply:os.system [true]", "!!python/name:os.system", "!!binary aGk=", "!!binary '@'",
    "!!timestamp x", "!!timestamp 2024-01-01", "!!int abc", "!!int ''", "!!float x", "!!bool x", "!!null x", "!!str 3",
    "!!set {a, b}", "!!omap [a: 1]", "!!pairs [1]", "!!map [1]", "!!seq {a: 1}", "!exponent x", "!exponent [1]",
]  # fmt: skip
NESTED = [
    "[]", "{}", "[[1], [2]]", "[null]", "[.nan, 1]", "[x, 3, true]", "[0, -5]", "{1: 2}", "{[1]: 2}", "{null: 1}",
    "{on: 1}", "{2024-01-01: 1}", "{a: 1, a: 2}", "{<<: {}}", "&a [*a]", "&a {b: *a}", "[&a [1, 1], *a]",
    "[" * 500 + "]" * 500, "{a: " * 400 + "1" + "}" * 400, "[" * 50_000, f"[{'1, ' * 5000}]", f"[{'x, ' * 300}]",
    f"{{{', '.join(f'k{i}: 1' for i in range(2000))}}}",
]  # fmt: skip
KEYS = [
    *flatten(Config()),
    "model",
    "model.neck",
    "finetune",
    "finetune.solver",
    "rows",
    "references",
    "evaluation.tta",
    "base",
]
STRANGE_KEYS = [
    "",
    ".",
    "a..b",
    "model.",
    ".model",
    "modle.neck",
    "seed.x.y",
    "é",
    "[red]",
    "a." * 3000 + "b",
    " seed ",
]


def a_value(rng):
    return rng.choice(rng.choice([SCALARS, NESTED]))


def value_in_key(rng):
    """A preset with any value in any key; and what a message about it may name beside the file."""
    *parents, last = rng.choice(KEYS).split(".")
    text = "".join(f"{'  ' * depth}{parent}:\n" for depth, parent in enumerate(parents))
    base = "" if last == "base" else f"base: {rng.choice(['demo', 'demo_nn', 'small'])}\n"
    return f"{base}{text}{'  ' * len(parents)}{last}: {a_value(rng)}\n".encode()


def damaged_structure(rng):
    """A preset with lines lost, doubled, moved, or with a sign in the wrong place."""
    name = rng.choice(list_presets())
    (file,) = PRESETS_DIR.rglob(f"{name}.yaml")
    lines = (rng.choice([file.read_text(), dump_yaml(load_preset(name), without=["name"])])).splitlines()
    for _ in range(rng.randint(1, 4)):
        place, line = rng.randrange(len(lines)), rng.choice(lines)
        lines[place : place + rng.randint(0, 2)] = rng.choice(
            [[], [line], [f"  {lines[place]}"], [lines[place].lstrip()], [f"{lines[place]}{rng.choice(':-,]}&*!|')}"],
             [lines[place].replace(":", rng.choice(["", ": ", " :", "::", ": &a"]), 1)], ["---"], ["..."]]
        )  # fmt: skip
        lines = lines or ["seed: 1"]
    return "\n".join(lines).encode()


def damaged_bytes(rng):
    """A preset with bytes changed, in another encoding, cut off, or no preset at all."""
    content = dump_yaml(load_preset(rng.choice(list_presets())), without=["name"])
    encoding = rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp037"])
    damaged = bytearray(content.encode(encoding))
    for _ in range(rng.randint(0, 5)):
        place = rng.randrange(len(damaged))
        damaged[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
    return rng.choice(
        [bytes(damaged), bytes(damaged[: rng.randrange(len(damaged))]), rng.randbytes(500), b"\0" * 9]
    )


def an_override(rng):
    key = rng.choice(rng.choice([KEYS, KEYS, STRANGE_KEYS]))
    return rng.choice([f"{key}={a_value(rng)}"] * 9 + [key, f"{key}=\udce9", f"{key}=\x1b[31m"])


@contextmanager
def time_limit():
    def late(*_):
        raise TimeoutError(f"not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def memory():
    """Bytes that this process has had at once."""
    resource = pytest.importorskip("resource")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check(srfgan, arguments, names, seed, content):
    """Run a command and judge how it ends."""
    before = memory()
    with time_limit():
        done = srfgan(*arguments)
    problem = f"seed {seed!r}: {arguments!r:.300}\n{content!r:.2000}\ncode {done.code}\n{done.err}"
    assert done.code in (0, 2), problem
    assert "Traceback" not in done.err and len(done.err) < 5000, problem
    assert memory() - before < 500e6, problem
    if done.code == 2:
        _, is_told, error = f"\n{done.err}".partition("\nError: ")  # warnings come first
        assert is_told and any(name in error for name in names), problem
    elif "--json" in arguments:
        place = Path(json.loads(done.out)["output_dir"])
        assert place.parent == Path("runs/finetune"), problem


@pytest.mark.parametrize("damage", [value_in_key, damaged_structure, damaged_bytes])
def test_any_file(damage, srfgan, tmp_path):
    from srfgan.models import count  # noqa: F401 - its seconds of imports are no input's

    for number in range(150 * TIMES):
        seed = f"{damage.__name__} {number}"
        content = damage(random.Random(seed))
        (tmp_path / "own.yaml").write_bytes(content)
        command = ["finetune", "--preset", "own.yaml", "--dry-run", "--json"]
        check(srfgan, command, ["own.yaml", "'own'"], seed, content)
        if number % 15 == 0:
            check(srfgan, ["presets", "show", "own.yaml"], ["own.yaml"], seed, content)


def test_any_override(srfgan):
    for number in range(200 * TIMES):
        seed = f"override {number}"
        overrides = [an_override(random.Random(f"{seed} {i}")) for i in range(1 + number % 3)]
        options = [part for override in overrides for part in ("--set", override)]
        keys = [part.strip() for override in overrides for part in override.partition("=")[0].split(".")]
        command = ["finetune", "--preset", "demo_nn", "--dry-run", "--json", *options]
        check(srfgan, command, ["--set", *filter(None, keys)], seed, overrides)
