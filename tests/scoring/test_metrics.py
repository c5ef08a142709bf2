"""Metrics are found by a name that carries its version; an unknown one is said with those there are."""

from __future__ import annotations

import re

import pytest

from engine.errors import InputInvalid, render
from engine.scoring import METRICS, Metric, metric_named
from engine.scoring import metrics as module


def _said(metric_id: str) -> str:
    with pytest.raises(InputInvalid) as caught:
        metric_named(metric_id)
    return render(caught.value.diagnostics[0])


def test_a_metric_is_found_by_its_id() -> None:
    """The table's key is the metric's own id, with a version, and its title says what a person reads."""
    for metric_id, metric in METRICS.items():
        assert metric_named(metric_id) is metric
        assert metric.id == metric_id
        assert re.fullmatch(r"[a-z_]+@v\d+", metric_id)
    assert metric_named("answer_correctness@v1").title == "share of items whose answer equals the expected one"


def test_an_unknown_metric_names_the_nearest() -> None:
    """K101 with a suggestion."""
    assert _said("answer_corectness@v1") == (
        'error[K101]: there is no metric "answer_corectness@v1"\n   = help: did you mean "answer_correctness@v1"?'
    )


def test_where_none_is_near_all_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their names, whatever the order of the table."""
    others = {name: Metric(name, "another", METRICS["answer_correctness@v1"].judge) for name in ("rouge@v2", "bleu@v1")}
    monkeypatch.setattr(module, "METRICS", METRICS | others)
    assert _said("xyz") == (
        'error[K101]: there is no metric "xyz"\n   = help: known metrics: answer_correctness@v1, bleu@v1, rouge@v2'
    )


def test_a_right_answer_is_one_and_a_wrong_one_is_zero() -> None:
    """Where the last answer equals the expected one in the form that is compared; what is returned is what was written."""
    judge = metric_named("answer_correctness@v1").judge
    assert judge("Answer: no\nAnswer:  STRASSE ", "straße") == ("STRASSE", 1.0)
    assert judge("Answer: 4.", "4") == ("4.", 0.0)
    assert judge("4", "Answer: 4") == ("4", 0.0)
