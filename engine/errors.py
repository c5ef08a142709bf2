"""The exception tree, and the one place that maps it to exit codes.

In: a stable code, what went wrong, where, and what to do about it. Out: an
exception that the command line prints as text (:func:`render`) or JSON (:meth:`Diagnostic.as_json`)
and turns into an exit code (:attr:`RunspecError.exit_code`).

    >>> where = Where(file="spec.yaml", line=3, column=1, text="modle: {}", width=5)
    >>> print(render(Diagnostic("S101", 'unknown key "modle"', where, hint='did you mean "model"?')))
    error[S101]: unknown key "modle"
      --> spec.yaml:3:1
       |
     3 | modle: {}
       | ^^^^^
       = help: did you mean "model"?

Exit codes (machine stable, see docs/reference/exit-codes.md): 0 ok, 1 run failed, 2 input invalid, 3 internal,
4 evidence incomplete, 5 verification failed, 6 lock busy, 7 stopped by the deadline, 8 remote refused, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from engine.printable import aligned, one_line, printable

Severity = Literal["error", "warning"]

INTERNAL_ERROR_EXIT_CODE = 3
LONGEST_LINE = 160  # characters of a person's line that are printed


@dataclass(frozen=True, slots=True)
class Where:
    """A position in a person's file. ``line`` and ``column`` count from 1; 0 means "the file as such".

    ``text`` is the person's own line, ``width`` how many characters the caret underlines, ``path`` the
    dotted address inside the document (``steps.train.with.seq_len``).
    """

    file: str
    line: int = 0
    column: int = 0
    text: str | None = None
    width: int = 1
    path: str = ""

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding: a stable code, one sentence, the position, and a concrete fix."""

    code: str
    message: str
    where: Where | None = None
    hint: str | None = None
    severity: Severity = "error"

    def as_json(self) -> dict[str, Any]:
        """The row that ``--json`` prints: code, severity, message, file, line, column, path, hint."""
        where = self.where or Where(file="")
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "file": where.file or None,
            "line": where.line or None,
            "column": where.column or None,
            "path": where.path or None,
            "hint": self.hint,
        }


def render(diagnostic: Diagnostic) -> str:
    """The finding as a person reads it: sentence, position, their own line with a caret, the fix. Nothing in it acts."""
    # Further lines of a message are indented: a name with a line feed in it cannot pass for a finding of its own.
    message = printable(diagnostic.message).replace("\n", "\n  ")
    lines = [f"{diagnostic.severity}[{diagnostic.code}]: {message}"]
    where = diagnostic.where
    if where is not None:
        lines.append(f"  --> {one_line(str(where))}")
    gutter = "  "
    if where is not None and where.text is not None and where.line:
        number = f"{where.line:>2}"
        gutter = " " * len(number)
        # A tab would move the caret to a tab stop; one space each keeps the two lines aligned.
        text, column = _window(aligned(where.text.rstrip().replace("\t", " ")), where.column)
        lines += [f"{gutter} |", f"{number} | {text}"]
        if column:
            caret = "^" * max(1, min(where.width, len(text) - column + 1))
            lines.append(f"{gutter} | {' ' * (column - 1)}{caret}")
    for index, hint in enumerate(printable(diagnostic.hint or "").splitlines()):
        lines.append(f"{gutter} = help: {hint}" if index == 0 else f"{gutter}         {hint}")
    return "\n".join(lines)


def _window(text: str, column: int) -> tuple[str, int]:
    """The part of a line around the caret, and the caret's column in it: a line of data can be very long.

    >>> _window("x" * 400, 300)[1]
    82
    """
    if len(text) <= LONGEST_LINE:
        return text, column
    begin = max(0, min(column - 1 - LONGEST_LINE // 2, len(text) - LONGEST_LINE))
    end = begin + LONGEST_LINE
    cut = "…" * (begin > 0)
    return cut + text[begin:end] + "…" * (end < len(text)), column and column - begin + len(cut)


class RunspecError(Exception):
    """Base of everything the engine raises on purpose. Carries one or many diagnostics."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        code: str,
        message: str,
        *,
        where: Where | None = None,
        hint: str | None = None,
        diagnostics: Iterable[Diagnostic] | None = None,
    ) -> None:
        super().__init__(message)
        self.diagnostics: tuple[Diagnostic, ...] = (
            tuple(diagnostics) if diagnostics is not None else (Diagnostic(code, message, where, hint),)
        )
        self.code = code
        self.hint = hint

    @classmethod
    def of(cls, diagnostics: Iterable[Diagnostic]) -> RunspecError:
        """One exception for many findings; the first one gives the code and the message."""
        findings = tuple(diagnostics)
        first = findings[0]
        return cls(first.code, first.message, hint=first.hint, diagnostics=findings)

    def __str__(self) -> str:
        return "\n\n".join(render(diagnostic) for diagnostic in self.diagnostics)


class RunFailed(RunspecError):
    """A step could not do its work (exit 1)."""


class InputInvalid(RunspecError):
    """The spec, a data file, an eval set or the command line is wrong (exit 2)."""

    exit_code = 2


class EvidenceIncomplete(RunspecError):
    """A field of the evidence has no value, and no reason for having none (exit 4)."""

    exit_code = 4


class VerificationFailed(RunspecError):
    """A check of ``verify`` failed (exit 5)."""

    exit_code = 5


class LockBusy(RunspecError):
    """Another run holds the lock (exit 6)."""

    exit_code = 6


class DeadlineReached(RunspecError):
    """Stopped by the session limit; the next session resumes (exit 7)."""

    exit_code = 7


class NothingDone(DeadlineReached):
    """The same, without a train step or an answer of this session that is kept."""


class RemoteRefused(RunspecError):
    """A remote service refused (exit 8)."""

    exit_code = 8


class Interrupted(RunspecError):
    """Stopped by Ctrl-C or SIGTERM; the next ``run`` resumes (exit 130)."""

    exit_code = 130


MOST_LISTED = 12  # as many as a person reads


def listed(words: Iterable[str], where: str = "") -> str:
    """The words; of many the first ones, how many more there are, and ``where`` all of them stand.

    >>> listed(["b", "a"]), listed(map(str, range(40)), "`runspec docs spec`")
    ('b, a', '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 28 more: `runspec docs spec`')
    """
    names = list(words)
    beyond = len(names) - MOST_LISTED
    if beyond <= 0:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_LISTED])} and {beyond} more" + (f": {where}" if where else "")


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word most similar to what the person wrote, or None where no word is similar.

    >>> did_you_mean("num_train_step", ["num_train_steps", "seq_len"])
    'num_train_steps'
    """
    import difflib

    candidates = list(known)
    lowered = {candidate.casefold(): candidate for candidate in candidates}
    near = difflib.get_close_matches(word.casefold(), list(lowered), n=1, cutoff=0.6)
    return lowered[near[0]] if near else None
