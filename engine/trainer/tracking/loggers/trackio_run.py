"""trackio: a local database that ``trackio show`` plots, or the Space or server that its environment names.

TRACKIO_DIR says where the database is; by default it is beside the run's other reports. The project is TRACKIO_PROJECT,
else ``runspec``. A run is named by the run-spec and an id of its own, so that a resumed one continues it. Rows wait in
memory for up to half a second: the last stored one is read from a local database, but not from a remote one.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping

from engine.trainer.tracking.loggers import PROJECT, RunFacts
from engine.trainer.tracking.loggers.run_file import RunFile

REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")  # the variables that send rows elsewhere


class TrackioRun:
    """One run of one project."""

    def __init__(self, facts: RunFacts) -> None:
        # trackio reads it on import, which happens here for the first time.
        self._folder = os.environ.setdefault("TRACKIO_DIR", str(facts.folder))
        trackio = importlib.import_module("trackio")
        self._file = RunFile(facts.folder / "trackio.json")
        self._project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        name = f"{facts.name}-{self._file.id}"
        self.last_step = self._file.sent if any(map(os.environ.get, REMOTE)) else stored_steps(self._project, name)
        self._run = trackio.init(
            project=self._project,
            name=name,
            resume="allow",
            config=dict(facts.config),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    @property
    def where(self) -> str:
        """The command that shows the run."""
        return f"TRACKIO_DIR={self._folder} trackio show --project {self._project}"

    def row(self, train_step: int, metrics: Mapping[str, float]) -> None:
        """One row."""
        self._run.log(dict(metrics), step=train_step)
        self._file.record_sent(train_step)

    def close(self) -> None:
        """Write the remaining rows."""
        self._run.finish()


def stored_steps(project: str, name: str) -> int:
    """The last train step of a run in the local database."""
    storage = importlib.import_module("trackio.sqlite_storage")
    return int(storage.SQLiteStorage.get_max_step_for_run(project, run=name) or 0)


def open_run(facts: RunFacts) -> TrackioRun:
    """The run, new or resumed."""
    return TrackioRun(facts)
