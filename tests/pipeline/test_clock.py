"""A clock that is set while a run goes on: every step ends after it starts, and the record says what happened to the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.artifacts.journal import Journal, journal_path
from engine.artifacts.store import Store
from engine.pipeline.clock import Clock, Period
from engine.pipeline.plan import Selection
from engine.pipeline.record import make_record
from engine.pipeline.runner import _Run, execute
from engine.runspec.model import Spec
from engine.steps import StepContext

NOON = 1767268800.0  # 2026-01-01T12:00:00Z
HOUR = 3600.0


class Clocks:
    """The wall's clock and a steady one, as a test sets them."""

    def __init__(self, wall: float = NOON) -> None:
        self.wall, self.steady = wall, 100.0

    def pass_(self, seconds: float, jump: float = 0.0) -> None:
        """Time goes by; then the wall's clock is set."""
        self.wall, self.steady = self.wall + seconds + jump, self.steady + seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.wall, lambda: self.steady)


@pytest.mark.parametrize(
    ("began", "jump", "expected"),
    [
        (NOON, 0.0, Period("2026-01-01T12:00:00Z", "2026-01-01T12:00:10Z", None)),
        (NOON, 1.9, Period("2026-01-01T12:00:00Z", "2026-01-01T12:00:11Z", None)),
        (NOON, -1.0, Period("2026-01-01T12:00:00Z", "2026-01-01T12:00:09Z", None)),
        (NOON, -5.0, Period("2026-01-01T12:00:00Z", "2026-01-01T12:00:05Z", "the clock was set back by 5 s during this step")),
        (NOON, -HOUR, Period("2026-01-01T12:00:00Z", "2026-01-01T12:00:10Z", "the clock was set back by 3600 s during this step")),
        (NOON, HOUR, Period("2026-01-01T12:00:00Z", "2026-01-01T13:00:10Z", "the clock was set forward by 3600 s during this step")),
        (5.0, 0.0, Period("1970-01-01T00:00:05Z", "1970-01-01T00:00:15Z", "the clock said 1970-01-01T00:00:05Z: it had not been set")),
        (5.0, NOON, Period("1970-01-01T00:00:05Z", "2026-01-01T12:00:15Z", "the clock was set forward by 1767268800 s during this step; "
                           "the clock said 1970-01-01T00:00:05Z: it had not been set")),
    ],
)  # fmt: skip
def test_a_step_ends_after_it_starts(began: float, jump: float, expected: Period) -> None:
    """Ten seconds of work, with the clock set meanwhile; a second that is skipped or repeated is nothing to say."""
    clocks = Clocks(began)
    clock = clocks.clock()
    started = clock.start()
    clocks.pass_(10.0, jump)
    assert clock.stop(started) == expected


def test_a_jump_between_two_steps_belongs_to_the_second() -> None:
    """And it is said once."""
    clocks = Clocks()
    clock = clocks.clock()
    clock.stop(clock.start())
    clocks.pass_(1.0, -60.0)
    assert clock.stop(clock.start()).remark == "the clock was set back by 60 s before this step"
    assert clock.stop(clock.start()).remark is None


def test_what_a_run_publishes_has_times_in_order_and_the_remark(
    make_spec: Callable[..., Spec], make_handler: Any, console: Any
) -> None:
    """The artifact, the screen and the record; the other step of the run has no remark."""
    clocks = Clocks()

    def work(ctx: StepContext) -> None:
        clocks.pass_(10.0, -HOUR if ctx.step.id == "press" else 0.0)

    spec = make_spec(("grow", "grow", {}), ("press", "press", {}))
    kinds = {
        "grow": make_handler("grow", (), "apple", hook=work),
        "press": make_handler("press", ("apple",), "juice", hook=work),
    }
    store = Store(spec.root)
    journal = Journal(journal_path(store.root, "toy_v1"))
    run = _Run(spec, kinds, store, journal, console, "runspec run", Selection(), lambda: False, clock=clocks.clock())  # type: ignore[arg-type]
    run.run_steps()
    press = run.made["press"]
    assert (press.started_at, press.finished_at) == ("2026-01-01T12:00:10Z", "2026-01-01T12:00:20Z")
    assert press.facts == {"name": "juice", "clock": "the clock was set back by 3600 s during this step"}
    assert run.made["grow"].facts == {"name": "apple"}
    assert "note warning: the clock was set back by 3600 s during this step; the evidence will say so" in console.lines
    record = make_record(spec, run.made, journal)
    assert (record.started_at, record.finished_at) == ("2026-01-01T12:00:00Z", "2026-01-01T12:00:20Z")


def test_a_session_that_begins_before_the_last_one_ended_says_so(
    make_spec: Callable[..., Spec], kinds: Any, console: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that forgot the time between two attempts; without that the record has no such key."""
    spec = make_spec(("grow", "grow", {}))

    def session() -> Any:
        execute(
            spec,
            kinds,
            console=console,
            command="runspec run",
            selection=Selection(stop="grow", force=frozenset({"all"})),
        )
        return Journal(journal_path(spec.root / ".runspec", "toy_v1")).last("run_started")

    assert "clock" not in session()["environment"]
    before = Journal(journal_path(spec.root / ".runspec", "toy_v1")).events[-1]["time"]
    monkeypatch.setattr("time.time", lambda: 9.0)
    assert session()["environment"]["clock"] == (
        f"the last session began at 1970-01-01T00:00:09Z, before an event of an earlier one ({before})"
    )
