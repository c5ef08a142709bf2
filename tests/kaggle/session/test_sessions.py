"""Cells within a session limit: what each run is told, what a session leaves, and how the next one begins; with a stand-in for the engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.kaggle.session import cells, limits
from engine.kaggle.session.cells import CellStopped, Made, NotebookSession
from engine.kaggle.session.edits import TITLES
from engine.kaggle.session.limits import SessionLimits
from engine.kaggle.session.stages import STAGES
from tests.kaggle.session.evidence import some_evidence

MADE = Made("runspecs/a.yaml", "a_v1", "e" * 64, dict.fromkeys(TITLES, "0" * 64), needs_token=False)
# `python -m engine …`: writes its words down, and ends as the file `codes` says, each line once; all but a plain 2 leave a carry-over.
ENGINE = """#!{python}
import json, pathlib, sys
here, words = pathlib.Path({folder!r}), sys.argv[3:]
with (here / "said").open("a") as said:
    said.write(json.dumps(words) + "\\n")
if words[0] == "plan" and "--json" in words:
    print(json.dumps({{"steps": {steps}, "disk": {{"fits": True}}}}))
if words[0] == "run" and "--json" in words:
    print(json.dumps({{"evidence": "evidence", "package": "p.zip"}}))
elif words[0] == "run":
    line, *rest = (here / "codes").read_text().split("\\n")
    (here / "codes").write_text("\\n".join(rest))
    if line != "2" and "--session-out" in words:  # a part of the steps leaves one, too
        out = pathlib.Path(words[words.index("--session-out") + 1])
        out.mkdir(parents=True, exist_ok=True)
        (out / "session.json").write_text(json.dumps(len((here / "said").read_text())))
        (out / "next_session.json").write_text('{{"left": ["train"]}}')
    sys.exit(int((line or "0").split()[0]))
"""
STEPS = [{"id": kind, "uses": kind} for kind in (*STAGES.values(), "result_summary")]


class Stand:
    """A session with the stand-in, and what it said."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        python = folder / "python"
        python.write_text(ENGINE.format(python=sys.executable, folder=str(folder), steps=json.dumps(STEPS)))
        python.chmod(0o755)
        environ = {
            "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "RUNSPEC_KAGGLE_ROOT": str(folder / "k"),
            "RUNSPEC_SCRATCH": str(folder / "s"),
        }
        self.session = NotebookSession(folder, MADE, environ)
        self.session._python = python
        self.now = 0.0
        monkeypatch.setattr(cells, "steady_seconds", lambda: self.now)
        monkeypatch.setattr(cells, "session_began", lambda **_: 0.0)

    def runs(self) -> list[list[str]]:
        """The words of each `runspec run`."""
        said = [json.loads(line) for line in (self.folder / "said").read_text().splitlines()]
        return [words for words in said if words[0] == "run" and "--json" not in words]

    def ends(self, *codes: str) -> None:
        """How the next runs end."""
        (self.folder / "codes").write_text("\n".join(codes))

    def outcome(self) -> dict[str, Any]:
        """What the session left."""
        return dict(json.loads((self.folder / "k" / "working" / "outcome.json").read_text()))


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stand]:
    """``stand(limit, earlier)``: configured."""

    def make(limit: str | None = "1h", earlier: str | None = None) -> Stand:
        made = Stand(tmp_path, monkeypatch)
        made.ends("0")
        made.session.configure("version: 1\n", ["train.seed=1"], limit, earlier)
        return made

    return make


def test_each_run_is_given_what_is_left_of_the_session(stand: Callable[..., Stand]) -> None:
    """Law: the limit counts from the start of the session, not of the cell; overrides and steps are passed on."""
    one = stand()
    one.ends("0", "0")
    out = str(one.session.place.output / "session")
    for now, name in ((60.0, "dataset"), (600.5, "train")):
        one.now = now
        one.session.stage(name)
    assert one.runs() == [
        [
            "run",
            "runspecs/a.yaml",
            "train.seed=1",
            "--to",
            "build_dataset",
            "--session-limit",
            "3540s",
            "--session-out",
            out,
        ],
        [
            "run",
            "runspecs/a.yaml",
            "train.seed=1",
            "--to",
            "train_sft",
            "--session-limit",
            "2999s",
            "--session-out",
            out,
        ],
    ]


def test_without_a_limit_nothing_is_carried_over(stand: Callable[..., Stand]) -> None:
    """A run is then told nothing of sessions."""
    one = stand(None)
    one.session.stage("train")
    assert one.runs() == [["run", "runspecs/a.yaml", "train.seed=1", "--to", "train_sft"]]


