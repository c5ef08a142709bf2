"""`python -m engine` is `runspec`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli import main


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["docs", "T114", "--json"],
        ["validate", "runspecs/quickstart.yaml"],
        ["validat"],
        ["run"],
    ],
    ids=" ".join,
)
def test_the_module_is_the_command(
    words: list[str], repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same output, same errors, same exit code; the program is called `runspec` in all of them."""
    monkeypatch.chdir(repository)
    monkeypatch.setenv("COLUMNS", "100")
    code = main(words)
    captured = capsys.readouterr()
    done = subprocess.run([sys.executable, "-m", "engine", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, captured.out, captured.err)
    assert "__main__" not in done.stdout + done.stderr
