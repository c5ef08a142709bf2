"""Numbers and statements in text, exactly: fractions, never floats.

>>> value("2 + 3 × (4 - 1) ÷ 2")
Fraction(13, 2)
>>> false_statement("first 2 + 2 = 4, then 4 × 3 = 11")
'4 × 3 = 11'
"""

from __future__ import annotations

import re
from fractions import Fraction

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|[-+×÷*/()])")
# The left side: numbers joined by operators, not preceded by a letter or a digit (3x = 15 is no statement).
_STATEMENT = re.compile(
    r"(?<![\w.)])(?P<left>[-(\d][-\d.\s+×÷*/()]*?)\s*(?P<sign>[=<>])\s*(?P<right>\(?-?\d+(?:\.\d+)?\)?)(?![\w(])"
)


def numbers(text: str) -> list[Fraction]:
    """All numbers of a text in order; ``5 - 3`` has 5 and 3, ``5 and -3`` has 5 and -3.

    >>> [str(number) for number in numbers("x - 2.5 from -7")]
    ['5/2', '-7']
    """
    return [Fraction(number) for number in _NUMBER.findall(text)]


def integers(text: str) -> list[int]:
    """The same for texts with whole numbers only."""
    return [int(number) for number in numbers(text)]


def value(expression: str) -> Fraction:
    """An arithmetic expression by the usual order of operations. Raises ValueError, ZeroDivisionError."""
    tokens = _tokens(expression)
    result, at = _sum(tokens, 0)
    if at != len(tokens):
        raise ValueError(f"not an expression: {expression!r}")
    return result


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    text = expression.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"not an expression: {expression!r}")
        tokens.append(match[1])
        at = match.end()
    return tokens


def _sum(tokens: list[str], at: int) -> tuple[Fraction, int]:
    total, at = _product(tokens, at)
    while at < len(tokens) and tokens[at] in "+-":
        right, after = _product(tokens, at + 1)
        total = total + right if tokens[at] == "+" else total - right
        at = after
    return total, at


def _product(tokens: list[str], at: int) -> tuple[Fraction, int]:
    total, at = _atom(tokens, at)
    while at < len(tokens) and tokens[at] in "×÷*/":
        right, after = _atom(tokens, at + 1)
        total = total * right if tokens[at] in "×*" else total / right
        at = after
    return total, at


def _atom(tokens: list[str], at: int) -> tuple[Fraction, int]:
    if at >= len(tokens):
        raise ValueError("the expression ends too early")
    if tokens[at] == "-":
        inner, after = _atom(tokens, at + 1)
        return -inner, after
    if tokens[at] == "(":
        inner, after = _sum(tokens, at + 1)
        if after >= len(tokens) or tokens[after] != ")":
            raise ValueError("a bracket is not closed")
        return inner, after + 1
    return Fraction(tokens[at]), at + 1


def false_statement(text: str) -> str | None:
    """The first equation or comparison of plain numbers in the text that is false; None where all are true."""
    for match in _STATEMENT.finditer(text):
        try:
            left, right = value(match["left"]), value(match["right"])
        except ValueError:
            return f"{match[0].strip()} (which cannot be read)"
        except ZeroDivisionError:
            return match[0].strip()
        holds = {"=": left == right, "<": left < right, ">": left > right}[match["sign"]]
        if not holds:
            return match[0].strip()
    return None
