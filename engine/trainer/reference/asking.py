"""One question to the process that imports transformers, while it is being answered.

asking = Asking("read", folder, folder / "answer.json", ["a text"])
asking.answer()         # the bytes of the file that the process wrote
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from engine.errors import InputInvalid

CHILD = "engine.trainer.reference.child"
MOST_SECONDS = 300.0  # a tokenizer of a quarter of a million tokens takes two on a slow machine
BROKEN = "pip install --force-reinstall transformers tokenizers   (runspec doctor shows the versions)"


class CannotAnswer(Exception):
    """The process ended without an answer: its last words."""


class Asking:
    """A started process; ``answer`` is the file that it writes."""

    def __init__(self, verb: str, folder: Path, answer: Path, probes: list[str]) -> None:
        self._answer, self._words = answer, answer.with_suffix(".err")
        command = [sys.executable, "-P", "-m", CHILD, verb, str(folder), str(answer)]
        with self._words.open("wb") as words:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=words)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already; answer() says why
            self._process.stdin.write(json.dumps(probes).encode() + b"\n")
            self._process.stdin.flush()  # and stays open: where this process dies, the pipe ends, and so does the child

    def answer(self) -> bytes:
        """What it wrote. Raises CannotAnswer with its last words, InputInvalid M110 where it says nothing for long."""
        assert self._process.stdin is not None
        try:
            code = self._process.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            message = f"transformers has not answered for {MOST_SECONDS:.0f} seconds"
            raise InputInvalid("M110", message, hint=BROKEN) from None
        finally:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        if code or not self._answer.is_file():
            words = self._words.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise CannotAnswer(words[-1] if words else f"it ended with {code}")
        return self._answer.read_bytes()

    def stop(self) -> None:
        """End it without an answer."""
        self._process.kill()
        self._process.wait()
        with suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.close()
