"""MLflow: a run on the tracking server that MLFLOW_TRACKING_URI names, or in a file beside the run's other reports.

Only the client is used, with what is passed to it: no tags of user, host, git or command are added. The experiment is
MLFLOW_EXPERIMENT_NAME, else ``runspec``. The last train step is read from the store.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from engine.trainer.tracking.loggers import PROJECT, RunFacts
from engine.trainer.tracking.loggers.run_file import RunFile

ALWAYS_LOGGED = "seconds"  # a row may lack its loss
LONGEST_PARAM = 500  # characters; the least limit of any server


class MlflowRun:
    """One run of one experiment."""

    def __init__(self, facts: RunFacts) -> None:
        tracking = importlib.import_module("mlflow.tracking")
        self._entities = importlib.import_module("mlflow.entities")
        self._uri = os.environ.get("MLFLOW_TRACKING_URI") or _own_store(facts.folder)
        self._client = tracking.MlflowClient(tracking_uri=self._uri)
        file = RunFile(facts.folder / "mlflow.json")
        if file.is_new:
            run = self._client.create_run(self._experiment(), run_name=facts.name)
            file.rename(run.info.run_id)
            params = [self._entities.Param(key, str(value)[:LONGEST_PARAM]) for key, value in facts.config.items()]
            self._client.log_batch(file.id, params=params)
        else:
            self._client.update_run(file.id, status="RUNNING")
        self._id = file.id
        history = self._client.get_metric_history(self._id, ALWAYS_LOGGED)
        self.last_step = max((metric.step for metric in history), default=0)

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        return str(experiment.experiment_id if experiment else self._client.create_experiment(name))

    @property
    def where(self) -> str:
        """The store and the run's id in it."""
        return f"{self._uri}, run {self._id}"

    def row(self, train_step: int, metrics: Mapping[str, float]) -> None:
        """One batch: all numbers of the row, or none."""
        now = int(time.time() * 1000)
        batch = [self._entities.Metric(key, value, now, train_step) for key, value in metrics.items()]
        self._client.log_batch(self._id, metrics=batch)

    def close(self) -> None:
        """Set the run to finished; a resumed run opens it again."""
        self._client.set_terminated(self._id)


def _own_store(folder: Path) -> str:
    """A database in one file: mlflow no longer takes plain files."""
    return f"sqlite:///{(folder / 'mlflow.db').resolve()}"


def open_run(facts: RunFacts) -> MlflowRun:
    """The run, new or resumed."""
    return MlflowRun(facts)
