"""Stands for engine.evidence.templates, which has jinja2: fills the templates that use the plain part of Jinja.

A template that uses more raises NeedsEngine: it is never filled in another way than the engine would. Faults of a template have
the engine's codes and sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.canonical import JsonMapping
from engine.errors import EvidenceIncomplete, InputInvalid
from engine.evidence.standalone.stand_ins.template_blocks import TemplateOutput, read_template
from engine.evidence.standalone.stand_ins.template_operations import METER
from engine.evidence.standalone.stand_ins.template_values import UndefinedError
from engine.evidence.standalone.stand_ins.template_words import TemplateFault
from engine.sandbox import MAX_TEMPLATE_CHARS, Exceeded, Meter, measured

MAX_RANGE_ITEMS = 100_000


def fill(
    name: str, view: JsonMapping, sources: Sequence[Path | Mapping[str, str]], used: dict[str, str] | None = None
) -> str:
    """The text of an evidence file; ``used`` gets its template. Raises InputInvalid, EvidenceIncomplete and NeedsEngine."""
    file = f"{name}.j2"
    text = _source(file, sources)
    if text is None:
        raise InputInvalid("E106", f"there is no template {file} for the evidence file {name}")
    if used is not None:
        used[file] = text
    try:
        return _filled(text, view)
    except TemplateFault as error:
        raise InputInvalid("E104", f"the template is not Jinja: {error}") from None
    except Exceeded as error:
        raise InputInvalid("E105", f"the template goes over a limit: {error}") from None
    except UndefinedError as error:
        raise EvidenceIncomplete("E102", f"the template names a value that does not exist: {error}") from None
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise InputInvalid("E104", f"the template cannot be rendered: {type(error).__name__}: {error}") from None


def _source(file: str, sources: Sequence[Any]) -> str | None:
    for source in sources:
        if isinstance(source, Mapping):
            if file in source:
                return str(source[file])
        elif source.joinpath(file).is_file():
            return str(source.joinpath(file).read_text(encoding="utf-8"))
    return None


def _filled(text: str, view: JsonMapping) -> str:
    if len(text) > MAX_TEMPLATE_CHARS:
        raise Exceeded(f"it has more than {MAX_TEMPLATE_CHARS} characters")
    try:
        template = read_template(text, finalize=measured)
        out = TemplateOutput()
        template({"range": _counted_range(), **view, METER: Meter()}, out)
    except RecursionError as error:
        raise Exceeded("it calls itself too deeply") from error
    except MemoryError as error:
        raise Exceeded("it needs more memory than there is") from error
    return "".join(out)


def _counted_range() -> Any:
    """``range`` with a limit per rendering."""
    left = MAX_RANGE_ITEMS

    def counted(*bounds: int) -> range:
        nonlocal left
        numbers = range(*bounds)
        left -= len(numbers)
        if left < 0:
            raise InputInvalid("E105", f"the template counts more than {MAX_RANGE_ITEMS} items with range()")
        return numbers

    return counted
