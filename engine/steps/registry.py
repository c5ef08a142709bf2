"""The handlers: the built-in ones in a literal dict, and those of installed packages.

Out: ``kind -> Handler``. A broken plug-in is reported by :func:`broken_plugins` (and by
``runspec steps`` and ``doctor``) and otherwise ignored, so that it cannot break the ``validate`` of a
spec that does not use it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import metadata
from typing import Any, cast

from engine.errors import Diagnostic
from engine.runspec.keywords import effects_problem, named, renamed
from engine.steps import Handler, build_dataset, generate, result_summary, score, smoke_run, train_sft

ENTRY_POINT_GROUP = "runspec.steps"

HANDLERS: dict[str, Handler] = {
    "build_dataset": build_dataset.HANDLER,
    "smoke_run": smoke_run.HANDLER,
    "train_sft": train_sft.HANDLER,
    "generate": generate.HANDLER,
    "score": score.HANDLER,
    "result_summary": result_summary.HANDLER,
}

_ATTRIBUTES: dict[str, type] = {
    "kind": str,
    "version": int,
    "title": str,
    "takes": tuple,
    "makes": str,
    "files": tuple,
    "measured": tuple,
    "reads": tuple,
    "looks_ahead": tuple,
    "schema": Mapping,
}


def handlers() -> Mapping[str, Handler]:
    """Every kind that a spec can name with ``uses``."""
    return _discover()[0]


def broken_plugins() -> list[Diagnostic]:
    """One warning (X201 to X204) for each installed plug-in that cannot be used, or whose schema has old keywords."""
    return list(_discover()[1])


@functools.cache
def _discover() -> tuple[Mapping[str, Handler], tuple[Diagnostic, ...]]:
    by_kind: dict[str, Handler] = dict(HANDLERS)
    broken: list[Diagnostic] = []
    for entry in sorted(metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        package = entry.dist.name if entry.dist else "an unknown package"
        label = f'step plug-in "{entry.name}" of {package}'
        try:
            handler = entry.load()
        except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything
            broken.append(_warning("X201", f"{label} cannot be imported: {type(error).__name__}: {error}"))
            continue
        problem = _shape_problem(entry.name, handler)
        if problem:
            broken.append(_warning("X202", f"{label} is not a step handler: {problem}"))
        elif entry.name in by_kind:
            broken.append(_warning("X203", f"{label} has the name of a kind that exists already"))
        else:
            schema, old = renamed(handler.schema)
            by_kind[entry.name] = cast(Handler, _RenamedSchema(handler, schema)) if old else handler
            if old:
                broken.append(_outdated(label, old))
    return by_kind, tuple(broken)


def _shape_problem(name: str, handler: Any) -> str | None:
    """Why this object is not a handler of that name, or None where it is one."""
    for attribute, kind in _ATTRIBUTES.items():
        if not isinstance(getattr(handler, attribute, None), kind):
            return f"its {attribute} is missing or not a {kind.__name__.lower()}"
    for method in ("run", "environment"):
        if not callable(getattr(handler, method, None)):
            return f"it has no {method}()"
    if handler.kind != name:
        return f'its kind is "{handler.kind}", the entry point says "{name}"'
    return _schema_problem(handler.schema)


def _schema_problem(schema: Mapping[str, Any]) -> str | None:
    if schema.get("type") != "object" or schema.get("additionalProperties") is not False:
        return "its schema is not an object schema with additionalProperties: false"
    return effects_problem(schema)


class _RenamedSchema:
    """A plug-in's handler with today's keywords in its schema."""

    def __init__(self, handler: Handler, schema: Mapping[str, Any]) -> None:
        self._handler = handler
        self.schema = schema

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)


def _outdated(label: str, old: Mapping[str, str]) -> Diagnostic:
    message = f"{label} has keywords in its schema that have new names: {named(old)}"
    hint = "it works as before; whoever maintains that package can rename them"
    return Diagnostic("X204", message, hint=hint, severity="warning")


def _warning(code: str, message: str) -> Diagnostic:
    hint = "update or uninstall that package; specs that do not use this kind are not affected"
    return Diagnostic(code, message, hint=hint, severity="warning")
