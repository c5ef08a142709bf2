"""A template's text -> its pieces: text, values, statements; and the words of an expression.

In: Jinja's syntax with ``trim_blocks`` and ``lstrip_blocks``. Out: pieces in order. What is no such template raises TemplateFault.

    >>> [(p.kind, p.text) for p in pieces("a {% if b %}\\nc{# d #}{{ e }}")]
    [('text', 'a '), ('statement', 'if b'), ('text', 'c'), ('value', 'e')]
    >>> [word.text for word in words("a.b|round(1.50) ~ 'x'", 1)]
    ['a', '.', 'b', '|', 'round', '(', '1.50', ')', '~', 'x', '']
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from engine.evidence.contents import NeedsEngine

_OPEN = re.compile(r"\{\{|\{%|\{#")
_RAW = re.compile(r"\{%[-+]?\s*raw\b")
_ENDS = {"{{": "}}", "{%": "%}", "{#": "#}"}
_KINDS = {"{{": "value", "{%": "statement", "{#": "comment"}
_WORD = re.compile(
    r"\s*(?:(?P<name>[^\W\d]\w*)|(?P<float>(?<!\.)\d+(?:\.\d+(?:[eE][+-]?\d+)?|[eE][+-]?\d+))|(?P<int>\d+)"
    r"|(?P<string>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(?P<sign>//|\*\*|==|!=|<=|>=|[-+*/%~<>=.,:|()\[\]{}]))",
    re.DOTALL,
)
_BRACKETS = {")": "(", "]": "[", "}": "{"}


class TemplateFault(Exception):
    """The text is not a template."""


@dataclass(frozen=True)
class Piece:
    """``kind``: text, value or statement; ``line`` counts from 1."""

    kind: str
    text: str
    line: int


@dataclass(frozen=True)
class Word:
    """``kind``: name, int, float, string, sign or end. The text of a string is its value."""

    kind: str
    text: str


def pieces(source: str) -> Iterator[Piece]:
    """Text without what the signs of whitespace control take away, values and statements."""
    source = re.sub(r"\r\n|\r", "\n", source)
    if _RAW.search(source):
        raise NeedsEngine("the statement raw")
    at, strip_next, line = 0, "", 1
    while True:
        opening = _OPEN.search(source, at)
        text = source[at : opening.start() if opening else len(source)]
        begin = opening.end() if opening else len(source)
        sign = source[begin : begin + 1] if opening else ""
        shown = _stripped_left(text, strip_next)
        if opening:
            taken = text[: len(text) - len(shown)]
            shown = _stripped_right(shown, sign, opening[0] != "{{", at == 0 or taken.endswith("\n"))
        if shown:
            yield Piece("text", shown, line)
        if opening is None:
            return
        line += text.count("\n")
        end = _end(source, begin, opening[0], line)
        inner = source[begin:end]
        if inner[:1] in ("-", "+"):
            inner = inner[1:]
        last = inner[-1:] if inner[-1:] == "-" or (inner[-1:] == "+" and opening[0] != "{{") else ""
        if _KINDS[opening[0]] != "comment":
            yield Piece(_KINDS[opening[0]], (inner[:-1] if last else inner).strip(), line)
        line += source.count("\n", begin, end)
        at = end + 2
        strip_next = "all" if last == "-" else "\n" if opening[0] != "{{" and last != "+" else ""


def _stripped_left(text: str, how: str) -> str:
    if how == "all":
        return text.lstrip()
    return text[1:] if how and text.startswith("\n") else text


def _stripped_right(text: str, sign: str, is_block: bool, at_line_start: bool) -> str:
    if sign == "-":
        return text.rstrip()
    if sign != "+" and is_block:
        begin = text.rfind("\n") + 1
        if (begin or at_line_start) and not text[begin:].strip(" \t\r\v\f"):
            return text[:begin]
    return text


def _end(source: str, begin: int, opening: str, line: int) -> int:
    """Where the piece ends; brackets and strings inside may have the same characters."""
    ending = _ENDS[opening]
    if opening == "{#":
        found = source.find(ending, begin)
        if found < 0:
            raise NeedsEngine("a comment without an end")
        return found
    at, depth = begin + (source[begin : begin + 1] in ("-", "+")), 0
    while True:
        gap = re.compile(r"\s*").match(source, at)
        at = gap.end() if gap else at
        for sign in ("-", "+", "") if opening == "{%" else ("-", ""):
            if not depth and source.startswith(sign + ending, at):
                return at + len(sign)
        match = _WORD.match(source, at)
        if match is None:
            raise TemplateFault(f"line {line}: unexpected {source[at : at + 1]!r}")
        depth += (match["sign"] in ("(", "[", "{")) - (match["sign"] in (")", "]", "}"))
        at = match.end()


def words(text: str, line: int) -> list[Word]:
    """The words of an expression or statement, and one of the kind ``end``."""
    found, at, text = [], 0, text.rstrip()
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise TemplateFault(f"line {line}: unexpected {text[at : at + 1]!r}")
        kind = str(match.lastgroup)
        value = match[kind]
        if kind == "string":
            value = value[1:-1].encode("ascii", "backslashreplace").decode("unicode-escape")
        found.append(Word(kind, value))
        at = match.end()
    return [*found, Word("end", "")]
