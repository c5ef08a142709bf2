"""A tool that fails, hangs or lags does not delay training and is reported once; it gets no row twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from engine.errors import InputInvalid, render
from engine.trainer.tracking import loggers
from engine.trainer.tracking.loggers import RunFacts, reports
from engine.trainer.tracking.loggers.reports import Reports
from tests.fixtures.events import log_into

Facts = Callable[[str], RunFacts]
ROWS = [{"train_step": step, "loss": 1.0 / step, "seconds": 0.1} for step in range(1, 7)]


class ListLogger:
    """A tool that keeps rows in a list; ``does`` is called before each."""

    where = "http://me:secret@tracking.example/run"

    def __init__(self, last_step: int = 0, does: Callable[[int], None] = lambda _: None) -> None:
        self.last_step, self._does = last_step, does
        self.rows: list[tuple[int, Mapping[str, float]]] = []
        self.closed = False

    def row(self, train_step: int, metrics: Mapping[str, float]) -> None:
        self._does(train_step)
        self.rows.append((train_step, metrics))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def send(facts: Facts) -> Callable[..., list[dict[str, Any]]]:
    """Send ROWS, the first ``before`` of them as those of an earlier process; returns the events."""

    def run(tools: Mapping[str, Any], before: int = 0, seconds: float = 5.0) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        sending = Reports(list(tools), facts, log_into(events), lambda name, _: tools[name])
        sending.start(ROWS[:before])
        for row in ROWS[before:]:
            sending.row(row)
        sending.close(seconds)
        return events

    return run


@pytest.mark.parametrize("before", [0, 4, 6])
@pytest.mark.parametrize("last_step", [0, 2, 4, 5])
def test_each_train_step_arrives_once(send: Callable[..., Any], before: int, last_step: int) -> None:
    """Whatever rows a tool has already and wherever training resumes: no gap, nothing twice."""
    tool = ListLogger(last_step=last_step)
    send({"a": tool}, before=before)
    assert [step for step, _ in tool.rows] == list(range(last_step + 1, 7))
    assert tool.rows[-1][1] == {"loss": 1.0 / 6, "seconds": 0.1}
    assert tool.closed


def test_a_tool_that_fails_is_reported_once_and_the_others_continue(send: Callable[..., Any]) -> None:
    """Its first error is an event with the reason, without the password in it; then it gets no more rows."""

    def fails(step: int) -> None:
        raise ConnectionError(f"no answer from {ListLogger.where} at {step}\nand more")

    bad, good = ListLogger(does=fails), ListLogger()
    events = send({"bad": bad, "good": good})
    assert [event for event in events if event["event"] == "logger_failed"] == [
        {"event": "logger_failed", "logger": "bad",
         "reason": "ConnectionError: no answer from http://tracking.example/run at 1"}
    ]  # fmt: skip
    assert [step for step, _ in good.rows] == list(range(1, 7))
    addresses = [event["where"] for event in events if event["event"] == "reporting"]
    assert addresses == ["http://tracking.example/run"] * 2


def test_a_tool_that_cannot_be_opened_is_reported(facts: Facts) -> None:
    """An error while it opens is an event too."""
    events: list[Any] = []

    def opener(name: str, facts: RunFacts) -> Any:
        raise PermissionError("api_key not configured")

    sending = Reports(["wandb"], facts, log_into(events), opener)
    sending.start([])
    sending.row(ROWS[0])
    sending.close(5.0)
    assert events == [
        {"event": "logger_failed", "logger": "wandb", "reason": "PermissionError: api_key not configured"}
    ]


def test_a_tool_that_hangs_delays_nothing(send: Callable[..., Any]) -> None:
    """Sending a row returns at once, and the wait at the end is limited."""
    free = threading.Event()
    tool = ListLogger(does=lambda _: free.wait(20) and None)
    started = time.monotonic()
    events = send({"slow": tool}, seconds=0.2)
    assert time.monotonic() - started < 5  # it would be 20 and more
    assert events[-1] == {"event": "logger_failed", "logger": "slow", "reason": "it did not finish within 0.2 s"}
    free.set()


def test_a_tool_that_lags_too_far_is_abandoned(send: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting rows cost memory: at a limit the tool is abandoned and reported."""
    monkeypatch.setattr(reports, "MOST_WAITING", 2)
    free = threading.Event()
    events = send({"slow": ListLogger(does=lambda _: free.wait(20) and None)}, seconds=0.1)
    free.set()
    assert [event["reason"] for event in events if event["event"] == "logger_failed"] == ["it is 2 rows behind"]


def test_without_tools_nothing_starts(facts: Facts) -> None:
    """Without report_to there is no thread and no folder."""
    before = threading.active_count()
    sending = Reports([], facts, lambda _: None)
    sending.start(ROWS)
    assert threading.active_count() == before
    sending.close()


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tool that cannot work here, all at once, before training."""
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputInvalid) as caught:
        loggers.check_installed(["tensorboard", "wandb", "mlflow"])
    assert "\n".join(render(diagnostic) for diagnostic in caught.value.diagnostics) == (
        "error[T160]: report_to names wandb, whose library is not installed here\n"
        "   = help: pip install 'runspec-engine[wandb]', or take wandb out of report_to\n"
        "error[T160]: report_to names mlflow, whose library is not installed here\n"
        "   = help: pip install 'runspec-engine[mlflow]', or take mlflow out of report_to"
    )
