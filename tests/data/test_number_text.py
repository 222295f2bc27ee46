"""Numbers of json texts are those that a parser reads, to the last bit."""

import json
import random

import numpy as np
import pytest

from srfgan_cli.data import number_text, ragged
from srfgan_cli.data.number_text import LEAD, read_numbers
from srfgan_cli.data.ragged import offsets, take

LONG = ["123456789", "0.1234567890123456", "-100000000", "1e5", "-2.5E-3", "1e+2", "9007199254740993"]


def decimals(rng, count):
    """Numbers of up to eight characters in every form that json has without exponents."""
    numbers = ["0", "-0.0", "0.000001", "99999999", "-9999999", "9.999999", "-0.99999"]
    while len(numbers) < count:
        integer = str(rng.randrange(10 ** rng.randrange(1, 8)))
        fraction = "".join(rng.choices("0123456789", k=rng.randrange(7)))
        number = rng.choice(["", "", "-"]) + integer + (f".{fraction}" if fraction else "")
        numbers += [number] if len(number) <= 8 else []
    rng.shuffle(numbers)
    return numbers


@pytest.mark.parametrize("separator", [",", ", ", " ,\n\t\r "])
@pytest.mark.parametrize("more", [[], ["12", "-7"], LONG], ids=["plain", "integers", "long"])
def test_numbers_are_those_of_a_parser(monkeypatch, separator, more):
    monkeypatch.setattr(number_text, "_AT_ONCE", 1000)
    numbers = decimals(random.Random(0), 20_000) + more
    text = " " * LEAD + f"[[{separator.join(numbers)}]\0[], []]"
    values, first = read_numbers(text.encode())
    np.testing.assert_array_equal(values, [float(number) for number in numbers], strict=True)
    assert [
        text[start : start + len(number)] for start, number in zip(first, numbers, strict=True)
    ] == numbers


def test_numbers_without_a_sign():
    numbers = [number for number in decimals(random.Random(1), 3000) if number[0] != "-"]
    values, _ = read_numbers((" " * LEAD + json.dumps([[float(number) for number in numbers]])).encode())
    assert values.tolist() == [float(number) for number in numbers]


@pytest.mark.parametrize(
    "other", ['["1"]', "[null]", "[true]", "{}", "[nan]", '{"size": [1, 2]}', "[\u00fc]"]
)
def test_anything_else_is_left_to_a_parser(other):
    assert read_numbers((" " * LEAD + f"[1, 2]\0{other}").encode()) is None


def test_no_numbers_at_all():
    values, first = read_numbers(b" " * LEAD + b"[[], []]")
    assert values.dtype == np.float64 and len(values) == len(first) == 0


def test_rows_are_taken_some_at_a_time(monkeypatch):
    monkeypatch.setattr(ragged, "_AT_ONCE", 7)
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 5, 40)
    flat, first = rng.random((lengths.sum(), 2)), offsets(lengths)
    for rows in (rng.integers(0, 40, 60), np.zeros(0, np.int64), np.arange(39)):
        taken, new_first = take(flat, first, rows)
        expected = [flat[first[row] : first[row + 1]] for row in rows]
        np.testing.assert_array_equal(taken, np.concatenate([flat[:0], *expected]))
        assert new_first.tolist() == [0, *np.cumsum([len(each) for each in expected]).tolist()]
