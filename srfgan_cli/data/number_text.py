"""The numbers of a json text by operations on all of them at once: no Python object per number."""

from __future__ import annotations

import msgspec
import numpy as np

_WORD = 8
"""Characters that are converted at once; outlines of hundredths of pixels have no longer numbers."""
LEAD = _WORD - 1
"""Characters that have to be before the first number."""
_AT_ONCE = 8192
"""Numbers whose intermediate results stay in a processor's cache."""
_OTHER = 2


def _kinds() -> bytes:
    """Of every byte: 1 within numbers, 0 between them, `_OTHER` where a text has more than lists of numbers."""
    kinds = np.full(256, _OTHER, np.uint8)
    kinds[list(b"[], \n\r\t\0")] = 0
    kinds[list(b"0123456789+-.eE")] = 1
    return kinds.tobytes()


_KINDS = _kinds()


def _each(byte: int) -> np.uint64:
    """A word of eight such bytes."""
    return np.uint64(byte * 0x0101010101010101)


_TENS = np.array([1.0, *(10.0 ** (_WORD - place) for place in range(1, _WORD))])
"""What the digits are to be divided by, by the place of the decimal point."""
_PLACES = np.uint64(sum(place << 8 * (7 - place) for place in range(_WORD)))
"""Times 1 << 8 * place, this has the place in its highest byte."""

_LAST = np.array(
    [((1 << 64) - 1) ^ ((1 << 8 * (_WORD - length)) - 1) for length in range(_WORD + 1)], np.uint64
)
"""All bits of the last bytes of a word, by their number."""
_SECOND = np.uint64(0x000000FF000000FF)


def read_numbers(text: bytes | bytearray) -> tuple[np.ndarray, np.ndarray] | None:
    """All numbers of sound json lists, exactly as a parser rounds them.

    Args:
        text: lists of numbers, with zero bytes or whitespace between and around them, of which `LEAD` before them all.

    Returns:
        values: (K,) float64.
        first: (K,) int64, where each begins in the text.
        None where the text has anything else.
    """
    characters = np.frombuffer(text, np.uint8)
    # What lists of numbers without exponents have is no letter, and the numbers' own characters follow each other.
    plain = characters.max() <= ord("]") and b'"' not in text and b"E" not in text
    if plain:
        within = characters - np.uint8(ord("-")) <= ord("9") - ord("-")
    else:
        kinds = text.translate(_KINDS)
        if _OTHER in kinds:
            return None
        within = np.frombuffer(kinds, bool)
    edges = np.flatnonzero(within[1:] != within[:-1])
    edges += 1
    first, end = edges[0::2], edges[1::2]
    lengths = end - first
    if not len(first):
        return np.zeros(0), first
    if not plain or lengths.max() > _WORD:
        return _parsed(characters * within, end), first
    # The eight bytes up to each number's last, of which `lengths` are the number's.
    words = np.ndarray(len(text) - _WORD + 1, "<u8", text, 0, (1,))
    signed = b"-" in text
    values = np.empty(len(first))
    for start in range(0, len(first), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        values[some] = _converted(words[end[some] - _WORD], lengths[some], signed=signed)
    return values, first


def _parsed(characters: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Numbers of any length by a parser, of a text that is zero between them: with one comma between two instead."""
    characters[characters == 0] = ord(" ")
    characters[end[:-1]] = ord(",")
    values = msgspec.json.decode(b"[" + characters.tobytes() + b"]", type=list[float])
    return np.array(values, np.float64)


def _converted(words: np.ndarray, lengths: np.ndarray, *, signed: bool) -> np.ndarray:
    """Decimal numbers without exponents: an integer of at most eight digits over a power of ten, which rounds once.

    Args:
        words: (K,) uint64, each number's last characters, the first of them in the lowest byte.
        lengths: (K,) int64, how many of the eight are the number's.
        signed: whether some are negative.
    """
    digits = words ^ _each(ord("0"))
    digits &= _LAST.take(lengths, mode="clip")
    # Digits are 0 to 9 now, a point is 0x1e and a minus 0x1d: both have the bit 0x10.
    if signed:
        minus = (digits >> np.uint64(4)) & digits & _each(1)
        digits &= ~(minus * np.uint64(0xFF))
    point = (digits >> np.uint64(3)) & digits & _each(2)
    point >>= np.uint64(1)
    # What stands after the point moves up to what stands before it: all of the word if there is none.
    integers = digits & (point - np.uint64(1))
    digits &= np.negative(point << np.uint64(8))
    digits >>= np.uint64(8)
    integers |= digits
    values = _integers(integers).astype(np.float64)
    point *= _PLACES
    point >>= np.uint64(56)
    values /= _TENS.take(point.view(np.int64), mode="clip")
    return np.where(minus != 0, -values, values) if signed else values


def _integers(digits: np.ndarray) -> np.ndarray:
    """(K,) int64 of eight digits each, a byte for each and the first in the lowest: pairs, fours, then all of them."""
    pairs = digits * np.uint64(10)
    digits >>= np.uint64(8)
    pairs += digits
    fours = (pairs & _SECOND) * np.uint64(100 + (1_000_000 << 32))
    pairs >>= np.uint64(16)
    pairs &= _SECOND
    pairs *= np.uint64(1 + (10_000 << 32))
    fours += pairs
    fours >>= np.uint64(32)
    return fours.view(np.int64)
