"""Commands over a project whose state is damaged or cannot be read, and over what killed commands left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import Journal, journal_path

STARTED = {"session": "s", "command": "runspec run x", "environment": {}}


@pytest.fixture
def two_runs(project: Path) -> Path:
    """A project with the journals of a whole run and of a damaged one."""
    for name in ("whole", "damaged"):
        Journal(journal_path(project / ".runspec", name)).append("run_started", **STARTED)
    path = journal_path(project / ".runspec", "damaged")
    path.write_bytes(path.read_bytes().replace(b"runspec run x", b"runspec run y"))
    os.utime(path, (0, 0))
    return project


def test_a_damaged_journal_does_not_hide_the_other_runs(runspec: Any, two_runs: Path) -> None:
    """status lists every run, names the damaged file, says the cure, and ends with 1."""
    done = runspec("status", "--json")
    assert done.code == 1
    document = done.document
    assert [(run["run_version"], run["state"]) for run in document["runs"]] == [
        ("whole", "unfinished; the same `runspec run` resumes it"),
        ("damaged", "its journal cannot be read"),
    ]
    (problem,) = document["diagnostics"]
    path = journal_path(two_runs / ".runspec", "damaged")
    assert (problem["code"], problem["message"]) == ("R111", f"{path} is damaged: line 1: not what was written")
    assert problem["hint"].startswith(f"move it away, then run again: mv {path} {path}.damaged\n")
    assert document["ok"] is False
    assert runspec("status").err.startswith("error[R111]")


def test_a_run_whose_process_number_was_used_again_is_not_running(runspec: Any, two_runs: Path) -> None:
    """The process that has the number now began at another time."""
    lock = two_runs / ".runspec" / "locks" / "run-whole.lock"
    lock.parent.mkdir()
    lock.write_text(f"{os.getpid()} another-boot:1\n")
    assert runspec("status", "whole", "--json").document["state"] == "unfinished; the same `runspec run` resumes it"
    lock.write_text(f"{os.getpid()}\n")  # by an engine that wrote the number alone
    assert runspec("status", "whole", "--json").document["state"] == "running"


@pytest.mark.parametrize("damage", ["folder", "fault"])
def test_a_log_that_cannot_be_read_is_named(runspec: Any, two_runs: Path, damage: str) -> None:
    path = two_runs / ".runspec" / "logs" / "whole.jsonl"
    path.parent.mkdir()
    if damage == "folder":
        path.mkdir()
    else:
        path.symlink_to("/proc/self/mem")
    done = runspec("logs", "whole")
    assert done.code == 1
    assert f"error[R112]: cannot read {path}: " in done.err
    assert "without it the next run begins a new one" in done.err


def test_runs_that_cannot_be_listed_are_not_none(runspec: Any, project: Path) -> None:
    """A file is where their folder should be: R112, and not "no run yet"."""
    (project / ".runspec" / "runs").write_text("")
    done = runspec("status")
    assert done.code == 1
    assert f"error[R112]: cannot read {project / '.runspec' / 'runs'}: Not a directory" in done.err


def test_what_a_killed_init_and_a_killed_build_left_goes_with_the_next(runspec: Any, project: Path) -> None:
    """Temporary files of the files that they write; others stay."""
    left = [project / "made" / "runspecs" / ".quickstart.yaml.0123abcd.tmp", project / "made" / "..gitignore.0123abcd.tmp",
            project / "built" / ".rows.jsonl.0123abcd.tmp"]  # fmt: skip
    mine = project / "made" / ".mine.0123abcd.tmp"
    for path in (*left, mine):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    assert runspec("init", "quickstart", "--dir", "made").code == 0
    assert runspec("dataset", "build", "quickstart-reasoning", "--out", "built").code == 0
    assert [path for path in left if path.exists()] == []
    assert mine.exists()


@pytest.mark.parametrize(("limit", "code"), [("FSIZE", "U115"), ("NOFILE", "R113")])
def test_a_limit_of_the_shell_is_named(project: Path, limit: str, code: str) -> None:
    """ulimit -f 0, and not one more open file than there is: a sentence each, in a process of its own."""
    script = (
        "import resource, sys\nimport engine.commands.data, engine.commands.manual, engine.data\n"
        "from engine.cli import main\nnow = len(__import__('os').listdir('/proc/self/fd')) - 1\n"
        f"resource.setrlimit(resource.RLIMIT_{limit}, (now, now) if '{limit}' == 'NOFILE' else (0, 0))\n"
        "sys.exit(main(['dataset', 'build', 'quickstart-reasoning', '--out', 'built']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith(f"error[{code}]: ")
    assert "ulimit" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refusal_that_no_command_foresaw_is_the_systems(
    runspec: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, a fault of the disk: R113 and what helps; a file that we lost stays a fault of ours."""
    import errno

    from engine.commands import start

    def refuse(number: int) -> None:
        def presets(_: Any) -> None:
            raise OSError(number, os.strerror(number), "/some/file")

        monkeypatch.setattr(start, "presets", presets)

    refuse(errno.EMFILE)
    done = runspec("presets")
    assert done.code == 1
    assert done.err.startswith(
        "error[R113]: the system refused what this command needs: /some/file: Too many open files\n"
    )
    assert "ulimit -n" in done.err
    refuse(errno.ENOENT)
    assert runspec("presets").code == 3
