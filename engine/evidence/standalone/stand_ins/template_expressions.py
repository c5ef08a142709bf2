"""The words of an expression -> a function of the scope: nothing is compiled to Python's own code.

>>> compiled("a.b + 2 * 3 if a is defined else 'none'", 1)({"a": {"b": 1}})
7
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from engine.evidence.contents import NeedsEngine
from engine.evidence.standalone.stand_ins import template_operations as op
from engine.evidence.standalone.stand_ins.template_operations import Expression
from engine.evidence.standalone.stand_ins.template_values import TESTS, Nothing
from engine.evidence.standalone.stand_ins.template_words import TemplateFault, Word, words
from engine.sandbox import measured

_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "none": None, "None": None}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def compiled(text: str, line: int) -> Expression:
    """The one expression of a text."""
    reader = ExpressionReader(words(text, line), line)
    expression = reader.tuple_of(reader.conditional)
    reader.expect("end")
    return expression


class ExpressionReader:
    """Reads words from left to right, each rule by a method of its own, the loosest binding first."""

    def __init__(self, found: Sequence[Word], line: int) -> None:
        self.words, self.line, self.at = found, line, 0

    @property
    def next(self) -> Word:
        """The word that comes next."""
        return self.words[self.at]

    def take(self) -> Word:
        """That word, and go on."""
        word = self.next
        self.at += 1
        return word

    def skip(self, text: str, kind: str = "sign") -> bool:
        """Take the word where it is this one."""
        found = self.next.text == text and self.next.kind == kind
        self.at += found
        return found

    def expect(self, kind: str, text: str | None = None) -> Word:
        """The next word, which must be this one."""
        if self.next.kind != kind or (text is not None and self.next.text != text):
            raise TemplateFault(f"line {self.line}: unexpected {self.next.text or 'end'!r}")
        return self.take()

    def tuple_of(self, part: Callable[[], Expression]) -> Expression:
        """One expression, or several with commas between them."""
        first = part()
        if not (self.next.kind == "sign" and self.next.text == ","):
            return first
        parts = [first]
        while self.skip(","):
            if self.next.kind == "end":
                break
            parts.append(part())
        return lambda scope: tuple(one(scope) for one in parts)

    def conditional(self) -> Expression:
        """``a if b else c``."""
        value = self.either()
        while self.skip("if", "name"):
            condition, first = self.either(), value
            second = self.conditional() if self.skip("else", "name") else op.constant(Nothing())
            value = op.choice(condition, first, second)
        return value

    def either(self) -> Expression:
        """``or``."""
        left = self.both()
        while self.skip("or", "name"):
            left = op.either(left, self.both())
        return left

    def both(self) -> Expression:
        """``and``."""
        left = self.negated()
        while self.skip("and", "name"):
            left = op.both(left, self.negated())
        return left

    def negated(self) -> Expression:
        """``not``."""
        if self.skip("not", "name"):
            value = self.negated()
            return lambda scope: not value(scope)
        return self.comparison()

    def comparison(self) -> Expression:
        """``<``, ``in`` and the others, in a chain."""
        first, rest = self.sum(), []
        while True:
            if self.next.kind == "sign" and self.next.text in _COMPARE:
                rest.append((_COMPARE[self.take().text], self.sum()))
            elif self.skip("in", "name"):
                rest.append((lambda value, group: value in group, self.sum()))
            elif self.next.text == "not" and self.words[self.at + 1].text == "in" and self.next.kind == "name":
                self.at += 2
                rest.append((lambda value, group: value not in group, self.sum()))
            else:
                return op.compared(first, rest) if rest else first

    def sum(self) -> Expression:
        """``+`` and ``-``."""
        left = self.joined()
        while self.next.kind == "sign" and self.next.text in ("+", "-"):
            left = op.calculated(self.take().text, left, self.joined())
        return left

    def joined(self) -> Expression:
        """``~``."""
        parts = [self.product()]
        while self.skip("~"):
            parts.append(self.product())
        return parts[0] if len(parts) == 1 else op.joined(parts)

    def product(self) -> Expression:
        """``*``, ``/``, ``//`` and ``%``."""
        left = self.power()
        while self.next.kind == "sign" and self.next.text in ("*", "/", "//", "%"):
            left = op.calculated(self.take().text, left, self.power())
        return left

    def power(self) -> Expression:
        """``**``."""
        left = self.signed()
        while self.skip("**"):
            left = op.calculated("**", left, self.signed())
        return left

    def signed(self, with_filters: bool = True) -> Expression:
        """A sign before a value, and what follows the value."""
        if self.next.kind == "sign" and self.next.text in ("-", "+"):
            change = operator.neg if self.take().text == "-" else operator.pos
            inner = self.signed(with_filters=False)
            value: Expression = lambda scope: change(inner(scope))  # noqa: E731 - a function for each sign is longer
        else:
            value = self.primary()
        value = self.after(value)
        return self.filtered(value) if with_filters else value

    def primary(self) -> Expression:
        """A name, a constant, or something in brackets."""
        word = self.take()
        if word.kind == "name":
            return op.constant(_CONSTANTS[word.text]) if word.text in _CONSTANTS else op.named(word.text)
        if word.kind == "string":
            text = word.text
            while self.next.kind == "string":
                text += self.take().text
            return op.constant(text)
        if word.kind in ("int", "float"):
            return op.constant(int(word.text) if word.kind == "int" else float(word.text))
        if word.kind == "sign" and word.text in ("(", "["):
            return self.bracketed(word.text)
        if word.kind == "sign" and word.text == "{":
            return self.mapping()
        raise TemplateFault(f"line {self.line}: unexpected {word.text or 'end'!r}")

    def bracketed(self, opening: str) -> Expression:
        """A list, a tuple, or an expression in brackets."""
        parts: list[Expression] = []
        closing, commas = {"(": ")", "[": "]"}[opening], 0
        while not self.skip(closing):
            if len(parts) > commas:
                self.expect("sign", ",")
                commas += 1
                if self.skip(closing):
                    break
            parts.append(self.conditional())
        if opening == "(" and len(parts) == 1 and not commas:
            return parts[0]
        kind: Callable[[Any], Any] = list if opening == "[" else tuple
        return lambda scope: measured(kind([part(scope) for part in parts]))

    def mapping(self) -> Expression:
        """``{key: value}``."""
        pairs: list[tuple[Expression, Expression]] = []
        while not self.skip("}"):
            if pairs:
                self.expect("sign", ",")
                if self.skip("}"):
                    break
            key = self.conditional()
            self.expect("sign", ":")
            pairs.append((key, self.conditional()))
        return lambda scope: measured({key(scope): value(scope) for key, value in pairs})

    def after(self, value: Expression) -> Expression:
        """Attributes, items and calls."""
        while self.next.kind == "sign" and self.next.text in (".", "[", "("):
            sign = self.take().text
            if sign == ".":
                value = op.attribute(value, self.expect("name" if self.next.kind == "name" else "int"))
            elif sign == "[":
                index = op.constant(None) if self.next.text == ":" else self.conditional()
                if self.next.text in (":", ","):
                    raise NeedsEngine("a slice")
                self.expect("sign", "]")
                value = op.item(value, index)
            else:
                value = op.called(value, *self.arguments())
        return value

    def arguments(self) -> tuple[list[Expression], dict[str, Expression]]:
        """After an opening bracket."""
        plain: list[Expression] = []
        named: dict[str, Expression] = {}
        while not self.skip(")"):
            if plain or named:
                self.expect("sign", ",")
                if self.skip(")"):
                    break
            if (
                self.next.kind == "name"
                and self.words[self.at + 1].text == "="
                and self.words[self.at + 1].kind == "sign"
            ):
                name = self.take().text
                self.take()
                named[name] = self.conditional()
            else:
                plain.append(self.conditional())
        return plain, named

    def filtered(self, value: Expression) -> Expression:
        """Filters and tests."""
        while True:
            if self.skip("|"):
                name = self.expect("name").text
                plain, named = self.arguments() if self.skip("(") else ([], {})
                value = op.filtered(name, value, plain, named)
            elif self.skip("is", "name"):
                is_negated = self.skip("not", "name")
                value = self.tested(value, is_negated)
            elif self.skip("("):
                value = op.called(value, *self.arguments())
            else:
                return value

    def tested(self, value: Expression, is_negated: bool) -> Expression:
        """``is`` and the name of a test."""
        name, plain = self.expect("name").text, list[Expression]()
        if self.skip("("):
            plain, named = self.arguments()
            if named:
                raise NeedsEngine(f"the test {name} with named arguments")
        elif self.next.kind in ("name", "int", "float", "string") and self.next.text not in (
            "else",
            "or",
            "and",
            "is",
            "if",
            "in",
        ):
            plain = [self.after(self.primary())]
        if name not in TESTS:
            raise NeedsEngine(f"the test {name}")
        test = TESTS[name]
        return lambda scope: test(value(scope), *(one(scope) for one in plain)) is not is_negated
