"""Predictions against an eval set: one scored row per item, and the scorecard over them.

A missing prediction counts 0: ``primary_score`` is the mean over ALL items, never over the scored ones, so
that omitting hard items cannot raise it. ``n_items = n_scored + n_skipped``. ``stddev`` is the population
standard deviation of the item scores (divided by n, not n - 1: the eval set is the whole population).
Group scores are means over the items of the group, groups sorted by name; an item without the group's field
is in none. Scale 0 to 1 everywhere.

    >>> items = [ScoringItem("a", "?", "1"), ScoringItem("b", "?", "2")]
    >>> rows, card = score(items, [Prediction("a", "1")], "answer_correctness@v1")
    >>> card.n_scored, card.n_skipped, card.primary_score, card.stddev
    (1, 1, 0.5, 0.5)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.canonical import JsonObject
from engine.errors import Diagnostic, InputInvalid, did_you_mean
from engine.scoring.metrics import Metric, metric_named
from engine.scoring.readers import Prediction, ScoringItem, read_eval_set, read_predictions


@dataclass(frozen=True, slots=True)
class ScoredPrediction:
    """One row of predictions.jsonl. ``text`` and ``extracted`` are None where there was no prediction."""

    id: str
    prompt_sha256: str | None
    text: str | None
    extracted: str | None
    expected: str
    correct: float
    prompt_tokens: int | None
    new_tokens: int | None
    finish_reason: str | None
    milliseconds: float | None
    prompt: str | None = None

    def as_json(self) -> JsonObject:
        """The row, keys in the file's order; ``prompt`` only where there is one."""
        row = {name: getattr(self, name) for name in _FIELDS}
        return row if self.prompt is not None else {key: value for key, value in row.items() if key != "prompt"}


_FIELDS = tuple(ScoredPrediction.__dataclass_fields__)  # asdict copies every value, which 20,000 rows wait for


@dataclass(frozen=True, slots=True)
class Scorecard:
    """The values of scorecard.json."""

    metric: str
    n_items: int
    n_scored: int
    n_skipped: int
    primary_score: float
    stddev: float
    section_scores: Mapping[str, float]
    category_scores: Mapping[str, float]
    difficulty_scores: Mapping[str, float]

    def as_json(self) -> JsonObject:
        """The scorecard, keys in the file's order."""
        return asdict(self)


def score(
    items: Sequence[ScoringItem], predictions: Iterable[Prediction], metric: Metric | str
) -> tuple[list[ScoredPrediction], Scorecard]:
    """Rows in eval-set order, and the scorecard. Raises InputInvalid for unknown or repeated ids."""
    judge = metric_named(metric) if isinstance(metric, str) else metric
    if not items:
        raise InputInvalid("K107", "the eval set has no items")
    by_id = _by_id(items, predictions)
    rows = [_score_one(item, by_id.get(item.id), judge) for item in items]
    n_skipped = sum(row.text is None for row in rows)
    scores = [row.correct for row in rows]
    mean = _mean(scores)
    return rows, Scorecard(
        metric=judge.id,
        n_items=len(rows),
        n_scored=len(rows) - n_skipped,
        n_skipped=n_skipped,
        primary_score=mean,
        stddev=math.sqrt(_mean([(value - mean) ** 2 for value in scores])),
        section_scores=_group_means([item.section for item in items], scores),
        category_scores=_group_means([item.category for item in items], scores),
        difficulty_scores=_group_means([item.difficulty for item in items], scores),
    )


def score_files(
    predictions: Path, eval_set: Path, metric: Metric | str = "answer_correctness@v1"
) -> tuple[list[ScoredPrediction], Scorecard]:
    """The same from two files: predictions_raw.jsonl or predictions.jsonl, and an eval set."""
    return score(read_eval_set(eval_set), read_predictions(predictions), metric)


def _by_id(items: Sequence[ScoringItem], predictions: Iterable[Prediction]) -> dict[str, Prediction]:
    """Predictions by id. Raises K105 for repeated and K106 for unknown ids, all at once."""
    known = {item.id for item in items}
    by_id: dict[str, Prediction] = {}
    findings: list[Diagnostic] = []
    for prediction in predictions:
        if prediction.id in by_id:
            findings.append(Diagnostic("K105", f'two predictions for item "{prediction.id}"'))
        elif prediction.id not in known:
            near = did_you_mean(prediction.id, known) if len(findings) < 3 else None
            hint = f'did you mean "{near}"?' if near else "is this the right eval set?"
            message = f'a prediction for "{prediction.id}", which no item has'
            findings.append(Diagnostic("K106", message, hint=hint))
        by_id[prediction.id] = prediction
    if findings:
        raise InputInvalid.of(findings[:20])
    return by_id


def _score_one(item: ScoringItem, prediction: Prediction | None, metric: Metric) -> ScoredPrediction:
    text = prediction.text if prediction else None
    extracted, correct = metric.judge(text, item.expected_answer) if text is not None else (None, 0.0)
    return ScoredPrediction(
        id=item.id,
        prompt_sha256=prediction.prompt_sha256 if prediction else None,
        text=text,
        extracted=extracted,
        expected=item.expected_answer,
        correct=correct,
        prompt_tokens=prediction.prompt_tokens if prediction else None,
        new_tokens=prediction.new_tokens if prediction else None,
        finish_reason=prediction.finish_reason if prediction else None,
        milliseconds=prediction.milliseconds if prediction else None,
        prompt=prediction.prompt if prediction else None,
    )


def _mean(values: Sequence[float]) -> float:
    # fsum rounds once: the mean does not depend on the order of the items.
    return math.fsum(values) / len(values)


def _group_means(names: Iterable[str | None], scores: Iterable[float]) -> dict[str, float]:
    groups: dict[str, list[float]] = {}
    for name, value in zip(names, scores, strict=True):
        if name is not None:
            groups.setdefault(name, []).append(value)
    return {name: _mean(groups[name]) for name in sorted(groups)}
