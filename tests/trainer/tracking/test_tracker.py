"""Tracking does not change a training run: reports and the profiler's window, resumed, killed, failing."""

from __future__ import annotations

import json
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputInvalid, render
from engine.protocol.train_args import ProfileArgs
from engine.trainer.tracking import loggers
from engine.trainer.tracking.loggers import event_file
from engine.trainer.tracking.profiler import ProfileWindow

Train = Callable[..., list[dict[str, Any]]]


def named(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


def reported(job: dict[str, Any]) -> dict[int, float]:
    """Train step -> loss, of all event files; fails if a step is there twice."""
    losses: dict[int, float] = {}
    for path in sorted((Path(job["work"]) / "reports").glob(f"*/tensorboard/{event_file.PATTERN}")):
        data = path.read_bytes()
        for step in event_file.steps_of(path):
            assert step not in losses
            offset = data.index(b"\x0a\x04loss\x15", data.index(b"\x10" + bytes([step]) + b"\x2a"))
            (losses[step],) = struct.unpack_from("<f", data, offset + 7)
    return losses


def test_tracking_changes_no_byte(make_job: Callable[..., Any], train_here: Train, same_training: Any) -> None:
    """A run that is stopped twice, reported and traced ends in the bytes of one that is not; every row once."""
    plain = make_job("plain")
    tracked = make_job("tracked", report_to=["tensorboard"], profile={"start": 5, "steps": 2})
    train_here(plain)
    events = [event for stop in (2, 8, None) for event in train_here(tracked, stop_after=stop)]
    same_training(plain, tracked)
    rows = [json.loads(line) for line in (Path(tracked["out"]) / "metrics.jsonl").read_text().splitlines()]
    assert reported(tracked) == {row["train_step"]: pytest.approx(row["loss"], rel=1e-6) for row in rows}
    assert named(events, "logger_failed") == []
    (profiled,) = named(events, "profiled")
    assert (profiled["first"], profiled["last"]) == (5, 6)
    assert [row["train_step"] for row in rows if row.get("profiled")] == [5, 6]
    traces = {path.suffix for path in Path(profiled["path"]).rglob("plugins/profile/*/*")}
    assert {".pb", ".gz"} <= traces
    report = json.loads((Path(tracked["out"]) / "train_report.json").read_text())
    assert report["step_seconds"]["n_train_steps"] == 12 - 2 - len(report["step_seconds"]["warm_up"])


def test_the_window_may_begin_with_the_first_step_and_be_entered_late(
    make_job: Callable[..., Any], train_here: Train
) -> None:
    """Stopped inside the window, the trace is written up to there; resumed, the rest of the window is traced."""
    job = make_job(num_train_steps=5, save_every_steps=5, profile={"start": 1, "steps": 4})
    events = train_here(job, stop_after=1) + train_here(job)
    assert [(event["first"], event["last"]) for event in named(events, "profiled")] == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ({"start": 9, "steps": 3}, "error[T161]: profile declares train steps 9 to 11; the training run has 1 to 10\n"
                                   "   = help: profile.start + profile.steps can be 11 at most"),
        ({"start": 0, "steps": 3}, "error[T161]: profile declares train steps 0 to 2; the training run has 1 to 10\n"
                                   "   = help: start and steps must be 1 or more"),
    ],
)  # fmt: skip
def test_a_window_outside_the_run_is_refused(declared: dict[str, int], text: str) -> None:
    """With both numbers and what is possible; the last train steps are inside."""
    with pytest.raises(InputInvalid) as caught:
        ProfileWindow.of(ProfileArgs(**declared), last=10)
    assert render(caught.value.diagnostics[0]) == text
    assert ProfileWindow.of(ProfileArgs(9, 2), last=10) == ProfileWindow(9, 10)


def test_nothing_is_loaded_before_the_window_is_refused(make_job: Callable[..., Any], train_here: Train) -> None:
    """The error comes first of all, before a row is read."""
    job = make_job(profile={"start": 12, "steps": 2})
    Path(job["rows"]).unlink()
    with pytest.raises(InputInvalid, match="train steps 12 to 13"):
        train_here(job)


def test_a_failing_tool_costs_one_event(
    make_job: Callable[..., Any], train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training finishes and its report is complete; the failure is one event with its reason."""

    class Broken:
        def open_run(self, facts: Any) -> Any:
            raise OSError(28, "no space left on device")

    monkeypatch.setattr(loggers.importlib, "import_module", lambda name: Broken())
    job = make_job(num_train_steps=3, save_every_steps=3, report_to=["tensorboard"])
    events = train_here(job)
    assert events[-1]["event"] == "finished"
    assert [event["reason"] for event in named(events, "logger_failed")] == [
        "OSError: [Errno 28] no space left on device"
    ]


def test_tracking_may_change_on_resume(make_job: Callable[..., Any], train_here: Train) -> None:
    """report_to and profile are not part of a checkpoint's identity; a tool added later gets all rows from the first."""
    job = make_job(num_train_steps=4, save_every_steps=2)
    train_here(job, stop_after=2)
    job["args"].update(report_to=["tensorboard"], profile={"start": 4, "steps": 1})
    assert named(train_here(job), "restored")
    assert sorted(reported(job)) == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("at", [2, 4, 5, 7, 11])
def test_killed_at_any_step_each_row_is_reported_once(
    make_job: Callable[..., Any], child: Callable[..., Any], at: int
) -> None:
    """SIGKILL just after a train step, between two checkpoints or not: no gap, nothing twice."""
    job = make_job(report_to=["tensorboard"])
    first = child(job)
    next(event for event in first if event["event"] == "train_step" and event["train_step"] == at)
    first.kill()
    assert first.process.returncode == -signal.SIGKILL
    assert child(job).finish() == 0
    assert sorted(reported(job)) == list(range(1, 13))
