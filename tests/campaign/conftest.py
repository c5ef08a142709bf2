"""Runs the real command in a process of its own, kills it, and compares evidence apart from times."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import without_measurements
from engine.evidence.about import ABOUT_NAMES
from engine.evidence.folder import MANIFEST
from engine.steps import registry
from tests.campaign.light_steps import light_generate, light_train

REPOSITORY = Path(__file__).parent.parent.parent
RUN_SECONDS = 900

# What a clock says in the evidence: these keys, and the digests of the files that contain such keys.
TIME_KEYS = {"timestamp", "evaluated_at", "started_at", "finished_at", "packaged_at", "created_at"}
TIME_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
SPEED = re.compile(r"[\d.,]+ (?=tokens/s|s\b)")
TIMED_FILES = {
    "predictions.jsonl",
    "predictions_raw.jsonl",
    "metrics.jsonl",
    "train_report.json",
    "generate_report.json",
}


class Project:
    """A fresh project folder with one run-spec."""

    def __init__(self, root: Path, spec: str, overrides: tuple[str, ...]) -> None:
        self.root, self.overrides = root, overrides
        for folder in (".runspec", "runspecs", "evalsets"):
            (root / folder).mkdir(parents=True)
        shutil.copy(REPOSITORY / "evalsets" / "quickstart.jsonl", root / "evalsets")
        (root / "runspecs" / "spec.yaml").write_text(spec)

    def start(self) -> subprocess.Popen[bytes]:
        """Begin ``runspec run`` and do not wait."""
        return subprocess.Popen(
            [sys.executable, "-m", "engine", "run", "runspecs/spec.yaml", *self.overrides],
            cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip

    def finish(self) -> float:
        """Run to the end; returns the seconds it took."""
        started = time.monotonic()
        process = self.start()
        _, stderr = process.communicate(timeout=RUN_SECONDS)
        assert process.returncode == 0, stderr.decode()[-4000:]
        return time.monotonic() - started

    def kill_after(self, seconds: float) -> bool:
        """Run, SIGKILL after so many seconds; False where it had finished before."""
        process = self.start()
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
        return False

    def kill_at(self, words: str, times: int) -> None:
        """Run, SIGKILL once a line with these words was said so many times."""
        process = self.start()
        assert process.stderr is not None
        for line in process.stderr:
            times -= words in line.decode()
            if not times:
                break
        assert times == 0, f"the run never said {words!r}"
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def evidence(self) -> dict[str, Any]:
        """Every evidence file without times."""
        return evidence_without_times(self.root)


def evidence_without_times(root: Path) -> dict[str, Any]:
    """The files about the evidence list digests of the others, which have times in them: `verify` makes them again."""
    folder = next((root / "submission_runs").iterdir())
    listing = {MANIFEST, *ABOUT_NAMES}
    return {path.name: _timeless(path) for path in sorted(folder.iterdir()) if path.name not in listing}


def _timeless(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return _strip(json.loads(text))
    if path.suffix == ".jsonl":
        return [_strip(json.loads(line)) for line in text.split("\n") if line]
    return SPEED.sub("", TIME_STAMP.sub("", text))


def _strip(value: Any) -> Any:
    value = without_measurements(value)
    if isinstance(value, dict):
        return {key: _strip(child) for key, child in value.items() if key not in TIME_KEYS | TIMED_FILES}
    if isinstance(value, list):
        return [_strip(child) for child in value]
    return SPEED.sub("", TIME_STAMP.sub("", value)) if isinstance(value, str) else value


@pytest.fixture(scope="session")
def evidence_of() -> Callable[[Path], dict[str, Any]]:
    """The evidence of the one run in a project, without times."""
    return evidence_without_times


@pytest.fixture(scope="module")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """``new_project("name", spec_text, overrides)``."""
    root = tmp_path_factory.mktemp("campaign")
    return lambda name, spec, overrides=(): Project(root / name, spec, tuple(overrides))


@pytest.fixture
def light_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The light kinds of steps (:mod:`tests.campaign.light_steps`) in this process too."""
    for kind, function in {"train_sft": light_train, "generate": light_generate}.items():
        handler: Any = registry.HANDLERS[kind]
        monkeypatch.setitem(registry.HANDLERS, kind, dataclasses.replace(handler, function=function, needs_extra=None))
    registry._discover.cache_clear()
    yield
    registry._discover.cache_clear()
