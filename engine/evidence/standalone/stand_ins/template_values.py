"""The values that templates work with, beyond plain ones: what is undefined, text that is safe, the loop, and the filters.

Each does what Jinja's of the same name does; what is not here raises NeedsEngine.
"""

from __future__ import annotations

import json
import math
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from engine.evidence.contents import NeedsEngine


class UndefinedError(Exception):
    """A value that does not exist was used."""


class FilterArgumentError(ValueError):
    """A filter got an argument that it does not know."""


class Undefined:
    """What a missing name stands for: it may be asked whether it is defined, and nothing else."""

    def __init__(self, message: str) -> None:
        self.message = message

    def __repr__(self) -> str:
        return "Undefined"

    def use(self, *_: object) -> NoReturn:
        """Whatever is done with it."""
        raise UndefinedError(self.message)

    __str__ = __iter__ = __len__ = __bool__ = __eq__ = __ne__ = __hash__ = __contains__ = __call__ = __getitem__ = use
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __mod__ = __rmod__ = use
    __lt__ = __le__ = __gt__ = __ge__ = __neg__ = __pos__ = __int__ = __float__ = __floordiv__ = __pow__ = use


class Nothing:
    """What ``a if b`` gives where ``b`` does not hold: no text, false, no items."""

    def __repr__(self) -> str:
        return "Undefined"

    def __str__(self) -> str:
        return ""

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Iterator[object]:
        return iter(())


class Markup(str):
    """Text that needs no escape: what a macro of an escaping template writes."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def escaped(value: object) -> str:
    """Text for HTML."""
    if isinstance(value, Markup):
        return value
    text = value if isinstance(value, str) else str(value)
    text = text.replace("&", "&amp;").replace(">", "&gt;").replace("<", "&lt;")
    return text.replace("'", "&#39;").replace('"', "&#34;")


@dataclass
class Loop:
    """``loop`` inside a loop."""

    index0: int
    items: Sequence[object]

    def __getitem__(self, name: str) -> object:
        at, length = self.index0, len(self.items)
        if name == "previtem":
            return self.items[at - 1] if at else Undefined("there is no previous item")
        if name == "nextitem":
            return self.items[at + 1] if at + 1 < length else Undefined("there is no next item")
        values: Mapping[str, object] = {
            "index": at + 1, "index0": at, "length": length, "first": not at, "last": at + 1 == length,
            "revindex": length - at, "revindex0": length - at - 1,
        }  # fmt: skip
        if name not in values:
            raise NeedsEngine(f"loop.{name}")
        return values[name]


def as_text(value: object) -> str:
    """As ``~`` and ``join`` take it."""
    return value if isinstance(value, str) else str(value)


def tojson(value: object, indent: int | None = None) -> str:
    """JSON that may stand inside HTML, keys sorted."""
    text = json.dumps(_plain(value), sort_keys=True, indent=indent)
    for sign in "<>&'":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _plain(value: object) -> object:
    return value.use() if isinstance(value, Undefined) else value


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if method == "common":
        return round(value, precision)
    if method not in ("ceil", "floor"):
        raise FilterArgumentError("method must be common, ceil or floor")
    whole: Callable[[float], int] = math.ceil if method == "ceil" else math.floor
    return float(whole(value * (10**precision)) / (10**precision))


def _dictsort(
    value: Mapping[Any, Any], case_sensitive: bool = False, by: str = "key", reverse: bool = False
) -> list[Any]:
    if by not in ("key", "value"):
        raise NeedsEngine(f"dictsort by {by}")
    position = 0 if by == "key" else 1
    return sorted(value.items(), key=lambda pair: _folded(pair[position], case_sensitive), reverse=reverse)


def _folded(value: Any, case_sensitive: bool) -> Any:
    return value.lower() if isinstance(value, str) and not case_sensitive else value


def _sort(value: Iterable[Any], reverse: bool = False, case_sensitive: bool = False) -> list[Any]:
    return sorted(value, key=lambda one: _folded(one, case_sensitive), reverse=reverse)


def _join(value: Iterable[object], separator: str = "") -> str:
    parts = list(value)
    if any(isinstance(part, Markup) for part in parts):
        raise NeedsEngine("join of markup")
    return as_text(separator).join(map(as_text, parts))


def _default(value: object, instead: object = "", boolean: bool = False) -> object:
    if isinstance(value, Undefined):
        return instead
    return instead if boolean and not value else value


def _first(value: Iterable[object]) -> object:
    return next(iter(value), Undefined("No first item, sequence was empty."))


def _last(value: Any) -> object:
    return next(iter(reversed(value)), Undefined("No last item, sequence was empty."))


def _sum(value: Iterable[Any]) -> Any:
    return sum(value)


def _format(value: object, *args: object, **named: object) -> str:
    if args and named:
        raise NeedsEngine("format with both kinds of arguments")
    return as_text(value) % (named or args)


def _urlencode(value: object) -> str:
    if not isinstance(value, str):
        raise NeedsEngine("urlencode of something that is no text")
    return urllib.parse.quote_from_bytes(value.encode(), safe=b"/")


def _int(value: Any, default: int = 0) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return default


def _float(value: Any, default: float = 0.0) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


FILTERS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "count": len,
    "d": _default,
    "default": _default,
    "dictsort": _dictsort,
    "e": lambda value: Markup(escaped(value)),
    "escape": lambda value: Markup(escaped(value)),
    "first": _first,
    "float": _float,
    "format": _format,
    "int": _int,
    "items": lambda value: list(value.items()),
    "join": _join,
    "last": _last,
    "length": len,
    "list": list,
    "lower": lambda value: as_text(value).lower(),
    "replace": lambda value, old, new: as_text(value).replace(as_text(old), as_text(new)),
    "round": _round,
    "safe": lambda value: Markup(as_text(value)),
    "sort": _sort,
    "string": as_text,
    "sum": _sum,
    "tojson": tojson,
    "trim": lambda value: as_text(value).strip(),
    "urlencode": _urlencode,
    "upper": lambda value: as_text(value).upper(),
}
TESTS: Mapping[str, Callable[..., bool]] = {
    "defined": lambda value: not isinstance(value, Undefined),
    "undefined": lambda value: isinstance(value, Undefined),
    "none": lambda value: value is None,
    "boolean": lambda value: value is True or value is False,
    "true": lambda value: value is True,
    "false": lambda value: value is False,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, float),
    "number": lambda value: isinstance(value, int | float),
    "string": lambda value: isinstance(value, str),
    "mapping": lambda value: isinstance(value, Mapping),
    "odd": lambda value: value % 2 == 1,
    "even": lambda value: value % 2 == 0,
    "eq": lambda value, other: value == other,
    "equalto": lambda value, other: value == other,
    "ne": lambda value, other: value != other,
    "gt": lambda value, other: value > other,
    "lt": lambda value, other: value < other,
    "in": lambda value, other: value in other,
}
