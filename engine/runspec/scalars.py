"""The value of an unquoted word of YAML 1.2, and how to write what a person probably meant.

>>> resolve("1e-5"), resolve("no"), resolve("0x10"), resolve("~")
(1e-05, 'no', 16, None)
>>> as_number("1,000"), as_number("10^-5"), as_number("2k"), as_number("1:30"), as_number("many")
('1000', '1e-5', '2000', '90', None)
"""

from __future__ import annotations

import math
import re

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

# More than any number of a run-spec needs; Python refuses to read integers of more than 4300 digits anyway.
MAX_DIGITS = 18
_POWER = re.compile(r"10(?:\^|\*\*)([-+]?[0-9]+)")
_MULTIPLES = {"k": 1000, "m": 1_000_000, "b": 1_000_000_000}
_MULTIPLE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kKmMbB])")
_SIXTIES = re.compile(r"[0-9]{1,6}(:[0-5]?[0-9]){1,2}(\.[0-9]+)?")  # YAML 1.1 read 1:30 as 90
_DASHES = str.maketrans({"\u2212": "-", "\u2013": "-", "\u2014": "-", "\u2010": "-", "\u2011": "-"})

MEANT_AS_BOOL = {
    "yes": "true", "y": "true", "on": "true", "true": "true", "1": "true",
    "no": "false", "n": "false", "off": "false", "false": "false", "0": "false",
}  # fmt: skip


class NotANumber(ValueError):
    """NaN, an infinity, or a number too large to be meant."""


def resolve(text: str) -> str | int | float | bool | None:
    """The value of an unquoted word. Raises NotANumber with a sentence."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text) or _OCTAL.fullmatch(text) or _HEX.fullmatch(text):
        return _integer(text)
    if _NOT_FINITE.fullmatch(text):
        raise NotANumber(f"{text} is not a finite number")
    if _FLOAT.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            raise NotANumber(f"{_short(text)} is too large a number")
        return value
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-").lstrip("0")
    if len(digits) > MAX_DIGITS:
        raise NotANumber(f"{_short(text)} is too large a number")
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:20]}…"


def _in_base_60(text: str) -> float:
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total


def as_number(text: str) -> str | None:
    """How to write the number that this text seems to mean, or None where it seems to mean none."""
    cleaned = text.strip().translate(_DASHES)
    sixties = _SIXTIES.fullmatch(cleaned)
    if sixties:
        return f"{_in_base_60(cleaned):g}"
    power = _POWER.fullmatch(cleaned)
    if power:
        return f"1e{int(power[1])}"
    multiple = _MULTIPLE.fullmatch(cleaned)
    if multiple:
        return f"{float(multiple[1]) * _MULTIPLES[multiple[2].lower()]:.0f}"
    if re.fullmatch(r"[0-9]+,[0-9]{1,2}|0,[0-9]+", cleaned):
        return cleaned.replace(",", ".")  # a decimal comma; thousands come in threes
    bare = re.sub(r"(?<=[0-9])[_,' ](?=[0-9])", "", cleaned)
    bare = re.sub(r"\s*([eE])\s*([-+]?)\s*(?=[0-9]+$)", r"\1\2", bare)
    bare = bare.removesuffix("f") if _FLOAT.fullmatch(bare.removesuffix("f")) else bare
    if _INT.fullmatch(bare) or _FLOAT.fullmatch(bare):
        return bare if len(bare) <= MAX_DIGITS + 6 else None
    return None
