"""What the documents tell people to type and to write is what the engine takes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from engine.commands.parsing import parse
from engine.commands.table import COMMANDS
from engine.errors import InputInvalid

TYPED = re.compile(r"^\s*(?:[A-Z_]+=\S+ +|srun |\$ |python -m engine\.cli )*runspec (?P<words>.*)$", re.MULTILINE)
YAML_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NO_COMMAND = {"--help", "--version", "COMMAND", "help"}


def _typed(text: str) -> Iterator[list[str]]:
    """The words of every command in a page's blocks of code; a comment after it is none of them."""
    for found in TYPED.finditer(text):
        words = shlex.split(found["words"].partition(" > ")[0].partition(" && ")[0], comments=True)
        if words and words[0] not in NO_COMMAND:
            yield words


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


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _keys(inner) if key != "fields" else ()
    elif isinstance(value, list):
        for inner in value:
            yield from _keys(inner)


def _known_keys(repository: Path) -> set[str]:
    known: set[str] = set()

    def collect(schema: Any) -> None:
        if isinstance(schema, dict):
            known.update(schema.get("properties", {}))
            for inner in schema.values():
                collect(inner)
        elif isinstance(schema, list):
            for inner in schema:
                collect(inner)

    collect(json.loads((repository / "schemas" / "runspec.schema.json").read_text(encoding="utf-8")))
    return known


def test_every_key_in_a_yaml_block_is_one_of_the_run_spec(pages: Mapping[str, Any], repository: Path) -> None:
    """A block of YAML can be parsed, and names no key that a run-spec does not have."""
    known = _known_keys(repository)
    blocks = {(name, found[1]) for name, text in _documents(pages).items() for found in YAML_BLOCK.finditer(text)}
    assert len(blocks) > 10
    unknown = {
        name: sorted(set(_keys(YAML(typ="safe").load(block))) - known)
        for name, block in blocks
        if set(_keys(YAML(typ="safe").load(block))) - known
    }
    assert unknown == {}


@pytest.mark.parametrize("key", ["num_train_steps", "fsdp", "with"])
def test_the_known_keys_are_those_of_the_schema(repository: Path, key: str) -> None:
    """Keys of sections, of steps and of mappings inside a step count; a misspelt one does not."""
    assert key in _known_keys(repository)
    assert f"{key}x" not in _known_keys(repository)
