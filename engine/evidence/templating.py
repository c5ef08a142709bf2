"""Templates in a sandbox: plain values in, text out, and an error with file:line for everything else.

What a template may do: print a field (``{{ run_version | tojson }}``), choose (``if``), repeat (``for``), set a
name, compute, use the filters of :data:`FILTERS`. What it may not: reach attributes or methods, include or
import other files, define macros, give a missing field a made-up value (there is no ``default``), print more than
:data:`MAX_OUTPUT` characters. In a JSON template every ``{{ … }}`` ends in ``| tojson``, so that no value can
break out of its place.

    >>> source = Source("hello.txt.j2", "templates/hello.txt.j2", "{{ run_version }}!")
    >>> render_template(source, {"run_version": "m36_v1"})
    'm36_v1!'
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from engine.errors import Diagnostic, InputInvalid, Where, did_you_mean

if TYPE_CHECKING:
    from jinja2 import Environment, nodes

MAX_OUTPUT = 8 << 20  # characters; the log of a run of 100 000 train steps has about 1 M
MAX_TEMPLATE = 256 << 10
MAX_REPEAT = 100_000  # items of range(), of a repeated string or list

# Jinja's filters that neither reach attributes nor blow values up, and that keep a missing field missing.
FILTERS = ("abs", "dictsort", "first", "float", "int", "items", "join", "last", "length", "list", "lower", "max",
           "min", "round", "sort", "string", "sum", "trim", "upper")  # fmt: skip
_FORBIDDEN = ("Include", "Import", "FromImport", "Extends", "Block", "Macro", "CallBlock", "FilterBlock",
              "AssignBlock", "EvalContextModifier", "ScopedEvalContextModifier", "Concat")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A template: its name, the path that errors show, its text."""

    name: str
    path: str
    text: str

    @property
    def is_json(self) -> bool:
        """Whether its output must be JSON: ``NAME.json.j2``."""
        return self.name.endswith(".json.j2")

    def where(self, line: int) -> Where:
        """A place in it, with the line's own text."""
        lines = self.text.split("\n")
        text = lines[line - 1] if 0 < line <= len(lines) else None
        start = len(text) - len(text.lstrip()) + 1 if text else 0
        return Where(self.path, line, start, text, width=len(text.strip()) if text else 1)


def render_template(source: Source, fields: Mapping[str, Any]) -> str:
    """The text. Raises InputInvalid: E110 syntax, E111 undefined, E112 unsafe, E113 too much, E114 failed."""
    from jinja2 import UndefinedError
    from jinja2.exceptions import SecurityError

    environment = _environment()
    check_template(source, fields)
    try:
        template = environment.from_string(environment.parse(source.text))
        return _capped(source, template.generate(fields))
    except SecurityError as error:
        raise InputInvalid("E112", f"refused: {error}", where=_place(source, error), hint=_PLAIN) from error
    except UndefinedError as error:
        raise InputInvalid("E111", str(error), where=_place(source, error), hint=_PLAIN) from error
    except _TooMuch as error:
        raise InputInvalid("E113", str(error), where=_place(source, error)) from error
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputInvalid("E114", f"the template failed: {reason}", where=_place(source, error)) from error


_PLAIN = "fields and their parts are plain values; docs/evidence.md lists them"


def check_template(source: Source, fields: Mapping[str, Any]) -> None:
    """All that can be seen without running it; raises one InputInvalid with every finding."""
    tree = _parse(source)
    findings = [*_forbidden(source, tree), *_not_json(source, tree), *_undefined(source, tree, fields)]
    if findings:
        raise InputInvalid.of(findings)


def names_used(source: Source) -> set[str]:
    """The fields a template refers to."""
    from jinja2 import meta

    return meta.find_undeclared_variables(_parse(source)) - {"range"}


def _parse(source: Source) -> nodes.Template:
    from jinja2 import TemplateSyntaxError
    from jinja2.exceptions import TemplateAssertionError

    if len(source.text) > MAX_TEMPLATE:
        raise InputInvalid(
            "E113", f"a template of more than {MAX_TEMPLATE} characters", where=source.where(0)
        )
    try:
        return _environment().parse(source.text)
    except TemplateAssertionError as error:  # a filter or test that is not there: compile time
        raise InputInvalid("E112", str(error.message), where=source.where(error.lineno)) from error
    except TemplateSyntaxError as error:
        message = f"template syntax: {error.message}"
        raise InputInvalid("E110", message, where=source.where(error.lineno)) from error
    except RecursionError as error:
        raise InputInvalid("E110", "template nested too deeply", where=source.where(0)) from error


