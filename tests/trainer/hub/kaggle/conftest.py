"""A Kaggle on loopback with a small Gemma on it, and a machine that has neither mounts nor credentials but what a test gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.errors import RunspecError
from engine.protocol.kaggle_models import KaggleModel, parse_kaggle_model
from engine.trainer.hub import retry_policy
from engine.trainer.hub.kaggle import FetchedModel, fetch_kaggle
from tests.fixtures.events import log_into
from tests.kaggle.platform.platform import Platform

NAME = "acme/tiny-gemma/transformers/micro/3"


@pytest.fixture
def handle() -> str:
    """The model on the loopback Kaggle."""
    return NAME


@pytest.fixture
def kaggle(tmp_path: Path, safetensors_files: Mapping[str, bytes]) -> Iterator[Platform]:
    """The model in its third version, with files that nobody reads, gated for all but the user."""
    files = {**safetensors_files, "README.md": b"# Tiny\n", "gemma.gguf": b"x" * 1000}
    with Platform(tmp_path / "kaggle_server") as running:
        running.add_model(NAME, files, gated=True, consents=("someone",))
        yield running


class Machine:
    """Fetches as one machine does, and keeps the events."""

    def __init__(self, folder: Path) -> None:
        self.environ = {"HOME": str(folder / "home"), "KAGGLEHUB_CACHE": str(folder / "cache")}
        self.events: list[dict[str, Any]] = []

    @property
    def cache(self) -> Path:
        return Path(self.environ["KAGGLEHUB_CACHE"]) / "models"

    def fetch(self, name: str = NAME, **keys: Any) -> FetchedModel:
        self.events.clear()
        model: KaggleModel = parse_kaggle_model(name)
        return fetch_kaggle(model, emit=log_into(self.events), environ=self.environ, **keys)

    def error(self, name: str = NAME, **keys: Any) -> RunspecError:
        with pytest.raises(RunspecError) as caught:
            self.fetch(name, **keys)
        return caught.value

    def named(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.events if entry["event"] == event]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Without network or credentials."""
    monkeypatch.setattr(retry_policy, "WAITS", (0.01, 0.01, 0.01, 0.01))
    return Machine(tmp_path)


@pytest.fixture
def online(machine: Machine, kaggle: Platform) -> Machine:
    """With the loopback Kaggle, and a token for it."""
    machine.environ |= {"RUNSPEC_KAGGLE_API": kaggle.api_url, "KAGGLE_API_TOKEN": kaggle.token}
    return machine
