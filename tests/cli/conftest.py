"""Runs the command line in this process (fast) or in one of its own (for signals, pipes, cold starts)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main

REPOSITORY = Path(__file__).parent.parent.parent


@dataclass
class Done:
    """What one command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON document; fails where there is anything beside it."""
        return json.loads(self.out)


@pytest.fixture
def runspec(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """``runspec("validate", "x.yaml")`` in this process."""

    def call(*words: str) -> Done:
        capsys.readouterr()
        code = main(list(words))
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def runspec_process() -> Callable[..., subprocess.Popen[str]]:
    """``runspec_process("run", "x.yaml", cwd=…)``: a process of its own, with pipes."""

    def start(*words: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})}
        return subprocess.Popen(
            [sys.executable, "-m", "engine", *words],
            cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".runspec").mkdir()
    return tmp_path
