"""Where the rows of metrics.jsonl go besides: TensorBoard, Weights & Biases, MLflow, trackio. None of them is needed.

What goes in: names of tools, what the run is called, rows as they come. What comes out: the same rows in each tool,
and events that say where. :mod:`engine.trainer.tracking.loggers.reports` does the sending, on threads of its own.

    check_installed(["tensorboard", "wandb"])          # raises InputInvalid T160, saying which extra to install
    writer = open_logger("tensorboard", RunFacts("m36_v1", "train", config, folder))
    writer.row(7, {"loss": 2.5, "learning_rate": 1e-5})
    writer.close()

A tool is one module with ``open_run(facts) -> Writer`` and one line in LOGGERS. A writer says which train step it holds
already (``last_step``), so that a resumed training adds what is missing and doubles nothing. How a tool is reached, and
with which key, is its own environment's business (WANDB_API_KEY, MLFLOW_TRACKING_URI, …): no key passes through here.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from engine.errors import Diagnostic, InputInvalid

PROJECT = "runspec"  # the tool's own name for it, where its environment names none


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What a tool is told of the run. ``folder`` is this tool's alone and outlives the process; it may be new.

    ``training`` names the training by content: another one has another name and another folder.
    """

    name: str
    training: str
    config: Mapping[str, Any]
    folder: Path


class Logger(Protocol):
    """One tool, open. Called from one thread only; what it raises ends this writer and nothing else."""

    @property
    def where(self) -> str:
        """Where a person looks, or what they type to look."""

    @property
    def last_step(self) -> int:
        """The last train step that the tool holds of this run; 0 for a new one."""

    def row(self, train_step: int, metrics: Mapping[str, float]) -> None:
        """Add one row; train steps rise."""

    def close(self) -> None:
        """Everything is where it belongs when this returns."""


@dataclass(frozen=True, slots=True)
class LoggerModule:
    """``module`` here, and what it imports: ``needs`` of the extra of the tool's name, None for nothing."""

    module: str
    needs: str | None


LOGGERS: Mapping[str, LoggerModule] = {
    "tensorboard": LoggerModule("event_file", None),
    "wandb": LoggerModule("wandb_run", "wandb"),
    "mlflow": LoggerModule("mlflow_run", "mlflow"),
    "trackio": LoggerModule("trackio_run", "trackio"),
}


def check_installed(names: Iterable[str]) -> None:
    """Raises InputInvalid T160 for every tool whose library is not here."""
    missing = [name for name in names if not _is_here(LOGGERS[name].needs)]
    if missing:
        raise InputInvalid.of(
            Diagnostic(
                "T160",
                f"report_to names {name}, and its library is not installed here",
                hint=f"pip install 'runspec-engine[{name}]', or take {name} out of report_to",
            )
            for name in missing
        )


def _is_here(module: str | None) -> bool:
    return module is None or importlib.util.find_spec(module) is not None


def open_logger(name: str, facts: RunFacts) -> Logger:
    """Import the tool and open the run, new or gone on with. Raises whatever the tool raises."""
    facts.folder.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"engine.trainer.tracking.loggers.{LOGGERS[name].module}")
    return cast(Logger, module.open_run(facts))
