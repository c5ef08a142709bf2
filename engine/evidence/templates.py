"""Templates in a sandbox: strict about names, with bounds on output and time.

In: the name of an evidence file, the view, the folders of templates. Out: its text, or an error with the template's
file and line. A template is looked for in the project's ``templates/`` first, then among the shipped ones. It sees plain
values only; an unknown name, an operation that is not allowed and an endless output are errors.

    text = fill("eval_summary.json", make_view(record), [root / "templates", asset("templates")])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.loaders import split_template_path
from jinja2.runtime import Context

from engine.canonical import JsonMapping
from engine.errors import EvidenceIncomplete, InputInvalid, Where, did_you_mean, listed
from engine.evidence.kept.code import KeepsCode
from engine.model_config.folder_files import what_else
from engine.sandbox import Exceeded, Sandbox

Source = Path | Mapping[str, str]  # a folder of templates, or their names -> texts

MAX_OUTPUT_CHARS = 4_000_000
MAX_RANGE_ITEMS = 100_000  # of all ranges in one rendering together
# Value that a template misses -> the kind of step that makes it.
_MAKERS = {
    "primary_score": "score",
    "scorecard": "score",
    "final_loss": "train_sft",
    "train": "train_sft",
    "result_summary": "result_summary",
}


class _Sandbox(KeepsCode, Sandbox):
    """Without the operations that make a long text from a short template."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int | float) and isinstance(right, int | float) and operator != "**"
        if not numbers and operator != "+":
            raise SecurityError(f"the operator {operator} is for numbers only")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        return super().is_safe_attribute(obj, attr, value) and not isinstance(obj, str | bytes)


class _Loader(jinja2.FileSystemLoader):
    """The first folder's template. One that is there and is no file is an error: the next folder has another of its name."""

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        for folder in self.searchpath:
            path = Path(folder, *split_template_path(template))
            problem = what_else(path)
            if problem is not None:
                raise InputInvalid("E106", f"{_path(template)} is {problem}, not a template",
                                   hint="put the template there, or remove what is there")  # fmt: skip
            if path.is_file():
                break
        return super().get_source(environment, template)


class _Noting(jinja2.ChoiceLoader):
    """The first source that has a template; ``used`` gets the text of every one that was loaded."""

    def __init__(self, sources: Sequence[Source], used: dict[str, str]) -> None:
        super().__init__([_loader(source) for source in sources])
        self.used = used

    def load(
        self,
        environment: jinja2.Environment,
        name: str,
        globals: Any = None,
    ) -> jinja2.Template:
        self.used[name] = self.get_source(environment, name)[0]
        return super().load(environment, name, globals)


def _loader(source: Source) -> jinja2.BaseLoader:
    return jinja2.DictLoader(source) if isinstance(source, Mapping) else _Loader(str(source))


def _environment(file: str, sources: Sequence[Source], used: dict[str, str]) -> jinja2.Environment:
    """Jinja in a sandbox, strict about names, with bounds on output and counting."""
    environment = _Sandbox(
        loader=_Noting(sources, used),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # the output is JSON and plain text, never HTML
    )
    environment.globals["range"] = _counted_range(file)
    del environment.filters["indent"]
    return environment


def load_template(name: str, sources: Sequence[Source], used: dict[str, str] | None = None) -> jinja2.Template:
    """The template of an evidence file. Raises InputInvalid (E104, E106)."""
    file = f"{name}.j2"
    try:
        return _environment(file, sources, {} if used is None else used).get_template(file)
    except Exceeded as error:
        raise InputInvalid("E105", f"the template goes over a limit: {error}", where=Where(_path(file))) from None
    except (jinja2.TemplateNotFound, jinja2.TemplateSyntaxError) as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: jinja2.TemplateNotFound | jinja2.TemplateSyntaxError) -> InputInvalid:
    """A template is missing or is not Jinja: the evidence file's own, or one that it includes."""
    file = f"{name}.j2"
    if isinstance(error, jinja2.TemplateNotFound):
        return InputInvalid(
            "E106",
            f"there is no template {error.name} for the evidence file {name}",
            hint=f"put one at {_path(str(error.name))} in the project, or remove {name} from evidence.files",
        )
    return InputInvalid(
        "E104", f"the template is not Jinja: {error.message}", where=Where(_path(error.name or file), error.lineno)
    )


def fill(name: str, view: JsonMapping, sources: Sequence[Source], used: dict[str, str] | None = None) -> str:
    """The text of an evidence file; ``used`` gets the templates it was made from (name -> text).

    Raises InputInvalid (E103 to E106) and EvidenceIncomplete (E102).
    """
    file = f"{name}.j2"
    try:
        template = load_template(name, sources, used)
        environment = cast("Sandbox", template.environment)
        return environment.bounded(lambda: _capped(template, view, file))
    except (jinja2.TemplateNotFound, jinja2.TemplateSyntaxError) as error:  # of a template that it includes
        raise _unreadable(name, error) from None
    except Exceeded as error:
        raise InputInvalid("E105", f"the template goes over a limit: {error}", where=_line(error, file)) from None
    except jinja2.exceptions.SecurityError as error:
        raise InputInvalid(
            "E103",
            f"the template uses something that templates may not: {error}",
            where=_line(error, file),
            hint="templates can use plain values only",
        ) from None
    except jinja2.UndefinedError as error:
        raise EvidenceIncomplete(
            "E102",
            f"the template names a value that does not exist: {error}",
            where=_line(error, file),
            hint=_maker_hint(str(error), view),
        ) from None
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise InputInvalid(
            "E104", f"the template cannot be rendered: {type(error).__name__}: {error}", where=_line(error, file)
        ) from None


def _counted_range(file: str) -> Callable[..., range]:
    """``range`` with a limit per rendering: nested loops could run for hours and write nothing."""
    left = MAX_RANGE_ITEMS

    def counted(*bounds: int) -> range:
        nonlocal left
        numbers = range(*bounds)
        left -= len(numbers)
        if left < 0:
            raise InputInvalid(
                "E105",
                f"the template counts more than {MAX_RANGE_ITEMS} items with range()",
                where=Where(_path(file)),
            )
        return numbers

    return counted


def _capped(template: jinja2.Template, view: JsonMapping, file: str) -> str:
    parts, size = [], 0
    for part in template.generate(**view):
        size += len(part)
        if size > MAX_OUTPUT_CHARS:
            raise InputInvalid(
                "E105", f"the template renders more than {MAX_OUTPUT_CHARS} characters", where=Where(_path(file))
            )
        parts.append(part)
    return "".join(parts)


def _line(error: BaseException, file: str) -> Where:
    """The innermost template line in the traceback."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name.endswith(".j2"):
            file, line = Path(name).name, trace.tb_lineno
        trace = trace.tb_next
    return Where(_path(file), line)


def _path(file: str) -> str:
    """The path that a message shows; the engine's own templates have the same one in the checkout."""
    return f"templates/{file}"


def _maker_hint(message: str, view: JsonMapping) -> str:
    for name, kind in _MAKERS.items():
        if f"'{name}'" in message:
            return f"a {kind} step makes it"
    word = message.split("'")[1] if message.count("'") >= 2 else ""
    near = did_you_mean(word, view)
    return (
        f'did you mean "{near}"?'
        if near
        else f"templates can use: {listed(sorted(view), '`runspec docs evidence-files`')}"
    )
