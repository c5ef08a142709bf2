"""The same with the real trainer: a small quickstart, chopped by its session limit and carried from folder to folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.pipeline.plan import differences
from tests.campaign.test_kills import QUICKSTART, SMALL

LONGER = tuple(word.replace("num_train_steps=12", "num_train_steps=60") for word in SMALL)
MOST_SESSIONS = 40


def attempt(project: Any, *words: str) -> int:
    """``runspec run`` with these options; its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", "runspecs/spec.yaml", *project.overrides, *words], cwd=project.root, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in (0, 7), done.stderr
    return done.returncode


def record_of(project: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(
        (project.root / "submission_runs" / "quickstart_v1" / "run_record.json").read_bytes()
    )
    return record


@pytest.fixture(scope="module")
def whole(new_project: Any) -> Any:
    """The uninterrupted run, and a limit in which about a third of it is done."""
    project = new_project("whole-sessions", QUICKSTART, LONGER)
    return project, max(20, round(project.finish() * 0.6))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_session_limit_in_a_loop_ends_as_one_run_does(new_project: Any, whole: Any) -> None:
    """In one folder."""
    expected, limit = whole
    project = new_project("loop", QUICKSTART, LONGER)
    codes = [attempt(project, "--session-limit", f"{limit}s")]
    while codes[-1] == 7 and len(codes) < MOST_SESSIONS:
        codes.append(attempt(project, "--session-limit", f"{limit}s"))
    check_same(expected, project, codes)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sessions_in_fresh_folders_end_as_one_run_does(new_project: Any, whole: Any, tmp_path: Path) -> None:
    """Each with nothing but what the one before it left."""
    expected, limit = whole
    codes: list[int] = []
    while not codes or (codes[-1] == 7 and len(codes) < MOST_SESSIONS):
        project = new_project(f"fresh-{len(codes)}", QUICKSTART, LONGER)
        earlier = ("--continue-from", str(tmp_path / f"{len(codes) - 1}")) if codes else ()
        codes.append(
            attempt(project, "--session-limit", f"{limit}s", "--session-out", str(tmp_path / f"{len(codes)}"), *earlier)
        )
    check_same(expected, project, codes)


def check_same(whole: Any, project: Any, codes: list[int]) -> None:
    """Same parameters, predictions, evidence; several sessions that are a chain."""
    assert (codes[-1], set(codes[:-1])) == (0, {7})
    assert digests(whole) == digests(project)
    assert differences(whole.evidence(), project.evidence()) == []
    sessions = record_of(project)["sessions"]
    assert [row["number"] for row in sessions] == list(range(1, len(sessions) + 1))
    assert len(sessions) >= 2


def digests(project: Any) -> dict[str, str]:
    return {step["id"]: step["content_sha256"] for step in record_of(project)["steps"]}
