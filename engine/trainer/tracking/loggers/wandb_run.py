"""Weights & Biases: a run with a fixed id, so that a resumed training run continues it.

wandb's own variables have its address and key: WANDB_API_KEY, WANDB_PROJECT, WANDB_ENTITY, WANDB_BASE_URL,
WANDB_MODE=offline. It gets the rows and the hyper-parameters, but not code, git, the command line or the console.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping

from engine.trainer.tracking.loggers import PROJECT, RunFacts
from engine.trainer.tracking.loggers.run_file import RunFile


class WandbRun:
    """One run, online or offline."""

    def __init__(self, facts: RunFacts) -> None:
        wandb = importlib.import_module("wandb")
        self._file = RunFile(facts.folder / "wandb.json")
        settings = wandb.Settings(
            console="off",  # standard output belongs to the events
            silent=True,
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=facts.name,
            id=self._file.id,
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(facts.folder)),
            config=dict(facts.config),
            settings=settings,
        )
        self._run.define_metric("*", step_metric="train_step")

    @property
    def where(self) -> str:
        """The address, or the command that uploads an offline run."""
        return str(self._run.url or f"wandb sync {self._run.settings.sync_dir}")

    @property
    def last_step(self) -> int:
        """What was sent so far: an offline run has no other record of it."""
        return self._file.sent

    def row(self, train_step: int, metrics: Mapping[str, float]) -> None:
        """One row of the history."""
        self._run.log({**metrics, "train_step": train_step}, step=train_step)
        self._file.record_sent(train_step)

    def close(self) -> None:
        """Upload the remaining rows (online), or close the file (offline)."""
        self._run.finish()


def open_run(facts: RunFacts) -> WandbRun:
    """The run, new or resumed."""
    return WandbRun(facts)
