"""One run over several sessions of a loopback Kaggle, each the pushed notebook in a real kernel: it ends as one session does.

The driver pushes each next version with the output of the one before as its source. Once it is killed between two sessions, and typed again.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from engine.kaggle.driver.story import read_story
from engine.pipeline.plan import differences
from tests.campaign.conftest import evidence_without_times
from tests.kaggle.driver.real_project import (
    QUICKSTART,
    be_quick,
    child_environment,
    environment,
    no_secret_below,
    real_project,
)
from tests.kaggle.driver.stand_ins import level_where_this_is_kaggle
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.real import RealKernel

MOST_TRIES = 5
CHILD = Path(__file__).with_name("child.py")
REF = "someone/runspec-quickstart-v1"
# Training is most of it, so that a limit falls into it however busy the machine is.
LONG = (
    "dataset.num_rows=60",
    "train.num_train_steps=80",
    "train.eval_rows=8",
    "train.save_every_steps=20",
    "predict.max_new_tokens=8",
    "smoke.kill=false",
)
WORDS = ("kaggle", "run", QUICKSTART, "--target", "cpu", "--public", *LONG)
# What names the session, the platform's version or the machine's speed, and not the result.
OF_THE_SESSION = frozenset(
    {"run_manifest.json", "run_record.json", "kaggle_output_log.txt", "platform.json", "verify.py"}
)


@dataclass(frozen=True)
class Whole:
    """The run in one session: its project, and how long it took to the middle of its training."""

    root: Path
    seconds: float


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        be_quick(patch)
        yield patch


@pytest.fixture(scope="module")
def whole(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Measured on this machine, as busy as it is."""
    folder = tmp_path_factory.mktemp("whole")
    root = real_project(folder / "project")
    with Platform(folder / "kaggle", stream_idle_seconds=5) as kaggle, patch.context() as here:
        kaggle.script(RealKernel())
        here.chdir(root)
        for name, value in environment(kaggle, folder).items():
            here.setenv(name, value)
        assert main([*WORDS, "--json"]) == 0
        return Whole(root, seconds_to_the_middle(root, kaggle))


def seconds_to_the_middle(project: Path, kaggle: Platform) -> float:
    """From the start of the one session of a run to the middle of its training."""
    session = kaggle.kernels[REF].versions[0].session
    assert session is not None
    assert session.started_at is not None
    began = session.started_at
    train = next(step for step in record_of(project)["steps"] if step["id"] == "train")
    start, end = (
        (dt.datetime.fromisoformat(train[name]) - began).total_seconds() for name in ("started_at", "finished_at")
    )
    return start + 0.6 * (end - start)


def record_of(project: Path) -> Mapping[str, Any]:
    return dict(json.loads((project / "submission_runs" / "quickstart_v1" / "run_record.json").read_bytes()))


def published(project: Path) -> dict[str, str]:
    """Step -> the digest of what it made: parameters, predictions, score."""
    return {step["id"]: step["content_sha256"] for step in record_of(project)["steps"]}


def results(project: Path) -> dict[str, Any]:
    return {name: value for name, value in evidence_without_times(project).items() if name not in OF_THE_SESSION}


def check_same(whole: Whole, project: Path, done: Mapping[str, Any], kaggle: Platform) -> None:
    """Same parameters, predictions and evidence; each session began with the output of the one before; V17 tells of one chain."""
    assert published(project) == published(whole.root)
    assert results(project).keys() >= {"predictions.jsonl", "scorecard.json", "eval_summary.json", "metrics.jsonl"}
    assert differences(results(whole.root), results(project)) == []
    versions = kaggle.kernels[REF].versions
    assert len(versions) >= 2
    assert [version.request.get("kernelDataSources") for version in versions] == [None, *[[REF]] * (len(versions) - 1)]
    assert done["version"] == len(versions)
    trained = [row for row in record_of(project)["sessions"] if row["first_train_step"] is not None]
    assert len(trained) >= 2
    checks = {check["id"]: check for check in verified(project / done["package"])["checks"]}
    assert (checks["V17"]["status"], checks["V17"]["detail"]) == (
        "pass",
        f"{len(trained)} sessions, train steps 1 to 80",
    )
    witness = project / ".runspec" / "kaggle" / "quickstart_v1" / f"v{done['version']}"
    assert level_where_this_is_kaggle(project / done["package"], witness, kaggle) == "L2"
    no_secret_below(project, kaggle)


def verified(package: Path) -> Mapping[str, Any]:
    """`runspec verify` of the package, in a process of its own."""
    said = subprocess.run(
        [sys.executable, "-m", "engine", "verify", package, "--json"], capture_output=True, text=True, check=True
    )
    return dict(json.loads(said.stdout))


TOO_LONG, TOO_SHORT = "all of it was done in one session", "a session got nowhere"


def run_chopped(
    project: Path, kaggle: Platform, home: Path, words: Sequence[str], *, killed: bool
) -> str | Mapping[str, Any]:
    """What the driver ended with, or what is wrong with the limit: how fast this machine is now it was not a minute ago."""
    environ, codes = child_environment(kaggle, home), [0]
    if killed:
        driver = [sys.executable, CHILD, project, "continue", "after", "real", *words, "--json"]
        first = subprocess.run(driver, env=environ, cwd=project, capture_output=True, text=True, check=False)
        codes.append(first.returncode)
        said = first.stdout
        if first.returncode == -9:
            assert [event["event"] for event in read_story(project, "quickstart_v1").events][-1] == "continue"
            assert len(kaggle.kernels[REF].versions) == 1
    if codes[-1] in (0, -9):
        driver = [sys.executable, CHILD, project, "0", "after", "real", *words, "--json"]
        last = subprocess.run(driver, env=environ, cwd=project, capture_output=True, text=True, check=False)
        codes.append(last.returncode)
        said = last.stdout
    done = dict(json.loads(said))
    if codes[-1] == 0:
        return done if len(kaggle.kernels[REF].versions) > 1 else TOO_LONG
    logs = "".join(
        entry.data for version in kaggle.kernels[REF].versions if version.session for entry in version.session.log()
    )
    assert "error[R114]" in logs or done["diagnostics"][0]["code"] == "G260", (done, logs[-2000:])
    return TOO_SHORT


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("killed", [False, True], ids=["not killed", "killed between two sessions"])
def test_several_sessions_end_as_one_does(whole: Whole, killed: bool, tmp_path: Path) -> None:
    """From one command; or from the same command twice, where the first was killed when the first session was over."""
    seconds = whole.seconds
    for number in range(MOST_TRIES):
        home = tmp_path / f"{number}"
        project = real_project(home / "project")
        with Platform(home / "kaggle", stream_idle_seconds=5) as kaggle:
            kaggle.script(RealKernel())
            done = run_chopped(project, kaggle, home, (*WORDS, "--session-limit", f"{round(seconds)}s"), killed=killed)
            if not isinstance(done, str):
                check_same(whole, project, done, kaggle)
                return
            seconds = seconds_to_the_middle(project, kaggle) if done == TOO_LONG else 1.6 * seconds
    pytest.fail(f"no session limit ended a session in the middle of the training: {done}")
