"""The tutorials are true: every command on them is typed, and what they show of the output is what comes out."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import pytest

from engine.commands.parsing import parse
from engine.commands.table import COMMANDS
from engine.gallery import project_files, shipped
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.real import RealKernel

TUTORIALS = sorted((Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md"))
BUILTINS = {"cd", "echo", "kill", "wait"}
A_RUN = re.compile(r"runspec (kaggle )?run ")
SHIPPED = re.compile(r"(?:runspecs|evalsets|data|templates)/[\w./-]+\.(?:yaml|jsonl|j2)")


def _simple_commands(text: str) -> Iterator[list[str]]:
    """``a && b > c; d & e`` -> [a, …], [b, …], [d, …], [e, …]; what follows a redirection is a word like any other."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if set(word) <= set(";&|"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def _words_of(console: ModuleType, page: Path) -> list[tuple[int, list[str]]]:
    return [
        (command.line, words)
        for command in console.read_page(page)
        for words in _simple_commands(command.text)
        if words
    ]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_command_of_a_tutorial_can_be_typed(
    console: ModuleType, environment: Mapping[str, str], page: Path
) -> None:
    """Each `runspec` command parses, and every program is one that the reader has."""
    commands = _words_of(console, page)
    assert len(commands) > 15
    for line, words in commands:
        if words[0] == "runspec" and words[1:] != ["--version"]:
            parse(words[1:], COMMANDS)  # raises what the reader would see
        assert words[0] in BUILTINS or shutil.which(words[0], path=environment["PATH"]), f"line {line}: {words[0]}"


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_every_file_that_a_tutorial_names_is_written_before(console: ModuleType, page: Path) -> None:
    """A shipped file stands in a command only below the `runspec init` that writes it, or the `echo` that makes it."""
    there: set[str] = set()
    for command in console.read_page(page):
        named = set(SHIPPED.findall(command.text.replace("submission_runs", "")))
        made = set(re.findall(rf"> ({SHIPPED.pattern})", command.text))
        assert named - made <= there, f"line {command.line}: {sorted(named - made - there)}"
        there |= made
        for words in _simple_commands(command.text):
            if words[:2] == ["runspec", "init"]:
                there |= set(project_files(shipped()[words[2]].path))
    assert any(name.startswith("runspecs/") for name in there)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_is_true_up_to_its_first_run(
    console: ModuleType, environment: Mapping[str, str], tmp_path: Path, page: Path
) -> None:
    """The quick half of the law below: what comes before anything is trained."""
    shell = console.Shell(tmp_path, environment)
    before = list(takewhile(lambda command: not A_RUN.search(command.text), console.read_page(page)))
    assert len(before) >= 5
    for command in before:
        assert shell.difference(command) == ""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_is_true_from_the_first_to_the_last_line(
    console: ModuleType, environment: Mapping[str, str], tmp_path: Path, page: Path
) -> None:
    """Typed one after the other in an empty folder, its commands succeed and print what it shows."""
    (tmp_path / "reader").mkdir()
    with _kaggle(tmp_path) if page.stem == "on-kaggle" else nullcontext({}) as more:
        shell = console.Shell(tmp_path / "reader", {**environment, **more})
        for command in console.read_page(page):
            assert shell.difference(command) == ""


@contextmanager
def _kaggle(folder: Path) -> Iterator[dict[str, str]]:
    """The variables of a reader whose Kaggle is on this machine, and runs what he pushes in a real kernel."""
    with Platform(folder / "kaggle", user="someone") as platform:
        platform.script(RealKernel())
        yield {"RUNSPEC_KAGGLE_API": platform.api_url, "KAGGLE_API_TOKEN": platform.token}
