"""What the documents tell people to type and to write is what the engine takes."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from engine.commands.parsing import parse
from engine.commands.table import COMMANDS
from engine.errors import InputInvalid
from engine.runspec import check_spec
from engine.steps.registry import HANDLERS

TYPED = re.compile(r"^\s*(?:[A-Z_]+=\S+ +|srun |\$ |python -m engine\.cli )*runspec (?P<words>.*)$", re.MULTILINE)
CONSOLE_BLOCK = re.compile(r"^```console\n.*?^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^(?!\$ |```).*\n", re.MULTILINE)
YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = set(";&|>")
NO_COMMAND = {"--help", "--version", "COMMAND", "help"}


def _typed(text: str) -> Iterator[list[str]]:
    """The words of every command in a page's blocks of code; what a command printed, and a comment after it, are none.

    Words end where the shell takes over: at ``;``, ``&``, ``|``, ``>``.
    """
    for found in TYPED.finditer(CONSOLE_BLOCK.sub(lambda block: PRINTED.sub("", block[0]), text)):
        words = list(takewhile(lambda word: not set(word) <= SHELL, _lexed(found["words"])))
        if words and words[0] not in NO_COMMAND:
            yield words


def _lexed(line: str) -> Iterator[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return iter(lexer)


def _refused(words: list[str]) -> str | None:
    """Why the command line would refuse these words; None: it takes them. Usage lines have no place here."""
    try:
        parse(words, COMMANDS)
    except InputInvalid as error:
        return f"runspec {' '.join(words)}: {error.diagnostics[0].message}"
    return None


def _documents(pages: Mapping[str, Any]) -> Mapping[str, str]:
    """Without the generated usage lines and the changelog, which speaks of former days."""
    return {
        name: re.sub(r"<!-- made: .*?<!-- end of .*? -->", "", page.text, flags=re.DOTALL)
        for name, page in pages.items()
        if name != "CHANGELOG.md"
    }


def test_every_command_in_the_documents_can_be_typed(pages: Mapping[str, Any]) -> None:
    """Each command line in a block of code names a command and options that exist."""
    typed = [words for text in _documents(pages).values() for words in _typed(text)]
    assert len(typed) > len(COMMANDS)
    assert [fault for words in typed if (fault := _refused(words))] == []


def test_a_command_that_does_not_exist_would_be_found() -> None:
    """A wrong command, a wrong option and a missing argument are found in a page; a comment is no argument."""
    page = "    runspec rnu x.yaml\n    runspec run x.yaml --fource a\n    runspec verify\n    runspec docs T114   # a row\n"
    assert [_refused(words) is None for words in _typed(page)] == [False, False, False, True]


def test_of_a_console_block_the_commands_count_and_not_what_they_print() -> None:
    """Lines after `$ ` are typed, up to where the shell takes over; output that begins with the same word is none."""
    page = "```console\n$ runspec --version\nrunspec 1.2\n$ runspec rnu x; echo $?\n$ runspec presets & wait\n```\n"
    assert list(_typed(page)) == [["rnu", "x"], ["presets"]]


def _laid_over(preset: str, block: str) -> dict[str, Any]:
    """A preset with the sections of a block in place of its own; arguments of a step go to the step of that kind.

    A block with a version is a run-spec by itself.
    """
    spec, over = YAML(typ="safe").load(preset), YAML(typ="safe").load(block)
    if "version" in over:
        return dict(over)
    for step in over.pop("steps", []):
        own = next((entry for entry in spec["steps"] if entry["uses"] == step["uses"]), None)
        if own is None:
            spec["steps"].append(step)
        else:
            own["with"] = {**own.get("with", {}), **step.get("with", {})}
    return {**spec, **over}


def _errors(spec: Mapping[str, Any], folder: Path, repository: Path) -> list[str]:
    """What `validate` would refuse; a file that only the reader's project has is none of it (S303)."""
    for name in (".runspec", "runspecs", "data"):
        (folder / name).mkdir(exist_ok=True)
    shutil.copytree(repository / "evalsets", folder / "evalsets", dirs_exist_ok=True)
    path = folder / "runspecs" / "mine.yaml"
    YAML().dump(dict(spec), path)
    found = check_spec(path, [], kinds=HANDLERS)
    return [row.message for row in found if row.severity == "error" and row.code != "S303"]


def test_every_block_of_yaml_is_valid_in_a_run_spec(pages: Mapping[str, Any], repository: Path, tmp_path: Path) -> None:
    """Each block, laid over the preset m36, is a run-spec without an error."""
    preset = (repository / "runspecs" / "m36.yaml").read_text(encoding="utf-8")
    blocks = [
        (name, found[1]) for name, text in _documents(pages).items() for found in YAML_BLOCK.finditer(text)
        if not found[1].startswith("#")
    ]  # fmt: skip
    assert len(blocks) > 10
    faults = [(name, _errors(_laid_over(preset, block), tmp_path, repository)) for name, block in blocks]
    assert [(name, messages) for name, messages in faults if messages] == []


@pytest.mark.parametrize("block", ["dataset: {pth: a}", "steps: [{uses: train_sft, with: {keep_best: 1}}]"])
def test_a_wrong_block_would_be_found(repository: Path, tmp_path: Path, block: str) -> None:
    """A misspelt key, and keys that do not fit together, are errors of a block."""
    preset = (repository / "runspecs" / "m36.yaml").read_text(encoding="utf-8")
    assert _errors(_laid_over(preset, block), tmp_path, repository) != []
