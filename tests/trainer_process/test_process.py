"""The environment of a trainer's process, and the message for each way it can end."""

from __future__ import annotations

import os
import signal
import site
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import InputInvalid, RunspecError, render
from engine.protocol.events.base import Event, Failed, Note
from engine.protocol.events.generation import Generated, GenerationStopped
from engine.protocol.events.inputs import Download
from engine.protocol.events.table import to_line
from engine.protocol.events.training import TrainStopped
from engine.protocol.jobs import ProbeJob
from engine.trainer_process import process
from engine.trainer_process.host import Host
from engine.trainer_process.process import prepared, run_trainer, trainer_environment
from tests.fixtures.event_samples import TRAIN_STEP
from tests.fixtures.job_samples import JOB_SAMPLES

# Stands for the trainer's process: prints its first argument, and ends as the second one says.
PRINTS_AND_ENDS = """
import os, signal, sys
print(sys.argv[1], flush=True)
os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "killed" else sys.exit(int(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("set_before", "passed_on"),
    [
        (None, "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"),
        ("", "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0:glibc.malloc.arena_max=1"),
    ],
)
def test_huge_pages_and_one_arena_unless_the_user_sets_them(
    set_before: str | None, passed_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variable holds all tunables of the C library: the engine's is added after those that are set."""
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if set_before is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", set_before)
    assert trainer_environment()["GLIBC_TUNABLES"] == passed_on


MODULES = ("engine", "json", "random", "numpy", "jax", "queue", "sitecustomize")


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with modules of its own that have the names of libraries; it is the working folder."""
    project = tmp_path / "project"
    project.mkdir()
    for name in MODULES:
        (project / f"{name}.py").write_text(f"raise SystemExit('the {name}.py of the project was imported')\n")
    monkeypatch.chdir(project)
    return project


@pytest.mark.parametrize("path", [None, "", ":", "{}:", ":{}"])
def test_a_projects_own_modules_are_not_the_libraries(
    own_modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    """The trainer works in the project's folder and imports nothing from it, whatever empty entry PYTHONPATH has; its own folders count."""
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "of_the_user.py").write_text("")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path.format(beside))
    also = "of_the_user" if path and "{}" in path else "os"
    done = subprocess.run(
        [sys.executable, "-c", f"import engine.trainer.process, json, random, queue, numpy, {also}"],
        cwd=own_modules, env=trainer_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_trainer_itself_starts_in_such_a_project(own_modules: Path, tmp_path: Path) -> None:
    """The real process, which imports JAX and numpy."""
    report = run_trainer(ProbeJob("cpu"), Host(tmp_path, own_modules))
    assert report["platform"] == "cpu"


def test_so_does_the_command_line_as_a_module(own_modules: Path, repository: Path) -> None:
    """`python -m engine` is the same as `runspec`, but for modules that Python's own start imports."""
    (own_modules / "engine.py").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "engine", "validate", "missing.yaml"], cwd=own_modules, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )  # fmt: skip
    assert (done.returncode, "Y001" in done.stderr, "of the project" in done.stderr) == (2, True, False)


