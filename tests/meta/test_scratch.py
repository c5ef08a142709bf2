"""Where the tests' temporary folders are: in memory where there is enough of it, and nothing of a killed run stays there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.examples import QUICK
from tests.fixtures import scratch


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the file system in memory."""
    monkeypatch.setattr(scratch, "MEMORY", tmp_path)
    return tmp_path


def test_what_a_killed_run_left_is_removed(memory: Path) -> None:
    """The folder of a process that is gone; that of one that lives stays, and so does what has another name."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    names = (f"{scratch.PREFIX}{gone.pid}-abc", f"{scratch.PREFIX}{os.getppid()}-abc", "of-somebody")
    for name in names:
        (memory / name / "deep").mkdir(parents=True)
    made = scratch.in_memory()
    assert made is not None
    assert {path.name for path in memory.iterdir()} == {made.name, *names[1:]}
    assert scratch.owner(made) == os.getpid()


def test_without_memory_enough_the_disk_is_used(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made then, and nothing where there is no such file system."""
    with monkeypatch.context() as patched:
        patched.setattr(scratch, "NEEDED", 1 << 60)
        assert scratch.in_memory() is None
    monkeypatch.setattr(scratch, "MEMORY", memory / "absent")
    assert scratch.in_memory() is None


@pytest.mark.skipif(not QUICK or scratch.MEMORY not in Path(tempfile.gettempdir()).parents, reason="not in memory")
def test_children_have_it_too(tmp_path: Path) -> None:
    """A process that a test starts makes its temporary files there."""
    words = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert said == tempfile.gettempdir()
    assert Path(said) in tmp_path.parents