def _forbidden(source: Source, tree: nodes.Template) -> Iterator[Diagnostic]:
    """Constructs that reach further than plain values: attributes of Python, other files, macros, odd filters."""
    from jinja2 import nodes

    for node in _walk(tree):
        kind = type(node).__name__
        reached = node.attr if isinstance(node, nodes.Getattr) else None
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            reached = node.arg.value
        if isinstance(reached, str) and reached.startswith("_"):
            message = f'refused: a template may not reach the attribute "{reached}"'
        elif isinstance(node, nodes.Filter) and node.name not in _environment().filters:
            message = f'refused: there is no filter "{node.name}" here'
        elif kind in _FORBIDDEN:
            message = f"refused: {kind.lower()} is not for evidence templates"
        elif isinstance(node, nodes.Call) and not _call_allowed(node):
            message = "refused: a template may call range() and a field's items(), and nothing else"
        else:
            continue
        hint = (
            f"filters: tojson, only, fixed, {', '.join(FILTERS)}"
            if isinstance(node, nodes.Filter)
            else _PLAIN
        )
        yield Diagnostic("E112", message, source.where(node.lineno), hint)


def _call_allowed(node: nodes.Call) -> bool:
    from jinja2 import nodes

    called = node.node
    if isinstance(called, nodes.Name):
        return called.name == "range"
    return isinstance(called, nodes.Getattr) and called.attr == "items"


def _not_json(source: Source, tree: nodes.Template) -> Iterator[Diagnostic]:
    """In a JSON template: a value printed without ``tojson`` could end its string and say something else."""
    from jinja2 import nodes

    for output in tree.find_all(nodes.Output) if source.is_json else ():
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData | nodes.Const):
                continue
            if not (isinstance(node, nodes.Filter) and node.name == "tojson"):
                message = "in a JSON template every {{ … }} ends in | tojson"
                yield Diagnostic("E115", message, source.where(node.lineno), "{{ name | tojson }}")


def _undefined(source: Source, tree: nodes.Template, fields: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Names that no field has, each at the first place it is used."""
    from jinja2 import nodes

    unknown = names_used(source) - set(fields)
    for node in tree.find_all(nodes.Name):
        if node.name in unknown:
            unknown.discard(node.name)
            near = did_you_mean(node.name, fields)
            hint = f'did you mean "{near}"?' if near else _PLAIN
            yield Diagnostic("E111", f'"{node.name}" is undefined', source.where(node.lineno), hint)


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    for child in node.iter_child_nodes():
        yield child
        yield from _walk(child)


class _TooMuch(Exception):
    """The template would make more than it may."""


def _capped(source: Source, pieces: Iterator[str]) -> str:
    """The output, given up as soon as it is too long."""
    parts: list[str] = []
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_OUTPUT:
            raise _TooMuch(f"{source.name} makes more than {MAX_OUTPUT} characters")
        parts.append(piece)
    return "".join(parts)


def _place(source: Source, error: BaseException) -> Where:
    """The line of the template where it went wrong: Jinja puts it into the traceback."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"
    ]
    return source.where(lines[-1] or 0 if lines else 0)


def _tojson(value: Any) -> str:
    """JSON as data files have it, not escaped for HTML. NaN and undefined values are errors."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_refuse)


def _refuse(value: Any) -> NoReturn:
    # An undefined value raises its own error, which names the field, when it is made a string.
    raise TypeError(f"not a JSON value: {value}")


def _only(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The named entries that are there, in that order: the part of ``not_applicable`` that one file needs."""
    return {name: values[name] for name in names if name in values}


def _fixed(value: float, digits: int = 4) -> str:
    """A number with a fixed count of decimals."""
    return f"{value:.{min(max(digits, 0), 20)}f}"


def _limited_range() -> Callable[..., range]:
    """``range`` with one budget for the whole rendering, so that nested loops cannot multiply."""
    left = MAX_REPEAT

    def limited(*bounds: int) -> range:
        nonlocal left
        values = range(*bounds)
        left -= len(values)
        if left < 0:
            raise _TooMuch(f"more than {MAX_REPEAT} items of range()")
        return values

    return limited


def _environment() -> Environment:
    """A fresh sandbox with nothing in it but :data:`FILTERS` and three of ours."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

    class Sandbox(ImmutableSandboxedEnvironment):
        """Fields are looked up as keys; the only method is ``items`` of a mapping; operators are watched."""

        intercepted_binops = frozenset({"*", "**", "%", "+"})

        def getattr(self, obj: Any, attribute: str) -> Any:
            if isinstance(obj, dict) and attribute in obj:
                return obj[attribute]
            return super().getattr(obj, attribute)

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            loop = type(obj).__name__ == "LoopContext" and not attr.startswith("_")
            return loop or (isinstance(obj, dict) and attr == "items")

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if not all(isinstance(side, int | float) for side in (left, right)):
                raise SecurityError(f"the operator {operator} is for numbers here")
            if operator == "**" and abs(right) > 64:
                raise _TooMuch("an exponent above 64")
            return super().call_binop(context, operator, left, right)

    environment = Sandbox(undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True,
                          lstrip_blocks=True, autoescape=False, cache_size=0)  # fmt: skip
    allowed = {name: environment.filters[name] for name in FILTERS}
    environment.filters = {**allowed, "tojson": _tojson, "only": _only, "fixed": _fixed}
    environment.globals = {"range": _limited_range()}
    return environment
