"""Laws of the journal: append-only, torn lines skipped, facts kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.artifacts.journal import Journal, journal_path, read_journal


def test_events_come_back_in_order_with_their_facts(tmp_path: Path) -> None:
    journal = Journal(journal_path(tmp_path, "v1"))
    journal.append("run_started", session="s", command="runspec run x")
    journal.append("step_finished", id="train", fingerprint="f")
    again = Journal(journal_path(tmp_path, "v1"))
    assert [row["event"] for row in again.events] == ["run_started", "step_finished"]
    assert [row["seq"] for row in again.events] == [1, 2]
    assert again.last("step_finished", id="train") == journal.events[1]
    assert again.last("step_finished", id="other") is None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_torn_by_a_kill_is_passed_over_and_the_journal_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("one", text="é" * 20)
    whole = path.read_bytes()
    journal.append("two", text="é" * 20)
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:cut])
    again = Journal(path)
    assert [row["event"] for row in again.events] == ["one"]
    again.append("three")
    assert path.read_bytes().startswith(whole)
    assert [row["event"] for row in read_journal(path)] == ["one", "three"]


@given(garbage=st.binary(max_size=200))
def test_any_bytes_are_read_without_a_traceback(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    path.write_bytes(garbage)
    before = len(read_journal(path))
    Journal(path).append("after")
    assert len(read_journal(path)) == before + 1


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none.jsonl") == []
