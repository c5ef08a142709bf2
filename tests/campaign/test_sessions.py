"""One run over many sessions: it ends as the uninterrupted one does, whatever ended the sessions and wherever they were."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import digest_json, unsealed
from engine.cli import main
from engine.pipeline.plan import differences
from engine.pipeline.session.carried import SEAL
from tests.campaign.light_project import RUN, LightProject

pytestmark = pytest.mark.usefixtures("light_steps")

STEPS = "train.num_train_steps=15"
LONG = (*RUN, STEPS)
EVIDENCE = "submission_runs/light_v1"
PARTS = {"LIGHT_STEPS_A_SESSION": "3"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LightProject:
    """The run that nothing interrupted."""
    project = LightProject.fresh(tmp_path_factory.mktemp("sessions") / "whole")
    assert project.do(*LONG).code == 0
    return project


def sessions_of(project: LightProject) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((project.root / EVIDENCE / "run_record.json").read_bytes())["sessions"]
    return rows


def published(project: LightProject) -> dict[str, str]:
    """Step -> the digest of what it published: parameters, predictions, score."""
    record = json.loads((project.root / EVIDENCE / "run_record.json").read_bytes())
    return {step["id"]: step["content_sha256"] for step in record["steps"]}


def check_same(whole: LightProject, project: LightProject, evidence_of: Callable[[Path], Any], sessions: int) -> None:
    """Same parameters, predictions and evidence but for times and chain; V17 tells of so many sessions that trained."""
    assert published(project) == published(whole)
    assert differences(evidence_of(whole.root), evidence_of(project.root)) == []
    done = project.do("verify", EVIDENCE, "--json")
    [check] = [check for check in json.loads(done.out)["checks"] if check["id"] == "V17"]
    assert (done.code, check["status"]) == (0, "pass")
    assert check["detail"] == f"{sessions} session{'s' * (sessions != 1)}, train steps 1 to 15"


def test_one_session_is_a_chain_too(whole: LightProject, evidence_of: Callable[[Path], Any]) -> None:
    """A run that nothing interrupted has one session, from the first train step to the last."""
    check_same(whole, whole, evidence_of, 1)
    [session] = sessions_of(whole)
    assert (session["number"], session["first_train_step"], session["last_train_step"]) == (1, 1, 15)
    assert (session["parent_sha256"], session["published"]) == (
        None,
        ["dataset", "train", "predict", "score", "summary"],
    )


def test_a_session_limit_in_a_loop_ends_as_one_run_does(
    whole: LightProject, evidence_of: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Every session but the last ends by itself with exit code 7, before its limit, and has done something."""
    project, codes, limit = LightProject.fresh(tmp_path / "loop"), [], 4
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("LIGHT_STEP_SECONDS", "0.25")
    while 0 not in codes:
        began = time.monotonic()
        codes.append(main([*LONG, "--session-limit", f"{limit}s"]))
        said = capsys.readouterr().err
        assert codes[-1] in (0, 7), said
        if codes[-1] == 7:
            assert time.monotonic() - began < limit
            assert "error[R115]: the session limit was reached" in said
    assert 7 in codes
    trained = [row for row in sessions_of(project) if row["first_train_step"] is not None]
    assert len(trained) >= 2
    check_same(whole, project, evidence_of, len(trained))
    assert main(["status", "light_v1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    told = document["sessions"]
    assert [row["ended"] for row in told[:-1]] == ["session limit"] * (len(told) - 1)
    assert document["model"]["from"] == "random weights"


def killed_at(call: int) -> Callable[[LightProject, tuple[str, ...]], bool]:
    """Kill the session right before a call that changes files; False where it had ended before."""
    return lambda project, words: project.do(*words, before=("at", str(call)), **PARTS).code == -9


class Chopped:
    """Sessions that each begin in a project folder of their own, with nothing but what the session before left."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0

    def attempt(
        self, *, kill: Callable[[LightProject, tuple[str, ...]], bool] | None = None
    ) -> tuple[LightProject, int]:
        """One session to its end; ``kill`` may kill it, which leaves nothing for the next one."""
        self.tried = getattr(self, "tried", 0) + 1
        project = LightProject.fresh(self.folder / f"project-{self.tried}")
        before = () if not self.number else ("--continue-from", str(self.folder / f"carry-{self.number}"))
        words = (*LONG, *before, "--session-out", str(self.folder / f"carry-{self.number + 1}"))
        if kill is not None and kill(project, words):
            return project, -9
        done = project.do(*words, **PARTS)
        assert done.code in (0, 7), done.err
        self.number += 1
        return project, done.code


def test_five_sessions_in_fresh_folders_end_as_one_run_does(
    whole: LightProject, evidence_of: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Each gets only the folder that the one before it left; one of them is killed, and its train steps are done again."""
    chopped, codes = Chopped(tmp_path), []
    while 0 not in codes:
        kill = killed_at(45) if codes == [7, 7] else None
        project, code = chopped.attempt(kill=kill)
        codes.append(code)
    assert codes == [7, 7, -9, 7, 7, 0]
    check_same(whole, project, evidence_of, 5)
    spans = [(row["first_train_step"], row["last_train_step"]) for row in sessions_of(project)]
    assert spans == [(1, 3), (4, 6), (7, 9), (10, 12), (13, 15)]
    carried = json.loads((tmp_path / "carry-5" / "session.json").read_bytes())
    assert (carried["state"], carried["files"]) == ("finished", {})


def test_a_limit_that_is_too_short_carries_over_what_is_done_already(whole: LightProject, tmp_path: Path) -> None:
    """The rest of a session may be too short for a step: R114, and another machine has what the steps before have made."""
    first, carry = LightProject.fresh(tmp_path / "first"), tmp_path / "carry"
    assert first.do(*LONG, "--to", "train").code == 0
    done = first.do(*LONG, "--session-limit", "1s", "--session-out", str(carry))
    assert (done.code, "error[R114]" in done.err) == (2, True)
    assert json.loads((carry / "session.json").read_bytes())["state"] == "unfinished"
    second = LightProject.fresh(tmp_path / "second")
    done = second.do(*LONG, "--continue-from", str(carry), "--json")
    assert (done.code, json.loads(done.out)["skipped"]) == (0, ["dataset", "train"])
    assert published(second) == published(whole)


def test_the_cells_of_a_notebook_are_links_of_one_chain(whole: LightProject, tmp_path: Path) -> None:
    """Each machine runs the steps cell by cell, from the same carry-over; the first cells find nothing to do. What every cell leaves names it."""
    parent, number, code = None, 0, 7
    while code == 7:
        number += 1
        project, out = LightProject.fresh(tmp_path / f"project-{number}"), tmp_path / f"carry-{number}"
        before = ("--continue-from", str(tmp_path / f"carry-{number - 1}")) if number > 1 else ()
        for step in ("dataset", "train"):
            done = project.do(*LONG, "--to", step, *before, "--session-out", str(out), LIGHT_STEPS_A_SESSION="6")
            code = done.code
            assert code in (0, 7), done.err
            assert json.loads((out / "session.json").read_bytes())["parent_sha256"] == parent
        left = unsealed((out / "session.json").read_bytes(), SEAL)
        parent = digest_json(left)
    assert number == 3
    assert project.do(*LONG, "--continue-from", str(tmp_path / "carry-2")).code == 0
    assert published(project) == published(whole)


def chopped_and_killed(folder: Path, draw: random.Random, kills: int, calls: int) -> tuple[LightProject, int]:
    """Sessions in fresh folders, ``kills`` of them killed at random calls; the last project."""
    chopped, hits, code = Chopped(folder), 0, 7
    while code != 0:
        tries = hits < kills and draw.random() < 0.7
        project, code = chopped.attempt(kill=killed_at(draw.randint(1, calls)) if tries else None)
        if code == -9:
            hits += 1
    return project, hits


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_sixty_killed_sessions_change_nothing(
    whole: LightProject, evidence_of: Callable[[Path], Any], tmp_path: Path
) -> None:
    """The long campaign: six runs of five sessions, ten of each killed."""
    for seed in range(6):
        project, hits = chopped_and_killed(tmp_path / str(seed), random.Random(seed), 10, 140)
        assert hits
        check_same(whole, project, evidence_of, 5)
