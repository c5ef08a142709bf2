"""Evidence and what the checks say of it -> the bytes of ``report.html``.

    page = report_page(read_bundle(path), verify(path))

The template ``templates/report.html.j2`` gets the values of :func:`make_page`. Every value is escaped for HTML, and a character
that would act on the page or reorder its text is spelled (``<U+202E>``): both at the one place where values enter the page.
The filter is CSS alone; there is no script, and the page's own policy forbids every request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar

import jinja2

from engine.assets import asset
from engine.canonical import JsonObject, digest_bytes
from engine.errors import RunspecError
from engine.evidence.bundle import Bundle
from engine.evidence.contents import Broken, Evidence
from engine.evidence.report.curves import Chart, draw, points_of
from engine.evidence.report.facts import environment_facts, run_facts, step_rows
from engine.evidence.report.items import ReportItem, grouped, read_items, total
from engine.printable import printable

if TYPE_CHECKING:
    from engine.evidence.verify import Verification

TEMPLATE = "report.html.j2"
MARKER = b'data-made-by="runspec report"'  # by which a report is told from a file of other origin
MOST_FILTERS = 40  # categories that the filter offers; the tables have all
GROUPS = ("section", "category", "difficulty")
LEVELS = (
    ("L0", "the evidence agrees with itself, and the score follows from the predictions", "every check passes"),
    ("L1", "somebody signed it", "a signature by a key that the reader trusts"),
    ("L2", "a platform witnessed it", "a public notebook version whose output has the same digests"),
    ("L3", "it was run again", "items generated again from the checkpoint, with the same result"),
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A part of the page: its value, or the reason why these files do not have one."""

    value: T | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """One category of the filter, by number: ``number`` is in the class of its items."""

    number: int
    name: str
    n_items: int
    n_wrong: int


@dataclass(frozen=True, slots=True)
class Filters:
    """``shown`` of ``n_categories``; ``number_of``: category -> its number."""

    shown: Sequence[Filter]
    n_categories: int
    number_of: dict[str, int] = field(default_factory=dict)


def part(function: Callable[[], T]) -> Part[T]:
    """What the function returns, or why it cannot: a stranger's files can have a value of any type, or none."""
    try:
        return Part(function())
    except Broken as error:
        return Part(None, str(error))
    except RunspecError as error:
        return Part(None, error.diagnostics[0].message)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError, RecursionError) as error:
        return Part(None, f"a value is missing or of the wrong kind: {type(error).__name__} {error}")


def report_page(bundle: Bundle, verification: Verification) -> bytes:
    """The page. Never raises for what is in the bundle."""
    return _template().render(make_page(bundle, verification)).encode()


@cache
def _template() -> jinja2.Template:
    """The shipped template, and no other: a stranger's evidence brings none."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(asset("templates"))),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_visible,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    return environment.get_template(TEMPLATE)


def _visible(value: object) -> object:
    """Text with every character that acts on a page spelled; line breaks stay. The template's own markup is left alone."""
    is_markup = hasattr(value, "__html__")  # what Jinja itself asks: the output of a macro
    return printable(value) if isinstance(value, str) and not is_markup else value


def make_page(bundle: Bundle, verification: Verification) -> JsonObject:
    """The names that the template uses, with their values."""
    evidence = Evidence(bundle)
    items = part(lambda: read_items(evidence))
    known = items.value or []
    level = verification.trust_level
    return {
        "run_version": part(lambda: str(evidence.record["run_version"])),
        "verification": verification,
        "levels": LEVELS,
        "level": [name for name, _, _ in LEVELS].index(level) if level is not None else -1,
        "metric": part(lambda: str(evidence.manifest["metric"])),
        "items": items,
        "total": total(known) if known else None,
        "n_without_prediction": sum(item.text is None for item in known),
        "groups": [(name, grouped(known, name), sum(getattr(i, name) is None for i in known)) for name in GROUPS],
        "filters": _filters(known),
        "charts": part(lambda: _charts(evidence)),
        "run": part(lambda: run_facts(evidence)),
        "environment": part(lambda: environment_facts(evidence)),
        "steps": part(lambda: step_rows(evidence)),
        "spec": part(lambda: evidence.text("runspec.yaml")),
        "files": [(name, len(data), digest_bytes(data)) for name, data in sorted(bundle.files.items())],
    }


def _filters(items: Sequence[ReportItem]) -> Filters:
    """The categories with most items, numbered in the order of their names."""
    counts = Counter(item.category for item in items if item.category is not None)
    most = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_FILTERS]
    wrong = Counter(item.category for item in items if item.is_wrong)
    shown = [Filter(number, name, counts[name], wrong[name]) for number, name in enumerate(sorted(most))]
    return Filters(shown, len(counts), {one.name: one.number for one in shown})


def _charts(evidence: Evidence) -> list[Chart]:
    """Loss (with the eval losses as dots) and learning rate, as far as the metrics have them."""
    rows = evidence.metrics
    charts = (
        draw("loss", points_of(rows, "loss"), points_of(rows, "eval_loss"), may_be_log=True),
        draw("learning rate", points_of(rows, "learning_rate")),
    )
    found = [chart for chart in charts if chart is not None]
    if not found:
        raise Broken("metrics.jsonl has no loss and no learning rate")
    return found
