"""Which process holds a lock: the one that wrote its mark, and no later one with its number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.artifacts import holder
from engine.artifacts.holder import is_alive, mark_of


def test_every_process_has_a_mark_of_its_own(tmp_path: Path) -> None:
    """While it lives; afterwards there is none."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        mark = mark_of(child.pid)
        assert mark is not None
        assert mark != mark_of(os.getpid())
        assert is_alive(f"{child.pid} {mark}\n")
        child.communicate(b"\n")
    assert mark_of(child.pid) is None
    assert not is_alive(f"{child.pid} {mark}\n")


def test_a_name_with_spaces_and_brackets_does_not_shift_the_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start is the 22nd field of /proc/PID/stat, and the second is the command's name as it is."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").touch()
    (tmp_path / "7").mkdir()
    fields = ["S", *map(str, range(4, 53))]
    (tmp_path / "7" / "stat").write_text(f"7 (a) b) c ({' '.join(fields)}".replace(" (S", ") S"))
    (tmp_path / "sys" / "kernel" / "random").mkdir(parents=True)
    (tmp_path / "sys" / "kernel" / "random" / "boot_id").write_text("boot\n")
    monkeypatch.setattr(holder, "PROC", tmp_path)
    assert mark_of(7) == "boot:22"


def test_without_proc_the_start_is_what_ps_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr(holder, "PROC", tmp_path)
    (tmp_path / "ps").write_text('#!/bin/sh\n[ "$4" = 7 ] && echo "Sun Nov 29  15:04:05 2026"\n')
    (tmp_path / "ps").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert mark_of(7) == "Sun_Nov_29_15:04:05_2026"
    assert mark_of(8) is None
    (tmp_path / "ps").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mark_of(7) is None
