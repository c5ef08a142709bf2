"""A log is shown once, whatever the stream does: cut, restarted, silent, never ended, not JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kaggle.driver.api.answers import Refusal
from engine.kaggle.driver.api.connection import Kaggle
from engine.kaggle.driver.api.logs import END, LogEvent, Seen, events, stream
from engine.kaggle.driver.api.names import NotebookName
from engine.protocol.kaggle_logins import KaggleLogin
from tests.kaggle.driver.stand_ins import QuickClock

NAME = NotebookName("someone", "my-run", "my run")
CUT = object()


class Streams:
    """A wire whose log stream gives these payloads, connection by connection; ``status`` is what the session is then."""

    def __init__(self, *connections: list[Any], status: str = "RUNNING", stored: str = "") -> None:
        self.connections, self.status, self.stored = list(connections), status, stored

    @contextmanager
    def log_stream(self, path: str, version: str, login: KaggleLogin, idle_seconds: float) -> Iterator[Iterator[str]]:
        payloads = self.connections.pop(0) if self.connections else [CUT]

        def found() -> Iterator[str]:
            for payload in payloads:
                if payload is CUT:
                    raise Refusal("unreachable", 0, "the connection was cut")
                yield payload

        yield found()

    def ask(self, method: str, fields: Any, login: Any) -> Any:
        return {"status": self.status} if method == "session_status" else {"files": [], "log": self.stored}


def line(number: int) -> str:
    return json.dumps({"stream_name": "stdout", "time": float(number), "data": f"line {number}\n"})


def shown(wire: Streams) -> list[str]:
    kaggle = Kaggle(wire, KaggleLogin("key", "test", "x" * 32, "someone"), QuickClock(), print)  # type: ignore[arg-type]
    return [event.data.strip() for event in stream(kaggle, NAME, 1)]


def test_a_cut_stream_begins_again_at_its_first_line() -> None:
    """What was shown is not shown again; what was missed is not lost."""
    assert shown(Streams([line(1), line(2), CUT], [line(1), line(2), line(3), CUT], [line(1), line(2), line(3), line(4), END])) == [
        f"line {number}" for number in (1, 2, 3, 4)
    ]  # fmt: skip


def test_a_stream_that_goes_on_where_it_was_cut() -> None:
    """Some do; nothing is taken for a repetition."""
    assert shown(Streams([line(1), CUT], [line(2), END])) == ["line 1", "line 2"]


def test_two_equal_lines_are_two() -> None:
    """Of one moment, too."""
    assert shown(Streams([line(1), line(1), CUT], [line(1), line(1), line(1), END])) == ["line 1"] * 3


def test_a_quiet_session_is_waited_for() -> None:
    """Hours without a line are no end, while the platform says that it runs."""
    assert shown(Streams([line(1), CUT], *[[CUT]] * 40, [line(1), line(2), END])) == ["line 1", "line 2"]


def test_what_the_stream_never_gave_comes_from_the_store() -> None:
    """After the session's end, once."""
    assert shown(Streams([line(1), CUT], status="COMPLETE", stored=f"[{line(1)}, {line(2)}]")) == ["line 1", "line 2"]


@pytest.mark.parametrize(
    ("payload", "found"),
    [("", []), ("plain text", ["plain text"]), ("[]", []), ("7", ["7"]), ('{"data": null}', []), ('{"time": "x", "data": 5}', ["5"]),
     ('["a"]', ["a"])],
)  # fmt: skip
def test_a_payload_of_any_form_is_read(payload: str, found: list[str]) -> None:
    """No line of a stranger ends the reading."""
    assert [event.data for event in events(payload)] == found


@given(st.lists(st.integers(0, 3)), st.lists(st.integers(0, 12), max_size=6))
def test_however_often_it_is_cut_each_line_is_shown_once(lines: list[int], cuts: list[int]) -> None:
    """The law: connections that each begin at the first line show the whole log, in its order."""
    log = [LogEvent("stdout", float(index), str(word)) for index, word in enumerate(lines)]
    seen, found = Seen(), []
    for cut in [*cuts, len(log)]:
        seen.reconnected()
        found += seen.new(log[:cut])
    assert found == log
