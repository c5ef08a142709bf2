"""A driver that is killed at any transition, and typed again, comes to the same end: nothing is pushed twice, nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.kaggle.driver import machine
from engine.kaggle.driver.story import read_story
from tests.kaggle.driver.stand_ins import done_at_once, finished, log_of, outcome, unfinished
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import Script

CHILD = Path(__file__).with_name("child.py")
REPOSITORY = CHILD.parents[3]
WORDS = ("kaggle", "run", "runspecs/toy.yaml", "--target", "kaggle-t4x2", "--json")
# The events of a run of one session, in order; of two, the second session's are those from the first "planned" on.
ONE = ("planned", "preflight", "pushing", "pushed", "queued", "running", "complete", "fetching", "fetched", "checked")
WHOLE = (*ONE, "completing", "done")
TWO = (*ONE, "continue", *ONE, "completing", "done")


def killed(project: Path, number: int, moment: str, evidence: str = "without") -> None:
    """A real process, ended by SIGKILL at that event."""
    done = subprocess.run(
        [sys.executable, CHILD, project, str(number), moment, evidence, *WORDS],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == -9, done.stdout + done.stderr


def states(project: Path) -> list[str]:
    return [event["event"] for event in read_story(project, "toy_v1").events]


@pytest.fixture
def without_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "complete", done_at_once)
    monkeypatch.setitem(machine.ACTIONS, "completing", done_at_once)  # type: ignore[index]


QUICK = {("before", "pushed"), ("before", "fetched")}  # sent and not written down; half fetched


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(number, moment, id=f"{moment}-{state}", marks=() if (moment, state) in QUICK else pytest.mark.slow)
        for number, state in enumerate(WHOLE, start=1)
        for moment in ("before", "after")
    ],
)
def test_killed_at_a_transition(
    number: int, moment: str, run: Callable[..., Any], project: Path, kaggle: Platform, without_packing: None
) -> None:
    """One version on the platform, the same states, exit code 0."""
    kaggle.script(Script(files=outcome, log=log_of, queued_polls=1, running_polls=1))
    killed(project, number, moment)
    assert states(project) == list(WHOLE[: number - (moment == "before")])
    assert run("--json").code == 0
    assert len(kaggle.kernels["someone/runspec-toy-v1"].versions) == 1
    seen = states(project)
    assert seen[-1] == "done"
    assert {state: seen.count(state) for state in ("pushed", "complete", "fetched", "done")} == dict.fromkeys(
        ("pushed", "complete", "fetched", "done"), 1
    ), "what was done is not done again"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(11, len(TWO) + 1))
def test_killed_in_the_second_session(
    number: int, run: Callable[..., Any], project: Path, kaggle: Platform, without_packing: None
) -> None:
    """Two versions, the second of which began with the output of the first."""
    first, _ = unfinished(2)
    kaggle.script(
        Script(files=first, log=log_of, queued_polls=1, running_polls=1),
        Script(files=outcome, log=log_of, queued_polls=1, running_polls=1),
    )
    killed(project, number, "before")
    assert run("--json").code == 0
    versions = kaggle.kernels["someone/runspec-toy-v1"].versions
    assert [version.request.get("kernelDataSources") for version in versions] == [None, ["someone/runspec-toy-v1"]]


@pytest.mark.slow
@pytest.mark.parametrize("number", [11, 12])
def test_killed_while_the_evidence_is_made(
    number: int, run: Callable[..., Any], project: Path, kaggle: Platform, tmp_path: Path
) -> None:
    """Evidence and package are whole, and those of the one push."""
    kaggle.script(Script(files=finished(tmp_path), log=log_of))
    killed(project, number - 2, "after", "with")  # a session that is over at once is never queued or running
    done = run("--json")
    assert (done.code, done.document["version"]) == (0, 1)
    assert (project / done.document["package"]).is_file()
