"""trackio: a local database that ``trackio show`` draws, or the Space or server that its environment names.

TRACKIO_DIR says where the database is; where it is not set, it lies beside the training's other reports. The project is
TRACKIO_PROJECT, else ``runspec``. A run is named by the run-spec and the training, so that a resumed one goes on in it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from engine.trainer.writers import PROJECT, RunFacts
from engine.trainer.writers.run_file import RunFile


class TrackioRun:
    """One run of one project."""

    def __init__(self, facts: RunFacts) -> None:
        # Read when trackio is imported, which is now for the first time.
        self._folder = os.environ.setdefault("TRACKIO_DIR", str(facts.folder))
        trackio: Any = importlib.import_module("trackio")
        self._file = RunFile(facts.folder / "trackio.json")
        self._project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self._run = trackio.init(
            project=self._project,
            name=f"{facts.name}-{self._file.id}",
            resume="allow",
            config=dict(facts.config),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    @property
    def where(self) -> str:
        """What to type."""
        return f"TRACKIO_DIR={self._folder} trackio show --project {self._project}"

    @property
    def last_step(self) -> int:
        """What was sent so far."""
        return self._file.sent

    def row(self, train_step: int, metrics: Mapping[str, float]) -> None:
        """One row."""
        self._run.log(dict(metrics), step=train_step)
        self._file.mark(train_step)

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def open_run(facts: RunFacts) -> TrackioRun:
    """The run, new or gone on with."""
    return TrackioRun(facts)
