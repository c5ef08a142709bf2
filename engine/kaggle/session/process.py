"""One command of the engine, run as a child of the notebook's kernel: its lines are the cell's output, as they come.

In: the words, the environment. Out: the exit code. Standard output and standard error arrive in one order. An interruption of the
kernel reaches the child too, which saves a checkpoint and ends; it is waited for.

    code = stream([python, "-m", "engine", "validate", "runspecs/m36.yaml"], environment, project, print)
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from engine.redact import redact

GRACE_SECONDS = 90.0  # after an interruption: the train step in progress, then a checkpoint
# An escape sequence of a terminal, from whatever program a step starts; the engine's plain lines have none.
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]+[0-~]|[0-~])?|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
)


def plain(line: str) -> str:
    """A line without escape sequences, and of a line that is redrawn its last state.

    >>> plain("\\x1b[31mred\\x1b[0m"), plain("10%\\r20%\\r")
    ('red', '20%')
    """
    return _ESCAPE.sub("", line.rstrip("\r\n")).split("\r")[-1]


def stream(words: Sequence[str], environ: Mapping[str, str], cwd: Path, show: Callable[[str], None]) -> int:
    """Run it to its end. A secret of that environment is masked, whoever prints it."""
    child = subprocess.Popen(
        words, env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert child.stdout is not None
    try:
        for line in (
            child.stdout
        ):  # bytes: a line that is redrawn has carriage returns, which text mode takes for ends of lines
            show(redact(plain(line.decode("utf-8", "replace")), environ))
        return child.wait()
    except KeyboardInterrupt:
        return _waited_for(child, show)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        child.stdout.close()


def _waited_for(child: subprocess.Popen[bytes], show: Callable[[str], None]) -> int:
    """The child has the interruption, too: what it says on its way out, and its exit code."""
    try:
        said, _ = child.communicate(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
    for line in said.decode("utf-8", "replace").splitlines():
        show(redact(plain(line)))
    return child.returncode


def answer(words: Sequence[str], environ: Mapping[str, str], cwd: Path, seconds: float) -> tuple[int, str, str]:
    """Run it quietly: exit code, standard output, standard error. Raises SubprocessError where it takes too long."""
    done = subprocess.run(
        words, env=dict(environ), cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8",
        errors="replace", timeout=seconds, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, redact(done.stderr, environ)
