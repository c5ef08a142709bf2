"""View + template -> text. Strict, sandboxed, capped, and the same bytes every time.

A template is looked for in the project's ``templates/`` first, then among the shipped ones. It sees plain values only;
a name that is not in the view, a reach for what a template must not touch, and an endless output are errors with the
template's file and line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from engine.assets import asset
from engine.canonical import pretty_json
from engine.errors import EvidenceIncomplete, InputInvalid, Where

MAX_OUTPUT_CHARS = 4_000_000
MAX_RANGE_ITEMS = 100_000  # of all ranges in one rendering
# Where a reader should look for the value that a template missed.
_MAKERS = {
    "primary_score": "score",
    "scorecard": "score",
    "final_loss": "train_sft",
    "train": "train_sft",
    "result_summary": "result_summary",
}


def render_text(name: str, view: Mapping[str, Any], template_dirs: Sequence[Path]) -> str:
    """One evidence file. Raises InputInvalid (E103 to E107) and EvidenceIncomplete (E102, E111)."""
    text = _render(name, view, template_dirs)
    if not name.endswith(".json"):
        return text
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputInvalid(
            "E107", f"the template of {name} does not render JSON: {error}", hint="write values with | tojson"
        ) from error
    problems = schema_problems(name, value)
    if problems:
        raise EvidenceIncomplete(
            "E111",
            f"{name} breaks its schema: {problems[0]}",
            hint="the template or the step that makes the value is at fault",
        )
    return pretty_json(value)


def schema_problems(name: str, value: Any) -> list[str]:
    """What the shipped schema of an evidence file says against a value; [] where there is no schema."""
    from jsonschema import Draft7Validator

    schema = _schema(name)
    if schema is None:
        return []
    errors = sorted(Draft7Validator(schema).iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    return [f"{'.'.join(map(str, error.absolute_path)) or 'the whole'}: {error.message[:200]}" for error in errors]


@cache
def _schema(name: str) -> dict[str, Any] | None:
    path = asset("schemas", "evidence", f"{Path(name).stem}.schema.json")
    if not path.is_file():
        return None
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def _environment(file: str, template_dirs: Sequence[Path]) -> Any:
    """Jinja in a sandbox, strict about names, and bounded in what it makes and counts."""
    import jinja2
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """Without what makes a text of any length out of a short template."""

        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            numbers = isinstance(left, int | float) and isinstance(right, int | float) and operator != "**"
            if not numbers:
                raise SecurityError(f"the operator {operator} is for numbers only")
            return super().call_binop(context, operator, left, right)

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            return super().is_safe_attribute(obj, attr, value) and not isinstance(obj, str | bytes)

    environment = Sandbox(
        loader=jinja2.FileSystemLoader([str(folder) for folder in template_dirs]),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # the output is JSON and plain text, never HTML
    )
    environment.globals["range"] = _counted_range(file)
    for filter_ in ("center", "indent", "wordwrap", "attr", "pprint", "xmlattr", "urlize"):
        del environment.filters[filter_]
    return environment


def check_templates(names: Sequence[str], template_dirs: Sequence[Path]) -> None:
    """Every evidence file has a template that is Jinja. Raises InputInvalid (E104, E106), before hours of work."""
    for name in names:
        _template(name, template_dirs)


def _template(name: str, template_dirs: Sequence[Path]) -> Any:
    import jinja2

    file = f"{name}.j2"
    try:
        return _environment(file, template_dirs).get_template(file)
    except (jinja2.TemplateNotFound, jinja2.TemplateSyntaxError) as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Any) -> InputInvalid:
    """No such template, or one that is not Jinja: the evidence file's own, or what it includes."""
    import jinja2

    file = f"{name}.j2"
    if isinstance(error, jinja2.TemplateNotFound):
        return InputInvalid(
            "E106",
            f"there is no template {error.name} for the evidence file {name}",
            hint=f"put one at {_place(str(error.name))} in the project, or take {name} out of evidence.files",
        )
    return InputInvalid(
        "E104", f"the template is not Jinja: {error.message}", where=Where(_place(error.name or file), error.lineno)
    )


def _render(name: str, view: Mapping[str, Any], template_dirs: Sequence[Path]) -> str:
    import jinja2

    file = f"{name}.j2"
    try:
        return _capped(_template(name, template_dirs), view, file)
    except (jinja2.TemplateNotFound, jinja2.TemplateSyntaxError) as error:  # of what the template includes
        raise _unreadable(name, error) from None
    except jinja2.exceptions.SecurityError as error:
        raise InputInvalid(
            "E103",
            f"the template reaches for what it must not: {error}",
            where=_line(error, file),
            hint="templates see plain values only",
        ) from None
    except jinja2.UndefinedError as error:
        raise EvidenceIncomplete(
            "E102",
            f"the template names a value that is not there: {error}",
            where=_line(error, file),
            hint=_maker_hint(str(error), view),
        ) from None
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InputInvalid(
            "E104", f"the template cannot be rendered: {type(error).__name__}: {error}", where=_line(error, file)
        ) from None


def _counted_range(file: str) -> Callable[..., range]:
    """``range`` for one rendering: loops in loops of it would run for hours, and write nothing."""
    left = MAX_RANGE_ITEMS

    def counted(*bounds: int) -> range:
        nonlocal left
        found = range(*bounds)
        left -= len(found)
        if left < 0:
            raise InputInvalid(
                "E105",
                f"the template counts to more than {MAX_RANGE_ITEMS} in all, by range()",
                where=Where(_place(file)),
            )
        return found

    return counted


def _capped(template: Any, view: Mapping[str, Any], file: str) -> str:
    parts, size = [], 0
    for part in template.generate(**view):
        size += len(part)
        if size > MAX_OUTPUT_CHARS:
            raise InputInvalid(
                "E105", f"the template renders more than {MAX_OUTPUT_CHARS} characters", where=Where(_place(file))
            )
        parts.append(part)
    return "".join(parts)


def _line(error: BaseException, file: str) -> Where:
    """The innermost line of a template that the traceback went through."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.endswith(".j2"):
            file, line = Path(name).name, trace.tb_lineno
        trace = trace.tb_next
    return Where(_place(file), line)


def _place(file: str) -> str:
    """Where a template lies: in the project, or beside the engine where the project has none of its name."""
    return f"templates/{file}"


def _maker_hint(message: str, view: Mapping[str, Any]) -> str:
    for name, kind in _MAKERS.items():
        if f"'{name}'" in message:
            return f"a {kind} step should have made it"
    from engine.errors import did_you_mean

    word = message.split("'")[1] if message.count("'") >= 2 else ""
    near = did_you_mean(word, view)
    return f'did you mean "{near}"?' if near else f"names a template can use: {', '.join(sorted(view))}"
