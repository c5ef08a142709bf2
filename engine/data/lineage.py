"""Duplicate rows, and rows that overlap with the eval set.

In: rows, the eval items, and the policy for each kind. Out:
the rows that remain, and the counts and samples for the manifest.

Two prompts are the same when :func:`engine.data.text.normalise_prompt` makes them equal (NFC, case
folded, white space collapsed). Every user turn of a row can overlap; duplicates are rows
with the same prompt side. Overlapping rows are dropped first, so that none of them remains as the duplicate of a
dropped row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.canonical import JsonObject
from engine.data.model import DatasetRow, EvalItem, Policy
from engine.data.text import excerpt, normalise_prompt
from engine.errors import Diagnostic, InputInvalid, Where

SAMPLES = 5
MOST_FINDINGS = 20


@dataclass(frozen=True, slots=True)
class Match:
    """A row, and the earlier row or eval item that has the same prompt."""

    row: DatasetRow
    other: str
    prompt: str

    def as_json(self) -> JsonObject:
        """A sample for the manifest."""
        return {"id": self.row.id, "same_as": self.other, "prompt": excerpt(self.prompt, 80)}


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows to train on, and the matches among those read. ``n_dropped`` of ``n_read`` were dropped."""

    rows: tuple[DatasetRow, ...]
    n_read: int
    duplicates: tuple[Match, ...]
    overlaps: tuple[Match, ...]
    n_dropped: int
    on_duplicate: Policy
    on_overlap: Policy
    compared_with_eval_set: bool

    @property
    def n_duplicates(self) -> int:
        """Rows whose prompt an earlier row has."""
        return len(self.duplicates)

    @property
    def n_overlap(self) -> int:
        """Rows that ask what the eval set asks."""
        return len(self.overlaps)

    def lineage(self) -> JsonObject:
        """The counts and samples of the manifest."""
        return {
            "n_read": self.n_read,
            "n_duplicates": self.n_duplicates,
            "n_overlap": self.n_overlap if self.compared_with_eval_set else None,
            "n_dropped": self.n_dropped,
            "duplicate_samples": [match.as_json() for match in self.duplicates[:SAMPLES]],
            "overlap_samples": [match.as_json() for match in self.overlaps[:SAMPLES]],
        }


def prepare(
    rows: Sequence[DatasetRow],
    eval_items: Sequence[EvalItem] | None,
    *,
    on_duplicate: Policy = "keep",
    on_overlap: Policy = "fail",
    file: str = "",
) -> Prepared:
    """Apply both policies. Raises InputInvalid for matches under the policy ``fail``, and where no row remains.

    ``eval_items`` None: there is no eval set to compare with (the manifest then has null, not 0).
    """
    overlaps = find_overlaps(rows, eval_items or ())
    dropped = {id(match.row) for match in overlaps} if on_overlap == "drop" else set()
    remaining = [row for row in rows if id(row) not in dropped]
    duplicates = find_duplicates(remaining)
    findings = _overlap_findings(overlaps, file) if on_overlap == "fail" else []
    findings += _duplicate_findings(duplicates, file) if on_duplicate == "fail" else []
    if findings:
        raise InputInvalid.of(findings)
    if on_duplicate == "drop":
        twins = {id(match.row) for match in duplicates}
        remaining = [row for row in remaining if id(row) not in twins]
    if not remaining:
        hint = f"{len(rows)} rows were read, {len(overlaps)} of them overlap with the eval set"
        raise InputInvalid("D303", "no row is left to train on", where=Where(file), hint=hint)
    return Prepared(
        rows=tuple(remaining),
        n_read=len(rows),
        duplicates=tuple(duplicates),
        overlaps=tuple(overlaps),
        n_dropped=len(rows) - len(remaining),
        on_duplicate=on_duplicate,
        on_overlap=on_overlap,
        compared_with_eval_set=eval_items is not None,
    )


def find_duplicates(rows: Sequence[DatasetRow]) -> list[Match]:
    """Each row whose prompt side an earlier row has, with the first such row."""
    first: dict[str, DatasetRow] = {}
    matches = []
    for row in rows:
        earlier = first.setdefault(normalise_prompt(row.body.key), row)
        if earlier is not row:
            matches.append(Match(row, earlier.id, row.prompt))
    return matches


def find_overlaps(rows: Sequence[DatasetRow], eval_items: Sequence[EvalItem]) -> list[Match]:
    """Each row with a question that is an item of the eval set (once, with the first such item)."""
    by_prompt = {normalise_prompt(item.prompt): item for item in eval_items}
    matches = []
    for row in rows:
        for prompt in row.body.prompts:
            item = by_prompt.get(normalise_prompt(prompt))
            if item is not None:
                matches.append(Match(row, item.id, prompt))
                break
    return matches


def _where(match: Match, file: str) -> Where:
    return Where(file or "dataset", match.row.line, path=match.row.id)


def _duplicate_findings(matches: Sequence[Match], file: str) -> list[Diagnostic]:
    hint = "delete one of the two, or declare on_duplicate: drop (or keep) in the build_dataset step"
    findings = [
        Diagnostic(
            "D301",
            f'row "{match.row.id}" repeats the prompt of row "{match.other}": {excerpt(match.prompt)}',
            _where(match, file),
            hint,
        )
        for match in matches[:MOST_FINDINGS]
    ]
    return [*findings, *_beyond(len(matches), "D301", "duplicate rows", file)]


def _overlap_findings(matches: Sequence[Match], file: str) -> list[Diagnostic]:
    hint = "remove the row, or declare on_overlap: drop (or keep, which the evidence records)"
    findings = [
        Diagnostic(
            "D302",
            f'row "{match.row.id}" asks what eval item "{match.other}" asks: {excerpt(match.prompt)}',
            _where(match, file),
            hint,
        )
        for match in matches[:MOST_FINDINGS]
    ]
    return [*findings, *_beyond(len(matches), "D302", "rows that overlap with the eval set", file)]


def _beyond(count: int, code: str, what: str, file: str) -> list[Diagnostic]:
    beyond = count - MOST_FINDINGS
    return [Diagnostic(code, f"and {beyond} more {what}", Where(file or "dataset"))] if beyond > 0 else []
