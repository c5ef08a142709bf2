"""Every item of the eval set with what the model answered, judged again, and the groups that the items form.

In: the evidence. Out: one :class:`ReportItem` an item, in the order of the eval set, and :class:`GroupScore` for a field. No
verdict is taken from the evidence: the metric judges the raw text again.

    items = read_items(Evidence(bundle))
    [item.id for item in items if item.is_wrong]
    grouped(items, "category")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from engine.canonical import JsonObject
from engine.evidence.contents import Evidence
from engine.evidence.report.intervals import Interval, interval
from engine.evidence.rescore import judge

Verdict = Literal["right", "partly right", "wrong", "no prediction"]


@dataclass(frozen=True, slots=True)
class ReportItem:
    """``asked``: the text that was made of the question for the model; None where the row has no such text (version 1).

    ``answered`` and ``text`` are None where there was no prediction.
    """

    id: str
    question: str
    asked: str | None
    expected: str
    answered: str | None
    text: str | None
    score: float
    section: str | None
    category: str | None
    difficulty: str | None
    finish_reason: str | None

    @property
    def is_wrong(self) -> bool:
        """Anything but the full score."""
        return self.score < 1.0

    @property
    def verdict(self) -> Verdict:
        """In words."""
        if self.text is None:
            return "no prediction"
        return "right" if not self.is_wrong else "partly right" if self.score > 0 else "wrong"

    @property
    def remarks(self) -> list[str]:
        """Its groups and how its answer ended, as far as they are known."""
        ended = None if self.finish_reason is None else f"ended by {self.finish_reason}"
        return [text for text in (self.section, self.category, self.difficulty, ended) if text is not None]

    def as_json(self) -> JsonObject:
        """The row that ``runspec items --json`` prints."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True, slots=True)
class GroupScore:
    """The items of one section, category or difficulty."""

    name: str
    n_items: int
    n_wrong: int
    score: float
    interval: Interval


def read_items(evidence: Evidence) -> list[ReportItem]:
    """The items. Raises Broken and InputInvalid where eval set, predictions or metric cannot be read."""
    items, rows, _ = judge(evidence)
    return [
        ReportItem(
            id=item.id,
            question=item.prompt,
            asked=row.prompt,
            expected=item.expected_answer,
            answered=row.extracted,
            text=row.text,
            score=row.correct,
            section=item.section,
            category=item.category,
            difficulty=item.difficulty,
            finish_reason=row.finish_reason,
        )
        for item, row in zip(items, rows, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands before and after every question in the text that the model was asked."""

    before: str
    after: str


def common_frame(items: Sequence[ReportItem]) -> Frame | None:
    """The frame of all items that were asked; None where there is no such one, so that each text has to be shown.

    >>> item = ReportItem("a", "1 + 1", "Q: 1 + 1\\nA:", "2", "2", "2", 1.0, None, None, None, None)
    >>> common_frame([item])
    Frame(before='Q: ', after='\\nA:')
    """
    asked = [(item.question, item.asked) for item in items if item.asked is not None]
    if not asked:
        return Frame("", "")
    question, text = max(asked, key=lambda pair: len(pair[0]))
    before, found, after = text.partition(question)
    same = found and all(text == f"{before}{question}{after}" for question, text in asked)
    return Frame(before, after) if same else None


def total(items: Sequence[ReportItem], name: str = "all items") -> GroupScore:
    """All the items as one group; there is at least one."""
    scores = [item.score for item in items]
    n_wrong = sum(item.is_wrong for item in items)
    return GroupScore(name, len(items), n_wrong, math.fsum(scores) / len(scores), interval(scores))


def grouped(items: Sequence[ReportItem], field: str) -> list[GroupScore]:
    """A group for each value of section, category or difficulty, sorted by name; an item without the field is in none."""
    members: dict[str, list[ReportItem]] = {}
    for item in items:
        name = getattr(item, field)
        if name is not None:
            members.setdefault(name, []).append(item)
    return [total(members[name], name) for name in sorted(members)]