def test_at_the_limit_the_session_ends_well_and_says_how_it_is_continued(
    stand: Callable[..., Stand], capsys: pytest.CaptureFixture[str]
) -> None:
    """Law: exit code 7 is no error of the notebook; the cells after it start nothing; the outcome has the recipe, the output the carry-over."""
    one = stand()
    one.ends("0", "7")
    for name in STAGES:
        one.session.stage(name)
    one.session.summary()
    assert [words[4] for words in one.runs()] == ["build_dataset", "smoke_run"]
    outcome = one.outcome()
    assert (outcome["exit_code"], outcome["state"], outcome["next"]) == (7, "incomplete", {"left": ["train"]})
    assert (one.session.place.output / "session" / "session.json").is_file()
    said = capsys.readouterr().out
    assert said.count("left for the next session") == 3
    assert 'EARLIER = "OWNER/NAME"' in said


@pytest.mark.parametrize(("now", "state"), [(3590.0, "incomplete"), (30.0, "failed")])
def test_a_rest_that_is_too_short_for_a_step_is_the_next_sessions(
    stand: Callable[..., Stand], now: float, state: str
) -> None:
    """Law: at the end of a session R114 is its end; at its beginning the limit itself is too short, which is an error."""
    one = stand()
    one.ends("2 carried")
    one.now = now
    if state == "failed":
        with pytest.raises(CellStopped, match="G166"):
            one.session.stage("predict")
    else:
        one.session.stage("predict")
    assert (one.outcome()["state"], one.outcome()["exit_code"]) == (state, 7 if state == "incomplete" else 2)


def test_other_errors_at_the_end_of_a_session_stay_errors(stand: Callable[..., Stand]) -> None:
    """Exit code 2 without a carry-over is not the session's end."""
    one = stand()
    one.ends("0", "2")
    one.session.stage("train")
    one.now = 3590.0
    with pytest.raises(CellStopped, match="G166"):
        one.session.stage("predict")
    assert (one.outcome()["state"], one.outcome()["next"]) == ("failed", None)
    assert (
        one.session.place.output / "session" / "session.json"
    ).is_file()  # of the cell before: another session can take it


@pytest.mark.parametrize("layout", ["notebooks/acme/run", "run"])
def test_the_next_session_continues_from_the_attached_output(
    stand: Callable[..., Stand], tmp_path: Path, layout: str
) -> None:
    """Law: with or without a version in the name, every run of the session is told where the one before is."""
    carried = tmp_path / "k" / "input" / layout / "session"
    carried.mkdir(parents=True)
    (carried / "session.json").write_text("{}")
    one = stand(None, "acme/run/3")
    one.session.stage("dataset")
    one.session.stage("train")
    assert [words[-2:] for words in one.runs()] == [["--continue-from", str(carried)]] * 2


def test_a_run_that_ends_leaves_no_carry_over(stand: Callable[..., Stand]) -> None:
    """Law: `session/` is there only where something is left; the run is then complete."""
    one = stand()
    one.ends("7")
    one.session.stage("train")
    some_evidence(one.session.project / "evidence")
    (one.session.project / "p.zip").touch()
    one.session.configure("version: 1\n", [], "1h")  # more time: the cell was run again
    one.session.summary()
    assert not (one.session.place.output / "session").exists()
    assert (one.outcome()["state"], one.outcome()["package"], one.outcome()["next"]) == ("complete", "p.zip", None)


@pytest.mark.parametrize(
    ("limit", "earlier", "code"),
    [("8", None, "G175"), ("soon", None, "G175"), (None, "run", "G176"), (None, "a/b", "G170")],
)
def test_a_configuration_that_cannot_be_is_refused(
    stand: Callable[..., Stand], limit: str | None, earlier: str | None, code: str
) -> None:
    """Before anything runs."""
    with pytest.raises(CellStopped, match=code):
        stand(limit, earlier)


def test_the_time_counts_from_the_kernels_start_on_kaggle(tmp_path: Path) -> None:
    """Elsewhere from now; and what is left is never nothing, which would be no length of time."""
    now = limits.steady_seconds()
    assert limits.session_began(is_kaggle=False) >= now
    assert 0 < limits.session_began(is_kaggle=True) < now
    assert SessionLimits("1m", 0.0, tmp_path, None).options(90.0)[:2] == ["--session-limit", "1s"]
