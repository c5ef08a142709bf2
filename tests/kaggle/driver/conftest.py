"""A project, a Kaggle on loopback, and the command line between them, in this process and without waiting."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from tests.kaggle.driver.stand_ins import QuickClock, install, project_in
from tests.kaggle.platform.platform import Platform


@dataclass
class Done:
    """What one command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def kaggle(tmp_path: Path) -> Iterator[Platform]:
    """The platform, whose idle streams are cut soon."""
    with Platform(tmp_path / "kaggle", stream_idle_seconds=0.05) as platform:
        yield platform


@pytest.fixture
def clock(kaggle: Platform) -> QuickClock:
    return QuickClock(kaggle.clock.advance)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kaggle: Platform, clock: QuickClock) -> Path:
    """The folder of the project, the current one; credentials are a token in the environment."""
    root = tmp_path / "project"
    project_in(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNSPEC_KAGGLE_API", kaggle.api_url)
    monkeypatch.setenv("KAGGLE_API_TOKEN", kaggle.token)
    install(monkeypatch, clock)
    return root


@pytest.fixture
def runspec(project: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """``runspec("kaggle", "run", …)`` in this process."""

    def call(*words: str) -> Done:
        capsys.readouterr()
        code = main(list(words))
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def run(runspec: Callable[..., Done]) -> Callable[..., Done]:
    """``kaggle run`` of the toy on two T4."""
    return lambda *words: runspec("kaggle", "run", "runspecs/toy.yaml", "--target", "kaggle-t4x2", *words)
