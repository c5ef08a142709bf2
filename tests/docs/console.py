"""Runs the console blocks of a Markdown page as a reader would type them, and compares what the page shows of the output.

In: a page. Its blocks fenced as ``console`` hold commands (after ``$ ``; a line that begins with ``> `` goes on with the
command above it) and, below a command, the output that the page shows of it. Out: for each command what was printed, and
how the page differs.

- A command without output below it is run and not compared.
- ``…`` alone in a line stands for any number of lines, within a line for any text.
- ``^C`` alone in a line: Ctrl-C is sent as soon as the output has reached the lines above it.
- The exit status is 0, 130 after ``^C``, or whatever it likes where the command ends in ``; echo "exit code $?"``.

    page = read_page(Path("docs/tutorials/first-run.md"))
    shell = Shell(tmp_path, environment)
    for command in page:
        assert shell.difference(command) == ""
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import ndiff
from pathlib import Path

# A shell that begins its jobs in the background has them ignore Ctrl-C; a reader's terminal does not. Not a preexec_fn:
# that would fork this process, and JAX's threads with it.
A_READERS_SHELL = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp("bash", ["bash", "-c", sys.argv[1]])
"""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INTERRUPT = "^C"
ANY = "…"


@dataclass(frozen=True)
class Command:
    """One command of a page: ``line`` is where it stands there, ``shown`` the output below it."""

    line: int
    text: str
    shown: tuple[str, ...]

    @property
    def before_interrupt(self) -> tuple[str, ...] | None:
        """The shown lines above ``^C``; None where the reader does not interrupt it."""
        return self.shown[: self.shown.index(INTERRUPT)] if INTERRUPT in self.shown else None


def read_page(path: Path) -> list[Command]:
    """The commands of all console blocks, in order."""
    text = path.read_text(encoding="utf-8")
    found: list[Command] = []
    for fence in FENCE.finditer(text):
        if fence[1] == "console":
            first = text[: fence.start(2)].count("\n") + 1
            found += read_block(fence[2].split("\n")[:-1], first)
    return found


def read_block(lines: Sequence[str], first: int) -> list[Command]:
    """The commands of one block, whose first line is line ``first`` of the page."""
    found: list[Command] = []
    for number, line in enumerate(lines, first):
        if line.startswith("$ "):
            found.append(Command(number, line[2:], ()))
        elif line.startswith("> ") and found and not found[-1].shown:
            found[-1] = Command(found[-1].line, f"{found[-1].text}\n{line[2:]}", ())
        elif found:
            found[-1] = Command(found[-1].line, found[-1].text, (*found[-1].shown, line))
        else:
            raise ValueError(f"line {number} is output, and no command stands above it: {line}")
    return found


def matches(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether a page may show these lines of what was printed: each ``…`` line as few lines as will do.

    >>> matches(["a", "…", "done in …s"], ["a", "b", "c", "done in 3s"])
    True
    """
    blocks: list[list[str]] = [[]]
    for line in shown:
        if line.strip() == ANY:
            blocks.append([])
        else:
            blocks[-1].append(line)
    first, last = blocks[0], blocks[-1]
    if len(blocks) == 1:
        return len(first) == len(printed) and _stands(first, printed, 0)
    if not _stands(first, printed, 0):
        return False
    at = len(first)
    for block in blocks[1:-1]:
        found = next((place for place in range(at, len(printed)) if _stands(block, printed, place)), None)
        if found is None:
            return False
        at = found + len(block)
    end = len(printed) - len(last)
    return end >= at and _stands(last, printed, end)


def _stands(block: Sequence[str], printed: Sequence[str], at: int) -> bool:
    """Whether these lines are the ones printed from there on."""
    there = printed[at : at + len(block)]
    return len(there) == len(block) and all(_same(*pair) for pair in zip(block, there, strict=True))


def _same(shown: str, printed: str) -> bool:
    text = ".*".join(re.escape(part) for part in shown.rstrip().split(ANY))
    return re.fullmatch(text, printed.rstrip()) is not None


class Shell:
    """A reader's terminal: the folder that ``cd`` changes is kept from one command to the next."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment = folder, dict(environment)
        self._place = folder / ".place"

    def difference(self, command: Command) -> str:
        """Run it. "" where all is as the page shows it, else what is not."""
        status, lines = self._run(command)
        expected = 130 if command.before_interrupt is not None else 0
        told = f"line {command.line}: $ {command.text}\n"
        if status != expected:
            return told + "\n".join([f"exit status {status}, expected {expected}:", *lines])
        if not command.shown or matches(command.shown, lines):
            return ""
        return told + "\n".join(ndiff(command.shown, lines))

    def _run(self, command: Command) -> tuple[int, list[str]]:
        script = f"cd '{self._folder}' || exit\n{command.text}\nstatus=$?\npwd > '{self._place}'\nexit $status"
        process = subprocess.Popen(
            [sys.executable, "-c", A_READERS_SHELL, script], env=self._environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        lines = _read(process, command.before_interrupt)
        ended = process.wait()
        status = ended if ended >= 0 else 128 - ended  # as the reader's shell says it of a signal
        if self._place.exists():
            self._folder = Path(self._place.read_text(encoding="utf-8").removesuffix("\n"))
            self._place.unlink()
        return status, lines


def _read(process: subprocess.Popen[str], before: Sequence[str] | None) -> list[str]:
    """All lines; Ctrl-C is sent to the whole group, as a terminal does, when ``before`` has been printed."""
    assert process.stdout is not None
    lines: list[str] = []
    with process.stdout as stream:
        for line in stream:
            lines.append(line.removesuffix("\n"))
            if before is not None and matches(before, lines):
                lines.append(INTERRUPT)
                os.killpg(process.pid, signal.SIGINT)
                before = None
    return lines
