"""Jinja for the page: the shipped template alone, whose every value is escaped.

In: what every value goes through before it is escaped. Out: the environment. verify.py has one of its own
(:mod:`engine.evidence.standalone.stand_ins.page_environment`).
"""

from __future__ import annotations

from collections.abc import Callable

import jinja2

from engine.evidence.kept.code import KeepsCode


class JinjaPageEnvironment(KeepsCode):
    """Of one template, by its name and text."""

    def __init__(self, finalize: Callable[[object], object]) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
                         finalize=finalize)  # fmt: skip
        self.filters["percent"] = lambda share: f"{100 * share:.1f} %"

    def of_text(self, name: str, source: str) -> jinja2.Template:
        """A template, compiled."""
        return self.template_class.from_code(self, self.compile(source, name), self.make_globals(None))
