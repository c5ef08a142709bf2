"""The runner of console blocks sees what a page gets wrong: a runner that passes everything proves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pytest


def _differences(console: ModuleType, folder: Path, environment: Mapping[str, str], block: str) -> list[str]:
    shell = console.Shell(folder, environment)
    return [shell.difference(command) for command in console.read_block(block.split("\n"), 1)]


@pytest.mark.parametrize(
    "block",
    [
        "$ printf 'one\\ntwo\\nthree\\n'\none\n…\nthree",
        "$ echo done in 3.1s\ndone in …",
        "$ mkdir deep\n$ cd deep\n$ pwd\n…/deep",
        "$ echo a; \\\n> echo b\na\nb",
        "$ echo anything",
        "$ false; echo \"exit code $?\"\nexit code 1",
        "$ echo begun; sleep 60\nbegun\n^C",
    ],
)  # fmt: skip
def test_a_true_page_passes(console: ModuleType, environment: Mapping[str, str], tmp_path: Path, block: str) -> None:
    """Omissions, folders, commands over two lines, exit codes and Ctrl-C are all as a reader has them."""
    assert "".join(_differences(console, tmp_path, environment, block)) == ""


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("$ echo two\none", "- one"),
        ("$ printf 'one\\ntwo\\n'\none", "+ two"),
        ("$ echo one\none\n…\ntwo", "- two"),
        ("$ echo 'a.c'\nabc", "- abc"),
        ("$ false", "exit status 1, expected 0"),
        ("$ echo never\nbegun\n^C", "exit status 0, expected 130"),
    ],
)
def test_an_untrue_page_fails(
    console: ModuleType, environment: Mapping[str, str], tmp_path: Path, block: str, said: str
) -> None:
    """A wrong line, one too many, one too few, and another exit status are named."""
    assert said in "".join(_differences(console, tmp_path, environment, block))


def test_output_without_a_command_is_refused(console: ModuleType) -> None:
    """A block that begins with output is a mistake of the page."""
    with pytest.raises(ValueError, match="no command stands above it"):
        console.read_block(["some output"], 7)


def test_only_console_blocks_are_read(console: ModuleType, tmp_path: Path) -> None:
    """Other fences are text; lines are counted from the top of the page."""
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```sh\n$ no\n```\n\n```console\n$ yes\nout\n```\n", encoding="utf-8")
    assert console.read_page(page) == [console.Command(8, "yes", ("out",))]
