"""The children of a cell: plain lines as they come, no secret, an exit code, and an interruption that is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.kaggle.session import process
from engine.kaggle.session.process import plain, stream


def _streamed(code: str, folder: Path, **environ: str) -> tuple[int, list[str]]:
    lines: list[str] = []
    return stream([sys.executable, "-u", "-c", code], {**os.environ, **environ}, folder, lines.append), lines


def test_both_streams_arrive_in_one_order_with_the_exit_code(tmp_path: Path) -> None:
    """Standard output and standard error, as they were written."""
    code = "import sys; print('a'); print('b', file=sys.stderr); print('c'); sys.exit(7)"
    assert _streamed(code, tmp_path) == (7, ["a", "b", "c"])


def test_escape_sequences_and_redrawn_lines_become_plain(tmp_path: Path) -> None:
    """Colours go, of a bar that is redrawn the last state stays, bytes that are no text are shown."""
    code = r"import sys; sys.stdout.buffer.write(b'\x1b[1;31mred\x1b[0m\n10%\r20%\r100%\n\x1b]0;title\x07caf\xe9\n')"
    assert _streamed(code, tmp_path) == (0, ["red", "100%", "caf\ufffd"])


@pytest.mark.parametrize("line", ["\x1b[2K\x1b[1Aup", "\x1b(Bup", "\x1b7up\x1b8", "\x1b[?25lup"])
def test_no_escape_is_left(line: str) -> None:
    """Cursor, character set, saved position, hidden cursor."""
    assert plain(line) == "up"


def test_a_secret_that_a_child_prints_is_masked(tmp_path: Path) -> None:
    """The token of the child's environment, whoever prints it."""
    code = "import os; print('token', os.environ['HF_TOKEN'])"
    assert _streamed(code, tmp_path, HF_TOKEN="hub-token-of-nobody") == (0, ["token ***"])


def test_an_interruption_is_waited_for(tmp_path: Path) -> None:
    """Law: the kernel's interruption is passed on to the child, whose last words are shown and whose exit code is returned."""
    code = """
import signal, sys, time
def stop(*_):
    print("saved", flush=True)
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
time.sleep(60)
"""
    lines: list[str] = []

    def show(line: str) -> None:
        lines.append(line)
        if line == "ready":
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

    before = signal.getsignal(signal.SIGINT)
    assert stream([sys.executable, "-c", code], os.environ, tmp_path, show) == 130
    assert lines == ["ready", "saved"]
    assert signal.getsignal(signal.SIGINT) is before


PARENT = """
import os, pathlib, signal, sys
from engine.kaggle.session.process import stream
child = "import os, signal, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
stream([sys.executable, "-c", child], os.environ, pathlib.Path(), lambda pid: (print(pid, flush=True), os.kill(os.getpid(), signal.SIGKILL)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a system call of Linux")
def test_a_kernel_that_is_killed_takes_its_run_along(tmp_path: Path) -> None:
    """Law: no run is left behind that holds the lock of the next one."""
    done = subprocess.run([sys.executable, "-c", PARENT], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError("the child is still there")


def test_a_child_that_does_not_stop_is_killed_after_the_grace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is deaf to the interruption does not hold the notebook for ever."""
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    code = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )

    def show(_: str) -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    assert stream([sys.executable, "-c", code], os.environ, tmp_path, show) == -signal.SIGKILL
