"""A training run chopped by its session limit: the bytes of one that nothing stopped, and a chain in its report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.protocol.sessions import chain_problems
from engine.trainer import restore
from engine.trainer.session.guard import SessionGuard
from engine.trainer_process.carried import training_files


class StepClock:
    """A train step takes ten seconds, and nothing else takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """``limited()``: the next process begins at second 0 of its session."""
    clock = StepClock()

    class Guard(SessionGuard):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "clock": clock})

        def stepped(self, seconds: float) -> None:
            clock.now += 10.0
            super().stepped(10.0)

    monkeypatch.setattr(restore, "SessionGuard", Guard)

    def begin() -> None:
        clock.now = 0.0

    return begin


def test_chopped_is_uninterrupted(
    make_job: Callable[..., Any], train_here: Any, same_training: Callable[..., None], limited: Callable[[], None]
) -> None:
    """Every session ends by itself with a checkpoint that the next one resumes from."""
    whole, parts = make_job("whole", save_every_steps=5), make_job("parts", save_every_steps=5)
    train_here(whole)
    spans, stopped = [], []
    while True:
        limited()
        job = {
            **parts,
            "session": {"id": f"s{len(spans)}", "started_at": "2026-01-02T03:04:05Z"},
            "deadline": {"ends_at": 60.0, "limit_seconds": 60.0, "margin_seconds": 3.0},
        }
        events = train_here(job)
        steps = [event["train_step"] for event in events if event["event"] == "train_step"]
        spans.append((steps[0], steps[-1]) if steps else ())
        if events[-1]["event"] == "finished":
            break
        stopped.append(events[-1])
        kept = training_files(Path(parts["work"]), parts["args"])
        assert kept is not None
        assert chain_problems(kept.sessions) == []
        assert kept.said == f"train step {steps[-1]} of 12"
    same_training(whole, parts)
    assert [event["reason"] for event in stopped] == ["deadline"] * len(stopped)
    assert all(event["here"] == last - first + 1 for event, (first, last) in zip(stopped, spans, strict=False))
    assert len(spans) >= 3
    rows = json.loads((Path(parts["out"]) / "train_report.json").read_bytes())["sessions"]
    assert [(row["first_train_step"], row["last_train_step"]) for row in rows] == [span for span in spans if span]
    assert (chain_problems(rows), rows[-1]["last_train_step"]) == ([], 12)
    assert [row["session"] for row in rows] == [f"s{number}" for number in range(len(rows))]


def test_a_limit_that_is_too_short_by_what_was_measured_trains_nothing(
    make_job: Callable[..., Any], train_here: Any, limited: Callable[[], None], tmp_path: Path
) -> None:
    """It says what a session needs."""
    job = make_job("known")
    job["cache"] = str(tmp_path / "cache")
    limited()
    train_here(job)
    limited()
    again = {
        **job,
        "work": str(tmp_path / "other"),
        "deadline": {"ends_at": 5.0, "limit_seconds": 5.0, "margin_seconds": 1.0},
    }
    events = train_here(again)
    assert [event["event"] for event in events if event["event"] in ("train_step", "stopped")] == ["stopped"]
    assert (events[-1]["reason"], events[-1]["here"]) == ("deadline", 0)
    assert "a train step of 10s" in events[-1]["needs"]
