"""The code of the engine's own templates, compiled by Jinja once for all processes, which takes a tenth of a second.

In: an environment of Jinja. Out: one that keeps the code of the shipped templates (:mod:`engine.evidence.kept`), and compiles any
other, as a stranger's evidence brings, each time. What is kept belongs to the versions of Python and Jinja, to the engine's
environments, and to the text of the template.
"""

from __future__ import annotations

import functools
import marshal
import sys
from types import CodeType
from typing import Any

import jinja2
from jinja2 import nodes

from engine.canonical import digest_json
from engine.evidence.kept import kept_or_made
from engine.evidence.shipped import shipped_template
from engine.evidence.standalone.parts import read_module

# Whose text decides what code comes of a template.
_MAKERS = ("engine.sandbox", "engine.evidence.templates", "engine.evidence.report.environment", __name__)


class KeepsCode(jinja2.Environment):
    """An environment, before another class of Jinja's among the bases."""

    def compile(
        self,
        source: str | nodes.Template,
        name: str | None = None,
        filename: str | None = None,
        raw: Any = False,
        defer_init: bool = False,
    ) -> Any:
        """As the other class compiles it."""

        def make() -> CodeType:
            code: CodeType = super(KeepsCode, self).compile(source, name, filename, raw, defer_init)
            return code

        if (
            raw or name is None or filename is not None or source != shipped_template(name)
        ):  # with a path it is a project's folder
            return make()
        kind = type(self).__name__.strip("_")
        key = digest_json([_versions(), kind, source, defer_init])
        if key not in _CODE:
            data = kept_or_made(
                f"{name}.{kind}", lambda head: bool(head["key"] == key), lambda: (marshal.dumps(make()), {"key": key})
            )
            _CODE[key] = marshal.loads(data)  # noqa: S302 - as Python's own compiled modules are read, from the same folder
        return _CODE[key]


_CODE: dict[str, CodeType] = {}


@functools.cache
def _versions() -> str:
    return digest_json([sys.version, jinja2.__version__, *(read_module(name) for name in _MAKERS)])
