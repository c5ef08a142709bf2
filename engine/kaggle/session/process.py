"""One command of the engine, run as a child of the notebook's kernel: its lines are the cell's output, as they come.

In: the words, the environment. Out: the exit code. Standard output and standard error arrive in one order. An interruption of the
kernel is passed on to the child, which saves a checkpoint and ends; it is waited for.

    code = stream([python, "-m", "engine", "validate", "runspecs/m36.yaml"], environment, project, print)
"""

from __future__ import annotations

import ctypes
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.redact import redact

GRACE_SECONDS = 90.0  # after an interruption: the train step in progress, then a checkpoint
# An escape sequence of a terminal, from whatever program a step starts; the engine's plain lines have none.
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[0-~])?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _stop_with_parent() -> None:
    """In the child: a kernel that is killed or restarted stops its run (SIGTERM), which saves, and lets go of the run's lock."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def plain(line: str) -> str:
    """A line without escape sequences, and of a line that is redrawn its last state.

    >>> plain("\\x1b[31mred\\x1b[0m"), plain("10%\\r20%\\r")
    ('red', '20%')
    """
    return _ESCAPE.sub("", line.rstrip("\r\n")).split("\r")[-1]


def stream(words: Sequence[str], environ: Mapping[str, str], cwd: Path, show: Callable[[str], None]) -> int:
    """Run it to its end. A secret of that environment is masked, whoever prints it."""
    child = subprocess.Popen(
        words, env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=_stop_with_parent,  # noqa: PLW1509 - one system call, of a library that is loaded already
    )  # fmt: skip
    assert child.stdout is not None
    try:
        with _passing_on_interruptions(child):
            for (
                line
            ) in child.stdout:  # bytes: carriage returns of a line that is redrawn are ends of lines in text mode
                show(redact(plain(line.decode("utf-8", "replace")), environ))
            return child.wait()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        child.stdout.close()


@contextmanager
def _passing_on_interruptions(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """The kernel's interruption becomes the child's, once, and is no exception here: the child's last lines are still read.

    The child is in a session of its own, since some kernels signal themselves alone and others their whole group.
    """
    timers: list[threading.Timer] = []

    def pass_on(*_: object) -> None:
        if not timers:
            child.send_signal(signal.SIGINT)
        timers.append(threading.Timer(GRACE_SECONDS, child.kill))
        timers[-1].start()

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, pass_on) if in_main_thread else None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
        for timer in timers:
            timer.cancel()


def answer(words: Sequence[str], environ: Mapping[str, str], cwd: Path, seconds: float) -> tuple[int, str, str]:
    """Run it quietly: exit code, standard output, standard error. Raises SubprocessError where it takes too long."""
    done = subprocess.run(
        words, env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
        errors="replace", timeout=seconds, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, redact(done.stderr, environ)
