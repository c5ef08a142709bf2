"""An internal error leaves its log where the project is, or in the temporary folder; it makes no project, and never hides itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def crash(runspec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """``crash("plan", "x.yaml")``: the command meets an exception that nobody foresaw; temporary files go to ``tmp_path/temporary``."""

    def answer(words: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("engine.cli.answer", answer)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return runspec


def _log(done: Any) -> Path:
    """The file that the message names; it has the traceback."""
    [path] = [
        Path(line.split("the details are in ")[1]) for line in done.err.splitlines() if "the details are in " in line
    ]
    assert "ZeroDivisionError" in path.read_text()
    assert done.code == 3
    return path


@pytest.mark.parametrize("marker", [".git", "pyproject.toml", ".runspec"])
def test_the_log_goes_where_the_root_is(
    crash: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str
) -> None:
    """In a folder of a fresh clone: the clone's own .runspec, and `runspecs/` stays a folder like any other."""
    project = tmp_path / "clone"
    (project / "runspecs").mkdir(parents=True)
    (project / marker).mkdir()
    monkeypatch.chdir(project / "runspecs")
    assert _log(crash("steps")).parent == project / ".runspec" / "logs"
    assert list((project / "runspecs").iterdir()) == []
    monkeypatch.chdir(tmp_path)
    assert _log(crash("plan", str(project / "runspecs" / "x.yaml"))).parent == project / ".runspec" / "logs"


def test_no_project_is_made(crash: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of any project the log is in the temporary folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert _log(crash("steps")).parent == tmp_path / "temporary"
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("folder", ["there", "deleted"])
def test_where_no_disk_takes_the_log_the_sentence_comes_alone(
    crash: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """No temporary folder, and no working folder either: one sentence, exit 3, no traceback."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    shutil.rmtree(tmp_path / "temporary")
    (tmp_path / "temporary").write_text("a file where a folder should be")
    if folder == "deleted":
        here.rmdir()
    done = crash("steps")
    assert done.code == 3
    assert done.err == (
        "error[X301]: internal error: ZeroDivisionError; this is a fault in runspec, not in your input\n"
        "   = help: no log could be written, neither in the project nor in the temporary folder: free some disk space and run it again\n"
    )
