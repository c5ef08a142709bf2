"""Evidence -> the bytes of a page: the one that travels with it, or the one that also has what the checks say of it now.

    inside = packaged_page(files)                              # report.html of a package: a function of its other files
    page = report_page(read_bundle(path), verify(path))        # runspec report

The template ``templates/report.html.j2`` gets the values of :func:`make_page`. Every value is escaped for HTML, and a character
that would act on the page or reorder its text is spelled (``<U+202E>``): both at the one place where values enter the page.
The filter is CSS alone; there is no script, and the page's own policy forbids every request.

A page inside a package cannot vouch for itself: it has no word on whether the checks pass, only which there are and how to
run them. Those words stand in the template, which the record names with its digest: the same files give the same page in
every later version of the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from engine.assets import asset
from engine.canonical import JsonObject, digest_bytes
from engine.errors import RunspecError
from engine.evidence.bundle import Bundle
from engine.evidence.contents import Broken, Evidence
from engine.evidence.levels import Trust
from engine.evidence.report.curves import Chart, draw, points_of
from engine.evidence.report.facts import about, environment_facts, run_facts, step_rows
from engine.evidence.report.items import ReportItem, common_frame, grouped, read_items, total
from engine.evidence.rescore import recorded_metric
from engine.printable import printable

if TYPE_CHECKING:
    import jinja2

    from engine.evidence.report.environment import JinjaPageEnvironment

PAGE, TEMPLATE = "report.html", "report.html.j2"
MARKER = b'data-made-by="runspec report"'  # by which a report is told from a file of other origin
MOST_FILTERS = 40  # categories that the filter offers; the tables have all
MOST_WRONG = 30  # wrong answers in the list at the top; the items have all
MOST_CHARS = 160  # of each of their texts there
GROUPS = ("section", "category", "difficulty")

T = TypeVar("T")
# One item as the template writes it: its number, the classes of the filter, id, verdict, remarks, question, what was asked (None
# where the frame says it), expected, answered, raw text. Names of a tuple cost the template no look-up, of 20,000 items a sixth of a second.
ItemRow = tuple[int, str, str, str, str, str, str | None, str, str | None, str | None]


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A part of the page: its value, or the reason why these files do not have one."""

    value: T | None
    reason: str = ""


class CheckRow(Protocol):
    """One check and its outcome."""

    @property
    def id(self) -> str:
        """V01 …"""

    @property
    def title(self) -> str:
        """What it checks."""

    @property
    def status(self) -> str:
        """pass, fail, n/a."""

    @property
    def detail(self) -> str:
        """What was found."""


class Verified(Protocol):
    """What the page shows of a verification (:class:`engine.evidence.verify.Verification`, which makes this page again)."""

    @property
    def ok(self) -> bool:
        """Whether no check failed."""

    @property
    def trust_level(self) -> str | None:
        """None where a check failed."""

    @property
    def checks(self) -> Sequence[CheckRow]:
        """All, in order."""

    @property
    def failed(self) -> Sequence[CheckRow]:
        """Those that failed."""

    @property
    def trust(self) -> Trust:
        """The level with the whole scale."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One category of the filter, by number: ``number`` is in the class of its items."""

    number: int
    name: str
    n_items: int
    n_wrong: int


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """One row of the list at the top: ``number`` is that of the item below, texts are cut."""

    number: int
    id: str
    question: str
    expected: str
    answered: str | None  # None: no prediction


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


def report_page(bundle: Bundle, verification: Verified) -> bytes:
    """The page with what the checks say now. Never raises for what is in the bundle."""
    return template().render(make_page(bundle.files, verification)).encode()


def packaged_page(files: Mapping[str, bytes], source: str | None = None) -> bytes:
    """report.html of the files of a run; ``source``: the text of the engine's template, the present one or a former one."""
    made_by = template() if source is None else _from_text(source)
    return made_by.render(make_page(files)).encode()


@lru_cache(maxsize=4)
def _from_text(source: str) -> jinja2.Template:
    """Compiled once: a page is made, and made again to check it."""
    return _environment().of_text(TEMPLATE, source)


@cache
def template() -> jinja2.Template:
    """The shipped template, and no other: a stranger's evidence brings none."""
    return _from_text(asset("templates", TEMPLATE).read_text(encoding="utf-8"))


@cache
def _environment() -> JinjaPageEnvironment:
    from engine.evidence.report.environment import JinjaPageEnvironment

    return JinjaPageEnvironment(_visible)


def _visible(value: object) -> object:
    """Text with every character that acts on a page spelled; line breaks stay. The template's own markup is left alone."""
    is_markup = hasattr(value, "__html__")  # what Jinja itself asks: the output of a macro
    return printable(value) if isinstance(value, str) and not is_markup else value


def make_page(files: Mapping[str, bytes], verification: Verified | None = None) -> JsonObject:
    """The names that the template uses, with their values; without a verification those of the page in a package."""
    evidence = Evidence(Bundle("folder", files))
    items = part(lambda: read_items(evidence))
    known = items.value or []
    frame, filters = common_frame(known), _filters(known)
    return {
        "run_version": part(lambda: str(evidence.record["run_version"])),
        "about": part(lambda: about(evidence)),
        "verification": verification,
        "metric": part(lambda: recorded_metric(evidence)),
        "items": items,
        "total": total(known) if known else None,
        "n_without_prediction": sum(item.text is None for item in known),
        "wrong_answers": _wrong_answers(known),
        "groups": [(name, grouped(known, name), sum(getattr(i, name) is None for i in known)) for name in GROUPS],
        "frame": frame,
        "filters": filters,
        "item_rows": [_row(n, item, filters, is_framed=frame is not None) for n, item in enumerate(known, start=1)],
        "charts": part(lambda: _charts(evidence)),
        "run": part(lambda: run_facts(evidence)),
        "environment": part(lambda: environment_facts(evidence)),
        "steps": part(lambda: step_rows(evidence)),
        "spec": part(lambda: evidence.text("runspec.yaml")),
        "worded_by_author": part(lambda: evidence.worded_by_author),
        "files": [(name, len(data), digest_bytes(data)) for name, data in sorted(files.items())],
    }


def _row(number: int, item: ReportItem, filters: Filters, *, is_framed: bool) -> ItemRow:
    category = filters.number_of.get(item.category) if item.category is not None else None
    classes = ("wrong" if item.is_wrong else "right") + ("" if category is None else f" c{category}")
    asked = None if is_framed else item.asked
    return (number, classes, item.id, item.verdict, " · ".join(item.remarks), item.question, asked, item.expected,
            item.answered, item.text)  # fmt: skip


def _wrong_answers(items: Sequence[ReportItem]) -> list[WrongAnswer]:
    """The first of them."""
    wrong = [(number, item) for number, item in enumerate(items, start=1) if item.is_wrong][:MOST_WRONG]
    return [
        WrongAnswer(number, item.id, _cut(item.question), _cut(item.expected), item.answered and _cut(item.answered))
        for number, item in wrong
    ]


def _cut(text: str) -> str:
    """The beginning, where it is long.

    >>> _cut("a" * 200)[-3:], len(_cut("a" * 200))
    ('aa…', 160)
    """
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1].rstrip()}…"


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
