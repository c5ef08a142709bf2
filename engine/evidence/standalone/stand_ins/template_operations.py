"""The operations of templates as functions of the scope, and what a stranger's template must not take too much of.

In: the parts of an expression, compiled. Out: the expression. ``scope[METER]`` counts and measures where the template is a stranger's.

    >>> calculated("+", constant(1), named("a"))({"a": 2})
    3
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

from engine.evidence.contents import NeedsEngine
from engine.evidence.standalone.stand_ins.template_values import (
    FILTERS,
    Loop,
    Markup,
    Undefined,
    UndefinedError,
    as_text,
)
from engine.evidence.standalone.stand_ins.template_words import Word
from engine.sandbox import Meter, before_filter, measured, require_short

Scope = dict[str, Any]
Expression = Callable[[Scope], Any]
METER = "a meter"  # the key of the scope's meter; no name of a template has a space
OWN_FILTERS = "own filters"
_CALCULATE: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow,
}  # fmt: skip
_OF_JINJA = frozenset({"namespace", "dict", "cycler", "joiner", "caller", "self", "super", "varargs", "kwargs", "loop"})
_OTHER_FILTERS = ("map", "percent")  # the second is that of the page
_METHODS_OF_MAPPINGS = frozenset({"items", "keys", "values", "get"})


def constant(value: object) -> Expression:
    """Always this value."""
    return lambda scope: value


def named(name: str) -> Expression:
    """A name of the scope; what is not there is undefined."""

    def look_up(scope: Scope) -> Any:
        try:
            return scope[name]
        except KeyError:
            if name in _OF_JINJA:
                raise NeedsEngine(name) from None
            return Undefined(f"'{name}' is undefined")

    return look_up


def choice(condition: Expression, first: Expression, second: Expression) -> Expression:
    """``a if b else c``."""
    return lambda scope: first(scope) if condition(scope) else second(scope)


def either(left: Expression, right: Expression) -> Expression:
    """The left one where it is true, else the right one."""
    return lambda scope: left(scope) or right(scope)


def both(left: Expression, right: Expression) -> Expression:
    """The left one where it is false, else the right one."""
    return lambda scope: left(scope) and right(scope)


def compared(first: Expression, rest: list[tuple[Callable[[Any, Any], Any], Expression]]) -> Expression:
    """A chain of comparisons: all must hold."""

    def compare(scope: Scope) -> Any:
        left, result = first(scope), True
        for holds, other in rest:
            right = other(scope)
            result = holds(left, right)
            if not result:
                return result
            left = right
        return result

    return compare


def calculated(sign: str, left: Expression, right: Expression) -> Expression:
    """An operator; of a stranger's template counted, and for numbers."""
    calculate = _CALCULATE[sign]

    def result(scope: Scope) -> Any:
        first, second = left(scope), right(scope)
        meter: Meter | None = scope.get(METER)
        if meter is not None:
            meter.count()
            for value in (first, second):
                if isinstance(value, Undefined):
                    raise UndefinedError(value.message)
            if isinstance(first, str) and isinstance(second, str) and sign == "+":
                require_short(len(first) + len(second))
            elif sign in ("**", "*") or not (_is_number(first) and _is_number(second)):
                _require_small(sign, first, second)
        return measured(calculate(first, second)) if meter is not None else calculate(first, second)

    return result


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _require_small(sign: str, first: object, second: object) -> None:
    """What the engine's own sandbox refuses or measures, and is seldom needed."""
    small = _is_number(first) and _is_number(second) and max(abs(first), abs(second)) < 1 << 53  # type: ignore[arg-type]
    if sign != "*" or not small:
        raise NeedsEngine(f"the operator {sign} on these values")


def joined(parts: list[Expression]) -> Expression:
    """Texts, one after the other."""

    def join(scope: Scope) -> str:
        values = [part(scope) for part in parts]
        if any(isinstance(value, Markup) for value in values):
            raise NeedsEngine("~ on markup")
        texts = [as_text(measured(value)) for value in values]
        require_short(sum(map(len, texts)))
        return "".join(texts)

    return join


