"""A template -> a function that writes it: text, values, if, for, set and macro; everything else raises NeedsEngine.

>>> template = read_template("{% for n in names %}{{ loop.index }}:{{ n }} {% else %}none{% endfor %}")
>>> out = []
>>> template({"names": ["a", "b"]}, out)
>>> "".join(out)
'1:a 2:b '
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.evidence.contents import NeedsEngine
from engine.evidence.standalone.stand_ins.template_expressions import ExpressionReader, compiled
from engine.evidence.standalone.stand_ins.template_operations import METER, Expression, Scope
from engine.evidence.standalone.stand_ins.template_values import Loop, Markup, Undefined, UndefinedError, escaped
from engine.evidence.standalone.stand_ins.template_words import Piece, TemplateFault, pieces, words
from engine.sandbox import Exceeded

Write = Callable[[Scope, "list[str]"], None]
Finalize = Callable[[Any], Any]
MAX_OUTPUT_CHARS = 4_000_000
MOST_NESTED_MACROS = 100
DEPTH = "a depth"  # of macros that are being written; no name of a template has a space


class TemplateOutput(list[str]):
    """What is written, which has an end: ``most`` characters."""

    def __init__(self, most: int = MAX_OUTPUT_CHARS) -> None:
        super().__init__()
        self._left = most

    def append(self, text: str) -> None:
        """One more piece."""
        self._left -= len(text)
        if self._left < 0:
            raise Exceeded(f"it renders more than {MAX_OUTPUT_CHARS} characters")
        super().append(text)


class _Blocks:
    """Reads the pieces of one template; ``in_loop`` and ``sets`` tell what the innermost loop must do."""

    def __init__(self, source: str, escapes: bool, finalize: Finalize | None) -> None:
        self.pieces = list(pieces(source))
        self.at, self.escapes, self.finalize = 0, escapes, finalize
        self.depth, self.sets = 0, False

    def block(self, *ends: str) -> tuple[Write, str]:
        """Everything up to a statement that begins with one of these words, and that statement."""
        parts: list[Write] = []
        while self.at < len(self.pieces):
            piece = self.pieces[self.at]
            self.at += 1
            if piece.kind == "text":
                parts.append(_text(piece.text))
            elif piece.kind == "value":
                parts.append(self.value(piece))
            elif (word := piece.text.split(maxsplit=1)[:1]) and word[0] in ends:
                if word[0] != "elif" and piece.text != word[0]:
                    raise TemplateFault(f"line {piece.line}: expected end of statement block")
                return _all(parts), piece.text
            else:
                parts.append(self.statement(piece))
        if ends:
            raise TemplateFault(f"the template ends without {' or '.join(ends)}")
        return _all(parts), ""

    def value(self, piece: Piece) -> Write:
        expression, finalize, escapes = compiled(piece.text, piece.line), self.finalize, self.escapes

        def write(scope: Scope, out: list[str]) -> None:
            value = expression(scope)
            if finalize is not None:
                value = finalize(value)
            out.append(escaped(value) if escapes else value if isinstance(value, str) else str(value))

        return write

    def statement(self, piece: Piece) -> Write:
        word, _, rest = piece.text.partition(" ")
        if word == "if":
            return self.choice(rest, piece)
        if word == "for":
            return self.loop(rest, piece)
        if word == "set":
            return self.setting(rest, piece)
        if word == "macro" and not self.depth:
            return self.macro(rest, piece)
        raise NeedsEngine(f"the statement {word}")

    def choice(self, condition: str, piece: Piece) -> Write:
        branches: list[tuple[Expression, Write]] = []
        ended = f"if {condition}"
        while ended.startswith(("if ", "elif ")):
            holds = compiled(ended.partition(" ")[2], piece.line)
            self.depth += 1
            body, ended = self.block("elif", "else", "endif")
            self.depth -= 1
            branches.append((holds, body))
        otherwise = self.block("endif")[0] if ended == "else" else _all([])

        def write(scope: Scope, out: list[str]) -> None:
            for holds, body in branches:
                if holds(scope):
                    return body(scope, out)
            return otherwise(scope, out)

        return write

    def loop(self, text: str, piece: Piece) -> Write:
        reader = ExpressionReader(words(text, piece.line), piece.line)
        names = _names(reader)
        reader.expect("name", "in")
        values = reader.tuple_of(reader.either)
        condition = reader.conditional() if reader.skip("if", "name") else None
        reader.expect("end")
        outer, self.sets = self.sets, False
        self.depth += 1
        body, ended = self.block("else", "endfor")
        sets, self.sets = self.sets, outer
        otherwise = self.block("endfor")[0] if ended == "else" else _all([])
        self.depth -= 1
        return _loop(names, values, condition, body, otherwise, sets)

    def setting(self, text: str, piece: Piece) -> Write:
        reader = ExpressionReader(words(text, piece.line), piece.line)
        names = _names(reader)
        if reader.next.kind == "end" or reader.next.text == ".":
            raise NeedsEngine("this use of set")
        reader.expect("sign", "=")
        value = reader.tuple_of(reader.conditional)
        reader.expect("end")
        self.sets = True

        def write(scope: Scope, out: list[str]) -> None:
            _assign(names, value(scope), scope)

        return write

    def macro(self, text: str, piece: Piece) -> Write:
        reader = ExpressionReader(words(text, piece.line), piece.line)
        name, parameters = reader.expect("name").text, list[str]()
        reader.expect("sign", "(")
        while not reader.skip(")"):
            if parameters:
                reader.expect("sign", ",")
            parameters.append(reader.expect("name").text)
            if reader.next.text == "=":
                raise NeedsEngine("a macro with defaults")
        reader.expect("end")
        self.depth += 1
        body, _ = self.block("endmacro")
        self.depth -= 1
        escapes = self.escapes

        def define(scope: Scope, out: list[str]) -> None:
            scope[name] = _macro(name, parameters, body, scope, escapes)

        return define


def _names(reader: ExpressionReader) -> list[str]:
    """``a`` or ``a, b``, also in brackets."""
    bracket = reader.skip("(")
    names = [reader.expect("name").text]
    while reader.skip(","):
        names.append(reader.expect("name").text)
    if bracket:
        reader.expect("sign", ")")
    return names


def _text(text: str) -> Write:
    return lambda scope, out: out.append(text)


def _all(parts: Sequence[Write]) -> Write:
    if len(parts) == 1:
        return parts[0]

    def write(scope: Scope, out: list[str]) -> None:
        for part in parts:
            part(scope, out)

    return write


def _assign(names: Sequence[str], value: Any, scope: Scope) -> None:
    if isinstance(value, Undefined) and len(names) > 1:
        raise UndefinedError(value.message)
    if len(names) == 1:
        scope[names[0]] = value
        return
    values = list(value)
    if len(values) != len(names):
        few = len(values) < len(names)
        got = f", got {len(values)}" if few else ""
        raise ValueError(f"{'not enough' if few else 'too many'} values to unpack (expected {len(names)}{got})")
    scope.update(zip(names, values, strict=True))


def _loop(
    names: Sequence[str], values: Expression, condition: Expression | None, body: Write, otherwise: Write, sets: bool
) -> Write:
    def write(scope: Scope, out: list[str]) -> None:
        inner, meter = dict(scope), scope.get(METER)
        items = list(values(scope))
        if condition is not None:
            items = [item for item in items if _holds(condition, names, item, inner)]
        for index, item in enumerate(items):
            if meter is not None:
                meter.count()
            if sets:
                inner = dict(scope)
            _assign(names, item, inner)
            inner["loop"] = Loop(index, items)
            body(inner, out)
        if not items:
            otherwise(scope, out)

    return write


def _holds(condition: Expression, names: Sequence[str], item: Any, scope: Scope) -> bool:
    _assign(names, item, scope)
    return bool(condition(scope))


def _macro(name: str, parameters: Sequence[str], body: Write, top: Scope, escapes: bool) -> Callable[..., str]:
    def call(*args: Any) -> str:
        if len(args) > len(parameters):
            raise TypeError(f"macro {name!r} takes not more than {len(parameters)} argument(s)")
        missing = {one: Undefined(f"parameter {one!r} was not provided") for one in parameters[len(args) :]}
        inner = {**top, **dict(zip(parameters, args, strict=False)), **missing, DEPTH: top.get(DEPTH, 0) + 1}
        if inner[DEPTH] > MOST_NESTED_MACROS:
            raise RecursionError
        out = TemplateOutput()
        body(inner, out)
        return Markup("".join(out)) if escapes else "".join(out)

    return call


def read_template(source: str, escapes: bool = False, finalize: Finalize | None = None) -> Write:
    """The template. Raises TemplateFault, NeedsEngine."""
    return _Blocks(source, escapes, finalize).block()[0]
