"""Jinja for a stranger's template: no way out of it, and bounds on what it counts, builds, writes and takes.

In: the text of a template. Out: what it renders, or an exception: jinja2's own for what a template may not do,
:class:`Exceeded` where it goes over a limit. Jinja's sandbox alone stops neither ``{% for %}`` over a billion numbers, a
macro that calls itself twice, nor a text that is doubled forty times.

    environment = Sandbox()
    environment.bounded(lambda: environment.from_string("{{ x ~ x }}").render(x="a"))     # "aa"

Counted are the turns of loops, calls, filters and operators. Built texts and lists are measured before they are built where
one operation can multiply them. The time is that of the thread's own work, so that a busy machine refuses nothing.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from jinja2 import Environment, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

T = TypeVar("T")

MAX_TEMPLATE_CHARS = 1 << 18
MAX_CHARS = 4_000_000  # of any text or list that is built, and of the output
MAX_NODES = 100_000  # of a list or mapping, those inside it included as often as they stand there
MAX_OPERATIONS = 1_000_000
MAX_SECONDS = 2.0
MAX_BITS = 256  # of a number that is multiplied
MAX_WIDTH = 1000  # that a text is filled up to
_WIDE = re.compile(r"\d{4}|\*")  # a width in a format, or one that is an argument
# Filters that take a width, or whose result differs each time, or that reach attributes by name.
REMOVED_FILTERS = ("center", "wordwrap", "attr", "pprint", "xmlattr", "urlize", "random")
REMOVED_METHODS = frozenset(
    {"center", "ljust", "rjust", "zfill", "expandtabs", "translate", "format_map", "encode", "maketrans"}
)


class Exceeded(SecurityError):
    """The template goes over a limit."""


class Meter:
    """What one rendering has left."""

    def __init__(self) -> None:
        self._operations = MAX_OPERATIONS
        self._end = time.thread_time() + MAX_SECONDS

    def count(self) -> None:
        """One more operation. Raises Exceeded."""
        self._operations -= 1
        if self._operations < 0:
            raise Exceeded(f"it takes more than {MAX_OPERATIONS} operations")
        if time.thread_time() > self._end:
            raise Exceeded(f"it takes more than {MAX_SECONDS:g} s")


def require_short(characters: int) -> None:
    """Raises Exceeded for a text that is too long."""
    if characters > MAX_CHARS:
        raise Exceeded(f"it builds more than {MAX_CHARS} characters")


def measured(value: Any) -> Any:
    """The value, where it is no text, list or mapping beyond the limits."""
    if isinstance(value, str):
        require_short(len(value))
    elif isinstance(value, list | tuple | dict | set):
        left, characters = MAX_NODES, 0
        waiting: list[Iterator[Any]] = [iter([value])]
        while waiting:
            for node in waiting[-1]:
                left -= 1
                if left < 0:
                    raise Exceeded(f"it builds a list of more than {MAX_NODES} values")
                if isinstance(node, str):
                    characters += len(node)
                    require_short(characters)
                elif isinstance(node, list | tuple | dict | set):
                    waiting.append(iter([*node, *node.values()] if isinstance(node, dict) else node))
                    break
            else:
                waiting.pop()
    return value


def _require_narrow(form: str, arguments: Iterable[object]) -> None:
    """For ``%`` and ``format``."""
    if _WIDE.search(form):
        raise Exceeded("it formats to a width of four digits")
    longest = max((len(text) for text in map(_as_text, arguments)), default=0)
    require_short(len(form) + (form.count("%") + form.count("{")) * (longest + MAX_WIDTH))


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else str(measured(value))


def _require_replaceable(text: str, old: str, new: str) -> None:
    require_short(len(text) + text.count(old) * len(new))


class _Metering(NodeTransformer):
    """Loops, joined texts and lists in brackets call the environment."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the name is jinja2\'s
        self.generic_visit(node)
        node.iter = _calling("counted", [node.iter], node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - the name is jinja2\'s
        self.generic_visit(node)
        return _calling("concatenated", node.nodes, node)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802 - the name is jinja2\'s
        self.generic_visit(node)
        return _calling("built", [node], node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802 - the name is jinja2\'s
        self.generic_visit(node)
        return _calling("built", [node], node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802 - the name is jinja2\'s
        self.generic_visit(node)
        return _calling("built", [node], node) if node.ctx == "load" else node


def _calling(name: str, arguments: list[Any], node: nodes.Node) -> nodes.Call:
    call = nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)
    call.set_lineno(node.lineno)
    call.set_environment(node.environment)  # type: ignore[arg-type]
    return call


MOST_COMPILED = 64  # templates whose code is kept
_COMPILED: dict[object, Any] = {}


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with the bounds. Render inside :meth:`bounded`."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(optimized=False, finalize=measured, **options)
        self._of_thread = threading.local()
        del self.globals["lipsum"]
        for name in REMOVED_FILTERS:
            del self.filters[name]
        for name in self.filters:
            self.set_filter(name, self.filters[name])

    def set_filter(self, name: str, function: Callable[..., Any]) -> None:
        """A filter, counted, its result measured."""

        @functools.wraps(function)
        def metered(*args: Any, **kwargs: Any) -> Any:
            self._count()
            before_filter(name, _without_context(args), kwargs)
            return measured(function(*args, **kwargs))

        self.filters[name] = metered

    def bounded(self, render: Callable[[], T]) -> T:
        """What ``render`` returns. Raises Exceeded, also where Python's stack or the memory was not enough."""
        self._of_thread.meter = Meter()
        try:
            return render()
        except RecursionError as error:
            raise Exceeded("it calls itself too deeply") from error
        except MemoryError as error:
            raise Exceeded("it needs more memory than there is") from error
        finally:
            self._of_thread.meter = None

    def _count(self) -> None:
        meter = getattr(self._of_thread, "meter", None)
        if meter is not None:
            meter.count()

    def compile(
        self,
        source: str | nodes.Template,
        name: str | None = None,
        filename: str | None = None,
        raw: Any = False,
        defer_init: bool = False,
    ) -> Any:
        """As Jinja compiles it, once for each text: evidence is rendered, and rendered again to check it."""
        if raw or not isinstance(source, str):
            return super().compile(source, name, filename, raw, defer_init)
        options = (self.trim_blocks, self.lstrip_blocks, self.keep_trailing_newline, self.autoescape, defer_init)
        key = (type(self), source, name, filename, options, tuple(self.extensions), frozenset(self.filters))
        if key not in _COMPILED:
            if len(_COMPILED) >= MOST_COMPILED:
                _COMPILED.clear()
            _COMPILED[key] = super().compile(source, name, filename, defer_init=defer_init)
        return _COMPILED[key]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise Exceeded(f"it has more than {MAX_TEMPLATE_CHARS} characters")
        try:
            tree: nodes.Template = _Metering().visit(super()._parse(source, name, filename))
        except RecursionError as error:
            raise Exceeded("it is nested too deeply") from error
        return tree

    def _compile(self, source: str, filename: str) -> Any:
        try:
            return super()._compile(source, filename)
        except (SyntaxError, RecursionError, MemoryError) as error:  # Python's own limits on nesting
            raise Exceeded("it is nested too deeply") from error

    def concat(self, parts: Iterable[str]) -> str:
        """The output of a template, a macro or a block, measured while it is made."""
        texts, characters = [], 0
        self._count()
        for part in parts:
            characters += len(part)
            require_short(characters)
            texts.append(part)
        return "".join(texts)

    def counted(self, values: Iterable[T]) -> Iterator[T]:
        """The values of a loop."""
        for value in values:
            self._count()
            yield value

    def concatenated(self, *values: object) -> str:
        """``a ~ b``."""
        texts = [_as_text(value) for value in values]
        require_short(sum(map(len, texts)))
        return "".join(texts)

    @staticmethod
    def built(value: Any) -> Any:
        """A list, a tuple or a mapping in brackets."""
        return measured(value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Measured before: one operator can multiply a text or a number."""
        self._count()
        sizes = [value for value in (left, right) if isinstance(value, str | list | tuple | bytes)]
        if operator == "%" and isinstance(left, str):
            _require_narrow(left, right if isinstance(right, tuple) else [right])
        elif operator == "+" and len(sizes) == 2:
            require_short(len(left) + len(right))
        elif operator == "*" and sizes:
            times = right if sizes[0] is left else left
            require_short(len(sizes[0]) * (times if isinstance(times, int) else 1))
        elif operator in ("*", "**") and not all(_is_small(value) for value in (left, right)):
            raise Exceeded(f"it multiplies numbers of more than {MAX_BITS} bits")
        elif operator == "**" and isinstance(right, int) and abs(right) > MAX_BITS:
            raise Exceeded(f"it takes a power beyond {MAX_BITS}")
        return measured(super().call_binop(context, operator, left, right))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A function, a method or a macro."""
        self._count()
        method = getattr(obj, "__wrapped__", obj)  # Jinja wraps `format`
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str):
            if name == "replace" and len(args) >= 2 and all(isinstance(arg, str) for arg in args[:2]):
                _require_replaceable(owner, *args[:2])
            elif name == "format":
                _require_narrow(owner, [*args, *kwargs.values()])
            elif name == "join" and args and isinstance(args[0], list | tuple | dict):
                require_short(len(owner) * len(args[0]))
        return measured(super().call(context, obj, *args, **kwargs))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Without the methods of texts that fill up to a width."""
        unsafe = isinstance(obj, str | bytes) and attr in REMOVED_METHODS
        return not unsafe and super().is_safe_attribute(obj, attr, value)


def _is_small(value: object) -> bool:
    return not isinstance(value, int) or value.bit_length() <= MAX_BITS


def _without_context(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a filter that the template wrote: some filters get the rendering's context before them."""
    return args[1:] if args and isinstance(args[0], nodes.EvalContext | Context | Environment) else args


def before_filter(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuses what a filter would take too much for. ``args``: the value, and what the template gives the filter."""
    if name in ("indent", "tojson", "batch", "slice", "round"):
        settings = (*args[1:], *kwargs.values())  # the first is the value itself, which may be any number
        if any(isinstance(value, int) and abs(value) > MAX_WIDTH for value in settings):
            raise Exceeded(f"{name} has a number beyond {MAX_WIDTH}")
    texts = [value for value in args if isinstance(value, str)]
    if name == "replace" and len(texts) >= 3:
        _require_replaceable(*texts[:3])
    elif name == "format" and texts:
        _require_narrow(texts[0], [*args[1:], *kwargs.values()])
    elif name == "join" and len(args) >= 2:
        words = next((value for value in args if isinstance(value, list | tuple | dict)), ())
        require_short(max(map(len, texts), default=0) * len(words))
    elif name == "indent" and len(texts) >= 1:
        require_short(len(texts[0]) + (texts[0].count("\n") + 1) * max(map(len, texts[1:]), default=MAX_WIDTH))
