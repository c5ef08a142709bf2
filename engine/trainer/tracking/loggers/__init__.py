"""Where the rows of metrics.jsonl are also sent: TensorBoard, Weights & Biases, MLflow, trackio. All are optional.

In: names of tools, the name of the run, rows as they come. Out: the same rows in each tool, and events that say where.
:mod:`engine.trainer.tracking.loggers.reports` sends them, on threads of its own.

    check_installed(["tensorboard", "wandb"])          # raises InputInvalid T160, saying which extra to install
    logger = open_logger("tensorboard", RunFacts("m36_v1", "train", config, folder))
    logger.row(7, {"loss": 2.5, "learning_rate": 1e-5})
    logger.close()

A tool is one module with ``open_run(facts) -> Logger`` and one line in LOGGERS. A logger knows its last train step
(``last_step``), so that a resumed run adds what is missing and repeats nothing. A tool's own environment variables have
its address and key (WANDB_API_KEY, MLFLOW_TRACKING_URI, …): no key passes through here.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from engine.errors import Diagnostic, InputInvalid

PROJECT = "runspec"  # the project in a tool, unless its environment names another


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a tool is told of the run. ``folder`` belongs to this tool and outlives the process; it may be new.

    ``run_id`` names the training run by content: another run has another id and another folder.
    """

    name: str
    run_id: str
    config: Mapping[str, object]
    folder: Path


class Logger(Protocol):
    """One open tool. Called from one thread only; an exception ends this logger and nothing else."""

    @property
    def where(self) -> str:
        """Where a person finds the run, or the command that shows it."""

    @property
    def last_step(self) -> int:
        """The last train step that the tool has of this run; 0 for a new one."""

    def row(self, train_step: int, metrics: Mapping[str, float]) -> None:
        """Add one row; train steps rise."""

    def close(self) -> None:
        """Flush and close; all rows are stored when this returns."""


@dataclass(frozen=True, slots=True)
class LoggerModule:
    """``module`` in this package, and the library it imports: ``needs``, of the extra of the tool's name; None for none."""

    module: str
    needs: str | None


LOGGERS: Mapping[str, LoggerModule] = {
    "tensorboard": LoggerModule("event_file", None),
    "wandb": LoggerModule("wandb_run", "wandb"),
    "mlflow": LoggerModule("mlflow_run", "mlflow"),
    "trackio": LoggerModule("trackio_run", "trackio"),
}


def check_installed(names: Iterable[str]) -> None:
    """Raises InputInvalid T160 for every tool whose library is not installed."""
    missing = [name for name in names if not _is_installed(LOGGERS[name].needs)]
    if missing:
        raise InputInvalid.of(
            Diagnostic(
                "T160",
                f"report_to names {name}, whose library is not installed here",
                hint=f"pip install 'runspec-engine[{name}]', or take {name} out of report_to",
            )
            for name in missing
        )


def _is_installed(module: str | None) -> bool:
    return module is None or importlib.util.find_spec(module) is not None


def open_logger(name: str, facts: RunFacts) -> Logger:
    """Import the tool and open the run, new or resumed. Raises whatever the tool raises."""
    facts.folder.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"engine.trainer.tracking.loggers.{LOGGERS[name].module}")
    return cast(Logger, module.open_run(facts))