def test_installed_packages_do_not_come_before_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of an installed engine is found without being named; one that is not installed is named first."""
    monkeypatch.setenv("PYTHONPATH", "relative")
    package = str(Path(process.__file__).parents[2])
    here = str(Path("relative").absolute())
    monkeypatch.setattr(site, "getsitepackages", list)
    assert trainer_environment()["PYTHONPATH"] == f"{package}:{here}"
    monkeypatch.setattr(site, "getsitepackages", lambda: [package])
    assert trainer_environment()["PYTHONPATH"] == here


@pytest.mark.parametrize(
    ("verb", "event", "end", "expected"),
    [
        (
            "train", TRAIN_STEP, "killed",
            """error[R201]: the train process was killed by SIGKILL
   = help: the system kills the largest process when memory runs out: a smaller per_device_batch_size or seq_len needs less
           run the same command again: it resumes from the last checkpoint""",
        ),
        (
            "train", Download("model.safetensors", 1, 2), "killed",
            """error[R201]: the train process was killed by SIGKILL
   = help: run the same command again: it resumes where the download stopped""",
        ),
        (
            "generate", Generated(7, 100, 9.0), "killed",
            """error[R201]: the generate process was killed by SIGKILL
   = help: the system kills the largest process when memory runs out: a smaller batch_size or max_new_tokens needs less
           run the same command again: the answers so far are kept""",
        ),
        (
            "generate", GenerationStopped(7, 100), "0",
            "error[R203]: stopped after 7 of 100 answers; they are kept",
        ),
        (
            "train", TrainStopped(7), "0",
            "error[R203]: stopped at train step 7; a checkpoint was saved",
        ),
        (
            "tokens", Note("a note"), "3",
            """error[R202]: the tokens process ended with exit status 3 and no error report
   = help: run the same command again""",
        ),
    ],
)  # fmt: skip
def test_the_message_for_each_end(
    verb: str, event: Event, end: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names what resumes and what would help, for the work that was under way."""
    script = tmp_path / "child.py"
    script.write_text(PRINTS_AND_ENDS)
    monkeypatch.setattr(process, "trainer_command", lambda *_: [sys.executable, str(script), to_line(event), end])
    with pytest.raises(RunspecError) as caught:
        run_trainer(JOB_SAMPLES[verb], Host(tmp_path, tmp_path))
    assert render(*caught.value.diagnostics) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"event": "restored", "train_step": 3, "grams": 1}', 'event "restored": unknown field "grams"'),
        ('{"event": "restored"}', 'event "restored": missing field "train_step"'),
        ('{"event": "melted"}', 'unknown event "melted"'),
        ("[1]", "an event must be a mapping"),
    ],
)
def test_an_unknown_event_is_named(line: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of another version of the trainer ends the step with R207, and the child is killed."""
    script = tmp_path / "child.py"
    script.write_text(PRINTS_AND_ENDS)
    monkeypatch.setattr(process, "trainer_command", lambda *_: [sys.executable, str(script), line, "0"])
    with pytest.raises(RunspecError) as caught:
        run_trainer(JOB_SAMPLES["probe"], Host(tmp_path, tmp_path))
    text = render(*caught.value.diagnostics)
    assert text.startswith(f"error[R207]: the trainer sent an event that this engine does not understand: {expected}")
    assert "reinstall runspec-engine" in text


def test_a_prepared_trainer_begins_when_it_is_told(tmp_path: Path) -> None:
    """It has imported JAX long before, and has said and written nothing; then it does its job."""
    said: list[Event] = []
    host = Host(tmp_path, tmp_path, emit=said.append)
    with prepared(ProbeJob("cpu"), host, name="early") as early:
        assert run_trainer(ProbeJob("cpu"), host)["platform"] == "cpu"
        assert early.child.poll() is None
        assert len(said) == 1
        assert run_trainer(early, host)["platform"] == "cpu"
    assert early.child.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "early_job.json", "early_stderr.log", "probe_job.json", "probe_stderr.log",
    ]  # fmt: skip


def test_a_prepared_trainer_that_is_not_told_is_killed(tmp_path: Path) -> None:
    """Where the work before it fails, nothing of it remains: no process, no folder of its job, no event."""
    said: list[Event] = []
    job = replace(JOB_SAMPLES["generate"], work=str(tmp_path / "work"), out=str(tmp_path / "out"))
    with pytest.raises(KeyError), prepared(job, Host(tmp_path, tmp_path, emit=said.append)) as early:
        raise KeyError("what came before")
    assert early.child.returncode == -signal.SIGKILL
    assert (said, (tmp_path / "work").exists(), (tmp_path / "out").exists()) == ([], False, False)


def test_a_prepared_trainer_that_has_died_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last event came before it was told: the error is that of the event, not of the broken pipe."""
    script = tmp_path / "child.py"
    script.write_text(PRINTS_AND_ENDS)
    failed = to_line(Failed(2, ({"code": "M111", "message": "do not fit each other"},)))
    monkeypatch.setattr(process, "trainer_command", lambda *_: [sys.executable, str(script), failed, "2"])
    with prepared(ProbeJob("cpu"), Host(tmp_path, tmp_path)) as early:
        early.child.wait()
        with pytest.raises(InputInvalid, match="do not fit each other"):
            run_trainer(early, Host(tmp_path, tmp_path))
