"""README.txt in a package: a stranger without the engine learns the result, what to type, and what it proves."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from engine.commands.parsing import parse
from engine.commands.table import COMMANDS
from engine.evidence import package, verify


@pytest.fixture
def text(folder: Path) -> str:
    """README.txt of an evidence folder."""
    return (folder / "README.txt").read_text(encoding="utf-8")


def test_every_package_has_it(folder: Path, text: str, tmp_path: Path) -> None:
    """With the run's own numbers first; nobody asked for it."""
    archive = package(folder, tmp_path / "submission", "toy")
    assert verify(archive).ok
    with zipfile.ZipFile(archive) as members:
        assert members.read("toy_v1/README.txt").decode() == text
    assert text.startswith(
        "Evidence of the run toy_v1\n\n"
        "The result: answer_correctness@v1 80.0 % over 5 items, 0 of them without a prediction.\n"
        "The model: toy/model, trained on toy, final loss 0.2500.\n"
    )
    assert max(map(len, text.splitlines())) <= 120


def test_what_needs_nothing_comes_first(text: str) -> None:
    """``python verify.py`` stands before anything that has to be installed."""
    assert text.index("python verify.py") < text.index("report.html") < text.index("pip install")


def test_every_command_can_be_typed(text: str) -> None:
    """Each ``runspec`` command parses."""
    typed = re.findall(r"^ +(runspec .*?)(?:  .*)?$", text, re.MULTILINE)
    assert len(typed) == 4
    for command in typed:
        parse(command.split()[1:], COMMANDS)


def test_every_file_that_it_names_is_there(folder: Path, text: str) -> None:
    """Each name of the list is a file of the folder."""
    named = ["verify.py", *re.findall(r"^    ([\w.-]+\.\w+)  ", text, re.MULTILINE)]
    assert len(named) == 8
    assert [name for name in named if not (folder / name).is_file()] == []


def test_it_is_true_signed_and_unsigned(text: str) -> None:
    """It names no level as the one that these files have: that is computed, and a signature comes after this text."""
    assert "it does not prove that the run happened" in text
    assert "This text is written before anybody can sign." in text
    assert [word for word in ("L0", "L1", "L2", "L3") if word not in text] == []
    assert "Nobody has signed" not in text
