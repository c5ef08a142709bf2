"""Nothing is named that does not exist: commands, options, make targets, checks, error codes, variables, events.

Messages, docstrings, pages, schemas, templates and run-specs are read as text; what they tell a person to type or to look up must
be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.commands.manual import error_rows
from engine.commands.parsing import COMMON
from engine.commands.table import COMMANDS
from engine.evidence.checklist import CHECKS, RERUN_CHECKS, WEIGHTS_CHECKS
from engine.evidence.checks.stated import STATED
from engine.launch import RESTART_EXIT_CODES

TOLD = ("engine/", "docs/", "schemas/", "templates/", "runspecs/", "README.md", "CONTRIBUTING.md", "Makefile")
# Words after `runspec` that stand for something, and words of a sentence in which the command is the subject.
STAND_FOR = {"COMMAND", "VERB", "SPEC", "NAME", "…"}
COMMAND_NAMES = {command.name for command in COMMANDS}
FAMILIES = {name.split()[0] for name in COMMAND_NAMES if " " in name}
# In backticks, after a prompt, or on an indented line of a page: what a person types.
TYPED = re.compile(
    r"(?:`|\$ |^ {4,}|hint=f?\"|run with |: )(?:make \S+ && )?runspec ((?:[a-z]+|[A-Z]+|…)(?: [a-z]+)?)([^`\"\n#]*)",
    re.MULTILINE,
)
MADE = re.compile(r"(?:`|^ {4,}|\")make ([a-z][a-z-]{2,})(?=[ `\"\n;.:,]|$)", re.MULTILINE)
CODE = re.compile(r"`([YSDTMKEPVRXLUG]\d{3}|V\d{2})`")
VARIABLE = re.compile(r"\bRUNSPEC_[A-Z]+(?:_[A-Z]+)*\b")


def _told(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, text) for name, text in texts.items() if name.startswith(TOLD))


def _command(words: str) -> str | None:
    """The command that the words name, or None."""
    return next((name for name in (words, words.split(maxsplit=1)[0]) if name in COMMAND_NAMES), None)


def _ghosts(name: str, text: str) -> Iterator[str]:
    for match in TYPED.finditer(text):
        words, rest = match[1], match[2]
        command = _command(words)
        if command is None:
            alone = (
                STAND_FOR | {"runspec"} | (FAMILIES if " " not in words else set())
            )  # a family's name, with any word after it
            if words.split()[0] not in alone:
                yield f"{name}: runspec {words}"
            continue
        known = next(row for row in COMMANDS if row.name == command).arguments + COMMON
        options = {argument.name for argument in known if argument.is_option}
        typed = set(re.findall(r"(?<!\S)--[a-z-]+", rest.split(" && ")[0].split(" | ")[0]))
        yield from (f"{name}: runspec {command} {option}" for option in sorted(typed - options))


def test_every_command_and_option_that_is_told_exists(texts: Mapping[str, str]) -> None:
    """`runspec kaggle` told nobody anything, before it was a family of commands."""
    assert [ghost for name, text in _told(texts) for ghost in _ghosts(name, text)] == []


@pytest.mark.parametrize(
    ("text", "ghost"),
    [("see `runspec kaggle pull`", "x: runspec kaggle pull"), ("`runspec plan SPEC --remote`", "x: runspec plan --remote"),
     ("    runspec sho RUN\n", "x: runspec sho")],
)  # fmt: skip
def test_a_ghost_is_found(text: str, ghost: str) -> None:
    """The patterns see what they are for."""
    assert list(_ghosts("x", text)) == [ghost]


def test_every_make_target_that_is_told_exists(texts: Mapping[str, str], repository: Path) -> None:
    """A target that the Makefile does not have cannot be typed."""
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    told = {(name, target) for name, text in _told(texts) for target in MADE.findall(text)}
    assert [f"{name}: make {target}" for name, target in sorted(told) if target not in targets | {"sure"}] == []
    assert {target for _, target in told} >= {"reference", "setup"}, "the pattern sees them"


def test_the_engine_tells_no_make_target_but_in_a_checkout(
    modules: Mapping[str, Any], texts: Mapping[str, str]
) -> None:
    """Who has the wheel has no Makefile: only one function, which looks for it, may name a target."""
    pattern = re.compile(r"\bmake (setup|run|test|check|compilers|reference|docs|bench|parity|plan|train)\b")
    found = {
        name
        for name, text in texts.items()
        if name.startswith(("engine/", "schemas/", "templates/")) and pattern.search(text)
    }
    assert found == {"engine/extras.py"}


def test_every_code_that_is_told_is_explained(texts: Mapping[str, str]) -> None:
    """Error codes and checks in pages and messages have their row."""
    rows = error_rows()
    told = {(name, code) for name, text in _told(texts) for code in CODE.findall(text)}
    assert [f"{name}: {code}" for name, code in sorted(told) if code not in rows] == []


def test_every_exit_code_that_is_told_is_explained(texts: Mapping[str, str]) -> None:
    """Exit code 7 was removed, and a page and the job files went on naming it."""
    page = set(re.findall(r"^\| (\d+) \|", texts["docs/reference/exit-codes.md"], re.MULTILINE))
    pattern = re.compile(r"[Ee]xit codes? (\d+(?:(?:, | and | or )\d+)*)")
    told = {
        (name, code)
        for name, text in _told(texts)
        for found in pattern.findall(text)
        for code in re.findall(r"\d+", found)
    }
    assert sorted((name, code) for name, code in told if code not in page) == []
    assert {str(code) for code in RESTART_EXIT_CODES} <= page


def test_the_explained_checks_are_those_of_verify(texts: Mapping[str, str]) -> None:
    """Every check of the list is made, every one that is made is in the list; V00 and V24 are not functions."""
    made = {check[0] for check in (*CHECKS, *RERUN_CHECKS, *WEIGHTS_CHECKS)} | {"V24"}
    page = set(re.findall(r"^\| (V\d\d) \|", texts["docs/reference/evidence-files.md"], re.MULTILINE))
    assert page == made
    assert {code for code in error_rows() if code.startswith("V")} == made | {"V00"}


def test_the_events_of_the_journal_are_those_that_are_written(texts: Mapping[str, str]) -> None:
    """The module of the journal lists each event that the pipeline appends, and no other."""
    from engine.artifacts import journal

    written = {
        event
        for name, text in texts.items()
        if name.startswith("engine/pipeline/")
        for event in re.findall(r"(?:journal\.append|_journal_finished)\(\s*\"([a-z_]+)\"", text)
    }
    listed = (journal.__doc__ or "").split("Events:")[1].split("\n\n")[0]
    assert set(re.findall(r"``([a-z_]+)``", listed)) == written


def test_every_variable_that_is_told_is_read(texts: Mapping[str, str]) -> None:
    """A RUNSPEC_ variable of a page is one that a module reads or sets, and has its row in the page of variables."""
    code = " ".join(
        text for name, text in texts.items() if name.startswith(("engine/", "templates/")) and not name.endswith(".md")
    )
    told = {name for file, text in _told(texts) if file.endswith((".md", ".py")) for name in VARIABLE.findall(text)}
    page = texts["docs/reference/environment.md"]
    assert sorted(told - set(VARIABLE.findall(code))) == []
    assert sorted(told - set(VARIABLE.findall(page))) == []


def test_the_page_lists_what_nobody_checks_as_verify_explains_it(texts: Mapping[str, str]) -> None:
    """Row by row; the page once named fields that a check had taken over."""
    page = texts["docs/reference/evidence-files.md"]
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.*) \|$", page.split("## What nobody checks")[1], re.MULTILINE)
    assert rows == [(entry.file, entry.what) for entry in STATED]
