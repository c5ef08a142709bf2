"""The `>>>` examples of the engine's docstrings: how many a module's text has, and what doctest makes of them.

In: :class:`parts.source.Module`. Out: :class:`ExamplesRun`. All are there to be run: an example in a place where doctest
does not look (a comment, a string that is no docstring) shows as one that was not.
"""

from __future__ import annotations

import doctest
import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

from parts.source import Module

PROMPT = ">>> "


@dataclass(frozen=True, slots=True)
class ExamplesRun:
    """Examples of one module that were run and that failed, and doctest's words on the latter."""

    n_run: int
    n_failed: int
    output: str


def written_examples(modules: Mapping[str, Module]) -> dict[str, int]:
    """Module -> how many examples its text has, for those that have any."""
    counts = {name: module.text.count(PROMPT) for name, module in modules.items()}
    return {name: count for name, count in counts.items() if count}


def run_examples(name: str) -> ExamplesRun:
    """Import a module and run what its docstrings show."""
    runner, output = doctest.DocTestRunner(verbose=False), io.StringIO()
    for found in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), name):
        runner.run(found, out=output.write)
    return ExamplesRun(runner.tries, runner.failures, output.getvalue())
