"""Run again by the reader: V29 the answers of some items, V30 the first train steps.

In: the evidence, and what came out when the reader ran a part again (:mod:`engine.evidence.checks.rerun`). Out: each check's answer, and every
difference with both values. A result that differs on the recorded platform fails. On another one floating-point arithmetic may round
differently, so a difference proves nothing there, and the check does not apply; equal results count wherever they were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from engine.canonical import JsonObject, canonical_json
from engine.evidence.checks.rerun import Again
from engine.evidence.contents import Answer, Evidence, answer

NO_ANSWER, NO_STEP = "no answer was generated again: --rerun K", "no train step was run again: --rerun-steps N"
# Of an answer, and of a train step: what must come out again. Times never do.
ANSWER = ("text", "new_tokens", "finish_reason", "prompt_tokens", "prompt_sha256")
TRAIN_STEP = ("loss", "grad_norm", "learning_rate", "tokens", "skipped", "non_finite")
EVAL = "eval_loss"  # also made at the last step of a shorter run
UNRECORDED = "is not recorded"  # how a phrase of what the record does not say ends
BEFORE, SHOWN = 20, 60  # characters of a text, around the first that is another one


class Difference(NamedTuple):
    """``of``: an item's id, or a train step."""

    of: str
    field: str
    recorded: object
    again: object

    def text(self) -> str:
        """In one phrase; of two texts the first place where they differ.

        >>> Difference("q1", "text", "so 4", "so 5").text()
        "q1: text 'so 4' -> 'so 5'"
        """
        recorded, again = self.recorded, self.again
        if isinstance(recorded, str) and isinstance(again, str):
            start = max(0, _common(recorded, again) - BEFORE)
            recorded, again = recorded[start : start + SHOWN], again[start : start + SHOWN]
        return f"{self.of}: {self.field} {recorded!r} -> {again!r}"


def answers_come_out_again(evidence: Evidence) -> Answer:
    """V29: the drawn items, generated again from the recorded model."""
    rerun = evidence.reader.rerun
    if rerun is None or rerun.answers is None:
        return "n/a", NO_ANSWER
    n_items = len(evidence.rows("predictions.jsonl"))
    what = f"{len(rerun.answers.rows)} of {n_items} items (seed {rerun.seed}), on {rerun.platform}"
    return _outcome(what, rerun.answers, differing_answers(evidence, rerun.answers))


def losses_come_out_again(evidence: Evidence) -> Answer:
    """V30: the first train steps, from the recorded model and rows."""
    rerun = evidence.reader.rerun
    if rerun is None or rerun.losses is None:
        return "n/a", NO_STEP
    what = f"{len(rerun.losses.rows)} of {len(evidence.metrics)} train steps, from the first"
    if rerun.answers is None:
        what += f", on {rerun.platform}"
    return _outcome(what, rerun.losses, differing_steps(evidence, rerun.losses))


def differing_answers(evidence: Evidence, again: Again) -> list[Difference]:
    """Recorded answers that are other ones when they are generated again."""
    recorded = {row["id"]: row for row in evidence.rows("predictions.jsonl")}
    return [found for row in again.rows for found in _between(row["id"], recorded[row["id"]], row, ANSWER)]


def differing_steps(evidence: Evidence, again: Again) -> list[Difference]:
    """Recorded train steps that are other ones when they are run again."""
    found: list[Difference] = []
    for recorded, row in zip(evidence.metrics, again.rows, strict=False):
        fields = (*TRAIN_STEP, *([EVAL] if EVAL in recorded else []))
        found += _between(f"train step {recorded['train_step']}", recorded, row, fields)
    return found


def _between(of: str, recorded: JsonObject, again: JsonObject, fields: Sequence[str]) -> Iterator[Difference]:
    for field in fields:
        before, after = recorded.get(field), again.get(field)
        if canonical_json(before) != canonical_json(after):  # to the last bit: JSON has every digit of a float
            yield Difference(of, field, before, after)


def _outcome(what: str, again: Again, other: Sequence[Difference]) -> Answer:
    n_other, n_rows = len({found.of for found in other}), len(again.rows)
    if not n_rows:
        return "n/a", f"nothing to compare: {what}"
    elsewhere = f"{_other_platform(again)} ({'; '.join(again.elsewhere)})" if again.elsewhere else ""
    if not other:
        return "pass", what + (f", {elsewhere}" if elsewhere else "")
    if elsewhere:
        return "n/a", f"{elsewhere}, so not exact: {n_rows - n_other} of {n_rows} are equal; {what}"
    status, detail = answer([found.text() for found in other], "")
    return status, f"{n_other} of {n_rows} differ: {detail}; {what}"


def _other_platform(again: Again) -> str:
    is_unknown = all(phrase.endswith(UNRECORDED) for phrase in again.elsewhere)
    return "perhaps another platform" if is_unknown else "another platform"


def _common(one: str, other: str) -> int:
    """Characters that two texts have in common from their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(one), len(other)))