def attribute(owner: Expression, word: Word) -> Expression:
    """``value.name``: of a mapping its key."""
    name = word.text
    if word.kind == "int":
        return item(owner, constant(int(name)))

    def look_up(scope: Scope) -> Any:
        value = owner(scope)
        if type(value) is dict:
            if name in value and name not in _METHODS_OF_MAPPINGS:
                return value[name]
            if name in _METHODS_OF_MAPPINGS:
                return getattr(value, name)
            if hasattr(value, name):
                raise NeedsEngine(f"the attribute {name} of a mapping")
            return Undefined(f"'dict object' has no attribute {name!r}")
        return _attribute_of(value, name)

    return look_up


def _attribute_of(value: Any, name: str) -> Any:
    if isinstance(value, Undefined):
        raise UndefinedError(value.message)
    if isinstance(value, Loop):
        return value[name]
    if (is_dataclass(value) and not name.startswith("_")) or name in getattr(value, "_fields", ()):
        return getattr(value, name)
    if value is None:
        return Undefined(f"'None' has no attribute {name!r}")
    raise NeedsEngine(f"the attribute {name} of a {type(value).__name__}")


def item(owner: Expression, index: Expression) -> Expression:
    """``value[index]``."""

    def look_up(scope: Scope) -> Any:
        value, at = owner(scope), index(scope)
        if isinstance(value, Undefined):
            raise UndefinedError(value.message)
        if isinstance(value, list | tuple) and isinstance(at, int):
            return (
                value[at]
                if -len(value) <= at < len(value)
                else Undefined(f"{type(value).__name__} object has no element {at!r}")
            )
        if isinstance(value, dict) and isinstance(at, str):
            return value[at] if at in value else attribute(constant(value), Word("name", at))(scope)
        raise NeedsEngine(f"an item of a {type(value).__name__}")

    return look_up


def called(function: Expression, plain: list[Expression], named: dict[str, Expression]) -> Expression:
    """A call of a macro, of ``range`` or of a method of a mapping."""

    def call(scope: Scope) -> Any:
        what = function(scope)
        if isinstance(what, Undefined):
            raise UndefinedError(what.message)
        meter: Meter | None = scope.get(METER)
        if meter is not None:
            meter.count()
        return what(*(one(scope) for one in plain), **{name: one(scope) for name, one in named.items()})

    return call


def filtered(name: str, value: Expression, plain: list[Expression], named: dict[str, Expression]) -> Expression:
    """``value | name(...)``."""
    if name not in FILTERS and name not in _OTHER_FILTERS:
        raise NeedsEngine(f"the filter {name}")

    def apply(scope: Scope) -> Any:
        function = scope.get(OWN_FILTERS, {}).get(name) or FILTERS.get(name)
        if name == "map":
            return _mapped(value(scope), [one(scope) for one in plain], {key: one(scope) for key, one in named.items()})
        if function is None:
            raise NeedsEngine(f"the filter {name}")
        first = value(scope)
        if isinstance(first, Undefined) and name not in ("default", "d"):
            raise UndefinedError(first.message)
        args = [first, *(one(scope) for one in plain)]
        kwargs = {key: one(scope) for key, one in named.items()}
        meter: Meter | None = scope.get(METER)
        if meter is None:
            return function(*args, **kwargs)
        meter.count()
        before_filter(name, tuple(args), kwargs)
        return measured(function(*args, **kwargs))

    return apply


def _mapped(values: Any, plain: list[Any], named: dict[str, Any]) -> list[Any]:
    """``map(attribute="name")``, and ``map`` with the name of a filter."""
    if named.keys() == {"attribute"} and not plain and isinstance(named["attribute"], str):
        names = named["attribute"].split(".")
        getters = [attribute(constant(value), Word("name", names[0])) for value in values]
        if len(names) > 1 or names[0].isdigit():
            raise NeedsEngine("map with a dotted attribute")
        return [getter({}) for getter in getters]
    if plain and not named and plain[0] in FILTERS:
        return [FILTERS[plain[0]](value, *plain[1:]) for value in values]
    raise NeedsEngine("this use of map")
