"""The metrics by name. A new one is a function and one line in :data:`METRICS`.

A metric goes from (text of the model, expected answer) to (extracted answer, score from 0 to 1). Its name
includes its version: a metric that scores any vector differently gets a new version, and the old one
remains.

    >>> metric_named("answer_correctness@v1").judge("Answer: Paris", "paris")
    ('Paris', 1.0)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import InputInvalid, did_you_mean
from engine.scoring.normalise import extract_answer, normalise


@dataclass(frozen=True, slots=True)
class Metric:
    """``judge(text, expected)`` gives (extracted, score)."""

    id: str
    title: str
    judge: Callable[[str, str], tuple[str, float]]


def answer_correctness_v1(text: str, expected: str) -> tuple[str, float]:
    """1.0 where the extracted answer equals the expected one after stripping and case folding, else 0.0.

    The expected answer is not searched for a marker: it is the answer already.
    """
    extracted = extract_answer(text)
    return extracted, 1.0 if normalise(extracted) == normalise(expected) else 0.0


METRICS: dict[str, Metric] = {
    "answer_correctness@v1": Metric(
        id="answer_correctness@v1",
        title="share of items whose answer equals the expected one",
        judge=answer_correctness_v1,
    ),
}


def metric_named(metric_id: str) -> Metric:
    """The metric of this id. Raises K101 with the most similar known one."""
    metric = METRICS.get(metric_id)
    if metric is None:
        near = did_you_mean(metric_id, METRICS)
        hint = f'did you mean "{near}"?' if near else f"known metrics: {', '.join(sorted(METRICS))}"
        raise InputInvalid("K101", f'there is no metric "{metric_id}"', hint=hint)
    return metric
