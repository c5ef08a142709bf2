"""Batches made ahead: the same ones, in order, each error at its step, and the thread ends."""

from __future__ import annotations

import threading
import time

import pytest

from engine.trainer.input_pipeline.prefetch import Prefetch


def test_batches_come_in_order() -> None:
    """What comes out is what the function gives for each step, whichever side is faster."""
    for slow in ("maker", "consumer"):
        with Prefetch(lambda step, slow=slow: (time.sleep(0.002 * (slow == "maker")), step), first=3, last=9) as take:
            batches = [(time.sleep(0.002 * (slow == "consumer")), take(step)[1])[1] for step in range(3, 10)]
        assert batches == list(range(3, 10))


def test_no_more_than_two_wait() -> None:
    """The thread stays two batches ahead and makes none after the last."""
    made: list[int] = []
    with Prefetch(lambda step: made.append(step) or step, first=1, last=50) as take:
        take(1)
        time.sleep(0.05)
        assert len(made) <= 1 + 2 + 1  # taken, queued, and one being made
    assert len(made) < 50
    made.clear()
    with Prefetch(lambda step: made.append(step) or step, first=1, last=2) as take:
        assert [take(1), take(2)] == [1, 2]
    assert made == [1, 2]


def test_an_error_comes_out_at_its_step() -> None:
    """The steps before it get their batches; then the error itself is raised, and the thread has ended."""

    def make(step: int) -> int:
        if step == 3:
            raise OSError("gone")
        return step

    with Prefetch(make, first=1, last=9) as take:
        assert [take(1), take(2)] == [1, 2]
        with pytest.raises(OSError, match="gone"):
            take(3)


def test_leaving_stops_the_thread() -> None:
    """Left in the middle, with the queue full, no thread survives."""
    with Prefetch(lambda step: step, first=1, last=10**9) as take:
        assert take(1) == 1
    assert [thread for thread in threading.enumerate() if thread.name == "prefetch"] == []


def test_steps_are_requested_in_order() -> None:
    """Any step but the next is an error, not another batch."""
    with Prefetch(lambda step: step, first=4, last=9) as take, pytest.raises(ValueError, match="4 is next"):
        take(5)
