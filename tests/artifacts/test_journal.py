"""Laws of the journal: every line vouches for itself, and what is not what was written is never read as something else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.artifacts.journal import Journal, journal_path, read_journal, run_versions
from engine.artifacts.lines import parse_lines
from engine.errors import RunFailed

STARTED = {"session": "s", "command": "runspec run x", "environment": {"engine": "1"}}
FINISHED = {"session": "s", "id": "train", "uses": "train_sft", "fingerprint": "f", "type": "checkpoint", "path": "p",
            "ingredients": {"with": {"seed": 42}}}  # fmt: skip


def written(path: Path) -> list[Any]:
    """A journal of four events."""
    journal = Journal(path)
    journal.append("run_started", **STARTED)
    journal.append("step_started", id="train", uses="train_sft", fingerprint="f")
    journal.append("step_finished", **FINISHED)
    journal.append("verified", identity="i", package="p.zip", sha256="0", trust_level="L0", checks=[])
    return journal.events


def older_lines(events: list[Any]) -> bytes:
    """As the engines before the seal wrote them."""
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def code_of(path: Path) -> str:
    with pytest.raises(RunFailed) as caught:
        read_journal(path)
    assert str(path) in str(caught.value)
    return caught.value.code


def test_events_come_back_in_order_with_their_facts(tmp_path: Path) -> None:
    path = journal_path(tmp_path, "v1")
    events = written(path)
    again = Journal(path)
    assert again.events == events
    assert [row["seq"] for row in again.events] == [1, 2, 3, 4]
    assert again.last("step_finished", id="train") == events[2]
    assert again.last("step_finished", id="other") is None


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_torn_by_a_kill_is_cut_off_and_the_journal_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).append("one", text="é" * 20)
    whole = path.read_bytes()
    Journal(path).append("two", text="é" * 20)
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:cut])
    again = Journal(path)
    assert [row["event"] for row in again.events] == ["one"]
    again.append("three")
    again.append("four")
    assert path.read_bytes().startswith(whole)
    assert [(row["seq"], row["event"]) for row in read_journal(path)] == [(1, "one"), (2, "three"), (3, "four")]


@pytest.mark.parametrize("end", [b"", b"\x0b"])
def test_a_last_line_whose_newline_is_missing_or_damaged_is_an_event(tmp_path: Path, end: bytes) -> None:
    """The line itself is whole; the next one begins where it ends."""
    path = tmp_path / "journal.jsonl"
    events = written(path)
    path.write_bytes(path.read_bytes()[:-1] + end)
    again = Journal(path)
    assert again.events == events
    again.append("five")
    assert [row["event"] for row in read_journal(path)][-2:] == ["verified", "five"]
    assert parse_lines(path.read_bytes()).damaged == []


def test_a_write_that_failed_half_way_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reached the disk of a line that could not be written is cut off by the next one."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.append("one")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(RunFailed, match="no disk space"):
            journal.append("two")
    journal.append("three")
    assert [(row["seq"], row["event"]) for row in read_journal(path)] == [(1, "one"), (2, "three")]


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Each byte of a journal, one bit of it: the events as they were written (the last newline), or R111, never others."""
    path, draw = tmp_path / "journal.jsonl", random.Random(20261129)
    events = written(path)
    data = path.read_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << draw.randrange(8)
        lines = parse_lines(bytes(flipped))
        assert lines.damaged or (lines.events == events and place == len(data) - 1), place
    path.write_bytes(bytes(flipped[:-9]) + b"\n")
    assert code_of(path) == "R111"


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_line_that_is_missing_is_noticed(tmp_path: Path, lost: int) -> None:
    """Their numbers have no hole."""
    path = tmp_path / "journal.jsonl"
    written(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    assert code_of(path) == "R111"


@pytest.mark.parametrize(
    "line",
    [b"[]", b"null", b"7", b"{}", b'{"event": "verified"}', b'{"seq": 5, "time": "t", "event": "verified"}', b""],
)
def test_a_line_of_another_shape_is_named(tmp_path: Path, line: bytes) -> None:
    """JSON that no engine wrote there is damage: the error has the file and the line's number."""
    path = tmp_path / "journal.jsonl"
    written(path)
    path.write_bytes(path.read_bytes() + line + b"\n")
    assert code_of(path) == "R111"
    assert parse_lines(path.read_bytes()).damaged == [5]


@given(garbage=st.binary(max_size=200))
def test_any_bytes_are_no_events(garbage: bytes) -> None:
    """Complete lines are damage, and what follows the last newline was torn."""
    lines = parse_lines(garbage)
    assert (lines.events, bool(lines.damaged), lines.end) == ([], b"\n" in garbage, garbage.rfind(b"\n") + 1)


def test_a_journal_of_an_engine_before_the_seal_is_read_and_goes_on(tmp_path: Path) -> None:
    """It went on after a torn line; what is appended now has its digest, and vouches for the order of all."""
    path = tmp_path / "journal.jsonl"
    events = written(path)
    before = older_lines(events)
    path.write_bytes(before[:-1].replace(b"\n", b'\n{"seq": 2, "tim\n', 1) + b"\n")
    again = Journal(path)
    assert again.events == events
    again.append("five")
    assert read_journal(path)[:4] == events
    assert path.read_bytes().splitlines()[-1].startswith(b'{"line_sha256"')


@pytest.mark.parametrize("change", [(b'"id": "train"', b'"ib": "train"'), (b'"environment": {', b'"environment": ['),
                                    (b'"seq": 3', b'"seq": 7'), (b'"files"', b'"file"'), (b'"time"', b'"tome"')])  # fmt: skip
def test_a_line_without_a_seal_is_held_to_its_shape(tmp_path: Path, change: tuple[bytes, bytes]) -> None:
    """Whoever reads an event finds the keys it reads, and of their types."""
    path = tmp_path / "journal.jsonl"
    events = [*written(path), {"seq": 5, "time": "t", "event": "evidence_rendered", "identity": "i", "files": {}}]
    path.write_bytes(older_lines(events).replace(*change, 1))
    assert code_of(path) == "R111"


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none.jsonl") == []
    assert run_versions(tmp_path) == []


def test_runs_are_listed_the_newest_first(tmp_path: Path) -> None:
    """Folders without a journal are none."""
    import os

    for second, name in enumerate(("b", "a", "c")):
        written(journal_path(tmp_path, name))
        os.utime(journal_path(tmp_path, name), (second, second))
    (tmp_path / "runs" / "empty").mkdir()
    assert run_versions(tmp_path) == ["c", "a", "b"]
