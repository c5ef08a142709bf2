"""What the reader of YAML raises, with the words that engine.runspec.syntax explains."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A position; line and column count from 0."""

    line: int
    column: int


class YAMLError(Exception):
    """The text is not YAML, or not of the part that is read here."""

    def __init__(self, problem: str, mark: Mark, context: str | None = None, context_mark: Mark | None = None) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, mark
        self.context, self.context_mark = context, context_mark
