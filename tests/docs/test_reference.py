"""The generated parts of the reference are what ``make reference`` would write."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from engine import errors


@pytest.fixture
def reference(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """``tests/docs/reference.py``, with the modules beside it."""
    folder = repository / "tests" / "docs"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("docs_reference", folder / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date(repository: Path) -> None:
    """`make reference` has been run: no generated part would change, and each has its place in a page."""
    script = [sys.executable, "tests/docs/reference.py", "--check"]
    done = subprocess.run(script, cwd=repository, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_stale_part_is_made_again_and_nothing_else(reference: ModuleType, repository: Path) -> None:
    """What stands between two markers is replaced, hand-written text around it stays, an unknown part is an error."""
    page = (repository / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    stale = re.sub(r"(<!-- made: commands -->).*(<!-- end of commands -->)", r"\1\nold\n\2", page, flags=re.DOTALL)
    assert stale != page
    assert reference.remade(stale) == page
    assert reference.remade("by hand\n") == "by hand\n"
    with pytest.raises(KeyError, match="nothing"):
        reference.remade("<!-- made: nothing -->\n<!-- end of nothing -->")


def test_the_page_of_exit_codes_has_those_of_the_errors(repository: Path) -> None:
    """docs/reference/exit-codes.md explains success, internal errors and the code of each exception, and no other."""
    text = (repository / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    known = {kind.exit_code for kind in errors.RunspecError.__subclasses__()}
    shown = [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    assert shown == sorted({0, errors.INTERNAL_ERROR_EXIT_CODE} | known)


def test_every_command_has_a_page_to_read(repository: Path) -> None:
    """The topic that a command's help names is one of `runspec docs`."""
    from engine.commands.manual import find
    from engine.commands.table import COMMANDS

    assert [command.name for command in COMMANDS if not find(command.page).path.is_file()] == []
