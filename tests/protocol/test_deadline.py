"""Lengths of time as people write them, and what fits before a deadline: pure, with times as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.deadline import Deadline, default_margin, in_words, seconds_of
from engine.protocol.sessions import RunSession, beginning, chain_problems, last_train_step, rows_at

MACHINE = {"platform": "cpu", "device_kind": "cpu", "devices": 1}


@pytest.mark.parametrize(
    ("text", "seconds"), [("8h30m", 30600), ("90s", 90), ("45m", 2700), ("1h1s", 3601), ("100m", 6000)]
)
def test_a_length_of_time(text: str, seconds: float) -> None:
    """Hours, minutes, seconds, in this order, each at most once."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5", '"5" has no unit: 5m are minutes, 5s seconds'),
        ("", '"" is no length of time: write hours, minutes and seconds as 8h30m, 45m or 90s'),
        ("0s", '"0s" is no time at all: write hours, minutes and seconds as 8h30m, 45m or 90s'),
        ("30m8h", '"30m8h" is no length of time: write hours, minutes and seconds as 8h30m, 45m or 90s'),
        ("-5m", '"-5m" is no length of time: write hours, minutes and seconds as 8h30m, 45m or 90s'),
        ("1.5h", '"1.5h" is no length of time: write hours, minutes and seconds as 8h30m, 45m or 90s'),
        ("٥", '"٥" is no length of time: write hours, minutes and seconds as 8h30m, 45m or 90s'),
    ],
)
def test_what_is_no_length_of_time(text: str, said: str) -> None:
    """Each with a sentence for a person."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        seconds_of(text)
    assert str(caught.value) == said


@given(st.integers(1, 10**6))
def test_words_are_read_back(seconds: int) -> None:
    """What is printed can be typed."""
    assert seconds_of(in_words(float(seconds))) == seconds


@given(st.floats(0.5, 1e6))
def test_the_margin_leaves_time_to_work(limit: float) -> None:
    """Never more than a quarter of the limit, never more than five minutes."""
    assert 0 < default_margin(limit) <= min(limit / 4, 300.0)


def test_the_moments_of_a_deadline_are_in_order() -> None:
    """Asked to stop, killed, over; finished artifacts that are carried over bring the first two forward."""
    deadline = Deadline(1000.0, 900.0, 45.0)
    assert deadline.stop_at < deadline.kill_at < deadline.ends_at
    carries = Deadline(1000.0, 900.0, 45.0, carries=True, carried_bytes=5_000_000_000)
    assert carries.stop_at == deadline.stop_at - 100.0
    assert carries.kill_at < deadline.kill_at - 99.0
    assert deadline.fits(0.0, deadline.stop_at)
    assert not deadline.fits(0.1, deadline.stop_at)


def a_chain(*spans: tuple[int, int]) -> list[dict[str, object]]:
    """Sessions of these train steps, by the notes of their checkpoints."""
    rows: list[dict[str, object]] = []
    for number, (first, last) in enumerate(spans):
        parent = rows[-1]["checkpoint_sha256"] if rows else None
        begun = beginning(RunSession(f"s{number}", "2026-01-02T03:04:05Z"), first - 1, parent, MACHINE)  # type: ignore[arg-type]
        rows = rows_at({"sessions": rows, "session": {**begun, "saved_at": "2026-01-02T04:04:05Z"}}, last, f"d{number}")
    return rows


def test_checkpoints_carry_their_chain() -> None:
    """The notes of the last one have all sessions before it."""
    rows = a_chain((1, 4), (5, 9), (10, 10))
    assert chain_problems(rows) == []
    assert [(row["first_train_step"], row["last_train_step"], row["parent_sha256"]) for row in rows] == [
        (1, 4, None),
        (5, 9, "d0"),
        (10, 10, "d1"),
    ]
    assert last_train_step(rows) == 10


@pytest.mark.parametrize(
    ("spans", "problem"),
    [
        (((1, 4), (6, 9)), "session 2 does not begin after train step 4"),
        (((1, 4), (4, 9)), "session 2 does not begin after train step 4"),
        (((2, 4),), "session 1 does not begin after train step 0"),
        (((1, 4), (5, 3)), "session 2 does not begin after train step 4"),
    ],
)
def test_gaps_and_repeats_are_no_chain(spans: tuple[tuple[int, int], ...], problem: str) -> None:
    """A train step that is missing, or done twice."""
    assert chain_problems(a_chain(*spans)) == [problem]


def test_another_parent_is_no_chain() -> None:
    """And sessions that trained nothing are passed over."""
    rows = a_chain((1, 4), (5, 9))
    rows[1]["parent_sha256"] = "d7"
    idle = {"first_train_step": None}
    assert chain_problems([rows[0], idle, rows[1]]) == [
        "session 3 did not begin with the checkpoint that the one before it left"
    ]


def test_a_checkpoint_of_an_engine_without_sessions_is_one_session() -> None:
    """From its first train step on."""
    [row] = rows_at({"metrics_bytes": 1}, 7, "d")
    assert (row["first_train_step"], row["last_train_step"], row["session"]) == (1, 7, None)
    assert chain_problems([row]) == []
