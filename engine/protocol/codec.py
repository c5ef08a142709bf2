"""Dataclasses to JSON values and back, strictly.

In: a frozen dataclass whose fields are JSON values, tuples, mappings, literals or such dataclasses. Out: a mapping, and
from the mapping an equal value. A field that is unknown, missing or of another type is a :class:`FieldError` that
names it; nothing is converted but an integer where a float is declared.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Point:
    ...     x: int
    ...     names: tuple[str, ...] = ()
    >>> to_json(Point(1, ("a",)))
    {'x': 1, 'names': ['a']}
    >>> from_json(Point, {"x": 1, "y": 2})
    Traceback (most recent call last):
        ...
    engine.protocol.codec.FieldError: unknown field "y"; there are: x, names
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from engine.errors import did_you_mean, listed

T = TypeVar("T")

NAMES_OF_TYPES = {str: "text", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}


class FieldError(ValueError):
    """A value that does not match its declared type; the message names the field by its dotted path."""


def to_json(value: Any) -> Any:
    """The JSON value of a dataclass (all of its fields), of a field's value, or of a mapping."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value


def from_json(cls: type[T], values: object, path: str = "") -> T:
    """The dataclass of these values. Raises FieldError. A field with a default may be left out."""
    if not isinstance(values, Mapping):
        raise FieldError(f"{path or cls.__name__} must be a mapping, and is {_as_text(values)}")
    types_of_fields: dict[str, Any] = field_types(cls)  # type: ignore[arg-type]  # mypy: a class is hashable
    prefix = f"{path}." if path else ""
    for name in values:
        if name not in types_of_fields:
            near = did_you_mean(str(name), types_of_fields)
            hint = f'did you mean "{near}"?' if near else f"there are: {listed(types_of_fields)}"
            raise FieldError(f'unknown field "{prefix}{name}"; {hint}')
    for field in fields(cls):  # type: ignore[arg-type]  # every caller names a dataclass
        is_required = field.default is MISSING and field.default_factory is MISSING
        if is_required and field.name not in values:
            raise FieldError(f'missing field "{prefix}{field.name}"')
    return cls(**{name: _read(types_of_fields[name], value, f"{prefix}{name}") for name, value in values.items()})


@functools.cache
def field_types(cls: Any) -> dict[str, Any]:
    """Name of a field -> its type, annotations resolved."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _read(type_: Any, value: Any, path: str) -> Any:
    """The value in the declared type."""
    origin, parameters = typing.get_origin(type_), typing.get_args(type_)
    if type_ is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        return _read_union(parameters, value, path)
    if origin is typing.Literal:
        return _read_choice(parameters, value, path)
    if origin is tuple:
        return _read_tuple(parameters, value, path)
    if origin is not None and issubclass(origin, Mapping):
        return _read_mapping(parameters, value, path)
    if isinstance(type_, type) and is_dataclass(type_):
        return from_json(type_, value, path)
    return _read_scalar(type_, value, path)


def _read_choice(choices: tuple[Any, ...], value: Any, path: str) -> Any:
    """A literal. True is not 1."""
    if any(value == choice and type(value) is type(choice) for choice in choices):
        return value
    raise FieldError(f"{path} must be one of {', '.join(map(_as_text, choices))}, and is {_as_text(value)}")


def _read_mapping(parameters: tuple[Any, ...], value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise FieldError(f"{path} must be a mapping, and is {_as_text(value)}")
    return {str(key): _read(parameters[1], item, f"{path}.{key}") for key, item in value.items()}


def _read_union(choices: tuple[Any, ...], value: Any, path: str) -> Any:
    """``X | None`` and the like: null if allowed, else the first choice that accepts the value."""
    if value is None and type(None) in choices:
        return None
    others = [choice for choice in choices if choice is not type(None)]
    for choice in others[:-1]:
        try:
            return _read(choice, value, path)
        except FieldError:
            continue
    return _read(others[-1], value, path)


def _read_tuple(items: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    """``tuple[X, ...]`` from a JSON list."""
    if not isinstance(value, list | tuple):
        raise FieldError(f"{path} must be a list, and is {_as_text(value)}")
    return tuple(_read(items[0], item, f"{path}[{index}]") for index, item in enumerate(value))


def _read_scalar(type_: type, value: Any, path: str) -> Any:
    if type_ is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    is_valid = isinstance(value, type_) and (type_ is bool or not isinstance(value, bool))
    if not is_valid:
        raise FieldError(f"{path} must be {NAMES_OF_TYPES.get(type_, type_.__name__)}, and is {_as_text(value)}")
    return value


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else str(value)
