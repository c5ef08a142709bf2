"""When a training run saves for the last time: decided by a clock that the test sets."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.deadline import ASSUMED_BYTES_PER_SECOND, Deadline, default_margin
from engine.trainer.session.guard import Pace, SessionGuard, recall, remember


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def guard_of(
    limit: float, *, state_bytes: int = 0, known: Pace | None = None, **more: object
) -> tuple[SessionGuard, Clock]:
    clock = Clock()
    deadline = Deadline(limit, limit, default_margin(limit), **more)  # type: ignore[arg-type]
    return SessionGuard(deadline, state_bytes=state_bytes, known=known, clock=clock), clock


@given(
    steps_long=st.floats(1.0, 200.0),
    step=st.floats(0.01, 30.0),
    save=st.floats(0.01, 20.0),
    slack=st.floats(0.5, 1.0),
    carry=st.booleans(),
)
def test_the_last_save_ends_before_the_limit(
    steps_long: float, step: float, save: float, slack: float, carry: bool
) -> None:
    """Whatever steps and saves take, as long as none is slower than the slowest so far; and not much too early either."""
    limit = 2.0 + steps_long * step
    state_bytes = int(save * ASSUMED_BYTES_PER_SECOND)
    guard, clock = guard_of(limit, state_bytes=state_bytes, carries=carry)
    after = save if carry else save / 10
    steps = 0
    while True:
        sent_at = clock.now
        waits, is_last = guard.is_unsure, guard.is_last(evaluates=False)
        clock.now = sent_at + step * (slack if steps % 2 else 1.0)
        guard.stepped(clock.now - sent_at)
        is_last = is_last or (waits and guard.is_last(evaluates=False))
        steps += 1
        if is_last:
            break
    ends = clock.now + save + after
    assert steps == 1 or ends <= limit
    if steps > 1:
        assert ends + 3 * step + default_margin(limit) + 1.0 >= limit


def test_without_a_limit_no_step_is_the_last() -> None:
    """And nothing is refused."""
    guard = SessionGuard(None, state_bytes=1 << 40)
    guard.stepped(1e9)
    assert not guard.is_last(evaluates=True, is_saving=True)
    assert guard.may_begin()
    assert guard.may_save_first()
    assert guard.may_export(1 << 40)
    assert guard.save_every(25) == 25


def test_an_eval_and_a_running_save_count() -> None:
    """What the next train step brings with it must fit too."""
    guard, clock = guard_of(100.0)
    guard.stepped(1.0)
    guard.evaluated(30.0)
    guard.saved(10.0)
    clock.now = 100.0 - 5.0 - 0.5 - 2.0 - 10.0 - 1.0  # margin, wrap-up, two steps, the save, one second more
    assert not guard.is_last(evaluates=False)
    assert guard.is_last(evaluates=True)
    assert guard.is_last(evaluates=False, is_saving=True)


def test_the_first_save_is_expected_to_be_slow_until_one_is_measured() -> None:
    """By its bytes."""
    guard, _ = guard_of(100.0, state_bytes=500_000_000)
    assert guard.save_seconds == 10.0
    guard.saved(2.0)
    guard.saved(3.0)
    assert guard.save_seconds == 3.0


def test_what_is_known_to_be_too_short_is_known_before_the_first_step() -> None:
    """From an earlier measurement; without one the first train step is tried."""
    assert guard_of(10.0)[0].may_begin()
    assert guard_of(10.0, known=Pace(2.0, 3.0))[0].may_begin()
    assert not guard_of(10.0, known=Pace(6.0, 3.0))[0].may_begin()


def test_a_first_save_that_would_come_too_late_is_not_begun() -> None:
    """Only where it was measured: an assumption refuses nothing."""
    guard, clock = guard_of(10.0, known=Pace(1.0, 4.0))
    clock.now = 5.9
    assert guard.may_save_first()
    clock.now = 6.1
    assert not guard.may_save_first()
    guessing, clock = guard_of(10.0, state_bytes=10**12)
    clock.now = 9.9
    assert guessing.may_save_first()


def test_the_cadence_follows_from_measured_seconds() -> None:
    """A save takes a fiftieth of the time at most, a kill loses a tenth of the limit at most; nothing is chosen before both are measured."""
    guard, _ = guard_of(3600.0, cadence="measured")
    assert guard.save_every(25) == 25
    guard.stepped(0.5)
    assert guard.save_every(25) == 25
    guard.saved(2.0)
    assert guard.save_every(25) == 200  # 50 x 2 s
    guard.saved(20.0)
    assert guard.save_every(25) == 720  # a tenth of the limit
    declared, _ = guard_of(3600.0)
    declared.stepped(0.5)
    declared.saved(2.0)
    assert declared.save_every(25) == 25


def test_the_pace_is_remembered(tmp_path: Path) -> None:
    """The quickest of all; a file that is not what was written is nothing."""
    guard, _ = guard_of(10.0, known=Pace(2.0, None))
    guard.stepped(3.0)
    guard.saved(4.0)
    file = tmp_path / "pace.json"
    remember(file, guard.pace)
    assert recall(file) == Pace(2.0, 4.0)
    file.write_bytes(file.read_bytes().replace(b"2.0", b"1.0"))
    assert recall(file) == recall(tmp_path / "absent") == Pace()
    remember(tmp_path / "absent", Pace())
    assert not (tmp_path / "absent").exists()
