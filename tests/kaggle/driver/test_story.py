"""The journal of the pushes: what may follow what, what is on disk, what never is."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import get_args

import pytest

from engine.kaggle.driver.story import LIVE, NEXT, State, open_story, read_story, stories

PLANNED = {"owner": "someone", "slug": "toy", "title": "toy", "spec_sha256": "0", "overrides": []}
REPOSITORY = Path(__file__).parents[3]


def test_every_state_has_its_row_in_the_page() -> None:
    """docs/reference/kaggle-states.md lists each, and no other."""
    page = (REPOSITORY / "docs" / "reference" / "kaggle-states.md").read_text(encoding="utf-8").split("## States")[1]
    rows = re.findall(r"^\| (`[a-z`, ]+`) \|", page, re.MULTILINE)
    assert {state for row in rows for state in re.findall(r"`([a-z]+)`", row)} == set(NEXT) == set(get_args(State))


def test_every_state_is_reached_and_every_way_ends() -> None:
    """From a plan all states can be reached; from each state an end can."""
    ends = {state for state, following in NEXT.items() if not following} | {"failed"}
    assert ends == {"refused", "continue", "done", "failed"}
    for state in NEXT:
        reached, waiting = {state}, [state]
        while waiting:
            new = set(NEXT[waiting.pop()]) - reached
            reached |= new
            waiting += new
        assert reached & ends, state
        if state == "planned":
            assert reached == set(NEXT)
    assert ends.isdisjoint(LIVE)


def test_a_state_that_may_not_follow_is_a_fault(tmp_path: Path) -> None:
    """A driver that skips a state would lose what it is for."""
    story = open_story(tmp_path, "toy")
    story.append("planned", **PLANNED)
    with pytest.raises(AssertionError, match="pushed after planned"):
        story.append("pushed", version=1)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    """Attempts in their order, the facts of each with the later ones over the earlier."""
    story = open_story(tmp_path, "toy")
    for state in ("planned", "preflight", "pushing", "refused"):
        story.append(state, **(PLANNED if state == "planned" else {}))  # type: ignore[arg-type]
    story.append("planned", **PLANNED)
    again = read_story(tmp_path, "toy")
    assert [attempt.state for attempt in again.attempts] == ["refused", "planned"]
    assert again.events == story.events
    assert stories(tmp_path) == ["toy"]


def test_words_of_the_platform_are_masked_and_digests_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log line or an error text can hold a secret; a digest must stay what it is."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_0123456789abcdef0123")
    story = open_story(tmp_path, "toy")
    story.append("planned", **PLANNED, error="refused: KGAT_0123456789abcdef0123", notebook_sha256="a" * 64)
    text = (tmp_path / ".runspec" / "kaggle" / "toy" / "journal.jsonl").read_text()
    assert "KGAT_" not in text
    assert "a" * 64 in text


def test_a_last_line_that_a_kill_has_torn_is_no_event(tmp_path: Path) -> None:
    """The next event takes its place."""
    story = open_story(tmp_path, "toy")
    story.append("planned", **PLANNED)
    story.append("preflight")
    path = tmp_path / ".runspec" / "kaggle" / "toy" / "journal.jsonl"
    os.truncate(path, path.stat().st_size - 20)
    again = open_story(tmp_path, "toy")
    assert [event["event"] for event in again.events] == ["planned"]
    again.append("preflight")
    assert [event["event"] for event in read_story(tmp_path, "toy").events] == ["planned", "preflight"]
