"""Contents that no check should have to read: too large for their kind, or made to crash or to hold the reader.

In: a file's name and bytes. Out: one sentence that says why it is refused, or None. All searches are linear in the bytes;
what a check reads afterwards has bounded size, depth, numbers and number of values, and is text where it should be.

    >>> refusal("run_record.json", b'{"loss": 1' + b"0" * 400 + b"}")
    'run_record.json: a number of 401 digits'
    >>> refusal("metrics.jsonl", b'{"loss": 0.5}')
"""

from __future__ import annotations

import codecs
import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NoReturn

MIB = 1 << 20
MAX_LINE_BYTES = MIB  # of JSONL
MAX_DEPTH = 64
MAX_DIGITS = 25


@dataclass(frozen=True, slots=True)
class Budget:
    """What a kind of file may have."""

    most_bytes: int
    most_values: int = 0  # of JSON, counted by its commas and twice its brackets; 0: not JSON


JSONL = ".jsonl"
# 20,000 items have about 30 MiB of predictions, 1 million values, and a page of 20 MiB.
BUDGETS = {
    ".json": Budget(8 * MIB, 200_000),
    JSONL: Budget(48 * MIB, 2_000_000),
    ".yaml": Budget(MIB // 4),
    ".txt": Budget(8 * MIB),
    ".md": Budget(MIB),
    ".j2": Budget(MIB // 4),
    ".py": Budget(MIB),
    ".html": Budget(48 * MIB),
}
OTHERS = Budget(MIB)
MAX_TOTAL_BYTES = 128 * MIB

# What makes it worth parsing a text here: each may be harmless, inside a string say. Numbers are looked for where every digit
# has become a 0, so that each search begins with a literal, which is ten times as fast.
_DIGITS_AS_0 = bytes.maketrans(b"123456789E", b"000000000e")
_LONG, _EXPONENT = b"0" * MAX_DIGITS, re.compile(rb"0e\+?0{3,}(?=[\s,\]}]|\Z)")
_WORDS, _SURROGATE = (b"NaN", b"Infinity"), re.compile(rb"\\u[dD][89a-fA-F]")


class _Refused(Exception):
    """Why."""


def budget_of(name: str) -> Budget:
    """By the last ending of the name."""
    return BUDGETS.get(PurePosixPath(name).suffix, OTHERS)


def refusal(name: str, data: bytes) -> str | None:
    """Why the file is not read any further, or None. What is not JSON, though, is for the checks to say."""
    budget = budget_of(name)
    try:
        _within(len(data), budget.most_bytes, "bytes")
        if PurePosixPath(name).suffix in BUDGETS:
            _require_utf8(data)
        if budget.most_values:
            _screen_json(name, data, budget)
    except _Refused as error:
        return f"{name}: {error}"
    return None


def _within(number: int, most: int, what: str) -> None:
    if number > most:
        raise _Refused(f"{number} {what}, more than {most}")


def _require_utf8(data: bytes) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for begin in range(0, len(data), MIB):
            decoder.decode(data[begin : begin + MIB])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _Refused("is not UTF-8") from error


def _screen_json(name: str, data: bytes, budget: Budget) -> None:
    brackets = data.count(b"[") + data.count(b"{")
    _within(data.count(b",") + 2 * brackets, budget.most_values, "values or so")
    if not name.endswith(JSONL):
        _screen_text(data)
        return
    suspects = sorted(_suspects(data))
    end, before = -1, 0  # of the line; of the suspects, how many are in the lines before
    for number, line in enumerate(data.split(b"\n"), start=1):
        end += len(line) + 1
        until = bisect_left(suspects, end, before)
        try:
            _within(len(line), MAX_LINE_BYTES, "bytes")
            if until > before or line.count(b"[") + line.count(b"{") > MAX_DEPTH:
                _screen_text(line)
        except _Refused as error:
            raise _Refused(f"line {number}: {error}") from error
        before = until


def _screen_text(text: bytes) -> None:
    """Parsed only where something in it is suspect."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH and next(_suspects(text), None) is None:
        return
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_constant)
        for string in _strings(value):
            string.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _Refused("a lone surrogate, which UTF-8 cannot write") from error
    except RecursionError as error:
        raise _Refused(f"is nested more than {MAX_DEPTH} levels") from error
    except ValueError:
        return  # not JSON: the check that reads it says so


def _suspects(data: bytes) -> Iterator[int]:
    """Where something stands for which it is worth parsing the text: in each line the first of a kind at least."""
    zeros = data.translate(_DIGITS_AS_0)
    for text, literal in ((zeros, _LONG), *((data, word) for word in _WORDS)):
        position = text.find(literal)
        while position >= 0:
            yield position
            end = data.find(b"\n", position)
            position = text.find(literal, end) if end >= 0 else -1
    yield from (match.start() for match in _EXPONENT.finditer(zeros))
    if b"\\u" in data:
        yield from (match.start() for match in _SURROGATE.finditer(data))


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _Refused(f"a number of {len(digits.lstrip('-'))} digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Refused("a number that is too large for one")
    return value


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name}, which JSON does not have")


def _strings(value: object) -> Iterator[str]:
    """All texts and keys, without recursion. Raises _Refused where it is nested too deeply."""
    waiting = [(value, 1)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict | list):
            if depth > MAX_DEPTH:
                raise _Refused(f"is nested more than {MAX_DEPTH} levels")
            children = node if isinstance(node, list) else [*node, *node.values()]
            waiting += [(child, depth + 1) for child in children]
