"""Stands for the page's own environment of jinja2: the shipped template of report.html, which escapes and has no limits.

>>> PageEnvironment(str).of_text("a", "<b>{{ share | percent }}{{ name }}</b>").render({"share": 0.5, "name": "<"})
'<b>50.0 %&lt;</b>'
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.canonical import JsonMapping
from engine.evidence.standalone.stand_ins.template_blocks import Finalize, Write, read_template
from engine.evidence.standalone.stand_ins.template_operations import OWN_FILTERS

_FILTERS = {"percent": lambda share: f"{100 * share:.1f} %"}  # that of engine.evidence.report.environment


@dataclass(frozen=True, slots=True)
class PageEnvironment:
    """``finalize``: what every value goes through before it is escaped."""

    finalize: Finalize

    def of_text(self, _: str, source: str) -> PageTemplate:
        """A template, read."""
        return PageTemplate(read_template(source, escapes=True, finalize=self.finalize))


@dataclass(frozen=True, slots=True)
class PageTemplate:
    """A template that can be filled."""

    write: Write

    def render(self, values: JsonMapping) -> str:
        """The page. Raises UndefinedError where the template names what is not there."""
        out: list[str] = []
        self.write({**values, "range": range, OWN_FILTERS: _FILTERS}, out)
        return "".join(out)
